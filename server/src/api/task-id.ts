// Which id does a task get whose submitter chose none? A UUID version 7 of the database's time and random bytes, taken from a pool: one call
// to the system's generator for many tasks.

import { randomFillSync } from "node:crypto";
import { uuidV7 } from "../domain/shard.js";

const BYTES_PER_ID = 10;
const pool = Buffer.alloc(BYTES_PER_ID * 512);
let used = pool.length;

/** Makes an id. Ids of different instants sort by them. */
export function newTaskId(nowUs: number): string {
  if (used >= pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const random = pool.subarray(used, used + BYTES_PER_ID);
  used += BYTES_PER_ID;
  return uuidV7(nowUs, random);
}
