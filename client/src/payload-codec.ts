// How do compression and encryption hook into payloads?
//
// A codec sees bytes and a content type. Codecs encode in order and decode in reverse; each marks what it did in the content type and knows
// its own mark again, so that payloads from before a codec was added stay readable.
import { describeThrown, LeaseholdError } from "./errors.js";

/** Bytes with a content type; empty means JSON. */
export interface EncodedPayload {
  /** The bytes. */
  readonly data: Uint8Array;
  /** At most 128 bytes as it leaves the last codec. */
  readonly contentType: string;
}

/** What a codec may need to know of the value. */
export interface EncodeContext {
  /**
   * Given when encoding the same value again must give the same bytes, because the submitter chose the task's id and may repeat the
   * submission: what is random otherwise is to be derived from it and the data.
   */
  readonly seed: string | undefined;
}

/** Turns payload bytes into others and back. */
export interface PayloadCodec {
  /** For messages. */
  readonly name: string;
  /** Encodes on the way out, or gives back what it got. A throw refuses the call. */
  encode(payload: EncodedPayload, context: EncodeContext): EncodedPayload | Promise<EncodedPayload>;
  /** Decodes what it recognizes by the content type as its own; gives back the rest unchanged. A throw is PAYLOAD_UNREADABLE. */
  decode(payload: EncodedPayload): EncodedPayload | Promise<EncodedPayload>;
  /**
   * Makes of bytes that stand for the plain metadata what may be shown to the server, which compares it when a key is taken: at most 64
   * bytes, the same for the same bytes. It must not let the metadata be guessed if the codec hides it. If one codec of a client has none,
   * metadata is not compared.
   */
  fingerprint?(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/** Encodes in order. What a codec throws names it. */
export async function encodeWith(
  codecs: readonly PayloadCodec[],
  payload: EncodedPayload,
  context: EncodeContext,
): Promise<EncodedPayload> {
  let encoded = payload;
  for (const codec of codecs) {
    try {
      encoded = await codec.encode(encoded, context);
    } catch (error) {
      const { message } = describeThrown(error);
      throw new LeaseholdError({ code: "UNKNOWN", message: `codec ${codec.name} could not encode: ${message}`, cause: error });
    }
  }
  return encoded;
}

/** Decodes in reverse. Throws PAYLOAD_UNREADABLE with the path. */
export async function decodeWith(codecs: readonly PayloadCodec[], payload: EncodedPayload, path: string): Promise<EncodedPayload> {
  let decoded = payload;
  for (const codec of codecs.toReversed()) {
    try {
      decoded = await codec.decode(decoded);
    } catch (error) {
      throw unreadable(path, `cannot be decoded by codec ${codec.name}: ${describeThrown(error).message}`, error);
    }
  }
  return decoded;
}

/** The fingerprint of canonical bytes, if every codec has one to give. */
export async function fingerprintWith(codecs: readonly PayloadCodec[], bytes: Uint8Array): Promise<Uint8Array | undefined> {
  let shown = bytes;
  for (const codec of codecs) {
    if (codec.fingerprint === undefined) return undefined;
    shown = await codec.fingerprint(shown);
  }
  return codecs.length === 0 ? undefined : shown;
}

/** An error about a payload that cannot be read. */
export function unreadable(path: string, message: string, cause?: unknown): LeaseholdError {
  return new LeaseholdError({ code: "PAYLOAD_UNREADABLE", message: `${path} ${message}`, violations: [{ path, message }], cause });
}
