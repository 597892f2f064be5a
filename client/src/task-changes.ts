// What does an owner change about a task beside proceeding it, and what says the server about why it waits?
//
// Requests of UpdateTask, CancelTask, RetryTask, DeleteTask and ExplainTask, made of options that are checked here.
import type { TaskReference } from "@leasehold/proto/leasehold/v1/task";
import {
  type CancelTaskRequest,
  type Explanation as ExplanationMessage,
  ExplanationCode,
  explanationCodeToJSON,
  type ExplainTaskResponse,
  type RetryTaskRequest,
  type UpdateTaskRequest,
} from "@leasehold/proto/leasehold/v1/task_service";
import type { CallOptions } from "./call.js";
import type { Clock } from "./clock.js";
import { dateFromTimestamp, type DurationInput, durationFromMs, durationMs, timeFrom, type TimeInput } from "./duration.js";
import { invalid, LeaseholdError, type Violation } from "./errors.js";
import { isName, wholeNumber } from "./task-options.js";
import { snapshotFrom, type TaskSnapshot } from "./task-snapshot.js";

/** Options of `cancel`. */
export interface CancelOptions extends CallOptions {
  /** Told to the handler and kept; at most 4 KiB. */
  readonly reason?: string;
  /** How long a running handler may still take. Server's default 30 s. */
  readonly grace?: DurationInput;
}

/** Options of `retry`. */
export interface RetryTaskOptions extends CallOptions {
  /** Count attempts and lost leases anew. Default true. */
  readonly resetAttempts?: boolean;
  /** Start from the saved execution metadata. Default true. */
  readonly keepExecutionMetadata?: boolean;
  /** Not before this time. Default: at once. */
  readonly scheduleTime?: TimeInput;
  /** Refused with ABORTED unless the task still has this etag. */
  readonly etag?: string;
}

/** What `update` changes of a pending task; at least one of the first three. */
export interface UpdateTaskOptions extends CallOptions {
  /** 0 to 9, higher first. */
  readonly priority?: number;
  /** When it is due. */
  readonly scheduleTime?: TimeInput | "now";
  /** The queue it waits in. */
  readonly queue?: string;
  /** Refused with ABORTED unless the task still has this etag. */
  readonly etag?: string;
}

/** Options of `delete`. */
export interface DeleteTaskOptions extends CallOptions {
  /** Refused with ABORTED unless the task still has this etag. */
  readonly etag?: string;
}

/** Why a task is not running. An open set: a newer server may say more. */
export type ExplanationCodeName =
  | "running"
  | "finished"
  | "not_due"
  | "waiting_for_time"
  | "waiting_for_proceed"
  | "no_worker_for_name"
  | "no_worker_for_queue"
  | "all_slots_busy"
  | "queue_paused"
  | "isolated"
  | "about_to_run"
  | "unknown";

/** One reason. */
export interface Explanation {
  /** Machine-readable. */
  readonly code: ExplanationCodeName;
  /** For people. */
  readonly message: string;
  /** Since when it is so, if the server knows. */
  readonly sinceTime: Date | undefined;
  /** Until when it is so, if the server knows. */
  readonly untilTime: Date | undefined;
  /** How many due tasks of its queue go first, at most 10,000. */
  readonly tasksAhead: number;
}

/** Why a task does not run, or that it does. */
export interface ExplainedTask<Name extends string = string> {
  /** The task as it is now. */
  readonly task: TaskSnapshot<Name>;
  /** The reasons, the strongest first. */
  readonly explanations: readonly Explanation[];
}

/** The request of a cancel. Throws INVALID_ARGUMENT. */
export function cancelRequest(task: TaskReference, { reason = "", grace }: CancelOptions): CancelTaskRequest {
  const violations: Violation[] = [];
  const graceMs = grace === undefined ? undefined : durationMs(grace, "grace", violations);
  if (violations.length > 0) throw invalid(violations);
  return { task, reason, grace: graceMs === undefined ? undefined : durationFromMs(graceMs) };
}

/** The request of a retry. Throws INVALID_ARGUMENT. */
export function retryRequest(task: TaskReference, options: RetryTaskOptions, clock: Clock): RetryTaskRequest {
  const violations: Violation[] = [];
  const scheduleTime = options.scheduleTime === undefined ? undefined : timeFrom(options.scheduleTime, "scheduleTime", violations, clock);
  if (violations.length > 0) throw invalid(violations);
  const { resetAttempts, keepExecutionMetadata, etag = "" } = options;
  return { task, etag, resetAttempts, keepExecutionMetadata, scheduleTime };
}

/** The request of an update. Throws INVALID_ARGUMENT. */
export function updateRequest(task: TaskReference, options: UpdateTaskOptions, clock: Clock): UpdateTaskRequest {
  const { priority, scheduleTime, queue, etag = "" } = options;
  const violations: Violation[] = [];
  if (priority !== undefined) wholeNumber(priority, "priority", 0, 9, violations);
  if (queue !== undefined && !isName(queue)) violations.push({ path: "queue", message: "must be the name of a queue" });
  const time = scheduleTime === undefined || scheduleTime === "now" ? undefined : timeFrom(scheduleTime, "scheduleTime", violations, clock);
  const updateMask = [
    ...(priority === undefined ? [] : ["priority"]),
    ...(scheduleTime === undefined ? [] : ["schedule_time"]),
    ...(queue === undefined ? [] : ["queue"]),
  ];
  if (updateMask.length === 0) violations.push({ path: "", message: "priority, scheduleTime or queue must be given" });
  if (violations.length > 0) throw invalid(violations);
  return { task, etag, updateMask, priority: priority ?? 0, scheduleTime: time, queue: queue ?? "" };
}

/** What the server explained. */
export function explainedTask({ task, explanations }: ExplainTaskResponse): ExplainedTask {
  if (task === undefined) throw new LeaseholdError({ code: "INTERNAL", message: "the server explained no task" });
  return { task: snapshotFrom(task), explanations: explanations.map(explanationFrom) };
}

function explanationFrom({ code, message, sinceTime, untilTime, tasksAhead }: ExplanationMessage): Explanation {
  return {
    code: explanationName(code),
    message,
    sinceTime: sinceTime && dateFromTimestamp(sinceTime),
    untilTime: untilTime && dateFromTimestamp(untilTime),
    tasksAhead,
  };
}

function explanationName(code: ExplanationCode): ExplanationCodeName {
  if (code === ExplanationCode.UNSPECIFIED || code === ExplanationCode.UNRECOGNIZED) return "unknown";
  // The names of the contract, of which every one but those two is in the list.
  return explanationCodeToJSON(code).replace("EXPLANATION_CODE_", "").toLowerCase() as ExplanationCodeName;
}
