// What does `list` show of many tasks? One line each, with what tells them apart.
import type { Task } from "@leasehold/proto/leasehold/v1/task";
import { printable, shortened } from "./printable.js";
import type { Screen } from "./screen.js";
import { tableLines } from "./table.js";
import { progressText } from "./task-details.js";
import { standing, stateColour } from "./task-words.js";
import { isoSecond } from "./time.js";

const REMARK_CHARACTERS = 60;

/** The table of tasks, newest first as the server gave them. */
export function taskTable(tasks: readonly Task[], screen: Screen): string[] {
  const rows = tasks.map((task) => [
    task.taskId,
    task.name,
    task.queue,
    screen.paint(stateColour(task.state), standing(task)),
    `${task.attempt}/${task.maxAttempts}`,
    task.createTime === undefined ? "" : isoSecond(task.createTime),
    shortened(printable(task.workerName), 24),
    shortened(remark(task), REMARK_CHARACTERS),
  ]);
  return tableLines(["ID", "NAME", "QUEUE", "STATE", "ATTEMPT", "CREATED", "WORKER", "REMARK"], rows);
}

/** The one thing more that a person wants to know: how far, until when, or why. */
function remark(task: Task): string {
  const failure = task.error ?? task.lastError;
  if (task.progress !== undefined) return progressText(task.progress);
  if (task.runTime !== undefined) return `until ${isoSecond(task.runTime)}`;
  return failure === undefined ? "" : printable(`${failure.code}: ${failure.message}`);
}
