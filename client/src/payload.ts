// How does a value become the bytes of a Payload, and come back?
//
// The one place that every value passes on its way out and in: metadata, execution metadata, results, error details, patches. Codecs
// (compression, encryption) hook in here: they see bytes, encode in order and decode in reverse.
import type { Payload } from "@leasehold/proto/leasehold/v1/task";
import { LeaseholdError, invalid } from "./errors.js";
import { type Bigints, fromJsonText, toJsonText } from "./json.js";

/** Turns payload bytes into others and back. Must recognize its own by `contentType`, and pass on the rest unchanged. */
export interface PayloadCodec {
  /** For messages. */
  readonly name: string;
  /** Encodes on the way out. */
  encode(payload: Payload): Payload | Promise<Payload>;
  /** Decodes on the way in. */
  decode(payload: Payload): Payload | Promise<Payload>;
}

/** Largest payload that a server takes by default: 1 MiB. */
export const LARGEST_PAYLOAD_BYTES = 1_048_576;

/** A value as JSON: captured, so that changing the original later changes nothing. */
export interface Written {
  /** The JSON text. */
  readonly text: string;
  /** The value as whoever reads it will see it: what a schema must accept. */
  readonly value: unknown;
}

/** Encodes and decodes payloads in the one way that a client was told. */
export interface Payloads {
  /** Writes a value as JSON, at once. Throws INVALID_ARGUMENT with a path below `path`; `mostBytes` defaults to 1 MiB. */
  write(value: unknown, path: string, mostBytes?: number): Written;
  /** The payload of what was written. */
  encode(written: Written): Promise<Payload>;
  /** `undefined` for an absent payload. Throws PAYLOAD_UNREADABLE or UNSAFE_INTEGER with a path. */
  decode(payload: Payload | undefined, path: string): Promise<unknown>;
}

/** Content types that are read as JSON; empty means JSON. */
const JSON_TYPES: ReadonlySet<string> = new Set(["", "application/json"]);

/** Makes the encoder and decoder of a client. */
export function createPayloads(options: { readonly bigints?: Bigints; readonly codecs?: readonly PayloadCodec[] } = {}): Payloads {
  const bigints = options.bigints ?? "refuse";
  const codecs = options.codecs ?? [];
  return {
    write(value, path, mostBytes = LARGEST_PAYLOAD_BYTES) {
      const text = toJsonText(value, path, bigints);
      const bytes = Buffer.byteLength(text, "utf8");
      if (bytes > mostBytes) throw invalid([{ path, message: `is ${String(bytes)} bytes as JSON; at most ${String(mostBytes)} fit` }]);
      return { text, value: fromJsonText(text, path, bigints) };
    },
    async encode({ text }) {
      let payload: Payload = { data: Buffer.from(text, "utf8"), contentType: "" };
      for (const codec of codecs) payload = await codec.encode(payload);
      return payload;
    },
    async decode(payload, path) {
      if (payload === undefined) return undefined;
      let decoded = payload;
      for (const codec of codecs.toReversed()) decoded = await codec.decode(decoded);
      if (!JSON_TYPES.has(decoded.contentType.toLowerCase())) {
        throw unreadable(path, `has content type ${decoded.contentType}, which no codec of this client reads`);
      }
      return fromJsonText(textOf(decoded.data, path), path, bigints);
    },
  };
}

function textOf(data: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw unreadable(path, "is not UTF-8");
  }
}

function unreadable(path: string, message: string): LeaseholdError {
  return new LeaseholdError({ code: "PAYLOAD_UNREADABLE", message: `${path} ${message}`, violations: [{ path, message }] });
}
