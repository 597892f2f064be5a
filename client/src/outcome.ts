// What did a handler say about how its run ends?
//
// `ctx.suspend`, `ctx.fail` and `ctx.cancel` return a value for the handler to return; nothing happens before that. A value that JSON or
// the schema refuses is refused at that call, with its path.
import type { TaskDefinition } from "./define-task.js";
import { type DurationInput, durationMs, isDate, type TimeInput, timestampFromMs } from "./duration.js";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import { invalid, type Violation } from "./errors.js";
import type { Payloads, Written } from "./payload.js";
import { parseAtOnce, type Schema } from "./schema.js";
import type { SystemFailureCode } from "./task-failure.js";

/** What `ctx.suspend`, `ctx.fail` and `ctx.cancel` return; a handler returns it to end its run that way. */
export interface HandlerOutcome {
  /** Marks an outcome, also one of another copy of this package. */
  readonly "~leasehold": "outcome";
  /** How the run ends. */
  readonly ending: Suspending | Failing | Cancelling;
}

/** Wait without a lease. */
interface Suspending {
  readonly kind: "suspend";
  readonly untilTime: Timestamp | undefined;
  readonly untilAfterMs: number | undefined;
  readonly untilProceeded: boolean;
  readonly executionMetadata: Written | undefined;
}

/** This attempt failed with a declared error. */
interface Failing {
  readonly kind: "fail";
  readonly code: string;
  /** Absent for the SDK's own failures. */
  readonly data: Written | undefined;
  readonly message: string;
  readonly retry: boolean;
  readonly retryAfterMs: number | undefined;
}

/** The task ends as cancelled. */
interface Cancelling {
  readonly kind: "cancel";
  readonly reason: string;
}

/** Until when a task waits. At least one of `until` and `untilProceeded`. */
export type WaitOptions =
  | {
      /** Wake at this time; `{ in }` counts by the database's clock. */
      readonly until: TimeInput;
      readonly untilProceeded?: false;
      readonly timeout?: never;
    }
  | {
      /** Wake when somebody proceeds the task. */
      readonly untilProceeded: true;
      /** Wake after this long all the same. */
      readonly timeout?: DurationInput;
      /** Wake at this time all the same; not together with `timeout`. */
      readonly until?: TimeInput;
    };

/** Until when a handler waits, and with what. */
export type SuspendOptions<ExecutionMetadata = unknown> = WaitOptions & {
  /** What the next run resumes from, stored in the same step. Default: the last checkpoint. */
  readonly executionMetadata?: ExecutionMetadata;
};

/** How an attempt that failed goes on. */
export interface FailOptions {
  /** False: do not try again. Default true: as the retry policy says. */
  readonly retry?: boolean;
  /** Replaces the policy's delay once. */
  readonly retryAfter?: DurationInput;
  /** For people. Default: the code. */
  readonly message?: string;
}

/** Makes a suspension. Throws INVALID_ARGUMENT with paths. */
export function suspendOutcome(task: TaskDefinition, options: SuspendOptions, payloads: Payloads): HandlerOutcome {
  const violations: Violation[] = [];
  const { until, untilProceeded, timeout } = options;
  if (until === undefined && untilProceeded !== true) violations.push({ path: "until", message: "or untilProceeded must be given" });
  if (until !== undefined && timeout !== undefined) violations.push({ path: "timeout", message: "cannot be given together with until" });
  let untilAfterMs = timeout === undefined ? undefined : durationMs(timeout, "timeout", violations);
  let untilTime: Timestamp | undefined;
  if (isDate(until)) {
    if (Number.isNaN(until.getTime())) violations.push({ path: "until", message: "must be a valid Date" });
    else untilTime = timestampFromMs(until.getTime());
  } else if (until !== undefined) untilAfterMs = durationMs((until as { in?: unknown } | null)?.in, "until.in", violations);
  const executionMetadata =
    options.executionMetadata === undefined
      ? undefined
      : writeChecked(task.executionMetadata, options.executionMetadata, "executionMetadata", payloads, violations);
  if (violations.length > 0) throw invalid(violations, { taskName: task.name });
  return outcome({ kind: "suspend", untilTime, untilAfterMs, untilProceeded: untilProceeded === true, executionMetadata });
}

/** Makes a declared failure. Throws INVALID_ARGUMENT with paths. */
export function failOutcome(task: TaskDefinition, code: string, data: unknown, options: FailOptions, payloads: Payloads): HandlerOutcome {
  const violations: Violation[] = [];
  if (!Object.hasOwn(task.errors, code))
    violations.push({ path: "code", message: `${JSON.stringify(code)} is not declared by ${task.name}` });
  // The other half is for its texts.
  const written = writeChecked(task.errors[code], data, "data", payloads, violations, payloads.limits.errorBytes / 2);
  const retryAfterMs = options.retryAfter === undefined ? undefined : durationMs(options.retryAfter, "retryAfter", violations);
  if (violations.length > 0) throw invalid(violations, { taskName: task.name });
  return outcome({ kind: "fail", code, data: written, message: options.message ?? code, retry: options.retry ?? true, retryAfterMs });
}

/** Makes a failure of the SDK's own, which no retry heals. */
export function systemFailure(code: SystemFailureCode, message: string): HandlerOutcome {
  return outcome({ kind: "fail", code, data: undefined, message, retry: false, retryAfterMs: undefined });
}

/** Makes a cancellation. */
export function cancelOutcome(reason: string): HandlerOutcome {
  return outcome({ kind: "cancel", reason });
}

/** Whether a handler returned an outcome and not a result. */
export function isHandlerOutcome(value: unknown): value is HandlerOutcome {
  return typeof value === "object" && value !== null && "~leasehold" in value && value["~leasehold"] === "outcome";
}

function outcome(ending: HandlerOutcome["ending"]): HandlerOutcome {
  return Object.freeze({ "~leasehold": "outcome", ending });
}

/** Captures a value and asks its schema, if that answers at once; an asynchronous one is asked when the outcome is reported. */
function writeChecked(
  schema: Schema | undefined,
  value: unknown,
  path: string,
  payloads: Payloads,
  violations: Violation[],
  mostBytes?: number,
): Written {
  const written = payloads.write(value, path, mostBytes);
  if (schema !== undefined) violations.push(...(parseAtOnce(schema, written.value, path)?.violations ?? []));
  return written;
}
