// How do ten thousand waits share a few streams?
//
// All `result()`, `outcome()` and `watch()` of a client follow their tasks over WatchTasks streams of up to 1,000 ids. The ids of a stream
// are fixed when it opens, so new ones get a stream of their own that takes over the ids of every smaller stream: an id moves at most about
// ten times, and there are about ten streams beyond the full ones. A new stream begins with what each task is now, so moving loses nothing.
import type { Task } from "@leasehold/proto/leasehold/v1/task";
import { TaskView } from "@leasehold/proto/leasehold/v1/task";
import { TaskServiceService, type WatchTasksResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { type Caller, retryDelayMs } from "./call.js";
import { atEndOfTurn, type Timer } from "./clock.js";
import { LeaseholdError } from "./errors.js";
import type { OutgoingStream } from "./transport.js";

/** Most ids of one stream. */
const MOST_IDS = 1_000;
/** The server sends something every 10 s; three times that without a message is a dead stream. */
const SILENCE_MS = 30_000;
/** Tries in a row without a message before credentials and the like count as final. */
const FINAL_CODES: ReadonlySet<string> = new Set([
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "INVALID_ARGUMENT",
  "UNIMPLEMENTED",
  "CLIENT_CLOSED",
]);

/** Who follows a task. */
export interface Watcher {
  /** The task as it is now, in BASIC view. */
  changed(task: Task): void;
  /** The id is unknown or was removed, or watching is not possible. Nothing more comes. */
  ended(error: LeaseholdError): void;
}

/** Follows tasks for everybody in one client. */
export interface SharedWatch {
  /** Follows a task until the returned function is called. */
  follow(taskId: string, watcher: Watcher): () => void;
  /** Ends every watch with CLIENT_CLOSED. */
  close(): void;
}

/** Makes the shared watch of a client. */
export function createSharedWatch(caller: Caller): SharedWatch {
  const watchers = new Map<string, Set<Watcher>>();
  const streams = new Set<WatchStream>();
  let fresh = new Set<string>();

  const end = (taskId: string, error: LeaseholdError): void => {
    const ended = watchers.get(taskId) ?? [];
    watchers.delete(taskId);
    for (const watcher of ended) watcher.ended(error);
  };
  const open = (ids: ReadonlySet<string>): void => {
    const stream = new WatchStream(caller, new Set(ids), {
      changed(task) {
        for (const watcher of [...(watchers.get(task.taskId) ?? [])]) watcher.changed(task);
      },
      ended: end,
      over: () => streams.delete(stream),
    });
    streams.add(stream);
    stream.open();
  };
  const openFresh = (): void => {
    let ids = new Set([...fresh].filter((id) => watchers.has(id)));
    fresh = new Set();
    for (const stream of [...streams].toSorted((a, b) => a.ids.size - b.ids.size)) {
      if (stream.ids.size > ids.size || stream.ids.size + ids.size > MOST_IDS) break;
      ids = new Set([...ids, ...stream.ids]);
      stream.close();
    }
    for (const part of parts([...ids])) open(new Set(part));
  };

  return {
    follow(taskId, watcher) {
      const known = watchers.get(taskId);
      if (known === undefined) watchers.set(taskId, new Set([watcher]));
      else known.add(watcher);
      // Also for an id that is followed already: the newcomer needs to hear what the task is now.
      if (fresh.size === 0) atEndOfTurn(openFresh);
      fresh.add(taskId);
      for (const stream of streams) stream.forget(taskId);
      return () => {
        const left = watchers.get(taskId);
        left?.delete(watcher);
        if (left?.size !== 0) return;
        watchers.delete(taskId);
        for (const stream of [...streams]) stream.forget(taskId);
      };
    },
    close() {
      for (const stream of [...streams]) stream.close();
      for (const taskId of [...watchers.keys()])
        end(taskId, new LeaseholdError({ code: "CLIENT_CLOSED", message: "the client was closed" }));
    },
  };
}

function parts(ids: readonly string[]): string[][] {
  const cut: string[][] = [];
  for (let at = 0; at < ids.length; at += MOST_IDS) cut.push(ids.slice(at, at + MOST_IDS));
  return cut;
}

interface WatchStreamEvents {
  changed(task: Task): void;
  ended(taskId: string, error: LeaseholdError): void;
  over(): void;
}

/** One WatchTasks stream, opened again until nobody needs its ids. */
class WatchStream {
  #stream: OutgoingStream<unknown> | undefined;
  #timer: Timer | undefined;
  #failures = 0;
  #closed = false;

  constructor(
    private readonly caller: Caller,
    /** Ids that are still followed here. */
    readonly ids: Set<string>,
    private readonly events: WatchStreamEvents,
  ) {}

  open(): void {
    const stream = this.caller.transport.stream(TaskServiceService.watchTasks, {
      message: (response) => this.#read(response),
      writable: () => undefined,
      closed: (error) => this.#reopen(error),
    });
    this.#stream = stream;
    stream.write({ taskIds: [...this.ids], view: TaskView.BASIC });
    stream.end();
    this.#guard();
  }

  /** Follows an id no more; without ids the stream ends. */
  forget(taskId: string): void {
    if (this.ids.delete(taskId) && this.ids.size === 0) this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    this.#stream?.cancel();
    this.events.over();
  }

  #read({ updates }: WatchTasksResponse): void {
    if (this.#closed) return;
    this.#failures = 0;
    this.#guard();
    for (const { taskId, task, removed } of updates) {
      if (!this.ids.has(taskId)) continue;
      if (removed) {
        this.ids.delete(taskId);
        this.events.ended(
          taskId,
          new LeaseholdError({ code: "TASK_REMOVED", message: `task ${taskId} is unknown or was removed`, taskId }),
        );
      } else if (task !== undefined) this.events.changed(task);
    }
    if (this.ids.size === 0) this.close();
  }

  #guard(): void {
    this.#timer?.cancel();
    const stream = this.#stream;
    this.#timer = this.caller.clock.timer(SILENCE_MS, () => stream?.cancel(), { pulse: true });
  }

  #reopen(error: LeaseholdError | undefined): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    if (error !== undefined && FINAL_CODES.has(error.code)) {
      for (const taskId of [...this.ids]) this.events.ended(taskId, error);
      this.close();
      return;
    }
    const delayMs = retryDelayMs(
      this.#failures,
      error ?? new LeaseholdError({ code: "UNAVAILABLE", message: "the stream ended" }),
      this.caller.random,
    );
    this.#failures += 1;
    this.#timer = this.caller.clock.timer(delayMs, () => this.open());
  }
}
