// What happens to a task that its owner never asked for? An entry for each lease that was lost, and a warning where that ended the task.

import type { Listeners } from "../dispatch/announcements.js";
import { fieldsOf, type Log } from "./log.js";
import { lostBy } from "./task-counts.js";

/** Hears of everything that was written, and logs what somebody will look for. Many leases are lost at once where a worker dies: that is `debug`. */
export function taskLog(log: Log): NonNullable<Listeners["committed"]> {
  return (before, answer) => {
    if (before.lease === null) return;
    const cause = lostBy(before, answer);
    if (cause === null) return;
    const { id, name } = before.identity;
    const fields = { ...fieldsOf({ taskId: id }), task_name: name, worker: before.workerName, cause };
    if (answer.kind === "finished" && answer.reason === "POISONED")
      log.warn(fields, "a task ended as POISONED: each of its workers fell silent");
    else log.debug(fields, "a lease ended without a report");
  };
}
