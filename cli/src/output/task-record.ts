// What does `-o json` say of a task? The fields of the contract by their JSON names; times as ISO texts, 64-bit numbers as texts, payloads as they came.
import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import { RetryAction, type Deadlines, type RetryPolicy, type Task, type TaskError } from "@leasehold/proto/leasehold/v1/task";
import type { Writable } from "./json.js";
import { payloadValue } from "./payload-text.js";
import { finishWord, pendingWord, stateWord } from "./task-words.js";
import { isoTime } from "./time.js";

/** An object to be written. */
export type WritableRecord = Readonly<Record<string, Writable | undefined>>;

/** The task, without what it does not have. */
export function taskRecord(task: Task): WritableRecord {
  return {
    taskId: task.taskId,
    name: task.name,
    queue: task.queue,
    state: stateWord(task.state),
    pendingReason: pendingWord(task.pendingReason) || undefined,
    finishReason: finishWord(task.finishReason) || undefined,
    etag: task.etag,
    key: task.key || undefined,
    priority: task.priority,
    labels: Object.keys(task.labels).length === 0 ? undefined : task.labels,
    attempt: task.attempt,
    maxAttempts: task.maxAttempts,
    lostLeases: task.lostLeases,
    maxLostLeases: task.maxLostLeases,
    workerName: task.workerName || undefined,
    fencingToken: text(task.fencingToken),
    checkpointCount: text(task.checkpointCount),
    executionMetadataVersion: text(task.executionMetadataVersion),
    rememberedProceeds: task.rememberedProceeds || undefined,
    ...timesOf(task),
    progress: task.progress && {
      done: task.progress.done,
      total: task.progress.total,
      message: task.progress.message || undefined,
      updateTime: instant(task.progress.updateTime),
    },
    cancelRequest: task.cancelRequest && {
      reason: task.cancelRequest.reason,
      deadlineTime: instant(task.cancelRequest.deadlineTime),
      requestTime: instant(task.cancelRequest.requestTime),
    },
    metadataBytes: task.metadataBytes,
    executionMetadataBytes: task.executionMetadataBytes,
    resultBytes: task.resultBytes,
    metadata: payloadValue(task.metadata),
    executionMetadata: payloadValue(task.executionMetadata),
    result: payloadValue(task.result),
    error: errorRecord(task.error),
    lastError: errorRecord(task.lastError),
    retryPolicy: task.retryPolicy && policyRecord(task.retryPolicy),
    deadlines: task.deadlines && deadlinesRecord(task.deadlines),
    traceparent: task.traceContext?.traceparent || undefined,
  };
}

function timesOf(task: Task): WritableRecord {
  return {
    createTime: instant(task.createTime),
    scheduleTime: instant(task.scheduleTime),
    runTime: instant(task.runTime),
    leaseTime: instant(task.leaseTime),
    checkpointTime: instant(task.checkpointTime),
    suspendTime: instant(task.suspendTime),
    deadlineTime: instant(task.deadlineTime),
    finishTime: instant(task.finishTime),
    keyHoldUntilTime: instant(task.keyHoldUntilTime),
    deleteTime: instant(task.deleteTime),
  };
}

/** The error with its causes. */
export function errorRecord(error: TaskError | undefined): Writable | undefined {
  return (
    error && {
      code: error.code,
      message: error.message,
      details: payloadValue(error.details),
      stack: error.stack || undefined,
      cause: errorRecord(error.cause),
    }
  );
}

function policyRecord(policy: RetryPolicy): Writable {
  const { backoff } = policy;
  return {
    maxAttempts: policy.maxAttempts,
    backoff: backoff && { initial: span(backoff.initial), factor: backoff.factor, max: span(backoff.max), jitter: backoff.jitter },
    delays: spans(policy.delays),
    rules: policy.rules.map(({ errorCodes, action, delays }) => ({
      errorCodes,
      action: action === RetryAction.FAIL ? "FAIL" : "RETRY",
      delays: spans(delays),
    })),
    maxLostLeases: policy.maxLostLeases,
    lostLeaseDelays: spans(policy.lostLeaseDelays),
  };
}

function deadlinesRecord({ queue, attempt, silence, total }: Deadlines): Writable {
  return { queue: span(queue), attempt: span(attempt), silence: span(silence), total: span(total) };
}

function text(value: bigint): string | undefined {
  return value === 0n ? undefined : String(value);
}

function instant(time: Timestamp | undefined): string | undefined {
  return time && isoTime(time);
}

/** As the JSON form of protobuf has it: seconds with an `s`. */
function span(given: Duration | undefined): string | undefined {
  return given && `${Number(given.seconds) + given.nanos / 1_000_000_000}s`;
}

function spans(given: readonly Duration[]): (string | null)[] {
  return given.map((each) => span(each) ?? null);
}
