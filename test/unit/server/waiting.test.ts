// Do waits, watches and walks through pages end as they should: with the target, a removal, the time, a drain or the last page?
import { credentials, status } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";
import type { ListTasksResponse, WaitTaskResponse, WatchTasksResponse } from "@leasehold/proto/leasehold/v1/task_service";
import {
  ListTasksRequest,
  TaskOrder,
  TaskServiceClient,
  WaitTaskRequest,
  WaitTarget,
  WatchTasksRequest,
} from "@leasehold/proto/leasehold/v1/task_service";
import { TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import { afterEach, describe, expect, it } from "vitest";
import type { TaskWatch } from "@leasehold/server/dispatch/dispatch";
import type { ListQuery } from "@leasehold/server/storage/queries";
import { placeOf } from "@leasehold/server/storage/queries";
import type { ListPage, StoredTask } from "@leasehold/server/storage/storage";
import { toEtag } from "@leasehold/server/api/convert-task";
import type { Behind } from "../../support/api-fakes.js";
import { serveApi, storedTask } from "../../support/api-fakes.js";

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

function idOf(number: number): string {
  return `0190b6f2-3c1e-7b7a-9d3e-${String(number).padStart(12, "0")}`;
}

/** Tasks in memory that can be changed and watched. */
function fakeTasks(count: number): {
  stored: Map<string, StoredTask>;
  behind: Behind;
  change: (id: string, task: StoredTask | null) => void;
  subscribed: () => Promise<void>;
  reads: ListQuery[];
} {
  const stored = new Map(
    Array.from({ length: count }, (_, index) => [
      idOf(index),
      storedTask(
        { id: idOf(index) },
        { identity: { ...storedTask({ id: idOf(index) }).live.identity, createTimeUs: 1_000 + Math.floor(index / 5) } },
      ),
    ]),
  );
  const listeners = new Set<(id: string) => void>();
  const reads: ListQuery[] = [];
  let wake = (): void => {};
  const watch: TaskWatch = {
    subscribe: (_, changed) => {
      listeners.add(changed);
      wake();
      return { known: () => {}, end: () => void listeners.delete(changed) };
    },
    get size() {
      return listeners.size;
    },
  };
  const pageOf = ({ order, after, pageSize }: ListQuery): ListPage => {
    const key = ({ timeUs, id }: { timeUs: number; id: string }): string => `${String(timeUs).padStart(20, "0")} ${id}`;
    const newestFirst = order === "NEWEST_FIRST";
    const tasks = [...stored.values()]
      .map((task) => ({ task, at: key(placeOf(task, order)) }))
      .sort((a, b) => (a.at < b.at === newestFirst ? 1 : -1))
      .filter(({ at }) => after === null || (newestFirst ? at < key(after) : at > key(after)))
      .map(({ task }) => task);
    const shown = tasks.slice(0, pageSize);
    return { tasks: shown, next: shown.length < tasks.length ? placeOf(shown.at(-1)!, order) : null, scanLimitReached: false };
  };
  return {
    stored,
    reads,
    behind: {
      watch,
      storage: {
        readTask: (reference) => Promise.resolve(stored.get("id" in reference ? reference.id : "") ?? null),
        listTasks: (query) => {
          reads.push(query);
          return Promise.resolve(pageOf(query));
        },
        readTasks: (_, ids) => Promise.resolve(ids.flatMap((id) => stored.get(id) ?? [])),
      },
    },
    change: (id, task) => {
      if (task === null) stored.delete(id);
      else stored.set(id, task);
      for (const listener of [...listeners]) listener(id);
    },
    subscribed: async () => {
      while (listeners.size === 0) await new Promise<void>((resolve) => (wake = resolve));
    },
  };
}

async function serve(behind: Behind) {
  const api = await serveApi(behind);
  const tasks = new TaskServiceClient(api.address, credentials.createInsecure());
  open.push(
    () => api.server.shutdown(0),
    () => tasks.close(),
  );
  return { api, tasks };
}

function wait(tasks: TaskServiceClient, request: Parameters<typeof WaitTaskRequest.create>[0]): Promise<WaitTaskResponse> {
  return new Promise((resolve, reject) =>
    tasks.waitTask(WaitTaskRequest.create({ task: { taskId: idOf(0) }, ...request }), (error, answer) =>
      error === null ? resolve(answer) : reject(error),
    ),
  );
}

const FINISHED: Partial<StoredTask> = {
  id: idOf(0),
  state: "COMPLETED",
  finish: {
    state: "COMPLETED",
    reason: null,
    finishTimeUs: 1,
    keyHoldUntilUs: null,
    resultBytes: 4,
    result: { data: Buffer.from("true"), contentType: "" },
    error: null,
  },
};

describe("WaitTask", () => {
  it("answers at once what is there, and with timeout 0 whatever it is", async () => {
    const { behind, change } = fakeTasks(1);
    const { tasks } = await serve(behind);
    expect(await wait(tasks, { timeout: { seconds: 0n, nanos: 0 } })).toMatchObject({ reached: false, task: { taskId: idOf(0) } });
    change(idOf(0), storedTask(FINISHED));
    expect(await wait(tasks, {})).toMatchObject({ reached: true, task: { result: { data: Buffer.from("true") } } });
  });

  it("answers when the target is reached, and not before", async () => {
    const { behind, change, subscribed } = fakeTasks(1);
    const { tasks } = await serve(behind);
    const answer = wait(tasks, {});
    await subscribed();
    change(idOf(0), storedTask({ id: idOf(0), state: "RUNNING" }, { state: "RUNNING", revision: 2 }));
    change(idOf(0), storedTask(FINISHED));
    expect(await answer).toMatchObject({ reached: true, task: { state: 4 } });
  });

  it("answers the task as it is when the time is over", async () => {
    const { behind } = fakeTasks(1);
    const { tasks } = await serve(behind);
    expect(await wait(tasks, { timeout: { seconds: 0n, nanos: 30_000_000 } })).toMatchObject({ reached: false });
  });

  it("answers a change since the etag", async () => {
    const { behind, change, subscribed } = fakeTasks(1);
    const { tasks } = await serve(behind);
    expect(await wait(tasks, { target: WaitTarget.CHANGED, etag: "older" })).toMatchObject({ reached: true });
    const answer = wait(tasks, { target: WaitTarget.CHANGED, etag: toEtag(1) });
    await subscribed();
    change(idOf(0), storedTask({ id: idOf(0) }, { revision: 2 }));
    expect(await answer).toMatchObject({ reached: true, task: { etag: toEtag(2) } });
  });

  it.each([
    ["unknown", { task: { taskId: idOf(9) } }, status.NOT_FOUND],
    ["of no target", { target: WaitTarget.UNRECOGNIZED }, status.INVALID_ARGUMENT],
    ["changed without etag", { target: WaitTarget.CHANGED }, status.INVALID_ARGUMENT],
    ["too long", { timeout: { seconds: 61n, nanos: 0 } }, status.INVALID_ARGUMENT],
  ])("refuses what is %s", async (_, request, code) => {
    const { tasks } = await serve(fakeTasks(1).behind);
    await expect(wait(tasks, request)).rejects.toMatchObject({ code });
  });

  it("is told of a removal, and of a drain", async () => {
    const { behind, change, subscribed } = fakeTasks(1);
    const { tasks, api } = await serve(behind);
    const removed = wait(tasks, {});
    await subscribed();
    change(idOf(0), null);
    await expect(removed).rejects.toMatchObject({ code: status.NOT_FOUND, details: expect.stringContaining("removed") as string });
    change(idOf(0), storedTask({ id: idOf(0) }));
    const drained = wait(tasks, {});
    await subscribed();
    const stopped = api.server.shutdown(20_000);
    await expect(drained).rejects.toMatchObject({ code: status.UNAVAILABLE });
    tasks.close();
    await stopped;
  });

  it("is refused with a delay when too many wait", async () => {
    const { behind } = fakeTasks(1);
    const { tasks } = await serve({ ...behind, watch: { ...behind.watch, size: 1 }, env: { LEASEHOLD_LIMIT_WAITERS: "1" } });
    await expect(wait(tasks, {})).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  });
});

describe("WatchTasks", () => {
  it("sends a snapshot, then what changes, an end mark for each unknown or removed one, and ends with the last", async () => {
    const { behind, change } = fakeTasks(3);
    const { tasks } = await serve(behind);
    const call = tasks.watchTasks(WatchTasksRequest.create({ taskIds: [idOf(0), idOf(1), idOf(9)] }));
    const seen: string[] = [];
    let wake = (): void => {};
    call.on("data", ({ updates }: WatchTasksResponse) => {
      for (const { taskId, task, removed } of updates) seen.push(`${Number(taskId.slice(-12))} ${removed ? "removed" : task!.etag}`);
      wake();
    });
    const ended = new Promise<unknown>((resolve) => call.on("end", () => resolve("end")).on("error", resolve));
    const until = async (length: number): Promise<void> => {
      while (seen.length < length) await new Promise<void>((resolve) => (wake = resolve));
    };
    await until(3);
    change(idOf(1), storedTask({ id: idOf(1) }, { revision: 2 }));
    await until(4);
    change(idOf(2), storedTask({ id: idOf(2) }, { revision: 2 }));
    change(idOf(0), null);
    await until(5);
    change(idOf(1), null);
    expect(await ended).toBe("end");
    expect(seen).toEqual(["0 1", "1 1", "9 removed", "1 2", "0 removed", "1 removed"]);
  });

  it("ends with UNAVAILABLE when the server drains, and leaves nothing subscribed", async () => {
    const { behind, subscribed } = fakeTasks(1);
    const { tasks, api } = await serve(behind);
    const call = tasks.watchTasks(WatchTasksRequest.create({ taskIds: [idOf(0)] }));
    const ended = new Promise<ServiceError>((resolve) => call.on("data", () => {}).on("error", (error) => resolve(error as ServiceError)));
    await subscribed();
    const stopped = api.server.shutdown(20_000);
    expect((await ended).code).toBe(status.UNAVAILABLE);
    tasks.close();
    await stopped;
    expect(behind.watch!.size).toBe(0);
  });
});

describe("ListTasks", () => {
  async function walk(tasks: TaskServiceClient, request: Parameters<typeof ListTasksRequest.create>[0]): Promise<string[][]> {
    const pages: string[][] = [];
    let pageToken = "";
    do {
      const page: ListTasksResponse = await new Promise((resolve, reject) =>
        tasks.listTasks(ListTasksRequest.create({ ...request, pageToken }), (error, answer) =>
          error === null ? resolve(answer) : reject(error),
        ),
      );
      pages.push(page.tasks.map(({ taskId }) => taskId));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return pages;
  }

  it.each([1, 7, 50, 1_000])("walks through ties in pages of %i without repeating or skipping", async (pageSize) => {
    const { behind, stored } = fakeTasks(60);
    const { tasks } = await serve(behind);
    expect((await walk(tasks, { pageSize, order: TaskOrder.OLDEST_FIRST })).flat()).toEqual([...stored.keys()]);
    expect((await walk(tasks, { pageSize })).flat()).toEqual([...stored.keys()].reverse());
  });

  it("ends a page before the answer is too large for a message", async () => {
    const { behind, stored, reads } = fakeTasks(20);
    for (const [id, task] of stored) stored.set(id, { ...task, metadata: { data: Buffer.alloc(1_000_000, "1"), contentType: "" } });
    const { tasks } = await serve(behind);
    const pages = await walk(tasks, { pageSize: 20, order: TaskOrder.OLDEST_FIRST, view: TaskView.FULL });
    expect(pages.map(({ length }) => length)).toEqual([4, 4, 4, 4, 4]);
    expect(pages.flat()).toEqual([...stored.keys()]);
    expect(Math.max(...reads.map(({ pageSize }) => pageSize))).toBeLessThanOrEqual(16);
  });

  it.each([
    [{ pageToken: "x" }, status.INVALID_ARGUMENT],
    [{ pageSize: 1_001 }, status.INVALID_ARGUMENT],
    [{ pageSize: -1 }, status.INVALID_ARGUMENT],
    [{ order: 9 }, status.INVALID_ARGUMENT],
    [{ order: TaskOrder.FINISHED_LAST_FIRST, filter: { states: [TaskState.FAILED, TaskState.RUNNING] } }, status.INVALID_ARGUMENT],
    [{ order: TaskOrder.WAITING_LONGEST_FIRST, filter: { states: [TaskState.PENDING] } }, status.INVALID_ARGUMENT],
    [{ filter: { metadataContains: "{}" } }, status.INVALID_ARGUMENT],
    [{ filter: { names: ["a"], metadataContains: "{" } }, status.INVALID_ARGUMENT],
    [{ filter: { key: "k\0" } }, status.INVALID_ARGUMENT],
  ])("refuses %o", async (request, code) => {
    const { tasks } = await serve(fakeTasks(1).behind);
    const error = await new Promise<ServiceError | null>((resolve) => tasks.listTasks(ListTasksRequest.create(request), resolve));
    expect(error?.code).toBe(code);
  });
});
