// How does a task's row become the domain's task? The list of columns and the reading of them, in one order.

import type { LiveState, LiveTask, PendingReason, FinishReason, FinalState, TaskState } from "../domain/task.js";
import { readError, readProceeds, readRetryPolicy } from "./json-columns.js";
import type { Row } from "./statement.js";
import { hexDigits, instant, integer, optionalInstant, optionalInteger, text } from "./statement.js";

const STATES = ["PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "FAILED", "CANCELLED"] as const satisfies readonly TaskState[];
const PENDING_REASONS = [
  "NEW",
  "SCHEDULED",
  "RETRY",
  "PROCEEDED",
  "WOKEN",
  "RELEASED",
  "LEASE_LOST",
  "RETRIED",
] as const satisfies readonly PendingReason[];
const FINISH_REASONS = [
  "MAX_ATTEMPTS",
  "NOT_RETRYABLE",
  "POISONED",
  "QUEUE_DEADLINE",
  "TOTAL_DEADLINE",
  "INVALID_REPORT",
  "CANCEL_REQUESTED",
  "CANCELLED_BY_WORKER",
  "REPLACED",
] as const satisfies readonly FinishReason[];

/**
 * The submission of each unfinished task `l`, as a look-up of each row's own: joined plainly, on tables that were empty, it was planned to read
 * all submissions ever after.
 */
export const TASK_OF_LIVE = "CROSS JOIN LATERAL (SELECT * FROM $schema.tasks t WHERE t.shard = $1 AND t.id = l.id OFFSET 0) t";

/**
 * The finished task `f` of one id, to be followed by `FINISHED_FIRST` in the same SELECT. Asked plainly for the id, any index that has it somewhere is
 * as good as the primary key on empty tables, and would be read from end to end ever after; only the primary key has a range of ids in order.
 */
export function finishedOf(id: string): string {
  return `f.shard = $1 AND f.id BETWEEN ${id} AND ${id}`;
}
/** See `finishedOf`. */
export const FINISHED_FIRST = "ORDER BY f.id LIMIT 1";

/** A state as it is stored: 0 to 2 unfinished, 3 to 5 final. */
export function stateNumber(state: TaskState): number {
  return STATES.indexOf(state);
}

/** The state of a stored number. */
export function stateOf(number: number): TaskState {
  return STATES[number] ?? "PENDING";
}

/** A pending reason as it is stored, from 1. */
export function pendingReasonNumber(reason: PendingReason): number {
  return PENDING_REASONS.indexOf(reason) + 1;
}

/** The pending reason of a stored number. */
export function pendingReasonOf(number: number): PendingReason {
  return PENDING_REASONS[number - 1] ?? "NEW";
}

/** A finish reason as it is stored, from 1; null stays null. */
export function finishReasonNumber(reason: FinishReason | null): number | null {
  return reason === null ? null : FINISH_REASONS.indexOf(reason) + 1;
}

/** The finish reason of a stored number. */
export function finishReasonOf(number: number | null): FinishReason | null {
  return number === null ? null : (FINISH_REASONS[number - 1] ?? null);
}

// From `live_tasks l` and `tasks t`, in the order that `readLive` reads.
const COLUMNS = [
  ...["l.id", "l.namespace", "t.name", "t.key", "t.key_hold_us", "t.retry_policy"],
  ...["t.queue_deadline_us", "t.attempt_deadline_us", "t.silence_deadline_us", "t.total_deadline_us", "t.create_time"],
  ...["l.queue", "l.priority", "l.state", "l.pending_reason", "l.run_at", "l.suspend_time", "l.failures", "l.lost_leases", "l.releases"],
  ...["l.lease_nonce", "l.session_id", "l.session_epoch", "l.lease_time", "l.worker_name", "l.fencing_token", "l.settled_seq"],
  ...["l.last_outcome_nonce", "l.last_outcome_seq", "l.last_outcome_invalid"],
  ...["l.queue_deadline", "l.attempt_deadline", "l.silence_deadline", "l.total_deadline"],
  ...["l.cancel_reason", "l.cancel_time", "l.cancel_deadline", "l.proceeds"],
  ...[
    "l.execution_metadata_version",
    "l.execution_metadata_bytes",
    "l.checkpoint_count",
    "l.checkpoint_time",
    "l.last_error",
    "l.revision",
  ],
];

/** Columns of an unfinished task for a SELECT from `live_tasks l` and `tasks t`. */
export const LIVE_COLUMNS = COLUMNS.join(", ");

/** The same, each as text, for reads that go through another driver layer. */
export const LIVE_COLUMNS_AS_TEXT = COLUMNS.map((column) => `${column}::text`).join(", ");

/** How many columns that is: what a statement selects after them begins here. */
export const LIVE_COLUMN_COUNT = COLUMNS.length;

/** Reads an unfinished task. */
export function readLive(row: Row): LiveTask {
  const nonce = hexDigits(row, 20);
  const leaseTimeUs = optionalInstant(row, 23);
  const outcomeNonce = hexDigits(row, 27);
  const cancelDeadlineUs = optionalInstant(row, 36);
  return {
    identity: {
      id: text(row, 0),
      namespace: text(row, 1),
      name: text(row, 2),
      key: row[3] ?? null,
      keyHoldUs: integer(row, 4),
      retryPolicy: readRetryPolicy(text(row, 5)),
      deadlines: {
        queueUs: optionalInteger(row, 6),
        attemptUs: optionalInteger(row, 7),
        silenceUs: optionalInteger(row, 8),
        totalUs: optionalInteger(row, 9),
      },
      createTimeUs: instant(row, 10),
    },
    queue: text(row, 11),
    priority: integer(row, 12),
    state: stateOf(integer(row, 13)) as LiveState,
    pendingReason: pendingReasonOf(integer(row, 14)),
    runAtUs: optionalInstant(row, 15),
    suspendTimeUs: optionalInstant(row, 16),
    failures: integer(row, 17),
    lostLeases: integer(row, 18),
    releases: integer(row, 19),
    lease: nonce === null ? null : { nonce, sessionId: text(row, 21), epoch: integer(row, 22), leaseTimeUs: leaseTimeUs ?? 0 },
    workerName: text(row, 24),
    leaseTimeUs,
    fencingToken: integer(row, 25),
    settledSeq: integer(row, 26),
    lastOutcome: outcomeNonce === null ? null : { nonce: outcomeNonce, seq: integer(row, 28), invalid: row[29]?.startsWith("t") === true },
    queueDeadlineUs: optionalInstant(row, 30),
    attemptDeadlineUs: optionalInstant(row, 31),
    silenceDeadlineUs: optionalInstant(row, 32),
    totalDeadlineUs: optionalInstant(row, 33),
    cancel: cancelDeadlineUs === null ? null : { reason: row[34] ?? "", requestUs: instant(row, 35), deadlineUs: cancelDeadlineUs },
    proceeds: readProceeds(row[37] ?? null),
    executionMetadataVersion: integer(row, 38),
    executionMetadataBytes: integer(row, 39),
    checkpointCount: integer(row, 40),
    checkpointTimeUs: optionalInstant(row, 41),
    lastError: readError(row[42] ?? null),
    revision: integer(row, 43),
  };
}

/** Whether a stored state is a final one. */
export function isFinal(state: TaskState): state is FinalState {
  return state === "COMPLETED" || state === "FAILED" || state === "CANCELLED";
}
