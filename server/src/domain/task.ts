// What is a task? The shapes that everything else decides about, stores and renders.
// Instants are whole microseconds since 1970 (`…Us`), exact in a double until the year 2255; durations are microseconds too.

/** Bytes with a content type, stored and given back as they came. An empty content type means JSON. */
export interface Payload {
  readonly data: Uint8Array;
  readonly contentType: string;
}

/** Where an unfinished task stands. */
export type LiveState = "PENDING" | "RUNNING" | "SUSPENDED";

/** How a task ended. */
export type FinalState = "COMPLETED" | "FAILED" | "CANCELLED";

/** Where a task stands. */
export type TaskState = LiveState | FinalState;

/** Why a task waits to be leased; kept while it runs, as the reason why it runs. */
export type PendingReason = "NEW" | "SCHEDULED" | "RETRY" | "PROCEEDED" | "WOKEN" | "RELEASED" | "LEASE_LOST" | "RETRIED";

/** Why a task ended as FAILED or CANCELLED. */
export type FinishReason =
  | "MAX_ATTEMPTS"
  | "NOT_RETRYABLE"
  | "POISONED"
  | "QUEUE_DEADLINE"
  | "TOTAL_DEADLINE"
  | "INVALID_REPORT"
  | "CANCEL_REQUESTED"
  | "CANCELLED_BY_WORKER"
  | "REPLACED";

/** What went wrong. `code` is a declared code of the definition or one of the server's own in upper case. */
export interface TaskError {
  readonly code: string;
  readonly message: string;
  readonly details?: Payload;
  readonly stack?: string;
  readonly cause?: TaskError;
}

/** An exception from a retry policy for some error codes. */
export interface RetryRule {
  readonly errorCodes: readonly string[];
  readonly action: "RETRY" | "FAIL";
  readonly delaysUs: readonly number[];
}

/** When and how often a task is tried again; every field resolved. */
export interface RetryPolicy {
  /** Attempts in a row, the first included. */
  readonly maxAttempts: number;
  readonly initialUs: number;
  readonly factor: number;
  readonly maxUs: number;
  /** Share of a delay that chance may take off, 0 to 1. */
  readonly jitter: number;
  /** Explicit delays instead of growing ones; the last one repeats. Empty = grow. */
  readonly delaysUs: readonly number[];
  readonly rules: readonly RetryRule[];
  /** Lost leases in a row that are forgiven. */
  readonly maxLostLeases: number;
  /** Delays after a lost lease; the last one repeats. */
  readonly lostLeaseDelaysUs: readonly number[];
}

/** Limits in time as durations; null = none. */
export interface Deadlines {
  readonly queueUs: number | null;
  readonly attemptUs: number | null;
  readonly silenceUs: number | null;
  readonly totalUs: number | null;
}

/** A worker's exclusive right to run a task. The nonce, with the task id, is the lease token. */
export interface Lease {
  /** 128 random bits as 32 hex digits. */
  readonly nonce: string;
  readonly sessionId: string;
  /** The session's epoch when it was given; a lease of an older epoch than its session's goes back. */
  readonly epoch: number;
  readonly leaseTimeUs: number;
}

/** The outcome that was recorded last, so that the same report sent again is recognized. */
export interface LastOutcome {
  readonly nonce: string;
  readonly seq: number;
  /** True if it was recorded as INVALID_REPORT. */
  readonly invalid: boolean;
}

/** A cancellation that was asked for while the task ran. */
export interface CancelRequest {
  readonly reason: string;
  readonly requestUs: number;
  readonly deadlineUs: number;
}

/** W3C trace context of whoever set a task going; empty strings where there is none. */
export interface TraceContext {
  readonly traceparent: string;
  readonly tracestate: string;
  readonly baggage: string;
}

/** Which task something is about, and in which trace, as far as that is known. */
export interface AboutTask {
  readonly taskId?: string | undefined;
  readonly traceContext?: TraceContext | null | undefined;
}

/** One proceed: who called says why, and what changes. */
export interface Proceed {
  readonly note: string;
  /** Trace context of the call; left out: there was none. */
  readonly traceContext?: TraceContext;
  readonly proceedUs: number;
  /** RFC 7396 patch, or null to keep the execution metadata. */
  readonly patch: Payload | null;
  /** Not before; null = at once. */
  readonly runAtUs: number | null;
}

/** The answer that a proceed with a request id got, kept to answer it again. */
export interface AnsweredRequest {
  readonly requestId: string;
  /** SHA-256 of the request, hex. */
  readonly bodyHash: string;
  readonly result: "APPLIED" | "REMEMBERED";
}

/** What a handler is told of a proceed, and the trace context that its run belongs to. */
export type ToldProceed = Pick<Proceed, "note" | "proceedUs" | "traceContext">;

/** What proceeds did to a task: those that wait for a suspension, those the next lease tells its handler. */
export interface ProceedRecord {
  readonly remembered: readonly Proceed[];
  /** Consumed by the last resumption; told with each lease until the handler checkpoints or ends. */
  readonly consumed: readonly ToldProceed[];
  /** Patches that could not be applied, for the handler. */
  readonly unapplied: readonly Payload[];
  /** The last 32 answered request ids. */
  readonly requests: readonly AnsweredRequest[];
}

/** What a submission fixed for good. */
export interface TaskIdentity {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly key: string | null;
  readonly keyHoldUs: number;
  readonly retryPolicy: RetryPolicy;
  readonly deadlines: Deadlines;
  readonly createTimeUs: number;
}

/** An unfinished task: all that `transition` decides by. Payloads stay outside, except for what it must patch. */
export interface LiveTask {
  readonly identity: TaskIdentity;
  readonly queue: string;
  readonly priority: number;
  readonly state: LiveState;
  readonly pendingReason: PendingReason;
  /** PENDING: due at. SUSPENDED: wakes at, null = only by a proceed. RUNNING: when it was due. */
  readonly runAtUs: number | null;
  /** SUSPENDED: since when; else when it last was, or null. */
  readonly suspendTimeUs: number | null;
  /** Handler failures in a row; the attempt is one more. */
  readonly failures: number;
  /** Leases lost in a row. */
  readonly lostLeases: number;
  /** Releases in a row without a checkpoint. */
  readonly releases: number;
  /** RUNNING, or PENDING because it was lost: the lease whose token still counts. */
  readonly lease: Lease | null;
  /** Worker of the current or last lease. */
  readonly workerName: string;
  /** Start of the current or last lease. */
  readonly leaseTimeUs: number | null;
  readonly fencingToken: number;
  /** Sequence number of the current lease's last settled report. */
  readonly settledSeq: number;
  readonly lastOutcome: LastOutcome | null;
  readonly queueDeadlineUs: number | null;
  readonly attemptDeadlineUs: number | null;
  readonly silenceDeadlineUs: number | null;
  readonly totalDeadlineUs: number | null;
  readonly cancel: CancelRequest | null;
  readonly proceeds: ProceedRecord | null;
  readonly executionMetadataVersion: number;
  readonly executionMetadataBytes: number;
  readonly checkpointCount: number;
  readonly checkpointTimeUs: number | null;
  readonly lastError: TaskError | null;
  /** Raised by one with every write of the row. */
  readonly revision: number;
}

/** How a task ended, beside what the live task was at that moment. */
export interface Finish {
  readonly state: FinalState;
  readonly reason: FinishReason | null;
  readonly result: Payload | null;
  readonly error: TaskError | null;
}

/** The empty proceed record. */
export const NO_PROCEEDS: ProceedRecord = { remembered: [], consumed: [], unapplied: [], requests: [] };

/** No deadlines at all. */
export const NO_DEADLINES: Deadlines = { queueUs: null, attemptUs: null, silenceUs: null, totalUs: null };
