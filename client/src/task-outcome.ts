// How did a task end, to whoever waits for it?
//
// `outcome()` gives the union below and throws only for trouble with the call; `result()` is the same with every end but success thrown.
import { FinishReason, type Task as TaskMessage, TaskState } from "@leasehold/proto/leasehold/v1/task";
import type { ResultOf, TaskDefinition } from "./define-task.js";
import { LeaseholdError } from "./errors.js";
import type { Payloads } from "./payload.js";
import { handlersError, readFailure, remoteError, type TaskFailure } from "./task-failure.js";
import { finishReasonName, readResult } from "./task-snapshot.js";

/** How a task ended. */
export type TaskOutcome<Task extends TaskDefinition = TaskDefinition> =
  | { readonly state: "completed"; readonly result: ResultOf<Task> }
  | {
      readonly state: "failed";
      readonly error: TaskFailure<Task>;
      /** As in `max_attempts`, `not_retryable`, `poisoned`, `total_deadline`. */
      readonly finishReason: string | undefined;
    }
  | {
      readonly state: "cancelled";
      /** What its handler said when it cancelled, or after it was told to stop, if it did. */
      readonly error: TaskFailure<Task> | undefined;
      /** As in `cancel_requested`, `cancelled_by_worker`, `replaced`. */
      readonly finishReason: string | undefined;
      /** Why, in the words of whoever cancelled. */
      readonly reason: string;
    };

/**
 * The outcome of a finished task in FULL view.
 *
 * @throws LeaseholdError SCHEMA_MISMATCH, UNSAFE_INTEGER or PAYLOAD_UNREADABLE if the result cannot be read.
 */
export async function outcomeFrom<Task extends TaskDefinition>(
  task: Task,
  message: TaskMessage,
  payloads: Payloads,
): Promise<TaskOutcome<Task>> {
  const said = handlersError(message);
  const error = said && (await readFailure(task, said, payloads));
  const finishReason = finishReasonName(message.finishReason);
  if (message.state === TaskState.COMPLETED) return { state: "completed", result: await readResult(task, message, payloads) };
  if (message.state === TaskState.FAILED) {
    const unknown = {
      code: "UNDECLARED",
      originalCode: "",
      message: finishReason ?? "failed",
      stack: undefined,
      cause: undefined,
      data: undefined,
    } as const;
    return { state: "failed", error: error ?? unknown, finishReason };
  }
  return { state: "cancelled", error, finishReason, reason: message.cancelRequest?.reason ?? message.error?.message ?? "" };
}

/** The result of an outcome, or what `result()` throws: TASK_FAILED or TASK_CANCELLED. */
export function resultFrom<Task extends TaskDefinition>(outcome: TaskOutcome<Task>, message: TaskMessage): ResultOf<Task> {
  const about = { taskId: message.taskId, taskName: message.name };
  const said = handlersError(message);
  switch (outcome.state) {
    case "completed":
      return outcome.result;
    case "failed": {
      const { error: failure } = outcome;
      const why = message.finishReason === FinishReason.UNSPECIFIED ? "" : ` (${outcome.finishReason ?? ""})`;
      throw new LeaseholdError({
        ...about,
        code: "TASK_FAILED",
        message: `task ${message.name} ${message.taskId} failed with ${failure.originalCode}${why}: ${failure.message}`,
        failure,
        cause: said && remoteError(said),
      });
    }
    case "cancelled":
      throw new LeaseholdError({
        ...about,
        code: "TASK_CANCELLED",
        message: `task ${message.name} ${message.taskId} was cancelled (${outcome.finishReason ?? ""})${outcome.reason === "" ? "" : `: ${outcome.reason}`}`,
        failure: outcome.error,
        cause: said && remoteError(said),
      });
  }
}
