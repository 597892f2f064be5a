// How are large payloads made small?
//
// Payloads above a size travel as gzip. What comes back is unpacked up to a limit only: a megabyte can unpack to a gigabyte.
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { gunzip, gunzipSync, gzip, gzipSync } from "node:zlib";
import { invalid, type Violation } from "./errors.js";
import type { PayloadCodec } from "./payload-codec.js";
import { wholeNumber } from "./task-options.js";

/** Options of `gzipCodec`. */
export interface GzipOptions {
  /** Payloads of at least so many bytes are packed, if that makes them smaller. Default 1,024. */
  readonly fromBytes?: number;
  /** What would unpack to more is refused as unreadable, in bytes. Default 16 MiB. */
  readonly mostUnpackedBytes?: number;
}

/** Marks what was packed; the content type of what is inside follows. */
const MARK = "application/vnd.leasehold.gzip; of=";

/** Below this, in bytes, the way to another thread and back costs more than the work. */
const AT_ONCE_BYTES = 16_384;

const packElsewhere = promisify<Uint8Array, Buffer>(gzip);
const unpackElsewhere = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(gunzip);

/**
 * A codec that packs large payloads. Put it before encryption: encrypted bytes do not get smaller.
 *
 * @throws LeaseholdError INVALID_ARGUMENT for an option.
 */
export function gzipCodec(options: GzipOptions = {}): PayloadCodec {
  const fromBytes = options.fromBytes ?? 1_024;
  const mostUnpackedBytes = options.mostUnpackedBytes ?? 16_777_216;
  const violations: Violation[] = [];
  wholeNumber(fromBytes, "fromBytes", 0, Number.MAX_SAFE_INTEGER, violations);
  wholeNumber(mostUnpackedBytes, "mostUnpackedBytes", 1, 1_073_741_824, violations);
  if (violations.length > 0) throw invalid(violations);
  return {
    name: "gzip",
    async encode(payload) {
      if (payload.data.length < fromBytes) return payload;
      const data = payload.data.length < AT_ONCE_BYTES ? gzipSync(payload.data) : await packElsewhere(payload.data);
      return data.length < payload.data.length ? { data, contentType: MARK + payload.contentType } : payload;
    },
    async decode(payload) {
      if (!payload.contentType.startsWith(MARK)) return payload;
      return { data: await unpack(payload.data, mostUnpackedBytes), contentType: payload.contentType.slice(MARK.length) };
    },
    // Hides nothing: whoever can read the packed bytes can read them unpacked.
    fingerprint: (bytes) => createHash("sha256").update(bytes).digest(),
  };
}

async function unpack(data: Uint8Array, mostBytes: number): Promise<Buffer> {
  const options = { maxOutputLength: mostBytes };
  try {
    return data.length < AT_ONCE_BYTES ? gunzipSync(data, options) : await unpackElsewhere(data, options);
  } catch (error) {
    const tooLarge = typeof error === "object" && error !== null && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE";
    throw tooLarge ? new RangeError(`unpacks to more than ${String(mostBytes)} bytes`, { cause: error }) : error;
  }
}
