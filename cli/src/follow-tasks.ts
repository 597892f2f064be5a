// How does a verb follow tasks until they are finished, also over a restart of the server? By WatchTasks, opened again when it breaks.
import { LeaseholdError } from "@leasehold/client";
import type { Task } from "@leasehold/proto/leasehold/v1/task";
import { TaskServiceService, WatchTasksRequest, type TaskUpdate } from "@leasehold/proto/leasehold/v1/task_service";
import { isFinished } from "./output/task-words.js";
import type { ServerConnection } from "./server-connection.js";

/** What a follower hears. */
export interface Follower {
  /** The task as it is now. */
  changed(task: Task): void;
  /** The id is unknown or was removed. */
  removed(taskId: string): void;
  /** The stream broke and is opened again. */
  interrupted(error: LeaseholdError): void;
}

/** How patient a follower is. */
export interface FollowPatience {
  /** Without a message for this long the stream counts as dead; the server sends one every 10 s. */
  readonly silenceMs: number;
  /** Pause before it is opened again. */
  readonly reopenMs: number;
  /** Breaks for longer than this end the following. */
  readonly outageMs: number;
}

const PATIENCE: FollowPatience = { silenceMs: 30_000, reopenMs: 500, outageMs: 60_000 };
const PASSING: ReadonlySet<string> = new Set(["UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"]);

/**
 * Follows tasks until each is finished or removed. A stream that never came about is not tried again: the person is told at once.
 * @throws LeaseholdError when the server cannot be reached, or no longer for `outageMs`.
 */
export async function followTasks(
  server: ServerConnection,
  taskIds: readonly string[],
  follower: Follower,
  patience: FollowPatience = PATIENCE,
): Promise<void> {
  const left = new Set(taskIds);
  let heardMs: number | undefined;
  while (left.size > 0) {
    const error = await followOnce(server, [...left], patience.silenceMs, (update) => {
      heardMs = performance.now();
      take(update, left, follower);
      return left.size > 0;
    });
    if (left.size === 0) return;
    const broken = error ?? new LeaseholdError({ code: "UNAVAILABLE", message: "the server ended the stream", retryable: true });
    if (!PASSING.has(broken.code) || heardMs === undefined || performance.now() - heardMs > patience.outageMs) throw broken;
    follower.interrupted(broken);
    await new Promise((resolve) => setTimeout(resolve, patience.reopenMs));
  }
}

function take({ taskId, task, removed }: TaskUpdate, left: Set<string>, follower: Follower): void {
  if (!left.has(taskId)) return;
  if (task === undefined) {
    if (!removed) return;
    left.delete(taskId);
    follower.removed(taskId);
    return;
  }
  if (isFinished(task)) left.delete(taskId);
  follower.changed(task);
}

/** One stream until its end, or until `update` answers false; the error it ended with, or undefined for OK. */
function followOnce(
  server: ServerConnection,
  taskIds: string[],
  silenceMs: number,
  update: (update: TaskUpdate) => boolean,
): Promise<LeaseholdError | undefined> {
  return new Promise((resolve) => {
    const watchdog = setTimeout(() => stream.cancel(), silenceMs);
    const stream = server.stream(TaskServiceService.watchTasks, {
      message: ({ updates }) => {
        watchdog.refresh();
        const goOn = updates.map(update);
        // The server goes on for as long as a task is stored: a finished one may be retried.
        if (goOn.includes(false)) stream.cancel();
      },
      writable: () => undefined,
      closed: (error) => {
        clearTimeout(watchdog);
        resolve(error);
      },
    });
    stream.write(WatchTasksRequest.create({ taskIds }));
    stream.end();
  });
}
