// What does a handler have at hand while it runs?
//
// The types that a handler sees, and `handle`, which ties a function to a definition. What stands behind the methods is in run-lease.ts.
import type {
  ErrorCodeOf,
  ErrorInput,
  ExecutionMetadataInput,
  ExecutionMetadataOf,
  MetadataOf,
  ResultInput,
  TaskDefinition,
} from "./define-task.js";
import { isTaskDefinition } from "./define-task.js";
import { invalid, type StopReason, type Violation } from "./errors.js";
import type { Logger } from "./log.js";
import type { FailOptions, HandlerOutcome, SuspendOptions } from "./outcome.js";
import type { TaskFailure } from "./task-failure.js";
import { wholeNumber } from "./task-options.js";

/** Why a task runs now. */
export interface Resumed {
  /** `new`, or what ended the wait before this run. */
  readonly by: "new" | "scheduled" | "retry" | "released" | "lease_lost" | "woken" | "proceeded" | "retried";
  /** Proceeds since the run before, oldest first. */
  readonly proceeds: readonly { readonly note: string; readonly time: Date | undefined }[];
  /** Patches that could not be applied to the execution metadata, oldest first. */
  readonly unappliedPatches: readonly unknown[];
}

/** How far a handler is. */
export interface ProgressInput {
  /** Units done; a finite number. */
  readonly done: number;
  /** Units in all, if known; a finite number. */
  readonly total?: number;
  /** For people; cut at 1 KiB. */
  readonly message?: string;
}

/** Execution metadata in a handler: what to resume from. */
export interface ExecutionMetadata<Task extends TaskDefinition = TaskDefinition> {
  /** What was saved last, parsed; where the task begins if nothing was. */
  readonly current: ExecutionMetadataOf<Task>;
  /** Grows by one with each change; 0 while nothing is saved. */
  readonly version: bigint;
  /**
   * Saves. Resolved means durable and still the owner of the lease; checkpoints are stored in the order of the calls. Rejects with
   * INVALID_ARGUMENT (with paths; the lease goes on), LEASE_LOST, or FAILED_PRECONDITION after the handler has ended.
   */
  checkpoint(next: ExecutionMetadataInput<Task>): Promise<void>;
}

/** What every handler gets, whatever its task: for functions that serve many of them. */
export interface UntypedHandlerContext {
  /** Id of the task. */
  readonly id: string;
  /** Its name. */
  readonly name: string;
  /** Its queue. */
  readonly queue: string;
  /** Its key, if it has one. */
  readonly key: string | undefined;
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** When it was submitted. */
  readonly createTime: Date | undefined;
  /** 1 + failures in a row. A suspension sets it back to 1. */
  readonly attempt: number;
  /** Attempts in a row that its retry policy allows. */
  readonly maxAttempts: number;
  /** Why it runs now. */
  readonly resumed: Resumed;
  /** Fires once, for the first reason to stop; its reason is a LeaseholdError STOPPED with `stop`. */
  readonly signal: AbortSignal;
  /** All reasons to stop so far, the first one first. */
  readonly stops: readonly StopReason[];
  /** Whether the worker is shutting down: finish, or checkpoint and suspend. The signal fires only when the grace ends. */
  readonly draining: boolean;
  /** A logger whose lines name the task. */
  readonly log: Logger;
  /** Grows with each lease of the task; give it to downstream systems that can refuse older ones. */
  readonly fencingToken: bigint;
  /** Says how far the handler is. Cheap, and may be lost. Throws INVALID_ARGUMENT. */
  progress(progress: ProgressInput): void;
  /** Return it to end the task as cancelled. */
  cancel(reason: string): HandlerOutcome;
}

/** What a handler gets, typed by its definition. */
export interface HandlerContext<Task extends TaskDefinition = TaskDefinition> extends UntypedHandlerContext {
  /** Name of the task. */
  readonly name: Task["name"];
  /** What the submitter gave, parsed. */
  readonly metadata: MetadataOf<Task>;
  /** What to resume from. */
  readonly executionMetadata: ExecutionMetadata<Task>;
  /** How the attempt before failed, if it did. */
  readonly previousFailure: TaskFailure<Task> | undefined;
  /** Return it to wait without holding a slot. Throws INVALID_ARGUMENT. */
  suspend(options: SuspendOptions<ExecutionMetadataInput<Task>>): HandlerOutcome;
  /** Return it to fail this attempt with a declared error. Throws INVALID_ARGUMENT. */
  fail<Code extends ErrorCodeOf<Task>>(code: Code, data: ErrorInput<Task, Code>, options?: FailOptions): HandlerOutcome;
}

/** A function that runs tasks of a definition: returns the result, or what `ctx.suspend`, `ctx.fail` or `ctx.cancel` gave. */
export type HandlerFunction<Task extends TaskDefinition> = (
  context: HandlerContext<Task>,
) => ResultInput<Task> | HandlerOutcome | Promise<ResultInput<Task> | HandlerOutcome>;

/** Options of a handler. */
export interface HandleOptions {
  /** Tasks of this name at once, 1 to 10,000. Default: only the worker's own concurrency counts. */
  readonly concurrency?: number;
}

/** A function tied to a definition, for `createWorker`. Made by `handle`. */
export interface TaskHandler {
  /** Which tasks it runs. */
  readonly task: TaskDefinition;
  /** Tasks of this name at once, if limited. */
  readonly concurrency: number | undefined;
  /** Runs one. Takes the context of its own definition, which no list of handlers can name. */
  readonly run: (context: never) => unknown;
}

/**
 * Ties a function to a definition.
 *
 * Anything thrown is a failure that may be retried, with its message, stack and cause. After `ctx.signal` has fired a throw uses no attempt:
 * it is a release (shutdown, disconnected), a cancellation (cancelled), or nothing (lease lost, deadline).
 *
 * @throws LeaseholdError INVALID_ARGUMENT if the definition is none (of this or another copy of the package), or for `concurrency`.
 */
export function handle<Task extends TaskDefinition>(
  task: Task,
  run: NoInfer<HandlerFunction<Task>>,
  options: HandleOptions = {},
): TaskHandler {
  const violations: Violation[] = [];
  if (!isTaskDefinition(task)) violations.push({ path: "task", message: "must be a value of defineTask" });
  if (options.concurrency !== undefined) wholeNumber(options.concurrency, "concurrency", 1, 10_000, violations);
  if (violations.length > 0) throw invalid(violations);
  return Object.freeze({ task, concurrency: options.concurrency, run });
}
