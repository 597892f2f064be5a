// How does a caller follow many tasks? First what they are, then the newest state of each that changes. Whoever reads slowly gets fewer,
// newer states, never a growing queue.

import type { ServerWritableStream } from "@grpc/grpc-js";
import type { TaskUpdate, WatchTasksRequest, WatchTasksResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskUpdate as TaskUpdateCodec } from "@leasehold/proto/leasehold/v1/task_service";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { TaskWatch } from "../dispatch/dispatch.js";
import type { Violation } from "../domain/event.js";
import type { Storage } from "../storage/storage.js";
import type { Draining } from "./draining.js";
import type { ServerStreamHandler } from "./call.js";
import { changes, refuseTooManyWaiters } from "./changes.js";
import type { View } from "./convert-task.js";
import { toTask } from "./convert-task.js";
import { refuse, refuseViolations } from "./status.js";
import { parseIds, parseView } from "./validate-query.js";

/** What watching works with. */
export interface WatchParts {
  readonly storage: Storage;
  readonly watch: TaskWatch;
  readonly clock: Clock;
  readonly config: Config;
  readonly draining: Draining;
}

/** An empty message this often when nothing changes. */
const IDLE_MS = 10_000;
/** Tasks that are read at once; with payloads fewer, because each may have three of the largest. */
const STEP: Readonly<Record<View, number>> = { BASIC: 250, FULL: 16 };
/** A message of updates is no larger where it holds more than one. */
const MESSAGE_BYTES = 32 * 1024;

/** WatchTasks. */
export function watchTasks({
  storage,
  watch,
  clock,
  config,
  draining,
}: WatchParts): ServerStreamHandler<WatchTasksRequest, WatchTasksResponse> {
  return async (request, context, stream) => {
    const violations: Violation[] = [];
    const ids = [...new Set(parseIds(request.taskIds, "task_ids", 1, violations))];
    const view = parseView(request.view, "BASIC", violations);
    refuseViolations(violations);
    refuseTooManyWaiters(watch, ids.length, config);

    const { namespace } = context;
    const left = new Set(ids);
    const changed = changes(watch, ids, clock, true);
    // What was sent last of each: a change that was told twice, or that a newer state overtook, is sent once.
    const sent = new Map<string, string>();
    context.onGone(changed.end);
    const forget = draining.onBegin(changed.end);
    try {
      let dirty = ids;
      while (!context.gone()) {
        for (let from = 0; from < dirty.length && !context.gone(); from += STEP[view]) {
          const step = dirty.slice(from, from + STEP[view]).filter((id) => left.has(id));
          if (step.length > 0) await sendAll(stream, await read(step));
        }
        // Nothing more can come for any of them.
        if (left.size === 0) return;
        dirty = await changed.next(IDLE_MS, "pulse");
        if (draining.begun()) refuse("SERVER_DRAINING", { retryAfterMs: 0 });
        if (dirty.length === 0) await send(stream, { updates: [] });
      }
    } finally {
      forget();
      changed.end();
    }

    async function read(step: readonly string[]): Promise<TaskUpdate[]> {
      const found = await storage.readTasks(namespace, step, view === "FULL");
      for (const { id, live, progress } of found) changed.known(id, live.revision, progress?.updateUs);
      const shown = new Map(found.map((task) => [task.id, task]));
      return step.flatMap((taskId): TaskUpdate[] => {
        const task = shown.get(taskId);
        if (task === undefined) {
          left.delete(taskId);
          return [{ taskId, task: undefined, removed: true }];
        }
        const state = `${task.live.revision} ${task.progress?.updateUs ?? 0}`;
        if (sent.get(taskId) === state) return [];
        sent.set(taskId, state);
        return [{ taskId, task: toTask(task, view, config.retentionUs), removed: false }];
      });
    }
  };
}

type Stream = ServerWritableStream<WatchTasksRequest, WatchTasksResponse>;

async function sendAll(stream: Stream, updates: readonly TaskUpdate[]): Promise<void> {
  let message: TaskUpdate[] = [];
  let bytes = 0;
  for (const update of updates) {
    const size = TaskUpdateCodec.encode(update).finish().length;
    if (message.length > 0 && bytes + size > MESSAGE_BYTES) {
      await send(stream, { updates: message });
      message = [];
      bytes = 0;
    }
    message.push(update);
    bytes += size;
  }
  if (message.length > 0) await send(stream, { updates: message });
}

/** Writes one message and waits for a slow reader, or for its end. */
async function send(stream: Stream, message: WatchTasksResponse): Promise<void> {
  if (stream.cancelled || stream.writableEnded || stream.write(message)) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off("drain", done).off("cancelled", done).off("close", done);
      resolve();
    };
    stream.on("drain", done).on("cancelled", done).on("close", done);
  });
}
