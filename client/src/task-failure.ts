// How did a task fail, typed by its definition?
//
// Codes that the definition declares come with their parsed data; everything else is one of a closed set of system codes, so that a
// `switch` over the code narrows both.
import { FinishReason, type Task as TaskMessage, type TaskError, TaskState } from "@leasehold/proto/leasehold/v1/task";
import type { TaskDefinition } from "./define-task.js";
import { LeaseholdError } from "./errors.js";
import type { Payloads } from "./payload.js";
import { parseWithSchema } from "./schema.js";

/** Codes of failures that no definition declares. */
export const SYSTEM_FAILURE_CODES = [
  // Reported by a worker of this SDK.
  "HANDLER_ERROR",
  "METADATA_INVALID",
  "RESULT_INVALID",
  // Reported by a machine that would not end.
  "MACHINE_CYCLE",
  "MACHINE_STEP_LIMIT",
  // `ctx.cancel`, or a throw after somebody asked to cancel.
  "CANCELLED",
  // Made by the server.
  "ATTEMPT_DEADLINE",
  "SILENCE_DEADLINE",
  "QUEUE_DEADLINE",
  "TOTAL_DEADLINE",
  "LEASE_LOST",
  "INVALID_REPORT",
  // A code that neither the definition nor this SDK knows; `originalCode` has it.
  "UNDECLARED",
] as const;

/** A code of a failure that no definition declares. */
export type SystemFailureCode = (typeof SYSTEM_FAILURE_CODES)[number];

/** What every failure has. */
interface FailureBase {
  /** For people. */
  readonly message: string;
  /** The code as it was reported. */
  readonly originalCode: string;
  /** Stack trace, if the worker had one. */
  readonly stack: string | undefined;
  /** What caused it, with causes of its own: messages and stacks as the worker had them. */
  readonly cause: Error | undefined;
}

/** A failure that no definition declares. */
export interface SystemFailure extends FailureBase {
  /** Which of the system's failures. */
  readonly code: SystemFailureCode;
  /** What was reported with it, unchecked; undefined if nothing. */
  readonly data: unknown;
}

/** A failure that the definition declares, by code. */
export type DeclaredFailure<Task extends TaskDefinition> = FailureBase & Task["~types"]["failure"];

/** How a task failed: one of its declared errors, or one of the system's. */
export type TaskFailure<Task extends TaskDefinition = TaskDefinition> = DeclaredFailure<Task> | SystemFailure;

/** A LeaseholdError of code TASK_FAILED, typed by a definition. */
export type TaskFailedError<Task extends TaskDefinition> = LeaseholdError & {
  readonly code: "TASK_FAILED";
  readonly failure: TaskFailure<Task>;
};

/** Whether an error says that a task of this definition failed; narrows `error.failure` to its declared errors. */
export function isTaskFailed<Task extends TaskDefinition>(error: unknown, task: Task): error is TaskFailedError<Task> {
  return LeaseholdError.is(error) && error.code === "TASK_FAILED" && error.taskName === task.name && error.failure !== undefined;
}

/** Reads a TaskError. Data that its schema refuses makes the failure UNDECLARED; it never hides that the task failed. */
export async function readFailure<Task extends TaskDefinition>(
  task: Task,
  error: TaskError,
  payloads: Payloads,
): Promise<TaskFailure<Task>> {
  const stack = error.stack === "" ? undefined : error.stack;
  const base = { message: error.message, originalCode: error.code, stack, cause: error.cause && remoteError(error.cause) };
  const data = await payloads.decode(error.details, "error.data").catch(() => undefined);
  const schema = Object.hasOwn(task.errors, error.code) ? task.errors[error.code] : undefined;
  if (schema === undefined) return { ...base, code: systemCode(error.code), data };
  const parsed = await parseWithSchema(schema, data, "error.data");
  if (parsed.violations !== undefined) return { ...base, code: "UNDECLARED", data };
  // The code was looked up in the definition's own map and its data parsed with that entry; the compiler cannot follow a look-up by value.
  return { ...base, code: error.code, data: parsed.value } as TaskFailure<Task>;
}

/** What went wrong in a worker as an Error, with its chain of causes. It has the worker's stack. */
export function remoteError({ message, stack, cause }: Pick<TaskError, "message" | "stack" | "cause">): Error {
  const error = new Error(message, cause === undefined ? undefined : { cause: remoteError(cause) });
  // The place where this was put together says nothing about what went wrong.
  error.stack = stack === "" ? `Error: ${message}` : stack;
  return error;
}

/**
 * What the handler of a task said last, if it failed or was cancelled: where somebody asked to cancel, the task's own error has the reason of
 * the cancel, and what the handler said then is its cause.
 */
export function handlersError({ state, finishReason, error }: TaskMessage): TaskError | undefined {
  return state === TaskState.CANCELLED && finishReason !== FinishReason.CANCELLED_BY_WORKER ? error?.cause : error;
}

function systemCode(code: string): SystemFailureCode {
  return SYSTEM_FAILURE_CODES.find((known) => known === code) ?? "UNDECLARED";
}
