// What happened to a task, in order?
//
// The timeline as an AsyncIterable that fetches page after page, oldest first, and gives pages by hand.
import { type TaskReference, TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  type TaskEvent as TaskEventMessage,
  TaskEventType,
  taskEventTypeToJSON,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import { type CallOptions, callOnce } from "./call.js";
import type { Connection } from "./connection.js";
import { dateFromTimestamp } from "./duration.js";
import { invalid, type Violation } from "./errors.js";
import { wholeNumber } from "./task-options.js";
import { finishReasonName, stateName, type TaskStateName } from "./task-snapshot.js";

/** What happened. An open set: a newer server may say more. */
export type TaskEventName =
  | "submitted"
  | "leased"
  | "checkpointed"
  | "suspended"
  | "proceeded"
  | "proceed_remembered"
  | "proceed_dropped"
  | "patch_unapplied"
  | "woken"
  | "attempt_failed"
  | "released"
  | "lease_lost"
  | "reattested"
  | "late_report_refused"
  | "invalid_report"
  | "cancel_requested"
  | "retried"
  | "updated"
  | "finished"
  | "unknown";

/** One entry of a timeline. */
export interface TaskEvent {
  /** What happened. */
  readonly type: TaskEventName;
  /** By the database's clock. */
  readonly time: Date | undefined;
  /** The attempt it belongs to; 0 if none. */
  readonly attempt: number;
  /** The worker it belongs to, if one. */
  readonly workerName: string | undefined;
  /** The lease it belongs to; 0 if none. */
  readonly fencingToken: bigint;
  /** State after it, if it has one. */
  readonly state: TaskStateName | undefined;
  /** Note, reason or explanation, for people. */
  readonly message: string;
  /** The failure, if one. */
  readonly error: { readonly code: string; readonly message: string } | undefined;
  /** When the task is due or wakes after it. */
  readonly runTime: Date | undefined;
  /** How often, for checkpoints. */
  readonly count: bigint;
  /** At the end: why. */
  readonly finishReason: string | undefined;
}

/** Options of `events`. */
export interface EventOptions extends CallOptions {
  /** Events a page, 1 to 1,000. Default 100. */
  readonly pageSize?: number;
}

/** A page of a timeline. */
export interface TaskEventPage {
  /** Oldest first. */
  readonly events: readonly TaskEvent[];
  /** Give it to `page` for the next one; undefined on the last. */
  readonly nextPageToken: string | undefined;
}

/** A timeline: iterate over it, or take pages by hand. It ends with what has happened so far. */
export interface TaskEventList extends AsyncIterable<TaskEvent> {
  /** One page; without a token the first. NOT_FOUND, INVALID_ARGUMENT, UNAVAILABLE. */
  page(token?: string): Promise<TaskEventPage>;
}

/** Makes a timeline. Nothing is fetched before it is read. */
export function createTaskEventList(connection: Connection, task: TaskReference, options: EventOptions): TaskEventList {
  const page = async (pageToken = ""): Promise<TaskEventPage> => {
    const pageSize = options.pageSize ?? 100;
    const violations: Violation[] = [];
    wholeNumber(pageSize, "pageSize", 1, 1_000, violations);
    if (violations.length > 0) throw invalid(violations);
    const answer = await callOnce(connection, options, TaskServiceService.listTaskEvents, { task, pageSize, pageToken });
    return { events: answer.events.map(eventFrom), nextPageToken: answer.nextPageToken === "" ? undefined : answer.nextPageToken };
  };
  return {
    page,
    async *[Symbol.asyncIterator]() {
      let token: string | undefined;
      do {
        const { events, nextPageToken } = await page(token);
        yield* events;
        token = nextPageToken;
      } while (token !== undefined);
    },
  };
}

function eventFrom(event: TaskEventMessage): TaskEvent {
  const { eventTime, runTime, error, state } = event;
  return {
    type: eventName(event.type),
    time: eventTime && dateFromTimestamp(eventTime),
    attempt: event.attempt,
    workerName: event.workerName === "" ? undefined : event.workerName,
    fencingToken: event.fencingToken,
    state: state === TaskState.UNSPECIFIED || state === TaskState.UNRECOGNIZED ? undefined : stateName(state),
    message: event.message,
    error: error && { code: error.code, message: error.message },
    runTime: runTime && dateFromTimestamp(runTime),
    count: event.count,
    finishReason: finishReasonName(event.finishReason),
  };
}

function eventName(type: TaskEventType): TaskEventName {
  if (type === TaskEventType.UNSPECIFIED || type === TaskEventType.UNRECOGNIZED) return "unknown";
  // The names of the contract, of which every one but those two is in the list.
  return taskEventTypeToJSON(type).replace("TASK_EVENT_TYPE_", "").toLowerCase() as TaskEventName;
}
