// What does every task of the benchmark carry? 200 bytes of JSON that begin with the moment at which it was submitted.
import { nowMs } from "./clock.mjs";

/** Name of the tasks that are worked off. */
export const TASK_NAME = "bench.task";
/** Their queue. */
export const QUEUE = "bench";

const BYTES = 200;
const FRAME = Buffer.byteLength('{"at":"","x":""}');
const AT_DIGITS = 16;
const FILL = "y".repeat(BYTES - FRAME - AT_DIGITS);

/** A payload made at this moment, as the object that SDKs take. */
export function payload() {
  return { at: nowMs().toFixed(3).padStart(AT_DIGITS, "0"), x: FILL };
}

/** The same as bytes of JSON. */
export function payloadBytes() {
  return Buffer.from(`{"at":"${nowMs().toFixed(3).padStart(AT_DIGITS, "0")}","x":"${FILL}"}`);
}

/** How long ago it was submitted, in milliseconds, by the clock that all processes share. */
export function ageMs({ at }) {
  return nowMs() - Number(at);
}
