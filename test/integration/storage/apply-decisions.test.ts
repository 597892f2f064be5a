// Does the one path that changes a task write only what was decided on the newest state, and then all of it in one step?
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ReportBody } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import type { OpenSession } from "@leasehold/server/storage/storage";
import { aProceed, bodies, json } from "../../support/domain.js";
import { openTestStorage, payload, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;
const { checkpoint, complete } = bodies;

let test: TestStorage;
let session: OpenSession;
beforeEach(async () => {
  test = await openTestStorage();
  session = await test.session();
});
afterEach(() => test[Symbol.asyncDispose]());

async function eventTypes(task: LiveTask): Promise<string[]> {
  const rows = await test.rows<{ type: string }>("SELECT type FROM task_events WHERE id = $1 ORDER BY revision, place", task.identity.id);
  return rows.map(({ type }) => type);
}

describe("a decision", () => {
  it.each(Object.entries(bodies))("about a report is stored as it was made: %s", async (_, body) => {
    const task = await test.running(session, { executionMetadata: payload("{}") });
    await test.advance(SECOND);
    const decision = test.report(task, body);
    expect(await test.storage.applyDecisions([decision])).toEqual([true]);
    const stored = await test.read(task.identity.id);
    const { answer } = decision;
    if (answer.kind === "changed") expect(stored.live).toEqual(answer.task);
    else {
      const { failures, lostLeases, lastOutcome, revision, executionMetadataVersion, fencingToken, workerName } = answer.task;
      expect(stored.live).toMatchObject({
        failures,
        lostLeases,
        lastOutcome,
        revision,
        executionMetadataVersion,
        fencingToken,
        workerName,
      });
      expect(stored.finish).toMatchObject({ state: answer.state, reason: answer.reason, finishTimeUs: test.nowUs, error: answer.error });
      expect(stored.live.runAtUs).toBe(task.runAtUs);
    }
    expect(await eventTypes(task)).toEqual(answer.timeline.map(({ type }) => type));
  });

  it("writes no timeline for the plain success path", async () => {
    const task = await test.running(session);
    const decision = test.report(task, checkpoint);
    await test.storage.applyDecisions([decision]);
    await test.storage.applyDecisions([test.report(decision.answer.task, complete)]);
    expect(await eventTypes(task)).toEqual([]);
  });

  it("of a finished task moves it from one table to the other", async () => {
    const task = await test.running(session);
    await test.storage.applyDecisions([test.report(task, complete)]);
    expect(await test.rows("SELECT 1 FROM live_tasks")).toEqual([]);
    expect(await test.rows("SELECT 1 FROM finished_tasks")).toHaveLength(1);
    expect(await test.storage.applyDecisions([test.report(task, complete)])).toEqual([false]);
    expect(await test.rows("SELECT 1 FROM finished_tasks")).toHaveLength(1);
  });

  it("finishes what is stored, not what the server's copy says beside the report", async () => {
    const task = await test.running(session, { priority: 3, queue: "q" });
    await test.advance(5 * SECOND);
    await test.storage.applyDecisions([
      test.report({ ...task, queue: "wrong", priority: 9, workerName: "wrong", fencingToken: 1 }, complete),
    ]);
    const { live, finish } = await test.read(task.identity.id);
    expect(live).toMatchObject({
      queue: "q",
      priority: 3,
      workerName: task.workerName,
      fencingToken: task.fencingToken,
      leaseTimeUs: task.leaseTimeUs,
    });
    expect(finish?.finishTimeUs).toBe(test.nowUs);
  });

  it("saves final execution metadata in the same statement", async () => {
    const task = await test.running(session, { executionMetadata: payload('{"step":1}') });
    const body: ReportBody = { ...complete, executionMetadata: json({ step: "last" }) };
    await test.storage.applyDecisions([test.report(task, body)]);
    const stored = await test.read(task.identity.id);
    expect(stored.executionMetadata?.data.toString()).toBe('{"step":"last"}');
    expect(stored.live.executionMetadataVersion).toBe(2);
  });

  it("that was outrun leaves execution metadata and timeline alone", async () => {
    const task = await test.running(session, { executionMetadata: payload('{"step":1}') });
    await test.storage.applyDecisions([test.report(task, checkpoint)]);
    const late = test.report(task, { ...bodies.fail, executionMetadata: json("late") });
    expect(await test.storage.applyDecisions([late])).toEqual([false]);
    const stored = await test.read(task.identity.id);
    expect(stored.executionMetadata?.data.toString()).toBe('{"step":2}');
    expect(await eventTypes(task)).toEqual([]);
  });

  it("keeps proceeds, cancels and errors to the byte", async () => {
    const task = await test.running(session);
    const patch = { data: new Uint8Array([0, 1, 255]), contentType: "image/png" };
    const proceed = test.decision(task, {
      kind: "proceeded",
      proceed: aProceed({ note: "né\n\"'", patch, runAtUs: test.nowUs + 1 }),
      replace: null,
      needsSuspended: false,
      request: { requestId: "r", bodyHash: "f" },
    });
    await test.storage.applyDecisions([proceed]);
    const cancel = test.decision(proceed.answer.task, { kind: "cancel-requested", reason: "wég\\", graceUs: SECOND + 1 });
    await test.storage.applyDecisions([cancel]);
    expect((await test.read(task.identity.id)).live).toEqual({
      ...cancel.answer.task,
      proceeds: {
        ...cancel.answer.task.proceeds,
        remembered: [{ ...cancel.answer.task.proceeds!.remembered[0], patch: { ...patch, data: Buffer.from(patch.data) } }],
      },
    });
    const error = {
      code: "deep",
      message: "m",
      stack: "s",
      details: { data: Buffer.from([9]), contentType: "x/y" },
      cause: { code: "c", message: "", cause: { code: "d", message: "" } },
    };
    await test.storage.applyDecisions([test.report(cancel.answer.task, { ...bodies.failForGood, error })]);
    expect((await test.read(task.identity.id)).finish?.error).toEqual(error);
  });
});

describe("the fence", () => {
  it("refuses another nonce and another revision", async () => {
    const task = await test.running(session);
    const lease = { ...task.lease!, nonce: "ff".repeat(16) };
    expect(await test.storage.applyDecisions([test.report({ ...task, lease }, complete)])).toEqual([false]);
    expect(await test.storage.applyDecisions([test.report({ ...task, revision: task.revision - 1 }, complete)])).toEqual([false]);
    expect(await test.storage.applyDecisions([test.report({ ...task, revision: task.revision + 1 }, complete)])).toEqual([false]);
    expect((await test.read(task.identity.id)).live).toEqual(task);
  });

  it("compares also the nonce of what has no lease", async () => {
    const [id] = await test.store({});
    const { live } = await test.read(id!);
    const cancel = test.decision(live, { kind: "cancel-requested", reason: "", graceUs: 0 });
    await test.lease(session);
    expect(await test.storage.applyDecisions([cancel])).toEqual([false]);
    expect((await test.read(id!)).state).toBe("RUNNING");
  });

  it("lets the first of two writers win, whichever it is", async () => {
    for (const order of [0, 1]) {
      const task = await test.running(session);
      const writers = [test.report(task, complete), test.decision(task, { kind: "cancel-requested", reason: "", graceUs: 0 })];
      const [first, second] = order === 0 ? writers : writers.toReversed();
      expect(await test.storage.applyDecisions([first!])).toEqual([true]);
      expect(await test.storage.applyDecisions([second!])).toEqual([false]);
      expect((await test.read(task.identity.id)).state).toBe(order === 0 ? "COMPLETED" : "RUNNING");
    }
  });
});

describe("a batch of decisions", () => {
  it("is answered in the order given, changes and endings mixed", async () => {
    const tasks: LiveTask[] = [];
    for (let at = 0; at < 6; at++) tasks.push(await test.running(session));
    const decisions = tasks.map((task, at) => {
      const stale = at % 3 === 2;
      return test.report(stale ? { ...task, revision: 99 } : task, at % 2 === 0 ? complete : checkpoint);
    });
    expect(await test.storage.applyDecisions(decisions)).toEqual([true, true, false, true, true, false]);
  });

  it("writes the first of two decisions about one task", async () => {
    const task = await test.running(session);
    const other = await test.running(session);
    for (const pair of [
      [test.report(task, checkpoint), test.report(task, bodies.fail)],
      [test.report(other, complete), test.report(other, checkpoint)],
    ]) {
      expect(await test.storage.applyDecisions(pair)).toEqual([true, false]);
    }
    expect((await test.read(task.identity.id)).live).toMatchObject({ checkpointCount: 1, failures: 0 });
    expect((await test.read(other.identity.id)).state).toBe("COMPLETED");
  });

  it("of nothing is nothing", async () => {
    expect(await test.storage.applyDecisions([])).toEqual([]);
  });

  it("is written by several servers at once without a deadlock", async () => {
    const tasks: LiveTask[] = [];
    for (let at = 0; at < 30; at++) tasks.push(await test.running(session));
    const other = await test.another();
    const decisions = tasks.map((task) => test.report(task, checkpoint));
    const written = await Promise.all(
      [test.storage, other, test.storage, other].map((one, at) => one.applyDecisions(at % 2 === 0 ? decisions : decisions.toReversed())),
    );
    expect(written.flat().filter(Boolean)).toHaveLength(30);
  });
});

describe("a decision that time made", () => {
  it("is refused before its time, and written from then on", async () => {
    const task = await test.running(session, { deadlines: { queueUs: null, attemptUs: 10 * SECOND, silenceUs: null, totalUs: null } });
    const deadline = task.attemptDeadlineUs!;
    const early = { ...task, attemptDeadlineUs: task.leaseTimeUs };
    const decision = test.decision(early, { kind: "time-passed", lenient: false }, deadline);
    expect(await test.storage.applyDecisions([decision])).toEqual([false]);
    await test.advance(10 * SECOND - 1);
    expect(await test.storage.applyDecisions([decision])).toEqual([false]);
    expect((await test.read(task.identity.id)).live).toEqual(task);
    await test.advance(1);
    expect(await test.storage.applyDecisions([decision])).toEqual([true]);
    expect((await test.read(task.identity.id)).live).toMatchObject({ state: "PENDING", pendingReason: "RETRY", failures: 1, lease: null });
  });
});
