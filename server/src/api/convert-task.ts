// How does a stored task look to who asks? The domain's task as a Task message, in BASIC or FULL view.

import type { Payload as PayloadMessage, Task, TaskError as TaskErrorMessage } from "@leasehold/proto/leasehold/v1/task";
import {
  FinishReason as FinishReasonMessage,
  PendingReason as PendingReasonMessage,
  RetryAction,
  TaskState as TaskStateMessage,
} from "@leasehold/proto/leasehold/v1/task";
import type * as proto from "@leasehold/proto/leasehold/v1/task";
import type { NewTask } from "../domain/new-task.js";
import { storedTask } from "../domain/new-task.js";
import type {
  Deadlines,
  FinalState,
  FinishReason,
  LiveTask,
  Payload,
  PendingReason,
  RetryPolicy,
  TaskError,
  TaskState,
} from "../domain/task.js";
import type { StoredTask } from "../storage/storage.js";
import { toDuration, toTimestamp } from "./convert-time.js";

/** How much of a task is shown. */
export type View = "BASIC" | "FULL";

/** How long finished tasks are kept, for `delete_time`. */
export type RetentionUs = Readonly<Record<FinalState, number>>;

/** States as the contract spells them. */
export const STATES = {
  PENDING: TaskStateMessage.PENDING,
  RUNNING: TaskStateMessage.RUNNING,
  SUSPENDED: TaskStateMessage.SUSPENDED,
  COMPLETED: TaskStateMessage.COMPLETED,
  FAILED: TaskStateMessage.FAILED,
  CANCELLED: TaskStateMessage.CANCELLED,
} as const satisfies Record<TaskState, TaskStateMessage>;

/** Pending reasons as the contract spells them. */
export const PENDING_REASONS = {
  NEW: PendingReasonMessage.NEW,
  SCHEDULED: PendingReasonMessage.SCHEDULED,
  RETRY: PendingReasonMessage.RETRY,
  PROCEEDED: PendingReasonMessage.PROCEEDED,
  WOKEN: PendingReasonMessage.WOKEN,
  RELEASED: PendingReasonMessage.RELEASED,
  LEASE_LOST: PendingReasonMessage.LEASE_LOST,
  RETRIED: PendingReasonMessage.RETRIED,
} as const satisfies Record<PendingReason, PendingReasonMessage>;

/** Finish reasons as the contract spells them. */
export const FINISH_REASONS = {
  MAX_ATTEMPTS: FinishReasonMessage.MAX_ATTEMPTS,
  NOT_RETRYABLE: FinishReasonMessage.NOT_RETRYABLE,
  POISONED: FinishReasonMessage.POISONED,
  QUEUE_DEADLINE: FinishReasonMessage.QUEUE_DEADLINE,
  TOTAL_DEADLINE: FinishReasonMessage.TOTAL_DEADLINE,
  INVALID_REPORT: FinishReasonMessage.INVALID_REPORT,
  CANCEL_REQUESTED: FinishReasonMessage.CANCEL_REQUESTED,
  CANCELLED_BY_WORKER: FinishReasonMessage.CANCELLED_BY_WORKER,
  REPLACED: FinishReasonMessage.REPLACED,
} as const satisfies Record<FinishReason, FinishReasonMessage>;

/** The opaque etag of a revision. */
export function toEtag(revision: number): string {
  return revision.toString(36);
}

/** The revision of an etag; -1, which no task has, for one that this server never made. */
export function fromEtag(etag: string): number {
  const revision = /^[0-9a-z]{1,10}$/.test(etag) ? Number.parseInt(etag, 36) : -1;
  return revision >= 0 && toEtag(revision) === etag ? revision : -1;
}

/** The task as it stands right after it was stored, without reading it again. `live`: what it became if it was leased at once. */
export function storedNow(task: NewTask, createTimeUs: number, live: LiveTask = storedTask(task, createTimeUs)): StoredTask {
  const { submission } = task;
  return {
    id: submission.id,
    namespace: submission.namespace,
    state: live.state,
    live,
    finish: null,
    scheduleUs: submission.scheduleUs,
    labels: submission.labels,
    traceContext: submission.traceContext,
    metadataBytes: submission.metadata.data.byteLength,
    metadata: null,
    executionMetadata: null,
    progress: null,
  };
}

/** The Task message of a stored task. A FULL view needs a task that was read with its payloads. */
export function toTask(task: StoredTask, view: View, retentionUs: RetentionUs): Task {
  const { live, finish } = task;
  const { identity } = live;
  const full = view === "FULL";
  const running = task.state === "RUNNING";
  return {
    taskId: task.id,
    name: identity.name,
    queue: live.queue,
    state: STATES[task.state],
    pendingReason: task.state === "PENDING" ? PENDING_REASONS[live.pendingReason] : PendingReasonMessage.UNSPECIFIED,
    finishReason: finish === null || finish.reason === null ? FinishReasonMessage.UNSPECIFIED : FINISH_REASONS[finish.reason],
    etag: toEtag(live.revision),
    key: identity.key ?? "",
    priority: live.priority,
    labels: Object.fromEntries(task.labels),
    createTime: toTimestamp(identity.createTimeUs),
    scheduleTime: toTimestamp(task.scheduleUs),
    runTime: task.state === "PENDING" || task.state === "SUSPENDED" ? toTimestamp(live.runAtUs) : undefined,
    leaseTime: toTimestamp(live.leaseTimeUs),
    finishTime: toTimestamp(finish?.finishTimeUs),
    metadata: full ? toPayload(task.metadata) : undefined,
    executionMetadata: full ? toPayload(task.executionMetadata) : undefined,
    executionMetadataVersion: BigInt(live.executionMetadataVersion),
    result: full ? toPayload(finish?.result ?? null) : undefined,
    error: toError(finish?.error ?? null, full),
    lastError: finish === null ? toError(live.lastError, full) : undefined,
    attempt: attemptOf(live, finish?.reason ?? null),
    maxAttempts: identity.retryPolicy.maxAttempts,
    lostLeases: live.lostLeases,
    maxLostLeases: identity.retryPolicy.maxLostLeases,
    retryPolicy: full ? toRetryPolicy(identity.retryPolicy) : undefined,
    deadlines: toDeadlines(identity.deadlines),
    deadlineTime: finish === null ? toTimestamp(nearestDeadlineUs(live)) : undefined,
    progress: running && task.progress !== null ? toProgress(task.progress) : undefined,
    cancelRequest:
      running && live.cancel !== null
        ? { reason: live.cancel.reason, deadlineTime: toTimestamp(live.cancel.deadlineUs), requestTime: toTimestamp(live.cancel.requestUs) }
        : undefined,
    checkpointCount: BigInt(live.checkpointCount),
    checkpointTime: toTimestamp(live.checkpointTimeUs),
    workerName: live.workerName,
    fencingToken: BigInt(live.fencingToken),
    rememberedProceeds: live.proceeds?.remembered.length ?? 0,
    metadataBytes: task.metadataBytes,
    executionMetadataBytes: live.executionMetadataBytes,
    resultBytes: finish?.resultBytes ?? 0,
    traceContext: full && task.traceContext !== null ? task.traceContext : undefined,
    suspendTime: task.state === "SUSPENDED" ? toTimestamp(live.suspendTimeUs) : undefined,
    keyHoldUntilTime: toTimestamp(finish?.keyHoldUntilUs),
    deleteTime:
      finish === null ? undefined : toTimestamp(Math.max(finish.finishTimeUs + retentionUs[finish.state], finish.keyHoldUntilUs ?? 0)),
  };
}

/** The payload as a message; its bytes are not copied. */
export function toPayload(payload: Payload | null): PayloadMessage | undefined {
  if (payload === null) return undefined;
  const { data } = payload;
  return {
    data: Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength),
    contentType: payload.contentType,
  };
}

/** The error as a message; details and stacks only where they are wanted. */
export function toError(error: TaskError | null, withDetails: boolean): TaskErrorMessage | undefined {
  if (error === null) return undefined;
  return {
    code: error.code,
    message: error.message,
    details: withDetails ? toPayload(error.details ?? null) : undefined,
    stack: withDetails ? (error.stack ?? "") : "",
    cause: toError(error.cause ?? null, withDetails),
  };
}

function attemptOf(live: LiveTask, finished: FinishReason | null): number {
  // These three count the failure that ended the task: it is over, and no attempt follows it.
  const counted = finished === "MAX_ATTEMPTS" || finished === "NOT_RETRYABLE" || finished === "INVALID_REPORT";
  return counted ? Math.max(live.failures, 1) : live.failures + 1;
}

function nearestDeadlineUs(live: LiveTask): number | null {
  const times = [live.queueDeadlineUs, live.attemptDeadlineUs, live.silenceDeadlineUs, live.totalDeadlineUs].filter((us) => us !== null);
  return times.length === 0 ? null : Math.min(...times);
}

function toProgress(progress: NonNullable<StoredTask["progress"]>): proto.Progress {
  return { done: progress.done, total: progress.total ?? undefined, message: progress.message, updateTime: toTimestamp(progress.updateUs) };
}

function toDeadlines(deadlines: Deadlines): proto.Deadlines | undefined {
  const { queueUs, attemptUs, silenceUs, totalUs } = deadlines;
  if (queueUs === null && attemptUs === null && silenceUs === null && totalUs === null) return undefined;
  const duration = (us: number | null): proto.Deadlines["queue"] => (us === null ? undefined : toDuration(us));
  return { queue: duration(queueUs), attempt: duration(attemptUs), silence: duration(silenceUs), total: duration(totalUs) };
}

/** The resolved policy as a message. */
export function toRetryPolicy(policy: RetryPolicy): proto.RetryPolicy {
  const { maxAttempts, maxLostLeases, factor, jitter } = policy;
  return {
    maxAttempts,
    backoff: { initial: toDuration(policy.initialUs), factor, max: toDuration(policy.maxUs), jitter },
    delays: policy.delaysUs.map(toDuration),
    rules: policy.rules.map(({ errorCodes, action, delaysUs }) => ({
      errorCodes: [...errorCodes],
      action: action === "FAIL" ? RetryAction.FAIL : RetryAction.RETRY,
      delays: delaysUs.map(toDuration),
    })),
    maxLostLeases,
    lostLeaseDelays: policy.lostLeaseDelaysUs.map(toDuration),
  };
}
