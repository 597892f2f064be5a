// Which requests are not even shown to grpc-js? Those that it would answer INTERNAL, misread or take without a bound. They are answered here,
// from their headers alone; and what it says of bytes that do not decompress is put right on the way out.

import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Refusal } from "./status.js";
import { toServiceError } from "./status.js";

/** Largest time-out that a timer holds; a longer one is none. */
const MOST_TIMEOUT_MS = 2_147_483_647;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 };
/** What HTTP/2 counts for each header beside its name and value. */
const ENTRY_BYTES = 32;
const GRPC_HEADERS = { ":status": 200, "content-type": "application/grpc+proto" };
const INTERNAL = 13;

/** What a request is refused with: a gRPC refusal, or the status of HTTP where the other side does not speak gRPC. */
export type Refused = { readonly refusal: Refusal } | { readonly http: number };

/** Judges a request by its headers; null lets it pass. A time-out beyond what a timer holds is taken off `headers`: it would fire at once. */
export function judge(headers: IncomingHttpHeaders, rawHeaders: readonly string[], metadataBytes: number): Refused | null {
  if (headers[":method"] !== "POST") return { http: 405 };
  // grpc-js refuses another content type as well, and a stream that is ended already makes it throw.
  if (!(headers["content-type"] ?? "").startsWith("application/grpc")) return { http: 415 };
  let bytes = (rawHeaders.length / 2) * ENTRY_BYTES;
  for (const part of rawHeaders) bytes += part.length;
  if (bytes > metadataBytes) return { refusal: { reason: "METADATA_TOO_LARGE" } };
  const timeout = headers["grpc-timeout"];
  if (timeout === undefined) return null;
  const match = typeof timeout === "string" ? /^(\d{1,8})([HMSmun])$/.exec(timeout) : null;
  if (match === null) {
    const description = "must be one to eight digits and one of H, M, S, m, u, n";
    return { refusal: { reason: "INVALID_FIELD", violations: [{ field: "grpc-timeout", description }] } };
  }
  if (Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? 0) > MOST_TIMEOUT_MS) delete headers["grpc-timeout"];
  return null;
}

/** Answers a stream that was not answered yet, and ends it, whatever its other side still sends. */
export function answer(stream: ServerHttp2Stream, refused: Refused): void {
  if (stream.destroyed || stream.closed) return;
  const headers = "http" in refused ? { ":status": refused.http } : { ...GRPC_HEADERS, ...trailersOf(refused.refusal) };
  if (!stream.headersSent) stream.respond(headers, { endStream: true });
  stream.close();
}

function trailersOf(refusal: Refusal): OutgoingHttpHeaders {
  const { code, details, metadata } = toServiceError(refusal);
  return { "grpc-status": code, "grpc-message": encodeURI(details), ...metadata.toHttp2Headers() };
}

/** Makes bytes that do not decompress a fault of whoever sent them: grpc-js would answer INTERNAL. */
export function correctDecompression(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const encoding = headers["grpc-encoding"];
  if (encoding === undefined || encoding === "identity") return;
  const respond = stream.respond.bind(stream);
  const sendTrailers = stream.sendTrailers.bind(stream);
  stream.respond = (sent, options) => respond(sent === undefined ? sent : corrected(sent), options);
  stream.sendTrailers = (sent) => sendTrailers(corrected(sent));
}

function corrected(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  const broken = headers["grpc-status"] === INTERNAL && String(headers["grpc-message"]).includes("decompress");
  return broken ? { ...headers, ...trailersOf({ reason: "MALFORMED_MESSAGE" }) } : headers;
}
