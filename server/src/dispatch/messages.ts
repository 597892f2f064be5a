// What do a worker and the dispatcher say to each other? The contract's messages in the domain's words; protobuf stays in api/.

import type { RevocationReason, ReportBody, Violation } from "../domain/event.js";
import type { TaskState, TraceContext } from "../domain/task.js";
import type { LeasedTask, LeasePayloads } from "../storage/storage.js";

/** A worker introduces itself or comes back; already checked. */
export interface WorkerHello {
  readonly workerName: string;
  readonly sdk: string;
  readonly language: string;
  /** Empty = all. */
  readonly queues: readonly string[];
  readonly slots: number;
  /** `slots` null: only the worker's total counts. */
  readonly handlers: readonly HandlerSlots[];
  readonly labels: ReadonlyMap<string, string>;
  /** Wished session TTL, or null for the default. */
  readonly ttlUs: number | null;
  readonly connection: number;
  /** Null with the first hello of a session. */
  readonly sessionId: string | null;
  readonly heldLeaseTokens: readonly string[];
}

/** A task name that a worker handles. */
export interface HandlerSlots {
  readonly taskName: string;
  readonly slots: number | null;
}

/** One report, checked: its body says what was wrong with it. */
export interface WorkerReport {
  /** As it came; answered with the verdict. */
  readonly leaseToken: string;
  readonly seq: number;
  readonly body: ReportBody;
  /** What the attempt's own span is; left out where its worker says nothing of it. */
  readonly traceContext?: TraceContext;
}

/** One progress message. */
export interface WorkerProgress {
  readonly leaseToken: string;
  readonly done: number;
  readonly total: number | null;
  readonly message: string;
}

/** Any message after hello. */
export interface WorkerMessage {
  readonly heartbeat: { readonly number: number; readonly leasesReceived: number } | null;
  readonly slots: { readonly total: number; readonly handlers: readonly HandlerSlots[] } | null;
  readonly reports: readonly WorkerReport[];
  readonly progress: readonly WorkerProgress[];
  readonly drain: boolean;
}

/** The answer to one report. */
export interface Verdict {
  readonly leaseToken: string;
  readonly seq: number;
  readonly code: "RECORDED" | "ALREADY_RECORDED" | "LEASE_LOST" | "INVALID" | "RETRY_LATER";
  /** What was wrong with the content, for INVALID and for what was left out of a RECORDED one. */
  readonly violations: readonly Violation[];
  readonly retryAfterUs: number | null;
  readonly executionMetadataVersion: number | null;
  readonly state: TaskState | null;
}

/** A lease on its way to its worker. */
export interface OutgoingLease {
  readonly token: string;
  readonly leased: LeasedTask;
  readonly payloads: LeasePayloads;
  /** What is left of its attempt deadline; null = none. */
  readonly attemptRemainingUs: number | null;
}

/** A cancel on its way to a worker. */
export interface OutgoingCancel {
  readonly token: string;
  readonly reason: string;
  readonly remainingGraceUs: number;
}

/** A lease taken away from a worker. */
export interface OutgoingRevocation {
  readonly token: string;
  readonly reason: RevocationReason;
}

/** The answer to hello. */
export interface Welcome {
  readonly sessionId: string;
  readonly heartbeatIntervalUs: number;
  readonly ttlUs: number;
  readonly keptTokens: readonly string[];
  readonly droppedTokens: readonly string[];
}

/** Anything the server sends; an empty one only shows that it lives. */
export interface ServerMessage {
  readonly welcome?: Welcome;
  readonly leases?: readonly OutgoingLease[];
  readonly verdicts?: readonly Verdict[];
  readonly cancels?: readonly OutgoingCancel[];
  readonly revoked?: readonly OutgoingRevocation[];
  readonly heartbeatAnswer?: { readonly number: number; readonly expiresInUs: number };
  readonly drain?: { readonly reconnectAfterUs: number };
}

/** Why the server ends a stream. */
export type StreamEnd =
  | "SERVER_DRAINING"
  | "WORKER_DRAINED"
  | "SESSION_TAKEN"
  | "STALE_HELLO"
  | "SESSION_EXPIRED"
  | "WORKER_NOT_READING"
  | "WORKER_SILENT"
  | "DATABASE_UNAVAILABLE";

/** The server's end of one stream, whatever carries it. */
export interface WorkerStream {
  /** Bytes of payloads after which nothing more of a delivery is read; absent: all of it is. */
  readonly roomBytes?: number;
  /** Sends one message; false when the worker reads too slowly: nothing but control messages until `onDrained`. */
  send(message: ServerMessage): boolean;
  /** Calls back when a slow worker has read what was queued. */
  onDrained(callback: () => void): void;
  /** Ends the stream; nothing is sent after it. */
  end(why: StreamEnd): void;
}
