// What is known of a task at one moment?
//
// A snapshot is a Task message in the SDK's own terms: states as lower-case words, times as Date, absent as undefined. The full one also
// has the payloads, parsed by the definition's schemas.
import {
  FinishReason,
  finishReasonToJSON,
  PendingReason,
  pendingReasonToJSON,
  type Task,
  TaskState,
} from "@leasehold/proto/leasehold/v1/task";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import type { ExecutionMetadataOf, MetadataOf, ResultOf, TaskDefinition } from "./define-task.js";
import { dateFromTimestamp } from "./duration.js";
import { LeaseholdError } from "./errors.js";
import { readExecutionMetadata } from "./execution-metadata.js";
import type { Payloads } from "./payload.js";
import { type Parsed, parseWithSchema } from "./schema.js";
import { handlersError, readFailure, type TaskFailure } from "./task-failure.js";
import { type DeadlineOptions, deadlineOptionsFrom, type RetryOptions, retryOptionsFrom } from "./task-options.js";

/** Where a task stands. The last three are final. */
export type TaskStateName = "pending" | "running" | "suspended" | "completed" | "failed" | "cancelled";

/** How far a handler says it is. */
export interface ProgressSnapshot {
  /** Units done. */
  readonly done: number;
  /** Units in all, if known. */
  readonly total: number | undefined;
  /** For people. */
  readonly message: string;
  /** When the server got it. */
  readonly updateTime: Date | undefined;
}

/** What is known of a task, without its payloads. */
export interface TaskSnapshot<Name extends string = string> {
  /** A UUID. */
  readonly id: string;
  /** The task name. */
  readonly name: Name;
  /** The named line that it waits in. */
  readonly queue: string;
  /** Where it stands. */
  readonly state: TaskStateName;
  /** Why it is pending, as in `lease_lost`. */
  readonly pendingReason: string | undefined;
  /** Why it failed or was cancelled, as in `max_attempts`. */
  readonly finishReason: string | undefined;
  /** Opaque revision; changes with every change of the record. */
  readonly etag: string;
  /** As submitted, if there is one. */
  readonly key: string | undefined;
  /** 0 to 9, higher first. */
  readonly priority: number;
  /** As submitted. */
  readonly labels: Readonly<Record<string, string>>;
  /** When it was stored. */
  readonly createTime: Date | undefined;
  /** Not before this time, as submitted or changed. */
  readonly scheduleTime: Date | undefined;
  /** Pending: when it is due. Suspended: when it wakes by itself. */
  readonly runTime: Date | undefined;
  /** Of the newest lease. */
  readonly leaseTime: Date | undefined;
  /** Of the present suspension. */
  readonly suspendTime: Date | undefined;
  /** When it finished. */
  readonly finishTime: Date | undefined;
  /** When its nearest deadline passes. */
  readonly deadlineTime: Date | undefined;
  /** When retention removes it. */
  readonly deleteTime: Date | undefined;
  /** The current or next attempt. */
  readonly attempt: number;
  /** Attempts in a row before it fails. */
  readonly maxAttempts: number;
  /** Leases lost in a row. */
  readonly lostLeases: number;
  /** Lost leases in a row that are forgiven. */
  readonly maxLostLeases: number;
  /** How far it is, while it runs and if it says so. */
  readonly progress: ProgressSnapshot | undefined;
  /** The cancellation that was asked for and is not carried out yet. */
  readonly cancelRequest: { readonly reason: string; readonly deadlineTime: Date | undefined } | undefined;
  /** Checkpoints so far, of all attempts. */
  readonly checkpointCount: bigint;
  /** Grows with each change of the execution metadata. */
  readonly executionMetadataVersion: bigint;
  /** Name of the worker that has or had the last lease. */
  readonly workerName: string | undefined;
  /** Of the newest lease; 0 before the first. */
  readonly fencingToken: bigint;
  /** Proceeds that wait for its next suspension. */
  readonly rememberedProceeds: number;
  /** Code and message of how it ended, or of the last failed attempt. */
  readonly lastError: { readonly code: string; readonly message: string } | undefined;
}

/** What is known of a task, with its payloads parsed by its definition. */
export interface FullTaskSnapshot<Task extends TaskDefinition = TaskDefinition> extends TaskSnapshot<Task["name"]> {
  /** What the submitter gave. */
  readonly metadata: MetadataOf<Task>;
  /** What it would resume from. */
  readonly executionMetadata: ExecutionMetadataOf<Task>;
  /** Completed: the result. */
  readonly result: ResultOf<Task> | undefined;
  /** Failed, or cancelled by its handler: how. */
  readonly error: TaskFailure<Task> | undefined;
  /** The retry policy that was resolved when it was submitted; durations in milliseconds. */
  readonly retryPolicy: RetryOptions | undefined;
  /** Its deadlines in milliseconds, if it has any. */
  readonly deadlines: DeadlineOptions | undefined;
}

const STATES: Readonly<Record<TaskState, TaskStateName | undefined>> = {
  [TaskState.UNSPECIFIED]: undefined,
  [TaskState.PENDING]: "pending",
  [TaskState.RUNNING]: "running",
  [TaskState.SUSPENDED]: "suspended",
  [TaskState.COMPLETED]: "completed",
  [TaskState.FAILED]: "failed",
  [TaskState.CANCELLED]: "cancelled",
  [TaskState.UNRECOGNIZED]: undefined,
};

/** The state of a task message. Throws INTERNAL for one that this SDK does not know. */
export function stateName(state: TaskState): TaskStateName {
  const name = STATES[state];
  if (name === undefined) throw new LeaseholdError({ code: "INTERNAL", message: `the server sent an unknown task state ${String(state)}` });
  return name;
}

/** The contract's number of a state. */
export function stateFromName(name: TaskStateName): TaskState {
  return TaskState[name.toUpperCase() as Uppercase<TaskStateName>];
}

/** Whether a task is in a final state. */
export function isFinished(task: Task): boolean {
  return task.state === TaskState.COMPLETED || task.state === TaskState.FAILED || task.state === TaskState.CANCELLED;
}

/** `PENDING_REASON_LEASE_LOST` → `lease_lost`. */
export function pendingReasonName(reason: PendingReason): string | undefined {
  return reason === PendingReason.UNSPECIFIED ? undefined : pendingReasonToJSON(reason).replace("PENDING_REASON_", "").toLowerCase();
}

/** `FINISH_REASON_MAX_ATTEMPTS` → `max_attempts`. */
export function finishReasonName(reason: FinishReason): string | undefined {
  return reason === FinishReason.UNSPECIFIED ? undefined : finishReasonToJSON(reason).replace("FINISH_REASON_", "").toLowerCase();
}

/** A snapshot of a task message in any view. */
export function snapshotFrom(task: Task): TaskSnapshot {
  const lastError = task.error ?? task.lastError;
  return {
    id: task.taskId,
    name: task.name,
    queue: task.queue,
    state: stateName(task.state),
    pendingReason: pendingReasonName(task.pendingReason),
    finishReason: finishReasonName(task.finishReason),
    etag: task.etag,
    key: task.key === "" ? undefined : task.key,
    priority: task.priority,
    labels: task.labels,
    createTime: date(task.createTime),
    scheduleTime: date(task.scheduleTime),
    runTime: date(task.runTime),
    leaseTime: date(task.leaseTime),
    suspendTime: date(task.suspendTime),
    finishTime: date(task.finishTime),
    deadlineTime: date(task.deadlineTime),
    deleteTime: date(task.deleteTime),
    attempt: task.attempt,
    maxAttempts: task.maxAttempts,
    lostLeases: task.lostLeases,
    maxLostLeases: task.maxLostLeases,
    progress: task.progress && {
      done: task.progress.done,
      total: task.progress.total,
      message: task.progress.message,
      updateTime: date(task.progress.updateTime),
    },
    cancelRequest: task.cancelRequest && { reason: task.cancelRequest.reason, deadlineTime: date(task.cancelRequest.deadlineTime) },
    checkpointCount: task.checkpointCount,
    executionMetadataVersion: task.executionMetadataVersion,
    workerName: task.workerName === "" ? undefined : task.workerName,
    fencingToken: task.fencingToken,
    rememberedProceeds: task.rememberedProceeds,
    lastError: lastError && { code: lastError.code, message: lastError.message },
  };
}

/**
 * A full snapshot of a task message in FULL view.
 *
 * @throws LeaseholdError SCHEMA_MISMATCH if a payload does not fit the definition; UNSAFE_INTEGER, PAYLOAD_UNREADABLE.
 */
export async function fullSnapshotFrom<Definition extends TaskDefinition>(
  definition: Definition,
  task: Task,
  payloads: Payloads,
): Promise<FullTaskSnapshot<Definition>> {
  const metadata = (await payloads.decode(task.metadata, "metadata")) ?? null;
  const saved = await payloads.decode(task.executionMetadata, "executionMetadata");
  const said = handlersError(task);
  return {
    ...snapshotFrom(task),
    metadata: definition.metadata ? accept(await parseWithSchema(definition.metadata, metadata, "metadata"), task) : metadata,
    executionMetadata: accept(await readExecutionMetadata(definition, saved), task),
    result: task.state === TaskState.COMPLETED ? await readResult(definition, task, payloads) : undefined,
    error: said && (await readFailure(definition, said, payloads)),
    retryPolicy: task.retryPolicy && retryOptionsFrom(task.retryPolicy),
    deadlines: task.deadlines && deadlineOptionsFrom(task.deadlines),
  };
}

/** The parsed result of a COMPLETED task in FULL view. Throws as `fullSnapshotFrom`. */
export async function readResult<Definition extends TaskDefinition>(
  definition: Definition,
  task: Task,
  payloads: Payloads,
): Promise<ResultOf<Definition>> {
  const result = (await payloads.decode(task.result, "result")) ?? null;
  return definition.result ? accept(await parseWithSchema(definition.result, result, "result"), task) : result;
}

function accept<T>(parsed: Parsed<T>, task: Task): T {
  if (parsed.violations === undefined) return parsed.value;
  const [first] = parsed.violations;
  throw new LeaseholdError({
    code: "SCHEMA_MISMATCH",
    message: `task ${task.taskId} does not fit its definition: ${first?.path ?? ""}: ${first?.message ?? ""}`,
    violations: parsed.violations,
    taskId: task.taskId,
    taskName: task.name,
  });
}

function date(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && dateFromTimestamp(timestamp);
}
