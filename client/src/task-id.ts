// Which id does a new task get, so that sending it twice stores it once?
//
// UUID version 7: time first, so that ids sort by creation and indexes stay dense. The last byte is the first byte of SHA-256 of the key
// if there is one: the server keeps tasks of one key together by it.
import { createHash, randomBytes } from "node:crypto";

/** A new task id. `nowMs` is wall-clock time in milliseconds. */
export function newTaskId(nowMs: number, key: string | undefined): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Math.max(0, Math.floor(nowMs)), 0, 6);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x70, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  if (key !== undefined) bytes.writeUInt8(createHash("sha256").update(key, "utf8").digest().readUInt8(0), 15);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Whether a value is a UUID in its usual text form. */
export function isUuid(value: unknown): boolean {
  return typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value);
}
