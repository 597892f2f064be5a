// Which tasks' time has come? Suspended ones wake, deadlines and the grace of cancels end. A task that is merely due needs no
// write: the dispatcher finds it by its index.

import type { UpkeepParts } from "./apply-page.js";
import { applyToPage } from "./apply-page.js";

const PAGE = 500;

/** Lets time pass for every task whose time has come. `lenient`: right after an outage nothing is charged to workers. */
export async function wakeOverdue(parts: UpkeepParts, lenient: boolean): Promise<void> {
  for (;;) {
    const tasks = await parts.storage.overdueTasks(PAGE);
    const written = await applyToPage(parts, tasks, { kind: "time-passed", lenient });
    if (tasks.length < PAGE || written === 0) return;
  }
}
