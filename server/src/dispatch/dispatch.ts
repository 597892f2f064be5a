// What does the api ask of the dispatch room? The whole conversation on one page, as storage.ts is for Postgres.

import type { Event } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import type { Reopening } from "../domain/reopen.js";
import type { DecideResult, Deleted, Inserted, Retried, TaskReference } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";
import type {
  OutgoingCancel,
  OutgoingLease,
  OutgoingRevocation,
  StreamEnd,
  Verdict,
  WorkerHello,
  WorkerMessage,
  WorkerReport,
  WorkerStream,
} from "./messages.js";

/** For who owns tasks: every change of theirs, and whatever must be told because of it. */
export interface TaskCommands {
  /** Stores one task, gathered with others that come at the same time. Here and below: a `caller` is refused where he would wait too long. */
  submit(task: NewTask, caller?: Caller): Promise<Inserted>;
  /** Stores all tasks or none. */
  submitAtomic(tasks: readonly NewTask[], caller?: Caller): Promise<Inserted[]>;
  /** Lets an event happen to one task; workers, waiters and other servers are told. */
  decide(reference: TaskReference, event: Event, etagRevision?: number, caller?: Caller): Promise<DecideResult>;
  /** Takes a FAILED or CANCELLED task up again. */
  retry(reference: TaskReference, how: Reopening, etagRevision?: number, caller?: Caller): Promise<Retried>;
  /** Removes a finished task. */
  remove(reference: TaskReference, etagRevision?: number, caller?: Caller): Promise<Deleted>;
}

/** For who waits for tasks. */
export interface TaskWatch {
  /**
   * Calls back with an id after its task changed or was removed, possibly several changes at once. Callers read the task
   * themselves, first right after subscribing: a change between the two is not lost. `withProgress`: also when only progress is new.
   */
  subscribe(ids: readonly string[], changed: (id: string) => void, withProgress?: boolean): Subscription;
  /** Tasks that are waited for, each as often as somebody waits for it. */
  readonly size: number;
}

/** A subscription that somebody must end. */
export interface Subscription {
  /** Adds what the subscriber knows, so that the once-a-second look notices what was missed. */
  readonly known: (id: string, revision: number, progressUs?: number) => void;
  readonly end: () => void;
}

/** For who runs tasks. */
export interface WorkerSessions {
  /** Opens or takes over a session for a stream; the welcome is sent first. Answers why where it cannot be. */
  connect(namespace: string, hello: WorkerHello, stream: WorkerStream): Promise<ConnectedWorker | { readonly refused: StreamEnd }>;
  /** Reports without a stream: a verdict for each, in order. */
  report(namespace: string, reports: readonly WorkerReport[]): Promise<Verdict[]>;
  /** Tells every worker that this server goes away, stops leasing, flushes verdicts and ends the streams. Resolves when all are ended. */
  drain(): Promise<void>;
  /** Streams that are open. */
  readonly connected: number;
}

/** The leases of one call, under a session of their own. */
export interface LeasedAnswer {
  readonly sessionId: string;
  readonly leases: readonly OutgoingLease[];
  readonly heartbeatIntervalUs: number;
  readonly expiresInUs: number;
}

/** What became of renewed sessions. */
export interface Renewed {
  /** Sessions that live; what is missing has expired or never was. */
  readonly expiresInUs: ReadonlyMap<string, number>;
  readonly cancels: readonly OutgoingCancel[];
  readonly revoked: readonly OutgoingRevocation[];
}

/** For who runs tasks without a stream. */
export interface UnaryWorkers {
  /** Waits for leases, at most `hello.slots` of them; null where there were none in time or the caller hung up. */
  lease(namespace: string, hello: WorkerHello, waitUs: number, hungUp: AbortSignal): Promise<LeasedAnswer | null>;
  /** Heartbeats of sessions that `lease` opened. */
  renew(sessionIds: readonly string[]): Promise<Renewed>;
  /** A verdict for each report, in order. */
  report(namespace: string, reports: readonly WorkerReport[]): Promise<Verdict[]>;
}

/** The dispatcher's end of one connected worker. */
export interface ConnectedWorker {
  /** Takes the worker's next message. Never throws, never ends the stream for a bad report. */
  receive(message: WorkerMessage): void;
  /** The stream is gone, for whatever reason: nothing is released by that. */
  streamClosed(): void;
}
