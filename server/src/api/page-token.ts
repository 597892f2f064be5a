// Where does the next page begin? Behind the last task of this one; the token also carries a hash of the query and of itself, so that it
// works on every server without a shared secret, and neither with another query or namespace nor with a bit changed. It grants nothing:
// whoever makes one up only chooses where to begin in what the call may read anyway.

import { createHash } from "node:crypto";
import type { ListTasksRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { ListTasksRequest as ListTasksCodec } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskView } from "@leasehold/proto/leasehold/v1/task";
import { formatUuid } from "../domain/lease-token.js";
import type { PageStart } from "../storage/storage.js";

const VERSION = 1;
const CURSOR_BYTES = 1 + 8 + 16;
const HASH_BYTES = 16;

/** The token of the page that begins behind a task. */
export function encodePageToken(start: PageStart, request: ListTasksRequest, namespace: string): string {
  const cursor = Buffer.alloc(CURSOR_BYTES);
  cursor.writeUInt8(VERSION, 0);
  cursor.writeBigInt64BE(BigInt(start.createTimeUs), 1);
  cursor.write(start.id.replaceAll("-", ""), 9, "hex");
  return Buffer.concat([cursor, hash(cursor, request, namespace)]).toString("base64url");
}

/** Where the page begins; null if the token is not of this query. */
export function decodePageToken(token: string, request: ListTasksRequest, namespace: string): PageStart | null {
  if (token.length > 100) return null;
  const bytes = Buffer.from(token, "base64url");
  if (bytes.length !== CURSOR_BYTES + HASH_BYTES || bytes.toString("base64url") !== token || bytes[0] !== VERSION) return null;
  const cursor = bytes.subarray(0, CURSOR_BYTES);
  if (!hash(cursor, request, namespace).equals(bytes.subarray(CURSOR_BYTES))) return null;
  return { createTimeUs: Number(cursor.readBigInt64BE(1)), id: formatUuid(cursor.toString("hex", 9)) };
}

function hash(cursor: Buffer, request: ListTasksRequest, namespace: string): Buffer {
  const filter = request.filter && {
    ...request.filter,
    labels: Object.fromEntries(Object.entries(request.filter.labels).sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  // Page size and view may differ from page to page; filter and order may not.
  const query = ListTasksCodec.encode({ filter, order: request.order, pageSize: 0, pageToken: "", view: TaskView.UNSPECIFIED }).finish();
  return createHash("sha256").update("page\0").update(namespace).update("\0").update(cursor).update(query).digest().subarray(0, HASH_BYTES);
}
