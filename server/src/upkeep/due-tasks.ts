// Which tasks' time has come? Suspended ones wake, deadlines and the grace of cancels end. A task that is merely due needs no
// write: the dispatcher finds it by its index.

import type { LiveTask } from "../domain/task.js";
import type { UpkeepParts } from "./apply-page.js";
import { applyToPage } from "./apply-page.js";

const PAGE = 500;

/** Lets time pass for every task whose time has come. `lenient`: right after an outage nothing is charged to workers. */
export async function wakeOverdue(parts: UpkeepParts, lenient: boolean): Promise<void> {
  for (;;) {
    const tasks = await parts.storage.overdueTasks(PAGE);
    const nowUs = parts.clock.nowUs();
    const silent = tasks.filter((task) => isOnlySilent(task, nowUs));
    const others = tasks.filter((task) => !silent.includes(task));
    const written = (await applyToPage(parts, others, { kind: "time-passed", lenient })) + (await judgeSilence(parts, silent, lenient));
    if (tasks.length < PAGE || written === 0) return;
  }
}

function isOnlySilent(task: LiveTask, nowUs: number): boolean {
  const { queueDeadlineUs, attemptDeadlineUs, totalDeadlineUs, silenceDeadlineUs, cancel } = task;
  const others = [queueDeadlineUs, attemptDeadlineUs, totalDeadlineUs, cancel?.deadlineUs ?? null];
  return silenceDeadlineUs !== null && others.every((us) => us === null || us > nowUs);
}

// One by one under their locks, so that progress that was stored a moment ago still counts.
async function judgeSilence({ storage, committed }: UpkeepParts, tasks: readonly LiveTask[], lenient: boolean): Promise<number> {
  let written = 0;
  for (const { identity } of tasks) {
    const result = await storage.decide({ namespace: identity.namespace, id: identity.id }, { kind: "time-passed", lenient });
    if (result.kind !== "decided") continue;
    const { before, answer } = result.decided;
    if (answer.kind !== "changed" && answer.kind !== "finished") continue;
    committed(before, answer);
    written++;
  }
  return written;
}
