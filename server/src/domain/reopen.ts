// What does RetryTask make of a finished task? An unfinished one again, with its deadlines starting anew.

import type { TimelineEntry } from "./event.js";
import type { FinalState, LiveTask, TaskError } from "./task.js";

/** A finished task as far as reopening needs it. */
export interface FinishedTask {
  /** The task with the counters it ended with; its state is that of `state`. */
  readonly task: LiveTask;
  readonly state: FinalState;
  readonly error: TaskError | null;
}

/** How to reopen. */
export interface Reopening {
  /** Count attempts and lost leases anew. */
  readonly resetAttempts: boolean;
  readonly keepExecutionMetadata: boolean;
  /** Not before; null = at once. */
  readonly runAtUs: number | null;
}

/** The reopened task, or why it stays as it is: a COMPLETED task is final. */
export type Reopened =
  | { readonly kind: "reopened"; readonly task: LiveTask; readonly timeline: readonly TimelineEntry[] }
  | { readonly kind: "rejected"; readonly reason: "TASK_COMPLETED" };

/** Takes a FAILED or CANCELLED task back to PENDING with reason RETRIED. */
export function reopen({ task, state, error }: FinishedTask, how: Reopening, nowUs: number): Reopened {
  if (state === "COMPLETED") return { kind: "rejected", reason: "TASK_COMPLETED" };
  const { queueUs, totalUs } = task.identity.deadlines;
  const runAtUs = Math.max(how.runAtUs ?? nowUs, nowUs);
  const counters = how.resetAttempts ? { failures: 0, lostLeases: 0 } : {};
  const metadata = how.keepExecutionMetadata ? {} : { executionMetadataVersion: 0, executionMetadataBytes: 0 };
  const reopened: LiveTask = {
    ...task,
    ...counters,
    ...metadata,
    state: "PENDING",
    pendingReason: "RETRIED",
    runAtUs,
    releases: 0,
    lease: null,
    suspendTimeUs: null,
    settledSeq: 0,
    queueDeadlineUs: queueUs === null ? null : runAtUs + queueUs,
    attemptDeadlineUs: null,
    silenceDeadlineUs: null,
    totalDeadlineUs: totalUs === null ? null : nowUs + totalUs,
    cancel: null,
    proceeds: null,
    lastError: error,
    revision: task.revision + 1,
  };
  return { kind: "reopened", task: reopened, timeline: [{ type: "RETRIED", state: "PENDING", runAtUs }] };
}
