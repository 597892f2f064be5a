// What may be asked about tasks? Filters, orders and pages of lists, and what explains why a task does not run.

import type { FinishReason, LiveState, LiveTask, PendingReason, TaskError, TaskState } from "../domain/task.js";
import type { TimelineType } from "../domain/event.js";

/** Which tasks a list shows: all conditions hold at once, within a list any may match; empty lists and nulls match everything. */
export interface ListFilter {
  readonly taskIds: readonly string[];
  readonly names: readonly string[];
  readonly queues: readonly string[];
  readonly states: readonly TaskState[];
  readonly pendingReasons: readonly PendingReason[];
  readonly key: string | null;
  readonly labels: ReadonlyMap<string, string>;
  /** JSON text that Postgres can hold as jsonb. */
  readonly metadataContains: string | null;
  /** The same for the execution metadata. */
  readonly executionMetadataContains: string | null;
  readonly createFromUs: number | null;
  readonly createBeforeUs: number | null;
  readonly finishFromUs: number | null;
  readonly finishBeforeUs: number | null;
  /** Due (PENDING) or waking (SUSPENDED) from, and before. */
  readonly runFromUs: number | null;
  readonly runBeforeUs: number | null;
  /** Codes of the error that ended the task, or of an unfinished task's last failure. */
  readonly errorCodes: readonly string[];
}

/** The filter that matches everything. */
export const NO_FILTER: ListFilter = {
  taskIds: [],
  names: [],
  queues: [],
  states: [],
  pendingReasons: [],
  key: null,
  labels: new Map(),
  metadataContains: null,
  executionMetadataContains: null,
  createFromUs: null,
  createBeforeUs: null,
  finishFromUs: null,
  finishBeforeUs: null,
  runFromUs: null,
  runBeforeUs: null,
  errorCodes: [],
};

/** By create_time twice, by finish_time (finished tasks only), by suspend_time (suspended tasks only); ties by id, the same way round. */
export type ListOrder = "NEWEST_FIRST" | "OLDEST_FIRST" | "FINISHED_LAST_FIRST" | "WAITING_LONGEST_FIRST";

/** Where a page begins: behind this place of the list's order. */
export interface PageStart {
  /** The time that the list is ordered by. */
  readonly timeUs: number;
  readonly id: string;
}

/** One page of a list. */
export interface ListQuery {
  readonly namespace: string;
  readonly filter: ListFilter;
  readonly order: ListOrder;
  readonly after: PageStart | null;
  /** At most this many tasks. */
  readonly pageSize: number;
  readonly withPayloads: boolean;
}

/** How many tasks match. */
export interface TaskCount {
  readonly count: number;
  /** There are more, or the count ended because it had looked at as many rows as it may. */
  readonly more: boolean;
}

/** What the place of a task goes by. */
export interface Placed {
  readonly id: string;
  readonly live: Pick<LiveTask, "identity" | "suspendTimeUs">;
  readonly finish: { readonly finishTimeUs: number } | null;
}

/** The place of a task in a list's order. */
export function placeOf(task: Placed, order: ListOrder): PageStart {
  const { live, finish, id } = task;
  if (order === "FINISHED_LAST_FIRST") return { timeUs: finish?.finishTimeUs ?? 0, id };
  return { timeUs: order === "WAITING_LONGEST_FIRST" ? (live.suspendTimeUs ?? 0) : live.identity.createTimeUs, id };
}

/** Kinds of timeline entries, those that are read from a task's columns included. */
export type TaskEventType = TimelineType | "SUBMITTED" | "LEASED" | "CHECKPOINTED";

/** Where a timeline entry stands: by time, then by lease, then by revision and place within it. */
export interface EventPlace {
  readonly timeUs: number;
  readonly fencingToken: number;
  readonly revision: number;
  readonly place: number;
}

/** One entry of a task's timeline. */
export interface TaskEvent {
  readonly at: EventPlace;
  readonly type: TaskEventType;
  readonly state: TaskState;
  readonly attempt: number;
  readonly workerName: string;
  readonly message: string;
  readonly error: TaskError | null;
  readonly runAtUs: number | null;
  /** How often, for checkpoints. */
  readonly count: number;
  readonly finishReason: FinishReason | null;
}

/** A worker that handles a task's name, as its last heartbeat said. */
export interface WorkerRoom {
  /** Empty = all. */
  readonly queues: readonly string[];
  readonly handlers: readonly string[];
  /** Slots in all; 0 while it drains. */
  readonly slots: number;
  /** Slots of its own that it has for the task's name, or null. */
  readonly ownSlots: number | null;
  /** Without a stream: it takes tasks once. */
  readonly unary: boolean;
  /** Tasks that it runs, and those of the task's name. */
  readonly held: number;
  readonly heldOfName: number;
  readonly holdsSuspect: boolean;
}

/** What a pending task waits among. */
export interface TaskSurroundings {
  readonly nowUs: number;
  /** Living workers of its namespace that handle its name, whatever their queues. */
  readonly workers: readonly WorkerRoom[];
}

/** Names one due task's place in its queue. */
export type Waiting = Pick<LiveTask, "identity" | "queue" | "priority" | "runAtUs">;

/** How much of everything there is. */
export interface Census {
  /** Unfinished tasks; `oldestDueS`: how long the oldest due one of a PENDING group waits, in seconds. */
  readonly groups: readonly { readonly queue: string; readonly state: LiveState; readonly count: number; readonly oldestDueS: number }[];
  readonly sessions: number;
  /** Of living sessions. */
  readonly slots: number;
  /** Rows of the tables that change all the time, as Postgres estimates them: those that are there, and those that vacuum has not taken away yet. */
  readonly tables: readonly { readonly table: string; readonly live: number; readonly dead: number }[];
  /** Of the newest migration that the schema has. */
  readonly schemaVersion: number;
}
