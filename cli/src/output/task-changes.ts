// What has happened to a task between two looks at it? The lines that `watch` prints, from what was known before and what is known now.
// Pure: a watch shows the newest state only, so several steps may lie between two looks, and what can be told of them is told.
import { PendingReason, TaskState, type Task } from "@leasehold/proto/leasehold/v1/task";
import { printable } from "./printable.js";
import type { Screen } from "./screen.js";
import { progressText, tookText } from "./task-details.js";
import { pendingWord, standing, stateColour } from "./task-words.js";
import { duration, isoTime, msOf } from "./time.js";

/** What is new, one sentence each; empty if nothing is worth a line. `before` is undefined at the first look. */
export function changesOf(before: Task | undefined, now: Task, paint: Screen["paint"]): string[] {
  const moved =
    before === undefined ||
    before.state !== now.state ||
    before.pendingReason !== now.pendingReason ||
    before.fencingToken !== now.fencingToken ||
    before.attempt !== now.attempt;
  return [
    ...checkpointLine(before, now),
    ...(moved ? [`${paint(stateColour(now.state), standing(now))}${circumstance(now)}`] : []),
    ...progressLine(before, now),
    ...cancelLine(before, now),
    ...proceedLine(before, now),
  ];
}

/** What the state alone does not say. */
function circumstance(task: Task): string {
  const { createTime, runTime, suspendTime } = task;
  switch (task.state) {
    case TaskState.PENDING:
      return pendingCircumstance(task);
    case TaskState.RUNNING:
      return ` attempt ${task.attempt} of ${task.maxAttempts}${task.workerName === "" ? "" : ` on ${printable(task.workerName)}`}`;
    case TaskState.SUSPENDED:
      if (runTime === undefined) return " until somebody proceeds it";
      return ` until ${isoTime(runTime)}${suspendTime === undefined ? "" : ` (${duration(msOf(runTime) - msOf(suspendTime))})`}`;
    case TaskState.COMPLETED:
    case TaskState.FAILED:
    case TaskState.CANCELLED:
      return `${createTime === undefined ? "" : ` after ${tookText(task) ?? ""}`}${failureText(task)}`;
    default:
      return "";
  }
}

function pendingCircumstance(task: Task): string {
  const waits =
    task.runTime !== undefined && (task.pendingReason === PendingReason.RETRY || task.pendingReason === PendingReason.SCHEDULED);
  const due = waits && task.runTime !== undefined ? ` due ${isoTime(task.runTime)}` : "";
  const next = pendingWord(task.pendingReason) === "NEW" ? "" : `, attempt ${task.attempt} of ${task.maxAttempts} is next`;
  return `${due}${next}${failureText(task)}`;
}

function failureText({ error, lastError }: Task): string {
  const failure = error ?? lastError;
  return failure === undefined ? "" : `: ${printable(failure.code)}: ${printable(failure.message)}`;
}

function checkpointLine(before: Task | undefined, now: Task): string[] {
  const [seen, count] = [before?.checkpointCount ?? 0n, now.checkpointCount];
  if (count <= seen) return [];
  const several = count - seen > 1n ? `checkpoints ${seen + 1n} to ${count}` : `checkpoint ${count}`;
  return [`${several} (execution metadata version ${now.executionMetadataVersion}, ${now.executionMetadataBytes} bytes)`];
}

function progressLine(before: Task | undefined, now: Task): string[] {
  if (now.progress === undefined) return [];
  const line = progressText(now.progress);
  return before?.progress !== undefined && progressText(before.progress) === line ? [] : [`progress ${line}`];
}

function cancelLine(before: Task | undefined, now: Task): string[] {
  const request = now.cancelRequest;
  if (request === undefined || before?.cancelRequest !== undefined) return [];
  const until = request.deadlineTime === undefined ? "" : `, at the latest ${isoTime(request.deadlineTime)}`;
  return [`cancel requested${request.reason === "" ? "" : `: ${printable(request.reason)}`}${until}`];
}

function proceedLine(before: Task | undefined, now: Task): string[] {
  const count = now.rememberedProceeds;
  return count > (before?.rememberedProceeds ?? 0) ? [`proceed remembered for the next suspension (${count} in all)`] : [];
}
