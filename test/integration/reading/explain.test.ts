// Does ExplainTask tell of the workers that are really there, and count what goes first?
import { ExplainTaskRequest, ExplanationCode, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SessionHello } from "@leasehold/server/storage/storage";
import { serveApi, type ServedApi } from "../../support/api-fakes.js";
import { bodies } from "../../support/domain.js";
import { type OwnerCalls, ownerCalls, refused } from "../../support/owner-calls.js";
import { openTestStorage, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;
let test: TestStorage;
let api: ServedApi;
let owner: OwnerCalls;
beforeEach(async () => {
  test = await openTestStorage();
  api = await serveApi({ storage: test.storage });
  owner = ownerCalls(api.address);
});
afterEach(async () => {
  owner.close();
  await api[Symbol.asyncDispose]();
  await test[Symbol.asyncDispose]();
});

const explain = (taskId: string) => owner.call(TaskServiceService.explainTask, ExplainTaskRequest.create({ task: { taskId } }));
const codes = async (taskId: string): Promise<string[]> => (await explain(taskId)).explanations.map(({ code }) => ExplanationCode[code]);
const worker = (hello: Partial<SessionHello> = {}) => test.session({ handlers: ["a"], slots: 1, ...hello });

describe("ExplainTask", () => {
  it("knows the living workers by name and queue, and no others", async () => {
    const [id] = await test.store({ name: "a", queue: "q" });
    expect(await codes(id!)).toEqual(["NO_WORKER_FOR_NAME"]);
    await worker({ handlers: ["b"] });
    await worker({ namespace: "other" });
    expect(await codes(id!)).toEqual(["NO_WORKER_FOR_NAME"]);
    await worker({ queues: ["elsewhere"] });
    expect(await codes(id!)).toEqual(["NO_WORKER_FOR_QUEUE"]);
    await worker({ queues: ["elsewhere", "q"], ttlUs: 5 * SECOND });
    expect(await codes(id!)).toEqual(["ABOUT_TO_RUN"]);
    await test.advance(6 * SECOND);
    expect(await codes(id!)).toEqual(["NO_WORKER_FOR_QUEUE"]);
  });

  it("counts slots as heartbeats tell them: in all, of the name, none while it drains", async () => {
    const session = await worker({ slots: 2, ownSlots: new Map([["a", 1]]) });
    await test.running(session, { name: "a" });
    const [id] = await test.store({ name: "a" });
    expect(await codes(id!)).toEqual(["ALL_SLOTS_BUSY"]);
    const beat = (total: number, own: number) =>
      test.storage.storeBeats([{ sessionId: session.id, epoch: 1, number: 1, slots: { total, byName: new Map([["a", own]]) } }]);
    await beat(2, 2);
    expect(await codes(id!)).toEqual(["ABOUT_TO_RUN"]);
    await beat(0, 2);
    expect(await codes(id!)).toEqual(["ALL_SLOTS_BUSY"]);
    await beat(3, 3);
    await test.storage.storeBeats([{ sessionId: session.id, epoch: 1, number: 2 }]);
    expect(await codes(id!)).toEqual(["ABOUT_TO_RUN"]);
  });

  it("counts the due tasks of its queue that go first for those workers", async () => {
    const session = await worker({ handlers: ["a", "b"] });
    await test.running(session, { name: "a" });
    await test.store({ name: "a" }, { name: "b", priority: 9 }, { name: "b", priority: 1 }, { name: "unhandled", priority: 9 });
    await test.store({ name: "a", queue: "other", priority: 9 }, { name: "a", priority: 9, scheduleUs: test.nowUs + SECOND });
    await test.advance(1);
    const [id] = await test.store({ name: "a", priority: 1 });
    await test.advance(1);
    await test.store({ name: "a", priority: 1 });
    const { task, explanations } = await explain(id!);
    expect(explanations).toMatchObject([{ code: ExplanationCode.ALL_SLOTS_BUSY, tasksAhead: 2 }]);
    expect(task?.taskId).toBe(id);
  });

  it("isolates a task that lost two leases in a row from others like it", async () => {
    const session = await worker();
    const [id, other] = await test.store({ name: "a" }, { name: "x" });
    await test.rows("UPDATE live_tasks SET lost_leases = 2");
    expect(await codes(id!)).toEqual(["ABOUT_TO_RUN"]);
    await test.rows(
      "UPDATE live_tasks SET state = 1, session_id = $1, session_epoch = 1, lease_nonce = '\\x00', lease_time = leasehold_now() WHERE id = $2",
      session.id,
      other,
    );
    expect(await codes(id!)).toEqual(["ISOLATED", "ALL_SLOTS_BUSY"]);
  });

  it("says what a task that is not pending does", async () => {
    const session = await worker({ slots: 9 });
    const [running, suspended, waking, completed] = [
      await test.running(session, { name: "a" }),
      await test.running(session, { name: "a" }),
      await test.running(session, { name: "a" }),
      await test.running(session, { name: "a" }),
    ];
    await test.storage.applyDecisions([
      test.report(suspended, { kind: "suspend", untilUs: null, afterUs: null, executionMetadata: null }),
      test.report(waking, bodies.suspendFor),
      test.report(completed, bodies.complete),
    ]);
    const [later] = await test.store({ name: "a", scheduleUs: test.nowUs + SECOND });
    const all = [running, suspended, waking, completed].map(({ identity }) => identity.id);
    expect(await Promise.all([...all, later!].map(codes))).toEqual([
      ["RUNNING"],
      ["WAITING_FOR_PROCEED"],
      ["WAITING_FOR_TIME"],
      ["FINISHED"],
      ["NOT_DUE"],
    ]);
    const { explanations } = await explain(all[0]!);
    expect(explanations[0]).toMatchObject({ message: `Worker ${running.workerName} runs it.`, untilTime: undefined });
    expect(await refused(explain("0190b6f2-ffff-7fff-bfff-ffffffffffff"))).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
  });
});

describe("the sweep", () => {
  it("removes progress that belongs to no running task, and no other", async () => {
    const session = await worker({ slots: 9, handlers: ["a"] });
    const [running, done] = [await test.running(session, { name: "a" }), await test.running(session, { name: "a" })];
    const progress = { done: 1, total: null, message: "", updateUs: test.nowUs };
    await test.storage.storeProgress([running, done].map(({ identity: { id: taskId } }) => ({ taskId, progress })));
    await test.storage.applyDecisions([test.report(done, bodies.complete)]);
    expect(await test.storage.sweepProgress(100)).toBe(0);
    await test.advance(61 * SECOND);
    expect(await test.storage.sweepProgress(100)).toBe(1);
    expect(await test.rows("SELECT id FROM task_progress")).toEqual([{ id: running.identity.id }]);
  });
});
