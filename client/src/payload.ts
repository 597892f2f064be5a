// How does a value become the bytes of a Payload, and come back?
//
// The one place that every value passes on its way out and in: metadata, execution metadata, results, error details, patches. JSON is
// captured and checked at once; codecs come after it, when it leaves.
import type { Payload } from "@leasehold/proto/leasehold/v1/task";
import { invalid } from "./errors.js";
import { type Bigints, canonicalJsonText, fromJsonText, toJsonText } from "./json.js";
import { decodeWith, encodeWith, fingerprintWith, type PayloadCodec, unreadable } from "./payload-codec.js";
import { ServerLimits } from "./server-limits.js";

/** Largest value as JSON where codecs may make it small enough for the server: 16 MiB. */
const LARGEST_PLAIN_BYTES = 16_777_216;

/** A value as JSON: captured, so that changing the original later changes nothing. */
export interface Written {
  /** The JSON text. */
  readonly text: string;
  /** The value as whoever reads it will see it: what a schema must accept. */
  readonly value: unknown;
  /** Where it was given, for messages. */
  readonly path: string;
  /** Most bytes that it may have as it travels. */
  readonly mostBytes: number;
}

/** Encodes and decodes payloads in the one way that a client was told. */
export interface Payloads {
  /** What the server takes. */
  readonly limits: ServerLimits;
  /** Names of the codecs; empty if the server can read, patch and search what is sent. */
  readonly codecNames: readonly string[];
  /** Writes a value as JSON, at once. Throws INVALID_ARGUMENT with a path below `path`; `mostBytes` defaults to what the server takes. */
  write(value: unknown, path: string, mostBytes?: number): Written;
  /** The payload of what was written; with a seed the same one each time. Throws INVALID_ARGUMENT if it is too large, UNKNOWN for a codec. */
  encode(written: Written, seed?: string): Promise<Payload>;
  /** What lets the server compare what it cannot read; `undefined` without codecs, or if one of them gives none. */
  fingerprint(written: Written): Promise<Buffer | undefined>;
  /** `undefined` for an absent payload. Throws PAYLOAD_UNREADABLE or UNSAFE_INTEGER with a path. */
  decode(payload: Payload | undefined, path: string): Promise<unknown>;
}

/** What a client was told about payloads. */
export interface PayloadSettings {
  readonly bigints?: Bigints | undefined;
  readonly codecs?: readonly PayloadCodec[] | undefined;
  readonly limits?: ServerLimits;
}

/** Makes the encoder and decoder of a client. */
export function createPayloads({ bigints = "refuse", codecs = [], limits = new ServerLimits() }: PayloadSettings = {}): Payloads {
  return {
    limits,
    codecNames: codecs.map(({ name }) => name),
    write(value, path, mostBytes = limits.payloadBytes) {
      const text = toJsonText(value, path, bigints);
      requireSize(Buffer.byteLength(text, "utf8"), path, codecs.length === 0 ? mostBytes : LARGEST_PLAIN_BYTES, "as JSON");
      return { text, value: fromJsonText(text, path, bigints), path, mostBytes };
    },
    async encode({ text, path, mostBytes }, seed) {
      const plain = Buffer.from(text, "utf8");
      if (codecs.length === 0) return { data: plain, contentType: "" };
      const { data, contentType } = await encodeWith(codecs, { data: plain, contentType: "" }, { seed });
      requireSize(data.length, path, mostBytes, "encoded");
      return { data: Buffer.from(data.buffer, data.byteOffset, data.length), contentType };
    },
    async fingerprint({ value }) {
      const shown = await fingerprintWith(codecs, Buffer.from(canonicalJsonText(value), "utf8"));
      return shown && Buffer.from(shown);
    },
    async decode(payload, path) {
      if (payload === undefined) return undefined;
      const { data, contentType } = await decodeWith(codecs, payload, path);
      if (!isJsonType(contentType)) throw unreadable(path, `has content type ${contentType}, which no codec of this client reads`);
      return fromJsonText(textOf(data, path), path, bigints);
    },
  };
}

/** Whether a content type means JSON, as the server sees it. */
function isJsonType(contentType: string): boolean {
  const type = contentType.split(";")[0]?.trim().toLowerCase() ?? "";
  return type === "" || type === "application/json" || type.endsWith("+json");
}

function requireSize(bytes: number, path: string, mostBytes: number, form: string): void {
  if (bytes > mostBytes) throw invalid([{ path, message: `is ${String(bytes)} bytes ${form}; at most ${String(mostBytes)} fit` }]);
}

function textOf(data: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw unreadable(path, "is not UTF-8");
  }
}
