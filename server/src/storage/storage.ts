// What does Leasehold ask of Postgres? The whole conversation on one page; the files beside it hold the statements.
// Every operation is atomic and durable when it resolves. A `DatabaseFault` means that nobody knows or that nothing happened.

import type { Answer, Event, RevocationReason } from "../domain/event.js";
import type { Reopening } from "../domain/reopen.js";
import type { Conflict, NewTask } from "../domain/new-task.js";
import type { FinalState, FinishReason, LastOutcome, LiveTask, Payload, TaskError, TaskState, TraceContext } from "../domain/task.js";
import type { Census, EventPlace, ListFilter, ListQuery, PageStart, TaskCount, TaskEvent, TaskSurroundings, Waiting } from "./queries.js";
import type { Caller } from "./turnstile.js";

/** Names one task: by id, or by name and key. */
export type TaskReference =
  { readonly namespace: string; readonly id: string } | { readonly namespace: string; readonly name: string; readonly key: string };

/** What became of one task of `insertTasks`. */
export type Inserted =
  /**
   * `leased`: where it was stored with a lease of a reserved slot. `replaced`: the never leased task whose key it took over, and how that one
   * ended.
   */
  { readonly kind: "created"; readonly createTimeUs: number; readonly leased?: LeasedAtOnce; readonly replaced?: Decided } | Conflict;

/** A task that was stored with a lease. */
export interface LeasedAtOnce {
  readonly task: LiveTask;
  /** Whether its session, read again after the commit, was still what it was: otherwise it must not be delivered. Null: that could not be read. */
  readonly isCurrent: boolean | null;
}

/** A group of tasks that are leased alike: the unit of which the dispatcher knows whether it has work. */
export interface Group {
  readonly namespace: string;
  readonly queue: string;
  readonly name: string;
  readonly priority: number;
  /** True for tasks that lost two leases in a row: they are claimed apart, one at a time. */
  readonly suspect: boolean;
}

/** A group with work, and when its first task is due. */
export interface GroupWithWork extends Group {
  readonly earliestUs: number;
}

/** What one claim asks for: tasks of these groups for these free slots. */
export interface Claim {
  readonly namespace: string;
  /** Whether it is for suspects, or for everything else. */
  readonly suspects: boolean;
  /** At most `free` tasks of a group's name in all. `fromUs`: only what is due from then on is looked at; null or left out: all. */
  readonly groups: readonly (Group & { readonly free: number; readonly fromUs?: number | null })[];
  readonly sessions: readonly ClaimingSession[];
  /** One entry per free slot: an index into `sessions`. */
  readonly slots: readonly number[];
}

/** A session that claims. */
export interface ClaimingSession {
  readonly id: string;
  readonly epoch: number;
  /** 128 fresh random bits as 32 hex digits; the nonce of all its leases of this claim. */
  readonly nonce: string;
  readonly workerName: string;
}

/** Free slots that wait for tasks while these are stored: each is leased in the same statement, if its session still is what it was. */
export interface ReservedSlots {
  readonly sessions: readonly ClaimingSession[];
  /** By task id, for each task that has a slot: an index into `sessions`. */
  readonly sessionOf: ReadonlyMap<string, number>;
}

/** A task with its new lease and everything its worker needs. */
export interface LeasedTask {
  readonly live: LiveTask;
  readonly labels: ReadonlyMap<string, string>;
  readonly traceContext: TraceContext | null;
  /** What it goes back to in other traces; left out: nothing. */
  readonly traceLinks?: readonly TraceContext[];
  /** Null where it is larger than what comes with a claim; `readPayloads` brings it. */
  readonly metadata: Payload | null;
  /** Null where there is none, or where it is too large to come with a claim. */
  readonly executionMetadata: Payload | null;
}

/** What a claim brought. */
export interface Claimed {
  readonly leased: LeasedTask[];
  /** Claimed for a session that ended or was taken over meanwhile: to be given back, undelivered. */
  readonly outdated: LeasedTask[];
}

/** The two payloads of a lease. */
export interface LeasePayloads {
  readonly metadata: Payload;
  readonly executionMetadata: Payload | null;
}

/** An answer of `transition` on its way into the database, with what it was decided on. */
export interface Decision {
  /** The task that was decided about; its lease nonce and revision are the fence. */
  readonly before: LiveTask;
  readonly answer: Extract<Answer, { kind: "changed" | "finished" }>;
  /** Where a deadline decided against somebody: the write is refused before this instant. */
  readonly notBeforeUs: number | null;
}

/** A task as it is stored, finished or not. */
export interface StoredTask {
  readonly id: string;
  readonly namespace: string;
  readonly state: TaskState;
  /** The unfinished task. For a finished one its counters, as far as they are kept. */
  readonly live: LiveTask;
  readonly finish: StoredFinish | null;
  readonly scheduleUs: number | null;
  readonly labels: ReadonlyMap<string, string>;
  readonly traceContext: TraceContext | null;
  readonly metadataBytes: number;
  /** Null in views without payloads. */
  readonly metadata: Payload | null;
  readonly executionMetadata: Payload | null;
  readonly progress: StoredProgress | null;
}

/** How a stored task ended. */
export interface StoredFinish {
  readonly state: FinalState;
  readonly reason: FinishReason | null;
  readonly finishTimeUs: number;
  readonly keyHoldUntilUs: number | null;
  readonly resultBytes: number;
  /** Null in views without payloads. */
  readonly result: Payload | null;
  readonly error: TaskError | null;
}

/** The last outcome of a finished task, to recognize its report when it is sent again. */
export interface FinishedOutcome {
  readonly lastOutcome: LastOutcome | null;
  readonly state: FinalState;
}

/** What a page brought. */
export interface ListPage {
  readonly tasks: readonly StoredTask[];
  /** Where the next page begins; null after the last one. */
  readonly next: PageStart | null;
  /** True if the page ended because it had looked at as many rows as it may. */
  readonly scanLimitReached: boolean;
}

/** What somebody who waits knows of a task. */
export interface KnownTask {
  readonly id: string;
  readonly revision: number;
  /** When the progress that is known was made; null: progress is of no interest. */
  readonly progressUs: number | null;
}

/** How far a running task said it is. */
export interface StoredProgress {
  readonly done: number;
  readonly total: number | null;
  readonly message: string;
  readonly updateUs: number;
}

/** A worker that connects. */
export interface SessionHello {
  readonly namespace: string;
  readonly workerName: string;
  readonly sdk: string;
  readonly language: string;
  readonly queues: readonly string[];
  readonly handlers: readonly string[];
  readonly labels: ReadonlyMap<string, string>;
  readonly slots: number;
  /** Slots of single task names. */
  readonly ownSlots: ReadonlyMap<string, number>;
  readonly ttlUs: number;
  readonly connection: number;
  readonly unary: boolean;
}

/** A session that was opened or taken over. */
export interface OpenSession {
  readonly id: string;
  readonly epoch: number;
  readonly expiresInUs: number;
}

/** What a Hello with a session id came to. */
export type TakeOver =
  /** The session is this stream's now: these of the listed leases are still its own. `returned` tasks went back. */
  | { readonly kind: "taken"; readonly session: OpenSession; readonly kept: readonly LiveTask[]; readonly returned: readonly Decision[] }
  /** A hello with a higher connection number came first. */
  | { readonly kind: "stale" }
  /** The session had ended: a new one was opened and keeps these. */
  | { readonly kind: "renewed"; readonly session: OpenSession; readonly kept: readonly LiveTask[] };

/** A heartbeat to be stored. */
export interface SessionBeat {
  readonly sessionId: string;
  readonly epoch: number;
  readonly number: number;
  /** The worker's slots as they are now; left out: as they were. */
  readonly slots?: SessionSlots;
}

/** Slots that a worker has. */
export interface SessionSlots {
  /** In all; 0 while it drains. */
  readonly total: number;
  /** Of single task names. */
  readonly byName: ReadonlyMap<string, number>;
}

/** A stored heartbeat. What is missing from the answer was not stored: taken over, or ended. */
export interface StoredBeat {
  readonly sessionId: string;
  readonly expiresInUs: number;
}

/** Leases to be told of a cancel. */
export interface CancelledLease {
  readonly sessionId: string;
  readonly task: LiveTask;
}

/** A lease that was taken from its worker otherwise than by silence. */
export interface RevokedLease {
  readonly sessionId: string;
  readonly taskId: string;
  readonly nonce: string;
  readonly reason: RevocationReason;
}

/** What `decide` found and did. */
export interface Decided {
  readonly before: LiveTask;
  readonly answer: Answer;
}

/** The answer of a lock-and-decide: the task, or why there was nothing to decide about. */
export type DecideResult =
  | { readonly kind: "decided"; readonly decided: Decided }
  /** It is finished. */
  | { readonly kind: "finished"; readonly outcome: FinishedOutcome; readonly id: string }
  | { readonly kind: "not-found" }
  /** The task has another revision than the caller knows. */
  | { readonly kind: "etag-mismatch" };

/** What became of a RetryTask. */
export type Retried =
  | { readonly kind: "retried"; readonly before: LiveTask; readonly task: LiveTask }
  /** COMPLETED is final. */
  | { readonly kind: "completed" }
  /** Another task has or holds its key. */
  | { readonly kind: "key-taken" }
  | { readonly kind: "not-finished" }
  | { readonly kind: "not-found" }
  | { readonly kind: "etag-mismatch" };

/** What became of a DeleteTask. */
export type Deleted =
  | { readonly kind: "deleted"; readonly id: string }
  | { readonly kind: "not-finished" }
  | { readonly kind: "not-found" }
  | { readonly kind: "etag-mismatch" };

/** Running tasks without a living session at their epoch. */
export interface OrphanedLeases {
  /** Their session fell silent: charged as lost. */
  readonly lost: LiveTask[];
  /** Their session fell silent while it held a suspect, which alone is charged. */
  readonly bystanders: LiveTask[];
  /** Never delivered to their session's present stream: no loss. */
  readonly returned: LiveTask[];
}

/** What lets upkeep judge time. */
export interface UpkeepTick {
  /** True within the grace after an outage: nobody could report, so nothing is charged. */
  readonly lenient: boolean;
  /** True while no other server uses this database: nobody needs hints. */
  readonly alone: boolean;
}

/**
 * The whole conversation with Postgres. Operations of a `caller` fail with a fault of kind `overloaded`, and nothing is done, where he would wait
 * too long; without one they wait.
 */
export interface Storage {
  /**
   * Stores tasks, those with a reserved slot as leased if they are due, whose sessions' epochs are re-read after commit; `atomic`: all or, on a
   * fault, none. Answers each in the order given.
   */
  insertTasks(tasks: readonly NewTask[], atomic: boolean, caller?: Caller, slots?: ReservedSlots): Promise<Inserted[]>;
  /** Leases due tasks for free slots, by priority and due time within a queue, queues taking turns. Re-reads the sessions' epochs after commit: what was claimed for an older one is `outdated`. */
  leaseTasks(claim: Claim): Promise<Claimed>;
  /** The payloads of one leased task that were too large to come with its claim. */
  readPayloads(namespace: string, taskId: string): Promise<LeasePayloads | null>;
  /** The one path that changes a task: writes each decision if its task still has the same lease nonce and revision. Answers which were written. */
  applyDecisions(decisions: readonly Decision[]): Promise<boolean[]>;
  /** Locks one task, lets `transition` answer the event on what is stored, writes the answer. */
  decide(reference: TaskReference, event: Event, etagRevision?: number, caller?: Caller): Promise<DecideResult>;
  /** Takes a FAILED or CANCELLED task back to PENDING; its deadlines start anew. */
  retryTask(reference: TaskReference, how: Reopening, etagRevision?: number, caller?: Caller): Promise<Retried>;
  /** Removes a finished task and frees its key. */
  deleteTask(reference: TaskReference, etagRevision?: number, caller?: Caller): Promise<Deleted>;
  /** Groups that have pending tasks, due or not, by a loose scan of the ready index; at most `most`. */
  groupsWithWork(namespace: string, most: number): Promise<GroupWithWork[]>;

  openSession(hello: SessionHello): Promise<OpenSession>;
  /** Takes a session over for a newer stream: raises connection and epoch, then keeps the listed leases and gives back the others. */
  takeOverSession(sessionId: string, hello: SessionHello, held: readonly { taskId: string; nonce: string }[]): Promise<TakeOver>;
  /** Stores heartbeats: expiry only ever rises. */
  storeBeats(beats: readonly SessionBeat[]): Promise<StoredBeat[]>;
  /** Whether a session has not ended: of a heartbeat that was not stored it says whether the session was taken over or is over. */
  isSessionAlive(namespace: string, sessionId: string): Promise<boolean>;
  /** All that a session runs, for the server that serves it to compare with what it believes. */
  runningLeases(sessionId: string): Promise<LiveTask[]>;
  /** Ends a session at once; its leases go back with the next tick of upkeep. */
  endSession(sessionId: string): Promise<void>;
  /** What was taken from these sessions within the last hour. */
  revokedLeases(sessionIds: readonly string[]): Promise<RevokedLease[]>;
  /** Cancels of tasks that these sessions run. */
  cancelledLeases(sessionIds: readonly string[]): Promise<CancelledLease[]>;

  /** Records that upkeep runs and finds out whether the database was away. */
  tickUpkeep(serverId: string): Promise<UpkeepTick>;
  /** Ends sessions whose time is over, rechecked in the statement. Answers how many. */
  endExpiredSessions(): Promise<number>;
  /** Running tasks whose session ended or was taken over without them. */
  orphanedLeases(most: number): Promise<OrphanedLeases>;
  /** Tasks for which a wake, a deadline or the grace of a cancel has come. */
  overdueTasks(most: number): Promise<LiveTask[]>;
  /** Removes finished tasks older than the retention of their state, at most a page. Answers how many. */
  removeExpiredTasks(retentionUs: Readonly<Record<FinalState, number>>, most: number): Promise<number>;
  /** Removes progress that belongs to no running task, at most a page. Answers how many. */
  sweepProgress(most: number): Promise<number>;

  readTask(reference: TaskReference, withPayloads: boolean, caller?: Caller): Promise<StoredTask | null>;
  /** Those of the ids that exist, in no order. */
  readTasks(namespace: string, ids: readonly string[], withPayloads: boolean): Promise<StoredTask[]>;
  /** One page of the tasks that match, from an index in the list's order. What no index serves is checked on a bounded number of rows. */
  listTasks(query: ListQuery, caller?: Caller): Promise<ListPage>;
  /** How many tasks match: exactly to 10,000, looking at a bounded number of rows. */
  countTasks(namespace: string, filter: ListFilter, caller?: Caller): Promise<TaskCount>;
  /** The timeline of a task behind a place, oldest first, at most `most` entries; null where there is no such task. */
  listTaskEvents(reference: TaskReference, after: EventPlace | null, most: number, caller?: Caller): Promise<TaskEvent[] | null>;
  /** The living workers that handle a task's name, with what they hold, and the database's time. */
  surroundings(task: Waiting, caller?: Caller): Promise<TaskSurroundings>;
  /** How many due tasks of these names go before a task in its queue; at most 10,000. */
  tasksAhead(task: Waiting, names: readonly string[], caller?: Caller): Promise<number>;
  /** Those of the tasks whose revision is not the known one or whose progress is newer; a null revision: it is gone. */
  readChanged(known: readonly KnownTask[]): Promise<{ readonly id: string; readonly revision: number | null }[]>;
  /** Stores progress of running tasks; lossy. */
  storeProgress(progress: readonly { readonly taskId: string; readonly progress: StoredProgress }[]): Promise<void>;

  /** Tells other servers what changed. Hints only. */
  notify(hint: Hint): Promise<void>;
  /** Calls back with every hint of another server, and with null after a gap in which hints may have been lost. */
  onHint(callback: (hint: Hint | null) => void): void;

  /** Counts over all unfinished tasks: as long as that takes, so seldom. */
  census(): Promise<Census>;

  /** Whether hints of other servers are heard. */
  readonly listening: boolean;
  /** Whether Postgres answered within the last moments. */
  readonly health: { readonly available: boolean; readonly unavailableSinceMs: number | null };
  close(): Promise<void>;
}

/** A lease whose worker must be told something, wherever its stream is. */
export interface HintedLease {
  readonly sessionId: string;
  readonly taskId: string;
  /** Null: its task was cancelled and goes on for the grace. */
  readonly revoked: RevocationReason | null;
}

/** What servers tell each other. */
export interface Hint {
  readonly groups: readonly GroupWithWork[];
  /** Leases whose worker must be told: of a cancel (null), or that they were taken away. */
  readonly leases: readonly HintedLease[];
  /** Tasks that changed and may be awaited elsewhere. Null: too many to be told. */
  readonly taskIds: readonly string[] | null;
}
