// What can happen to a task, and what may come of it? Events go into `transition`, answers come out.

import type { FinishReason, FinalState, LiveTask, Payload, Proceed, TaskError, TaskState } from "./task.js";

/** A field that is wrong, and what it should be. */
export interface Violation {
  /** Path of the field, as `tasks[3].metadata.data`. */
  readonly field: string;
  /** What is wrong with it, in one sentence. */
  readonly description: string;
}

/** What a worker says about a lease, already checked at the door. */
export type ReportBody =
  | { readonly kind: "checkpoint"; readonly executionMetadata: Payload }
  | { readonly kind: "complete"; readonly result: Payload; readonly executionMetadata: Payload | null }
  | {
      readonly kind: "fail";
      readonly error: TaskError;
      readonly retryable: boolean;
      readonly retryAfterUs: number | null;
      readonly executionMetadata: Payload | null;
      /** What was wrong and is left out: a failure never ends less retryable than it says. */
      readonly leftOut: readonly Violation[];
    }
  | {
      readonly kind: "suspend";
      /** Wake at this instant, or null. */
      readonly untilUs: number | null;
      /** Wake after this long, or null. */
      readonly afterUs: number | null;
      readonly executionMetadata: Payload | null;
    }
  | {
      readonly kind: "cancel";
      readonly error: TaskError;
      readonly executionMetadata: Payload | null;
      readonly leftOut: readonly Violation[];
    }
  | {
      readonly kind: "release";
      readonly retryAfterUs: number | null;
      readonly executionMetadata: Payload | null;
      readonly leftOut: readonly Violation[];
    }
  /** Content that cannot be recorded; `ends` says whether it was an outcome, which then ends the attempt. */
  | { readonly kind: "invalid"; readonly ends: boolean; readonly violations: readonly Violation[] };

/** Everything that can happen to an unfinished task after it was stored. */
export type Event =
  | {
      readonly kind: "leased";
      readonly lease: { readonly nonce: string; readonly sessionId: string; readonly epoch: number };
      readonly workerName: string;
      readonly fencingBase: number;
    }
  | { readonly kind: "reported"; readonly nonce: string; readonly seq: number; readonly body: ReportBody }
  /** The session that holds the lease fell silent for its TTL. */
  | {
      readonly kind: "lease-lost";
      /** False where the session held a suspect, which alone is charged. Left out: charged. */
      readonly charged?: false;
    }
  /** The lease never reached its worker, or its worker came back without it: no attempt is used. */
  | { readonly kind: "lease-returned" }
  /** The worker that has the lease came back and listed it. */
  | { readonly kind: "reattested"; readonly nonce: string; readonly sessionId: string; readonly epoch: number }
  /** Time went by: wakes, deadlines and the grace of cancels. */
  | { readonly kind: "time-passed"; readonly lenient: boolean }
  | { readonly kind: "cancel-requested"; readonly reason: string; readonly graceUs: number }
  | {
      readonly kind: "proceeded";
      readonly proceed: Proceed;
      /** New execution metadata, or null. Needs a suspended task. */
      readonly replace: Payload | null;
      /** True where an etag was given: it needs a suspended task. */
      readonly needsSuspended: boolean;
      readonly request: { readonly requestId: string; readonly bodyHash: string } | null;
    }
  | { readonly kind: "updated"; readonly priority: number | null; readonly queue: string | null; readonly runAtUs: number | null }
  | { readonly kind: "replaced" };

/** What happened, for the timeline of a task. The plain success path writes none. */
export interface TimelineEntry {
  readonly type: TimelineType;
  readonly message?: string;
  readonly error?: TaskError | null;
  readonly runAtUs?: number | null;
  readonly finishReason?: FinishReason | null;
  /** State after it. */
  readonly state: TaskState;
}

/** Kinds of timeline entries that are stored; submitted, leased and plainly finished are read from the task's columns. */
export type TimelineType =
  | "SUSPENDED"
  | "PROCEEDED"
  | "PROCEED_REMEMBERED"
  | "PROCEED_DROPPED"
  | "PATCH_UNAPPLIED"
  | "WOKEN"
  | "ATTEMPT_FAILED"
  | "RELEASED"
  | "LEASE_LOST"
  | "REATTESTED"
  | "LATE_REPORT_REFUSED"
  | "INVALID_REPORT"
  | "CANCEL_REQUESTED"
  | "RETRIED"
  | "UPDATED"
  | "FINISHED";

/** Why nothing was changed: an expected 'no', never thrown. */
export type Rejection =
  | { readonly reason: "LEASE_LOST" }
  | { readonly reason: "ALREADY_RECORDED" }
  | { readonly reason: "OUT_OF_ORDER"; readonly expectedSeq: number }
  | { readonly reason: "INVALID_REPORT"; readonly violations: readonly Violation[] }
  | { readonly reason: "TASK_FINISHED" }
  | { readonly reason: "TASK_NOT_PENDING" }
  | { readonly reason: "TASK_NOT_SUSPENDED" }
  | { readonly reason: "TASK_STARTED" }
  | { readonly reason: "CANCEL_REQUESTED" }
  | { readonly reason: "REQUEST_ID_REUSED" }
  | { readonly reason: "TOO_MANY_PROCEEDS" }
  | { readonly reason: "PATCH_NOT_APPLICABLE" }
  /** Nothing to do: the event's time has not come, or it happened already. */
  | { readonly reason: "NOTHING_TO_DO" };

/** How the lease that an answer closed was taken from its worker, for the worker to be told. */
export type RevocationReason = "ATTEMPT_DEADLINE" | "SILENCE_DEADLINE" | "TOTAL_DEADLINE" | "CANCEL_GRACE_ENDED" | "LEASE_LOST";

/** What comes of an event. */
export type Answer =
  | { readonly kind: "rejected"; readonly rejection: Rejection }
  /** An earlier identical request is answered again. */
  | { readonly kind: "repeated"; readonly result: "APPLIED" | "REMEMBERED" }
  | Change
  | Ending;

/** The task goes on. */
export interface Change {
  readonly kind: "changed";
  readonly task: LiveTask;
  /** New execution metadata; undefined = as it was. */
  readonly executionMetadata?: Payload;
  readonly timeline: readonly TimelineEntry[];
  readonly revoked?: RevocationReason;
  /** Content of the report that was left out or refused, for its verdict. */
  readonly violations?: readonly Violation[];
  readonly proceedResult?: "APPLIED" | "REMEMBERED";
}

/** The task ends. */
export interface Ending {
  readonly kind: "finished";
  /** The task as it was, with its counters settled. */
  readonly task: LiveTask;
  readonly state: FinalState;
  readonly reason: FinishReason | null;
  readonly result: Payload | null;
  readonly error: TaskError | null;
  readonly finishTimeUs: number;
  readonly executionMetadata?: Payload;
  readonly timeline: readonly TimelineEntry[];
  readonly revoked?: RevocationReason;
  readonly violations?: readonly Violation[];
}

/** What the decision needs beside task and event. */
export interface Context {
  /** The database's time. */
  readonly nowUs: number;
  /** Chance for jitter, in [0, 1). */
  readonly chance: number;
  /** Stored execution metadata; needed when a proceed is applied or consumed, else it may be null. */
  readonly executionMetadata: Payload | null;
  /** When the task last said how far it is; needed to judge silence. Left out: never. */
  readonly progressUs?: number | null;
  /** Largest payload that may be stored. */
  readonly maxPayloadBytes: number;
  /** The least fencing token of whatever is leased now: a smaller one is from before a failover of Postgres. Left out: there was none. */
  readonly fencingBase?: number;
}
