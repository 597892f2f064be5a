// Does a client with the usual limits of gRPC ever get more than it can take? Tasks near every limit through every call; each of them finishes.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { ClientReadableStream } from "@grpc/grpc-js";
import { type Task, TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import {
  CancelTaskRequest,
  ListTaskEventsRequest,
  ListTasksRequest,
  type TaskEvent,
  TaskServiceClient,
  TaskServiceService,
  WaitTaskRequest,
  type WatchTasksResponse,
} from "@leasehold/proto/leasehold/v1/task_service";
import { credentials } from "@grpc/grpc-js";
import {
  type Lease,
  LeaseTasksRequest,
  type LeaseTasksResponse,
  RenewLeasesRequest,
  ReportTasksRequest,
  type Verdict,
  VerdictCode,
  WorkerServiceService,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect } from "vitest";
import { type OwnerCalls, ownerCalls, refused, type Submission } from "../support/owner-calls.js";
import { keepAlive } from "../support/raw-worker.js";
import { eventually, type Scene, test } from "../support/scene.js";
import type { ServerProcess } from "../support/server-process.js";
import { longestTurnMs, STALL_WATCH } from "../support/stall-watch.js";

const MIB = 1_048_576;
const KIB = 1_024;
// Of processor time, so no other program counts; a quarter of the shortest heartbeat interval.
const LONGEST_TURN_MS = 250;

type Reports = NonNullable<Parameters<typeof ReportTasksRequest.create>[0]>["reports"];

/** JSON of exactly so many bytes. */
function json(bytes: number): { data: Buffer } {
  const filling = randomBytes(Math.ceil(bytes / 2))
    .toString("hex")
    .slice(0, bytes - 2);
  return { data: Buffer.from(`"${filling}"`) };
}

function object(bytes: number, key = "k"): { data: Buffer } {
  return { data: Buffer.from(`{"${key}":"${"x".repeat(bytes - key.length - 7)}"}`) };
}

function hash(data: Uint8Array | undefined): string {
  return createHash("sha256")
    .update(data ?? Buffer.alloc(0))
    .digest("hex");
}

/** A submission at every limit. */
function largest(name: string): NonNullable<Submission> {
  const labels = Object.fromEntries(Array.from({ length: 16 }, (_, n) => [`${n}`.padEnd(128, "k"), "v".repeat(128)]));
  const key = randomUUID().padEnd(256, "é");
  return {
    taskId: randomUUID(),
    name: name.padEnd(128, "n"),
    queue: "q".repeat(128),
    metadata: json(MIB),
    executionMetadata: json(MIB),
    labels,
    key: key.slice(0, 146),
  };
}

async function open(scene: Scene): Promise<{ server: ServerProcess; owner: OwnerCalls }> {
  const server = await scene.server({ env: STALL_WATCH });
  const owner = ownerCalls(server.address);
  scene.undo(async () => owner.close());
  return { server, owner };
}

async function walk(owner: OwnerCalls, name: string, view: TaskView): Promise<Task[]> {
  const tasks: Task[] = [];
  let pageToken = "";
  do {
    const request = ListTasksRequest.create({ filter: { names: [name] }, view, pageSize: 1000, pageToken });
    const page = await owner.call(TaskServiceService.listTasks, request);
    tasks.push(...page.tasks);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return tasks;
}

function lease(owner: OwnerCalls, taskName: string): Promise<LeaseTasksResponse> {
  const request = { workerName: "unary", maxTasks: 100, handlers: [{ taskName }], wait: { seconds: 5n }, sessionTtl: { seconds: 60n } };
  return owner.call(WorkerServiceService.leaseTasks, LeaseTasksRequest.create(request));
}

/** Leases without reporting until so many are held. */
async function leaseAll(owner: OwnerCalls, taskName: string, wanted: number): Promise<Lease[]> {
  const held: Lease[] = [];
  while (held.length < wanted) held.push(...(await lease(owner, taskName)).leases);
  return held;
}

async function report(owner: OwnerCalls, reports: NonNullable<Reports>): Promise<Verdict[]> {
  return (await owner.call(WorkerServiceService.reportTasks, ReportTasksRequest.create({ reports }))).verdicts;
}

async function record(owner: OwnerCalls, { leaseToken }: Lease, reportSeq: number, body: NonNullable<Reports>[number]): Promise<void> {
  const verdicts = await report(owner, [{ leaseToken, reportSeq, ...body }]);
  expect(verdicts.map(({ code, status }) => [VerdictCode[code], status?.message])).toEqual([["RECORDED", undefined]]);
}

describe.concurrent("a client with the usual limits", () => {
  test("reads, watches and runs tasks of two payloads of 1 MiB", { timeout: 90_000 }, async ({ scene }) => {
    const { server, owner } = await open(scene);
    const tasks = Array.from({ length: 9 }, () => largest("large"));
    const name = tasks[0]!.name!;
    // More at once than a connection may hold would be refused.
    for (let from = 0; from < tasks.length; from += 3) await Promise.all(tasks.slice(from, from + 3).map((task) => owner.submit(task)));
    // As many as a message holds: what is stored can be answered.
    const few = Array.from({ length: 3 }, () => ({ name, metadata: json(MIB), executionMetadata: json(MIB / 4) }));
    const more = await owner.submitMany(few);
    const ids = [...tasks.map(({ taskId }) => taskId!), ...more.map(({ task }) => task!.taskId)];

    for (const view of [TaskView.FULL, TaskView.BASIC])
      expect((await walk(owner, name, view)).map(({ taskId }) => taskId).sort()).toEqual([...ids].sort());
    for (const { taskId, metadata, executionMetadata } of tasks.slice(0, 5)) {
      const task = await owner.get({ taskId: taskId! });
      expect([hash(task.metadata?.data), hash(task.executionMetadata?.data)]).toEqual([
        hash(metadata!.data),
        hash(executionMetadata!.data),
      ]);
    }
    const watched = watch(scene, server.address, ids);
    const worker = scene.raw(server.address, [name], { slots: 40, sessionTtl: { seconds: 60n, nanos: 0 } });
    await worker.welcome();
    keepAlive(worker, 1_000);
    const result = json(MIB);
    for (let n = 0; n < 4; n++) {
      const given = await worker.lease(n);
      worker.report(given, 1, { checkpoint: { executionMetadata: { ...json(MIB), contentType: "" } } });
      worker.report(given, 2, {
        complete: { result: { ...result, contentType: "" }, executionMetadata: { ...json(MIB), contentType: "" } },
      });
      expect((await worker.verdict(given, 2)).code).toBe(VerdictCode.RECORDED);
    }
    worker.send({ drain: {} });
    // What else it holds goes back when it says so; a worker without a stream takes over.
    const held = worker.received.flatMap(({ leases }) => leases).slice(4);
    for (const one of held) worker.report(one, 1, { release: { retryAfter: undefined, executionMetadata: undefined } });
    await worker.ended;
    for (let left = ids.length - 4; left > 0;) {
      const { leases } = await lease(owner, name);
      expect(leases.length).toBeGreaterThan(0);
      left -= leases.length;
      for (const one of leases) await record(owner, one, 1, { complete: { result } });
    }
    for (const taskId of ids) {
      const wait = WaitTaskRequest.create({ task: { taskId }, timeout: { seconds: 20n }, view: TaskView.FULL });
      const { task } = await owner.call(TaskServiceService.waitTask, wait);
      expect([task?.state, hash(task?.result?.data)]).toEqual([TaskState.COMPLETED, hash(result.data)]);
    }
    for (const stream of watched) {
      await eventually(
        () => ids.every((id) => stream.states.get(id) === TaskState.COMPLETED),
        (all) => all,
        "the watch saw every task finish",
      );
    }
    expect(await walk(owner, name, TaskView.FULL)).toHaveLength(ids.length);
    expect(longestTurnMs(server.log())).toBeLessThan(LONGEST_TURN_MS);
  });

  test("gets leases with remembered patches, errors and many notes", { timeout: 90_000 }, async ({ scene }) => {
    const { server, owner } = await open(scene);
    const tasks = Array.from({ length: 3 }, () => ({ ...largest("patched"), executionMetadata: object(MIB) }));
    const name = tasks[0]!.name;
    await Promise.all(tasks.map((task) => owner.submit({ ...task, retryPolicy: { delays: [{ seconds: 0n }] } })));
    const error = {
      code: "c".repeat(128),
      message: "é".repeat(10_000),
      stack: "s".repeat(20_000),
      details: object(20 * KIB),
      cause: { message: "m".repeat(20_000) },
    };
    const note = "ñ".repeat(5_000);
    for (const one of await leaseAll(owner, name!, tasks.length)) await record(owner, one, 1, { fail: { error } });
    for (const one of await leaseAll(owner, name!, tasks.length)) {
      expect(one.previousError?.message.length).toBeGreaterThan(1_000);
      const { taskId } = one;
      const patch = (n: number): Promise<unknown> =>
        owner.proceed({ task: { taskId }, note, update: { mergePatch: object(MIB / 16, `p${n}`) } });
      for (let n = 0; n < 16; n++) await patch(n);
      expect(await refused(patch(16))).toMatchObject({ code: "RESOURCE_EXHAUSTED" });
      await record(owner, one, 1, { suspend: { untilProceeded: true, executionMetadata: object(MIB) } });
      // It is pending again, and everybody may go on telling it.
      for (let n = 0; n < 20; n++) await owner.proceed({ task: { taskId }, note });
    }
    const worker = scene.raw(server.address, [name!], { slots: 2, sessionTtl: { seconds: 60n, nanos: 0 } });
    await worker.welcome();
    keepAlive(worker, 1_000);
    const streamed = [await worker.lease(0), await worker.lease(1)];
    worker.send({ slots: { total: 0, handlers: [] } });
    const unary = await leaseAll(owner, name!, 1);
    for (const { resumption } of [...streamed, ...unary]) {
      expect(resumption?.unappliedPatches.map(({ data }) => data.length)).toEqual(Array(16).fill(MIB / 16));
      expect(resumption?.proceeds.length).toBeLessThanOrEqual(32);
      expect(resumption?.proceeds.at(-1)?.note).toMatch(/^ñ+…$/);
    }
    for (const one of [...streamed, ...unary]) await record(owner, one, 1, { fail: { error, retryable: false } });
    for (const { taskId } of tasks) {
      expect((await owner.get({ taskId: taskId! })).error?.details?.data.length).toBe(20 * KIB);
      await owner.retry({ task: { taskId: taskId! } });
    }
    for (const one of await leaseAll(owner, name!, tasks.length)) await record(owner, one, 1, { complete: {} });
    expect(longestTurnMs(server.log())).toBeLessThan(LONGEST_TURN_MS);
  });

  test("reads timelines, lists and renewals that are full of long texts", { timeout: 90_000 }, async ({ scene }) => {
    const { server, owner } = await open(scene);
    const error = {
      code: "c",
      message: "m".repeat(16 * KIB),
      stack: "s".repeat(16 * KIB),
      cause: { message: "n".repeat(16 * KIB), stack: "t".repeat(10 * KIB) },
    };
    const retryPolicy = { maxAttempts: 1000, delays: [{ seconds: 0n }] };
    const { task } = await owner.submit({ name: "failing", retryPolicy });
    for (let n = 0; n < 80; n++) {
      const [one] = (await lease(owner, "failing")).leases;
      await record(owner, one!, 1, { fail: { error } });
    }
    const events: TaskEvent[] = [];
    let pages = 0;
    for (let pageToken = ""; pages === 0 || pageToken !== ""; pages++) {
      const request = ListTaskEventsRequest.create({ task: { taskId: task.taskId }, pageSize: 1000, pageToken });
      const page = await owner.call(TaskServiceService.listTaskEvents, request);
      events.push(...page.events);
      pageToken = page.nextPageToken;
    }
    expect(pages).toBeGreaterThan(1);
    expect(events.filter(({ error: shown }) => shown?.stack.length === 16 * KIB)).toHaveLength(80);

    const names = Array.from({ length: 400 }, () => ({ name: "failed", retryPolicy: { maxAttempts: 1 } }));
    await owner.submitMany(names);
    for (let left = 400; left > 0;) {
      const { leases } = await lease(owner, "failed");
      left -= leases.length;
      for (let from = 0; from < leases.length; from += 50)
        await report(
          owner,
          leases.slice(from, from + 50).map(({ leaseToken }) => ({ leaseToken, reportSeq: 1, fail: { error } })),
        );
    }
    expect(await walk(owner, "failed", TaskView.BASIC)).toHaveLength(400);
    expect(await walk(owner, "failed", TaskView.FULL)).toHaveLength(400);

    for (const length of [1000, 100]) await owner.submitMany(Array.from({ length }, () => ({ name: "cancelled" })));
    const sessions: LeaseTasksResponse[] = [];
    for (let left = 1100; left > 0; left -= sessions.at(-1)!.leases.length) sessions.push(await lease(owner, "cancelled"));
    const ids = sessions.flatMap(({ leases }) => leases.map(({ taskId }) => taskId));
    const reason = "r".repeat(5_000);
    const cancel = (taskId: string): Promise<Task> =>
      owner.call(TaskServiceService.cancelTask, CancelTaskRequest.create({ task: { taskId }, reason, grace: { seconds: 300n } }));
    // As many at once as have a connection each.
    for (let from = 0; from < ids.length; from += 8) await Promise.all(ids.slice(from, from + 8).map(cancel));
    const renew = RenewLeasesRequest.create({ sessionIds: sessions.map(({ sessionId }) => sessionId) });
    const { cancels } = await owner.call(WorkerServiceService.renewLeases, renew);
    expect(new Set(cancels.map(({ leaseToken }) => leaseToken)).size).toBe(1100);
    expect(longestTurnMs(server.log())).toBeLessThan(LONGEST_TURN_MS);
  });
});

/** Watches tasks in both views; what it saw of each last. */
function watch(scene: Scene, address: string, taskIds: readonly string[]): { states: Map<string, TaskState> }[] {
  const client = new TaskServiceClient(address, credentials.createInsecure());
  scene.undo(async () => client.close());
  return [TaskView.FULL, TaskView.BASIC].map((view) => {
    const states = new Map<string, TaskState>();
    const call: ClientReadableStream<WatchTasksResponse> = client.watchTasks({ taskIds: [...taskIds], view });
    call.on("data", ({ updates }: WatchTasksResponse) => {
      for (const { taskId, task } of updates) states.set(taskId, task?.state ?? TaskState.UNSPECIFIED);
    });
    call.on("error", () => undefined);
    return { states };
  });
}
