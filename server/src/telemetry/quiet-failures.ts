// How are failures logged that come many a second while Postgres is away? The first at once, then one line each 10 s with their number.

import type { Clock } from "../clock.js";
import type { AboutTask } from "../domain/task.js";
import { UnfitDatabase } from "../storage/conditions.js";
import { DatabaseFault } from "../storage/faults.js";
import { fieldsOf, type Log } from "./log.js";

const LINE_INTERVAL_MS = 10_000;

/**
 * Makes the function that background work reports its failures to, with the task where it is about one. Faults of the database are gathered,
 * anything else is a bug and logged each time.
 */
export function quietly(clock: Clock, log: Log): (error: unknown, about?: AboutTask) => void {
  let lastLineMs = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  return (error, about = {}) => {
    if (!(error instanceof DatabaseFault)) {
      log.error({ err: error, ...fieldsOf(about) }, "background work failed");
      return;
    }
    // Whoever found it unfit has said so, once.
    if (error instanceof UnfitDatabase) return;
    const nowMs = clock.monotonicMs();
    if (nowMs - lastLineMs < LINE_INTERVAL_MS) {
      unsaid++;
      return;
    }
    lastLineMs = nowMs;
    log.warn(
      { fault: error.kind, reason: error.message, unsaid, ...fieldsOf(about) },
      "the database failed a background call; it is tried again",
    );
    unsaid = 0;
  };
}
