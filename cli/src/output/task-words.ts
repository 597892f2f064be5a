// How are the states and reasons of a task called on the command line? As in the contract, without the prefix: COMPLETED, LEASE_LOST.
import {
  FinishReason,
  finishReasonToJSON,
  PendingReason,
  pendingReasonToJSON,
  TaskState,
  taskStateToJSON,
  type Task,
} from "@leasehold/proto/leasehold/v1/task";
import type { Colour } from "./screen.js";

/** `COMPLETED`. */
export function stateWord(state: TaskState): string {
  return taskStateToJSON(state).replace("TASK_STATE_", "");
}

/** `LEASE_LOST`; empty while the task is not PENDING. */
export function pendingWord(reason: PendingReason): string {
  return reason === PendingReason.UNSPECIFIED ? "" : pendingReasonToJSON(reason).replace("PENDING_REASON_", "");
}

/** `MAX_ATTEMPTS`; empty while the task is neither FAILED nor CANCELLED. */
export function finishWord(reason: FinishReason): string {
  return reason === FinishReason.UNSPECIFIED ? "" : finishReasonToJSON(reason).replace("FINISH_REASON_", "");
}

/** State and reason: `PENDING (LEASE_LOST)`, `FAILED (MAX_ATTEMPTS)`, `RUNNING`. */
export function standing(task: Task): string {
  const reason = pendingWord(task.pendingReason) || finishWord(task.finishReason);
  return reason === "" ? stateWord(task.state) : `${stateWord(task.state)} (${reason})`;
}

/** The states that a filter takes, by the word that a person types in any case. */
export const stateByWord: Readonly<Record<string, TaskState>> = Object.fromEntries(
  [TaskState.PENDING, TaskState.RUNNING, TaskState.SUSPENDED, TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED].map((state) => [
    stateWord(state).toLowerCase(),
    state,
  ]),
);

const COLOURS: Readonly<Partial<Record<TaskState, Colour>>> = {
  [TaskState.RUNNING]: "busy",
  [TaskState.SUSPENDED]: "waiting",
  [TaskState.COMPLETED]: "good",
  [TaskState.FAILED]: "bad",
  [TaskState.CANCELLED]: "quiet",
};

/** The colour of a state. */
export function stateColour(state: TaskState): Colour {
  return COLOURS[state] ?? "strong";
}

/** Whether nothing more happens to the task by itself. */
export function isFinished(task: Task): boolean {
  return task.state === TaskState.COMPLETED || task.state === TaskState.FAILED || task.state === TaskState.CANCELLED;
}
