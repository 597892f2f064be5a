// Does everybody who waits for a task hear of it: when it finishes before, with or after the call, when it is removed, replaced or retried,
// whatever else is waited for?
import { credentials } from "@grpc/grpc-js";
import { FinishReason, TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  KeyConflictPolicy,
  TaskServiceClient,
  TaskServiceService,
  type TaskUpdate,
  WaitTarget,
  WaitTaskRequest,
  type WaitTaskResponse,
  WatchTasksRequest,
} from "@leasehold/proto/leasehold/v1/task_service";
import type { Lease } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, refused } from "../../support/owner-calls.js";
import { outcomes, runNext } from "../../support/raw-run.js";
import { keepAlive, openRawWorker, type RawWorker } from "../../support/raw-worker.js";
import { runStatements } from "../../support/postgres.js";

const UNKNOWN = "0190b6f2-ffff-7fff-bfff-ffffffffffff";
const NONE = { seconds: 0n, nanos: 0 };

let servers: InProcessServer[];
/** Owners of the first server, at which workers are, and of the second. */
let here: OwnerCalls;
let there: OwnerCalls;
beforeAll(async () => {
  // Thousands of waits share one connection here.
  const env = { LEASEHOLD_LIMIT_STREAMS_PER_CONNECTION: "10000" };
  const first = await startInProcess(env);
  servers = [first, await startInProcess(env, first.databaseUrl)];
  [here, there] = servers.map(({ address }) => ownerCalls(address)) as [OwnerCalls, OwnerCalls];
});
afterAll(async () => {
  here.close();
  there.close();
  for (const server of servers.toReversed()) await server[Symbol.asyncDispose]();
});

const wait = (owner: OwnerCalls, taskId: string, request: Parameters<typeof WaitTaskRequest.create>[0] = {}): Promise<WaitTaskResponse> =>
  owner.call(TaskServiceService.waitTask, WaitTaskRequest.create({ task: { taskId }, ...request }));

let names = 0;
const freshName = (): string => `wait.${String(++names)}`;

interface Watched {
  readonly updates: TaskUpdate[];
  /** The first update that this is true of, among those that came or will come. */
  readonly first: (is: (update: TaskUpdate) => boolean) => Promise<TaskUpdate>;
  readonly ended: Promise<void>;
  readonly close: () => void;
}

function watch(address: string, taskIds: string[]): Watched {
  const client = new TaskServiceClient(address, credentials.createInsecure());
  const call = client.watchTasks(WatchTasksRequest.create({ taskIds }));
  const updates: TaskUpdate[] = [];
  const looks = new Set<() => void>();
  call.on("data", (message: { updates: TaskUpdate[] }) => {
    updates.push(...message.updates);
    for (const look of looks) look();
  });
  call.on("error", () => undefined);
  return {
    updates,
    ended: new Promise((resolve) => call.once("close", resolve)),
    first: (is) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = updates.find(is);
          if (found !== undefined && looks.delete(look)) resolve(found);
        };
        looks.add(look);
        look();
      }),
    close: () => {
      call.cancel();
      client.close();
    },
  };
}

/** How long a call took, in ms. */
async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const began = performance.now();
  return [await work(), performance.now() - began];
}

describe("a task that finishes", () => {
  it("answers every wait that was sent before, with and after its end, 1,000 times, at either server", async () => {
    const name = freshName();
    const worker: RawWorker = openRawWorker(servers[0]!.address, [name], { slots: 50, sessionTtl: { seconds: 20n, nanos: 0 } });
    const stop = keepAlive(worker, 1000);
    const leases = new Map<string, (lease: Lease) => void>();
    worker.call.on("data", (message: { leases: Lease[] }) => {
      for (const lease of message.leases) leases.get(lease.taskId)?.(lease);
    });
    const slowest: number[] = [];
    const round = async (number: number): Promise<void> => {
      const owner = number % 2 === 0 ? here : there;
      const taskId = `0190b6f2-0000-7000-8000-${String(number).padStart(12, "0")}`;
      const leased = new Promise<Lease>((resolve) => leases.set(taskId, resolve));
      await here.submit({ taskId, name });
      const when = number % 3;
      const early = when === 0 ? timed(() => wait(owner, taskId)) : null;
      const lease = await leased;
      // Only now is there something to be late for.
      if (early !== null) await new Promise((resolve) => setImmediate(resolve));
      worker.report(lease, 1, outcomes.complete);
      if (when === 2) await worker.verdict(lease, 1);
      const [answer, tookMs] = await (early ?? timed(() => wait(owner, taskId)));
      expect([answer.reached, answer.task?.state]).toEqual([true, TaskState.COMPLETED]);
      slowest.push(tookMs);
    };
    let next = 0;
    const runner = async (): Promise<void> => {
      while (next < 1000) await round(next++);
    };
    await Promise.all(Array.from({ length: 10 }, runner));
    stop();
    worker.close();
    expect(slowest).toHaveLength(1000);
    expect(Math.max(...slowest)).toBeLessThan(2000);
  }, 90_000);

  it("reaches a waiter that is at the other server", async () => {
    const name = freshName();
    const { task } = await here.submit({ name });
    const waiting = wait(there, task.taskId);
    await runNext(servers[0]!.address, name, outcomes.complete);
    expect((await waiting).task?.state).toBe(TaskState.COMPLETED);
  });
});

describe("a task that goes away", () => {
  it("is NOT_FOUND for who waits: unknown, deleted while it is waited for, removed by retention", async () => {
    for (const owner of [here, there]) expect(await refused(wait(owner, UNKNOWN))).toMatchObject({ code: "NOT_FOUND" });
    const name = freshName();
    const ids = [(await here.submit({ name })).task.taskId, (await here.submit({ name })).task.taskId];
    for (let run = 0; run < 2; run++) await runNext(servers[0]!.address, name, outcomes.fail);
    const { etag } = await here.get({ taskId: ids[0]! });
    const second = await here.get({ taskId: ids[1]! });
    const waiting = [here, there].map((owner) => refused(wait(owner, ids[0]!, { target: WaitTarget.CHANGED, etag })));
    const retained = refused(wait(there, ids[1]!, { target: WaitTarget.CHANGED, etag: second.etag }));
    await here.remove({ task: { taskId: ids[0]! } });
    for (const answer of await Promise.all(waiting)) expect(answer).toMatchObject({ code: "NOT_FOUND", reason: "TASK_REMOVED" });
    // As retention removes it: without a word to anybody.
    const remove = (table: string): string => `DELETE FROM leasehold.${table} WHERE id = '${ids[1]!}'`;
    const [gone, tookMs] = await timed(async () => {
      await runStatements(servers[0]!.databaseUrl, remove("finished_tasks"), remove("tasks"));
      return retained;
    });
    expect(gone).toMatchObject({ code: "NOT_FOUND", reason: "TASK_REMOVED" });
    expect(tookMs).toBeLessThan(2500);
  });

  it("is CANCELLED for who waits when another takes its place", async () => {
    const [name, key] = [freshName(), "k"];
    const { task } = await here.submit({ name, key });
    const waiting = [here, there].map((owner) => wait(owner, task.taskId));
    await here.submit({
      name,
      key,
      keyConflictPolicy: KeyConflictPolicy.REPLACE_PENDING,
      metadata: { data: Buffer.from("1"), contentType: "" },
    });
    for (const { task: ended } of await Promise.all(waiting))
      expect(ended).toMatchObject({ state: TaskState.CANCELLED, finishReason: FinishReason.REPLACED });
  });

  it("that is retried is waited for until it ends again", async () => {
    const name = freshName();
    const { task } = await here.submit({ name });
    await runNext(servers[0]!.address, name, outcomes.fail);
    await here.retry({ task: { taskId: task.taskId } });
    const waiting = [here, there].map((owner) => wait(owner, task.taskId));
    await runNext(servers[0]!.address, name, outcomes.complete);
    for (const { task: ended } of await Promise.all(waiting)) expect(ended?.state).toBe(TaskState.COMPLETED);
  });
});

describe("a watch", () => {
  it("of a hundred goes on when one id is unknown and one is removed, and ends when all are", async () => {
    const name = freshName();
    const results = await here.submitMany(Array.from({ length: 98 }, () => ({ name })));
    const ids = results.map(({ task }) => task!.taskId);
    const other = freshName();
    const finished = (await here.submit({ name: other })).task.taskId;
    await runNext(servers[0]!.address, other, outcomes.complete);
    const watched = watch(servers[1]!.address, [...ids, UNKNOWN, finished]);
    await watched.first(({ taskId }) => taskId === ids[97]);
    expect(watched.updates.find(({ taskId }) => taskId === UNKNOWN)).toMatchObject({ removed: true, task: undefined });
    await here.remove({ task: { taskId: finished } });
    await watched.first(({ taskId, removed }) => taskId === finished && removed);
    const { lease } = await runNext(servers[0]!.address, name, outcomes.complete);
    await watched.first(({ taskId, task }) => taskId === lease.taskId && task?.state === TaskState.COMPLETED);
    watched.close();
    const gone = watch(servers[0]!.address, [UNKNOWN, finished]);
    await gone.ended;
    expect(gone.updates.map(({ removed }) => removed)).toEqual([true, true]);
    gone.close();
  });

  it("shows progress without a new revision, at most once a second, at either server, and to nobody who waits", async () => {
    const name = freshName();
    const { task } = await here.submit({ name });
    const worker = openRawWorker(servers[0]!.address, [name]);
    const lease = await worker.lease();
    const stop = keepAlive(worker, 1000);
    const { etag } = await here.get({ taskId: task.taskId });
    const watches = servers.map(({ address }) => watch(address, [task.taskId]));
    const changed = wait(here, task.taskId, { target: WaitTarget.CHANGED, etag, timeout: { seconds: 3n, nanos: 0 } });
    let done = 0;
    const timer = setInterval(() => {
      worker.send({
        progress: [{ leaseToken: lease.leaseToken, progress: { done: ++done, total: 100, message: "", updateTime: undefined } }],
      });
    }, 50);
    const [waited, tookMs] = await timed(() => changed);
    clearInterval(timer);
    stop();
    worker.close();
    expect(waited).toMatchObject({ reached: false, task: { etag } });
    for (const { updates, close } of watches) {
      close();
      const shown = updates.filter(({ task: one }) => one?.progress !== undefined);
      expect(shown.length).toBeGreaterThanOrEqual(1);
      expect(shown.length).toBeLessThanOrEqual(Math.ceil(tookMs / 1000) + 1);
      expect(new Set(updates.map(({ task: one }) => one?.etag))).toEqual(new Set([etag]));
      const numbers = shown.map(({ task: one }) => one!.progress!.done);
      expect(new Set(numbers).size).toBe(numbers.length);
    }
  });
});

describe("five thousand waiters", () => {
  it("all hear of the one end, and whoever waits no time at all is answered at once", async () => {
    const name = freshName();
    const { task } = await here.submit({ name });
    const waiting = Promise.all(Array.from({ length: 5000 }, (_, at) => wait(at % 2 === 0 ? here : there, task.taskId)));
    const [now, tookMs] = await timed(() => wait(here, task.taskId, { timeout: NONE }));
    expect(now.reached).toBe(false);
    expect(tookMs).toBeLessThan(10_000);
    await runNext(servers[0]!.address, name, outcomes.complete);
    expect(new Set((await waiting).map(({ task: ended }) => ended?.state))).toEqual(new Set([TaskState.COMPLETED]));
  }, 60_000);
});
