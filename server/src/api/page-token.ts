// Where does the next page begin? Behind a place in the order of this one; the token also carries a hash of the query and of itself, so that
// it works on every server without a shared secret, and neither with another query or namespace nor with a bit changed. It grants nothing:
// whoever makes one up only chooses where to begin in what the call may read anyway.

import { createHash } from "node:crypto";
import type { ListTasksRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { ListTasksRequest as ListTasksCodec } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskView } from "@leasehold/proto/leasehold/v1/task";
import { formatUuid } from "../domain/lease-token.js";
import type { EventPlace, PageStart } from "../storage/queries.js";
import { refuse } from "./status.js";

// Raised whenever tokens or orders change their meaning: an older token is refused rather than misread.
const VERSION = 2;
const HASH_BYTES = 16;
const MAX_TOKEN_LENGTH = 100;
const LIST_CURSOR_BYTES = 1 + 8 + 16;
const EVENT_CURSOR_BYTES = 1 + 8 + 8 + 8 + 2;

/** What a list's tokens are bound to: namespace, filter and order. Page size and view may differ from page to page. */
export function listBinding(request: ListTasksRequest, namespace: string): Uint8Array {
  const filter = request.filter && {
    ...request.filter,
    labels: Object.fromEntries(Object.entries(request.filter.labels).sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  const query = ListTasksCodec.encode({ filter, order: request.order, pageSize: 0, pageToken: "", view: TaskView.UNSPECIFIED }).finish();
  return Buffer.concat([Buffer.from(`list\0${namespace}\0`), query]);
}

/** What a timeline's tokens are bound to: its task. */
export function eventBinding(namespace: string, taskId: string): Uint8Array {
  return Buffer.from(`events\0${namespace}\0${taskId}`);
}

/** The token of the page of a list that begins behind a place. */
export function encodePageToken(start: PageStart, binding: Uint8Array): string {
  const cursor = Buffer.alloc(LIST_CURSOR_BYTES);
  cursor.writeUInt8(VERSION, 0);
  cursor.writeBigInt64BE(BigInt(start.timeUs), 1);
  cursor.write(start.id.replaceAll("-", ""), 9, "hex");
  return seal(cursor, binding);
}

/** Where the page of a list begins: null for the first; refuses a token that is not of this query. */
export function decodePageToken(token: string, binding: Uint8Array): PageStart | null {
  const cursor = unseal(token, LIST_CURSOR_BYTES, binding);
  return cursor && { timeUs: Number(cursor.readBigInt64BE(1)), id: formatUuid(cursor.toString("hex", 9)) };
}

/** The token of the page of a timeline that begins behind a place. */
export function encodeEventToken(at: EventPlace, binding: Uint8Array): string {
  const cursor = Buffer.alloc(EVENT_CURSOR_BYTES);
  cursor.writeUInt8(VERSION, 0);
  cursor.writeBigInt64BE(BigInt(at.timeUs), 1);
  cursor.writeBigInt64BE(BigInt(at.fencingToken), 9);
  cursor.writeBigInt64BE(BigInt(at.revision), 17);
  cursor.writeInt16BE(at.place, 25);
  return seal(cursor, binding);
}

/** Where the page of a timeline begins: null for the first; refuses a token that is not of this task. */
export function decodeEventToken(token: string, binding: Uint8Array): EventPlace | null {
  const cursor = unseal(token, EVENT_CURSOR_BYTES, binding);
  if (cursor === null) return null;
  const [timeUs = 0, fencingToken = 0, revision = 0] = [1, 9, 17].map((offset) => Number(cursor.readBigInt64BE(offset)));
  return { timeUs, fencingToken, revision, place: cursor.readInt16BE(25) };
}

function seal(cursor: Buffer, binding: Uint8Array): string {
  return Buffer.concat([cursor, hash(cursor, binding)]).toString("base64url");
}

function unseal(token: string, cursorBytes: number, binding: Uint8Array): Buffer | null {
  if (token === "") return null;
  const bytes = token.length > MAX_TOKEN_LENGTH ? Buffer.alloc(0) : Buffer.from(token, "base64url");
  const cursor = bytes.subarray(0, cursorBytes);
  const whole = bytes.length === cursorBytes + HASH_BYTES && bytes.toString("base64url") === token && bytes[0] === VERSION;
  if (whole && hash(cursor, binding).equals(bytes.subarray(cursorBytes))) return cursor;
  return refuse("INVALID_PAGE_TOKEN", {
    violations: [{ field: "page_token", description: "must come from the page before, with the same query" }],
  });
}

function hash(cursor: Buffer, binding: Uint8Array): Buffer {
  return createHash("sha256").update("page\0").update(cursor).update(binding).digest().subarray(0, HASH_BYTES);
}
