// What does a submission become? The task as it is stored first, with everything that was left out filled in.

import type { Deadlines, LiveTask, Payload, RetryPolicy, TraceContext } from "./task.js";

/** What happens when the key of a submission is taken. */
export type KeyConflictPolicy = "RETURN_EXISTING" | "REJECT" | "REPLACE_PENDING";

/** A submission, checked and with defaults filled in. */
export interface Submission {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly queue: string;
  readonly metadata: Payload;
  readonly executionMetadata: Payload | null;
  readonly labels: ReadonlyMap<string, string>;
  readonly priority: number;
  /** Not before; null = at once. */
  readonly scheduleUs: number | null;
  readonly deadlines: Deadlines;
  readonly retryPolicy: RetryPolicy;
  readonly key: string | null;
  readonly keyConflictPolicy: KeyConflictPolicy;
  readonly keyHoldUs: number;
  /** Compared instead of opaque metadata when the key is taken; null = not given. */
  readonly metadataFingerprint: Uint8Array | null;
  readonly traceContext: TraceContext | null;
  /** SHA-256 of the decoded submission without trace context; null where the server made the id. */
  readonly contentHash: Uint8Array | null;
}

/** A task about to be stored: what never changes, and where it stands first. */
export interface NewTask {
  readonly submission: Submission;
  readonly live: LiveTask;
}

/** Makes the task of a submission. A task that is due at once gets its times from the statement that stores it. */
export function newTask(submission: Submission, nowUs: number): NewTask {
  const { id, namespace, name, key, keyHoldUs, retryPolicy, deadlines, scheduleUs } = submission;
  const later = scheduleUs !== null && scheduleUs > nowUs;
  const runAtUs = later ? scheduleUs : nowUs;
  const live: LiveTask = {
    identity: { id, namespace, name, key, keyHoldUs, retryPolicy, deadlines, createTimeUs: nowUs },
    queue: submission.queue,
    priority: submission.priority,
    state: "PENDING",
    pendingReason: later ? "SCHEDULED" : "NEW",
    runAtUs,
    suspendTimeUs: null,
    failures: 0,
    lostLeases: 0,
    releases: 0,
    lease: null,
    workerName: "",
    leaseTimeUs: null,
    fencingToken: 0,
    settledSeq: 0,
    lastOutcome: null,
    queueDeadlineUs: deadlines.queueUs === null ? null : runAtUs + deadlines.queueUs,
    attemptDeadlineUs: null,
    silenceDeadlineUs: null,
    totalDeadlineUs: deadlines.totalUs === null ? null : nowUs + deadlines.totalUs,
    cancel: null,
    proceeds: null,
    executionMetadataVersion: submission.executionMetadata === null ? 0 : 1,
    executionMetadataBytes: submission.executionMetadata?.data.byteLength ?? 0,
    checkpointCount: 0,
    checkpointTimeUs: null,
    lastError: null,
    revision: 1,
  };
  return { submission, live };
}

/** The task as it stands right after it was stored: its times count from the clock of the statement that stored it. */
export function storedTask({ submission, live }: NewTask, createTimeUs: number): LiveTask {
  const identity = { ...live.identity, createTimeUs };
  const { queueUs, totalUs } = identity.deadlines;
  const runAtUs = Math.max(submission.scheduleUs ?? createTimeUs, createTimeUs);
  const queueDeadlineUs = queueUs === null ? null : runAtUs + queueUs;
  const totalDeadlineUs = totalUs === null ? null : createTimeUs + totalUs;
  return { ...live, identity, runAtUs, queueDeadlineUs, totalDeadlineUs };
}

/** Why a submission was not stored: something has its id or its key. */
export type Conflict =
  /** `sameContent`: it is the same submission. `exists` is false where the id was free after all and only the key was taken. */
  | { readonly kind: "id-exists"; readonly sameContent: boolean; readonly exists?: boolean }
  /** Another task has its key. `started`: it was leased before; `finished`: it only holds the key for a while. */
  | {
      readonly kind: "key-taken";
      readonly id: string;
      readonly sameMetadata: boolean;
      readonly started: boolean;
      readonly finished: boolean;
    };

/** What a conflict is called where it refuses the submission. */
export type ConflictReason = "TASK_ID_CONFLICT" | "KEY_EXISTS" | "KEY_METADATA_MISMATCH" | "KEY_TASK_STARTED" | "KEY_HELD";

/** Decides whether a conflict refuses a submission; null: the task that exists is its answer. */
export function conflictReason(policy: KeyConflictPolicy, conflict: Conflict): ConflictReason | null {
  if (conflict.kind === "id-exists") return conflict.sameContent ? null : "TASK_ID_CONFLICT";
  switch (policy) {
    case "REJECT":
      return "KEY_EXISTS";
    case "RETURN_EXISTING":
      return conflict.sameMetadata ? null : "KEY_METADATA_MISMATCH";
    case "REPLACE_PENDING":
      return conflict.finished ? "KEY_HELD" : "KEY_TASK_STARTED";
  }
}
