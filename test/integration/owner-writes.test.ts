// What may owners do to tasks after they submitted them? Retry, update, delete and proceed, by id, by name and key, by filter, over the wire.
import { PendingReason, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { KeyConflictPolicy, ProceedResult, TaskServiceService, CancelTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, refused } from "../support/owner-calls.js";
import { outcomes, runNext } from "../support/raw-run.js";
import { openRawWorker } from "../support/raw-worker.js";
import { jsonOf, jsonPayload } from "../support/task-client.js";

let server: InProcessServer;
let owner: OwnerCalls;
beforeAll(async () => {
  server = await startInProcess();
  owner = ownerCalls(server.address);
});
afterAll(async () => {
  owner.close();
  await server[Symbol.asyncDispose]();
});

const UNKNOWN = { taskId: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e" };
const LATER = { seconds: 4_000_000_000n, nanos: 0 };
const textOf = (payload: { data: Uint8Array } | undefined): string => Buffer.from(payload?.data ?? []).toString();
const suspendWith = (json: string) => ({
  suspend: { ...outcomes.suspend.suspend, executionMetadata: { data: Buffer.from(json), contentType: "" } },
});

let names = 0;
const freshName = (): string => `owner.${String(++names)}`;

/** A task that is suspended with this execution metadata. */
async function suspended(name: string, json: string, key = ""): Promise<string> {
  const { task } = await owner.submit({ name, key });
  await runNext(server.address, name, suspendWith(json));
  return task.taskId;
}

async function failed(name: string, key = "", keyHoldSeconds = 0n): Promise<string> {
  const { task } = await owner.submit({ name, key, keyHold: { seconds: keyHoldSeconds, nanos: 0 } });
  await runNext(server.address, name, outcomes.fail, {
    checkpoint: { executionMetadata: { data: Buffer.from('{"step":3}'), contentType: "" } },
  });
  return task.taskId;
}

describe("RetryTask", () => {
  it("takes a failed task back with what it saved, its attempts counted anew", async () => {
    const name = freshName();
    const taskId = await failed(name);
    const before = await owner.get({ taskId });
    expect(before).toMatchObject({ state: TaskState.FAILED, attempt: 1 });
    const after = await owner.retry({ task: { taskId }, etag: before.etag });
    expect(after).toMatchObject({
      state: TaskState.PENDING,
      pendingReason: PendingReason.RETRIED,
      attempt: 1,
      lastError: { code: "broken" },
    });
    expect(after.etag).not.toBe(before.etag);
    const { lease } = await runNext(server.address, name, outcomes.complete);
    expect(jsonOf(lease.executionMetadata)).toEqual({ step: 3 });
    expect(lease).toMatchObject({ attempt: 1, resumption: { reason: PendingReason.RETRIED } });
    expect(lease.fencingToken).toBeGreaterThan(before.fencingToken);
  });

  it("goes on counting and forgets what was saved where that is asked for, at the time that is asked for", async () => {
    const name = freshName();
    const taskId = await failed(name);
    const after = await owner.retry({ task: { taskId }, resetAttempts: false, keepExecutionMetadata: false, scheduleTime: LATER });
    expect(after).toMatchObject({ attempt: 2, executionMetadata: undefined, executionMetadataVersion: 0n, runTime: LATER });
  });

  it("starts the deadlines anew", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, deadlines: { total: { seconds: 3600n } } });
    await runNext(server.address, name, outcomes.cancel);
    const { createTime } = await owner.get({ taskId: task.taskId });
    const after = await owner.retry({ task: { taskId: task.taskId } });
    const sinceUs = (time: { seconds: bigint; nanos: number } | undefined): bigint =>
      time!.seconds * 1_000_000n + BigInt(time!.nanos / 1000);
    expect(sinceUs(after.deadlineTime) - sinceUs(createTime)).toBeGreaterThan(3_600_000_000n);
  });

  it("keeps a key that is held, takes one that is free, and is refused one that another task has", async () => {
    const [held, free, taken] = [freshName(), freshName(), freshName()];
    const heldId = await failed(held, "k", 3600n);
    await owner.retry({ task: { name: held, key: "k" } });
    expect(await owner.submit({ name: held, key: "k" })).toMatchObject({ created: false, task: { taskId: heldId } });

    const freeId = await failed(free, "k");
    await owner.retry({ task: { taskId: freeId } });
    expect(await refused(owner.submit({ name: free, key: "k", keyConflictPolicy: KeyConflictPolicy.REJECT }))).toMatchObject({
      resource: freeId,
    });

    const takenId = await failed(taken, "k");
    const other = await owner.submit({ name: taken, key: "k" });
    const refusal = await refused(owner.retry({ task: { taskId: takenId } }));
    expect(refusal).toMatchObject({ code: "FAILED_PRECONDITION", reason: "KEY_TAKEN", resource: other.task.taskId });
    expect(await owner.get({ taskId: takenId })).toMatchObject({ state: TaskState.FAILED });
  });

  it("refuses what is not there, not finished, completed, or changed since", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name });
    const { taskId } = task;
    expect(await refused(owner.retry({ task: UNKNOWN }))).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
    expect(await refused(owner.retry({ task: { taskId } }))).toMatchObject({ code: "FAILED_PRECONDITION", reason: "TASK_NOT_FINISHED" });
    await runNext(server.address, name, outcomes.complete);
    expect(await refused(owner.retry({ task: { taskId } }))).toMatchObject({ code: "FAILED_PRECONDITION", reason: "TASK_FINISHED" });
    const other = await failed(name);
    expect(await refused(owner.retry({ task: { taskId: other }, etag: "zz" }))).toMatchObject({ code: "ABORTED", reason: "ETAG_MISMATCH" });
  });
});

describe("UpdateTask", () => {
  it("changes what the mask names and nothing else", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, scheduleTime: LATER });
    const { taskId } = task;
    const after = await owner.update({ task: { taskId }, updateMask: ["priority", "queue"], priority: 7, queue: "fast" });
    expect(after).toMatchObject({ priority: 7, queue: "fast", runTime: LATER, scheduleTime: LATER });
    expect(await owner.update({ task: { taskId }, updateMask: ["queue"], queue: "default" })).toMatchObject({
      priority: 7,
      queue: "default",
    });
    const due = await owner.update({ task: { taskId }, etag: (await owner.get({ taskId })).etag, updateMask: ["schedule_time"] });
    expect(due.runTime!.seconds).toBeLessThan(LATER.seconds);
    expect((await runNext(server.address, name, outcomes.complete)).lease.taskId).toBe(taskId);
  });

  it("moves a task to a queue whose worker gets it at once", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, queue: "nobody" });
    const worker = openRawWorker(server.address, [name], { queues: ["somebody"] });
    await worker.welcome();
    await owner.update({ task: { taskId: task.taskId }, updateMask: ["queue"], queue: "somebody" });
    expect(await worker.lease()).toMatchObject({ taskId: task.taskId, queue: "somebody" });
    worker.close();
  });

  it.each([
    [undefined, "update_mask"],
    [[], "update_mask"],
    [["metadata"], "update_mask.paths[0]"],
    [["priority", "*"], "update_mask.paths[1]"],
    [["scheduleTime"], "update_mask.paths[0]"],
  ])("refuses the mask %j", async (updateMask, field) => {
    const refusal = await refused(owner.update({ task: UNKNOWN, ...(updateMask && { updateMask }), priority: 1 }));
    expect(refusal).toMatchObject({ code: "INVALID_ARGUMENT", fields: [field] });
  });

  it("refuses what does not wait, is finished, unknown, or changed since", async () => {
    const name = freshName();
    const taskId = await suspended(name, "1");
    const update = (fields: object = {}): Promise<unknown> =>
      owner.update({ task: { taskId }, updateMask: ["priority"], priority: 1, ...fields });
    expect(await refused(update())).toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "TASK_NOT_PENDING",
      resource: taskId,
      precondition: "TASK_NOT_PENDING",
    });
    expect(await refused(update({ etag: "1" }))).toMatchObject({ code: "ABORTED", reason: "ETAG_MISMATCH" });
    expect(await refused(update({ task: UNKNOWN }))).toMatchObject({ reason: "TASK_NOT_FOUND" });
    await owner.call(TaskServiceService.cancelTask, CancelTaskRequest.create({ task: { taskId } }));
    expect(await refused(update())).toMatchObject({ code: "FAILED_PRECONDITION", reason: "TASK_FINISHED" });
  });
});

describe("DeleteTask", () => {
  it("removes what is finished, only as it is known, and only once", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, labels: { a: "b" } });
    const reference = { task: { taskId: task.taskId } };
    expect(await refused(owner.remove(reference))).toMatchObject({ code: "FAILED_PRECONDITION", reason: "TASK_NOT_FINISHED" });
    await runNext(server.address, name, outcomes.complete);
    expect(await refused(owner.remove({ ...reference, etag: task.etag }))).toMatchObject({ code: "ABORTED", reason: "ETAG_MISMATCH" });
    await owner.remove({ ...reference, etag: (await owner.get(reference.task)).etag });
    expect(await refused(owner.get(reference.task))).toMatchObject({ code: "NOT_FOUND" });
    expect(await refused(owner.remove(reference))).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
  });
});

describe("ProceedTask", () => {
  const APPLIED = { result: ProceedResult.APPLIED, task: { state: TaskState.PENDING, pendingReason: PendingReason.PROCEEDED } };
  const EXACT = '{"id":9007199254740993,"left":1.10}';

  it("keeps, patches or replaces what was saved, and no digit of it changes", async () => {
    for (const [update, expected] of [
      [undefined, EXACT],
      [
        { mergePatch: { data: Buffer.from('{"left":null,"right":18446744073709551615}') } },
        '{"id":9007199254740993,"right":18446744073709551615}',
      ],
      [{ replace: { data: Buffer.from("[12345678901234567890]") } }, "[12345678901234567890]"],
    ] as const) {
      const name = freshName();
      const taskId = await suspended(name, EXACT);
      expect(await owner.proceed({ task: { taskId }, ...(update && { update }), note: "go" })).toMatchObject(APPLIED);
      const { lease } = await runNext(server.address, name, outcomes.complete);
      expect(textOf(lease.executionMetadata)).toBe(expected);
      expect(lease.resumption).toMatchObject({ reason: PendingReason.PROCEEDED, proceeds: [{ note: "go" }], unappliedPatches: [] });
    }
  });

  it("finds the task by name and key, and answers its id", async () => {
    const name = freshName();
    const taskId = await suspended(name, "{}", "order-1");
    expect(await owner.proceed({ task: { name, key: "order-1" } })).toMatchObject({ task: { taskId } });
  });

  it("finds exactly one unfinished task by a filter", async () => {
    const name = freshName();
    const filter = { names: [name] };
    expect(await refused(owner.proceed({ filter }))).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
    const finished = await failed(name);
    expect(await refused(owner.proceed({ filter }))).toMatchObject({ code: "NOT_FOUND" });
    const taskId = await suspended(name, "{}");
    expect(finished).not.toBe(taskId);
    expect(await owner.proceed({ filter })).toMatchObject({ ...APPLIED, task: { taskId } });
    await owner.submit({ name, scheduleTime: LATER });
    expect(await refused(owner.proceed({ filter }))).toMatchObject({ code: "FAILED_PRECONDITION", reason: "MULTIPLE_TASKS" });
    expect(await owner.proceed({ filter: { ...filter, taskIds: [taskId] } })).toMatchObject({ task: { taskId } });
  });

  it.each([
    [{ task: UNKNOWN, filter: {} }, "filter"],
    [{ filter: {}, requestId: "r" }, "request_id"],
    [{ filter: { states: [TaskState.COMPLETED] } }, "filter.states"],
    [{}, "task"],
  ])("refuses %j", async (request, field) => {
    expect(await refused(owner.proceed(request))).toMatchObject({ code: "INVALID_ARGUMENT", fields: [field] });
  });

  it("answers a request that is sent again as the first time, without doing it again", async () => {
    const name = freshName();
    const taskId = await suspended(name, '{"n":1}');
    const request = { task: { taskId }, requestId: "r-1", update: { mergePatch: jsonPayload({ n: 2 }) } };
    expect(await owner.proceed(request)).toMatchObject(APPLIED);
    await runNext(server.address, name, suspendWith('{"n":5}'));
    const again = await owner.proceed(request);
    expect(again).toMatchObject({ result: ProceedResult.APPLIED, task: { state: TaskState.SUSPENDED } });
    expect(textOf((await owner.get({ taskId })).executionMetadata)).toBe('{"n":5}');
    expect(await refused(owner.proceed({ ...request, note: "other" }))).toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "REQUEST_ID_REUSED",
      resource: taskId,
    });
  });

  it("with an etag needs the task as it is known, and suspended", async () => {
    const name = freshName();
    const taskId = await suspended(name, "{}");
    const { etag } = await owner.get({ taskId });
    expect(await refused(owner.proceed({ task: { taskId }, etag: "1" }))).toMatchObject({ code: "ABORTED", reason: "ETAG_MISMATCH" });
    const request = { task: { taskId }, etag, requestId: "r" };
    expect(await owner.proceed(request)).toMatchObject(APPLIED);
    // The same request again is answered, although its etag is no longer true.
    expect(await owner.proceed(request)).toMatchObject(APPLIED);
    const now = (await owner.get({ taskId })).etag;
    expect(await refused(owner.proceed({ task: { taskId }, etag: now }))).toMatchObject({ reason: "TASK_NOT_SUSPENDED" });
    expect(await refused(owner.proceed({ task: { taskId }, update: { replace: jsonPayload(1) } }))).toMatchObject({
      reason: "TASK_NOT_SUSPENDED",
    });
  });

  it("waits for its time", async () => {
    const name = freshName();
    const taskId = await suspended(name, "{}");
    expect((await owner.proceed({ task: { taskId }, scheduleTime: LATER })).task).toMatchObject({
      state: TaskState.PENDING,
      runTime: LATER,
    });
  });

  it("is remembered while the task runs, and all of them are applied in their order when it suspends", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name });
    const { taskId } = task;
    const worker = openRawWorker(server.address, [name]);
    const lease = await worker.lease();
    for (const [note, patch] of [
      ["first", '{"a":1,"b":1}'],
      ["second", '{"b":2}'],
    ] as const) {
      const answer = await owner.proceed({ task: { taskId }, note, update: { mergePatch: { data: Buffer.from(patch) } } });
      expect(answer).toMatchObject({ result: ProceedResult.REMEMBERED, task: { state: TaskState.RUNNING } });
    }
    expect((await owner.get({ taskId })).rememberedProceeds).toBe(2);
    worker.report(lease, 1, suspendWith('{"id":9007199254740993}'));
    const next = await worker.lease(1);
    expect(textOf(next.executionMetadata)).toBe('{"id":9007199254740993,"a":1,"b":2}');
    expect(next.resumption?.proceeds.map(({ note }) => note)).toEqual(["first", "second"]);
    worker.report(next, 1, outcomes.complete);
    await worker.verdict(next, 1);
    worker.close();
    expect(await refused(owner.proceed({ task: { taskId } }))).toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "TASK_FINISHED",
      resource: taskId,
    });
  });

  it("is refused when too many wait, and when the task is being cancelled", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name });
    const { taskId } = task;
    const worker = openRawWorker(server.address, [name]);
    await worker.lease();
    for (let one = 0; one < 16; one++) await owner.proceed({ task: { taskId } });
    expect(await refused(owner.proceed({ task: { taskId } }))).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "TOO_MANY_PROCEEDS",
      retries: false,
    });
    await owner.call(TaskServiceService.cancelTask, CancelTaskRequest.create({ task: { name: "", taskId } }));
    expect(await refused(owner.proceed({ task: { taskId } }))).toMatchObject({ code: "FAILED_PRECONDITION", reason: "CANCEL_REQUESTED" });
    worker.close();
  });

  it("refuses a patch that does not fit what was saved", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name });
    const opaque = { data: Buffer.from([0]), contentType: "application/x-secret" };
    await runNext(server.address, name, { suspend: { ...outcomes.suspend.suspend, executionMetadata: opaque } });
    const request = { task: { taskId: task.taskId }, update: { mergePatch: jsonPayload({ a: 1 }) } };
    expect(await refused(owner.proceed(request))).toMatchObject({ code: "FAILED_PRECONDITION", reason: "PATCH_NOT_APPLICABLE" });
  });
});
