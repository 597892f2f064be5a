// What comes of a report or proceed that is sent again, late, or out of order, while the task went on? Each at most once, never rolled back.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Event, ReportBody } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import type { DecideResult, OpenSession, Storage } from "@leasehold/server/storage/storage";
import { bodies, json, proceedEvent, textOf } from "../support/domain.js";
import { helloOf, openTestStorage, type TestStorage } from "../support/storage.js";

const SECOND = 1_000_000;

let test: TestStorage;
let other: Storage;
let session: OpenSession;
beforeEach(async () => {
  test = await openTestStorage();
  other = await test.another();
  session = await test.session();
});
afterEach(() => test[Symbol.asyncDispose]());

const reference = (task: LiveTask) => ({ namespace: "default", id: task.identity.id });
const checkpoint = (at: number): ReportBody => ({ kind: "checkpoint", executionMetadata: json({ at }) });

/** Sends a report of a lease to a server; answers what it is told. */
async function send(storage: Storage, leased: LiveTask, seq: number, body: ReportBody): Promise<string> {
  const event: Event = { kind: "reported", nonce: leased.lease?.nonce ?? "", seq, body };
  return tell(await storage.decide(reference(leased), event));
}

function tell(result: DecideResult): string {
  if (result.kind !== "decided") return result.kind;
  const { answer } = result.decided;
  if (answer.kind === "rejected") return answer.rejection.reason;
  return answer.kind === "repeated" ? `again ${answer.result}` : "RECORDED";
}

async function saved(task: LiveTask): Promise<unknown> {
  const text = textOf((await test.storage.readTask(reference(task), true))?.executionMetadata);
  return text === undefined ? undefined : JSON.parse(text);
}

async function leaseAgain(task: LiveTask): Promise<LiveTask> {
  const leased = await test.lease(session);
  return leased.find(({ live }) => live.identity.id === task.identity.id)?.live ?? task;
}

describe("a checkpoint whose verdict was lost", () => {
  it("is recorded once when it is sent again, on another server", async () => {
    const task = await test.running(session);
    expect(await send(test.storage, task, 1, checkpoint(1))).toBe("RECORDED");
    expect(await send(other, task, 1, checkpoint(1))).toBe("ALREADY_RECORDED");
    expect((await test.read(task.identity.id)).live).toMatchObject({ executionMetadataVersion: 1, checkpointCount: 1, settledSeq: 1 });
  });

  it("stands when another body comes under its number", async () => {
    const task = await test.running(session);
    await send(test.storage, task, 1, checkpoint(1));
    expect(await send(other, task, 1, checkpoint(99))).toBe("ALREADY_RECORDED");
    expect(await send(other, task, 1, bodies.complete)).toBe("ALREADY_RECORDED");
    expect([await saved(task), (await test.read(task.identity.id)).state]).toEqual([{ at: 1 }, "RUNNING"]);
  });

  it("is never rolled back to: two are sent again after a reconnect, over a newer one", async () => {
    const task = await test.running(session);
    for (const seq of [1, 2]) expect(await send(test.storage, task, seq, checkpoint(seq))).toBe("RECORDED");
    const held = [{ taskId: task.identity.id, nonce: task.lease?.nonce ?? "" }];
    expect((await other.takeOverSession(session.id, helloOf({ connection: 2 }), held)).kind).toBe("taken");
    expect([await send(other, task, 1, checkpoint(1)), await send(other, task, 2, checkpoint(2))]).toEqual([
      "ALREADY_RECORDED",
      "ALREADY_RECORDED",
    ]);
    expect(await send(other, task, 3, checkpoint(3))).toBe("RECORDED");
    expect(await send(test.storage, task, 2, checkpoint(2))).toBe("ALREADY_RECORDED");
    expect([await saved(task), (await test.read(task.identity.id)).live.checkpointCount]).toEqual([{ at: 3 }, 3]);
  });
});

describe("a report before its turn", () => {
  it("is acknowledged neither as stored nor as lost until the one before it was sent again", async () => {
    const task = await test.running(session);
    expect(await send(test.storage, task, 1, checkpoint(1))).toBe("RECORDED");
    // Checkpoint 2 was answered RETRY_LATER, so outcome 3 comes before its turn.
    expect(await send(other, task, 3, bodies.complete)).toBe("OUT_OF_ORDER");
    expect((await test.read(task.identity.id)).state).toBe("RUNNING");
    expect(await send(other, task, 2, checkpoint(2))).toBe("RECORDED");
    expect(await send(other, task, 3, bodies.complete)).toBe("RECORDED");
    expect([await saved(task), (await test.read(task.identity.id)).state]).toEqual([{ at: 2 }, "COMPLETED"]);
  });
});

describe("a report after the outcome of its lease", () => {
  it("is refused, whatever the outcome was", async () => {
    for (const body of [bodies.complete, bodies.fail, bodies.suspend, bodies.release]) {
      const task = await test.running(session);
      expect(await send(test.storage, task, 1, body)).toBe("RECORDED");
      const late = await send(other, task, 2, checkpoint(9));
      expect(late === "finished" ? "LEASE_LOST" : late).toBe("LEASE_LOST");
      expect(await saved(task)).toBeUndefined();
    }
  });
});

describe("a failure that is sent again", () => {
  it("after its own retry was leased is recognized, and the new lease goes on untouched", async () => {
    const task = await test.running(session);
    expect(await send(test.storage, task, 1, bodies.fail)).toBe("RECORDED");
    await test.advance(10 * SECOND);
    const second = await leaseAgain(task);
    expect(second.lease?.nonce).not.toBe(task.lease?.nonce);
    expect(await send(other, task, 1, bodies.fail)).toBe("ALREADY_RECORDED");
    expect((await test.read(task.identity.id)).live).toEqual(second);
    expect(await send(test.storage, second, 1, bodies.complete)).toBe("RECORDED");
  });
});

describe("a proceed that is sent again", () => {
  it("after the task ran and suspended again gets the first answer, and wakes nobody", async () => {
    const task = await test.running(session);
    await send(test.storage, task, 1, bodies.suspend);
    const request = { requestId: "call-1", bodyHash: "00" };
    const proceed = proceedEvent({ patch: json({ yes: 1 }) }, { request });
    expect(tell(await test.storage.decide(reference(task), proceed))).toBe("RECORDED");
    const second = await leaseAgain(task);
    await send(test.storage, second, 1, bodies.suspend);
    expect(tell(await other.decide(reference(task), proceed))).toBe("again APPLIED");
    expect(tell(await other.decide(reference(task), proceedEvent({}, { request: { ...request, bodyHash: "01" } })))).toBe(
      "REQUEST_ID_REUSED",
    );
    expect([(await test.read(task.identity.id)).state, await saved(task)]).toEqual(["SUSPENDED", { yes: 1 }]);
  });
});

describe("an attempt deadline and a completion", () => {
  const deadlines = { queueUs: null, attemptUs: 5 * SECOND, silenceUs: null, totalUs: null };
  const timePassed: Event = { kind: "time-passed", lenient: false };

  it("let the success count when it commits first", async () => {
    const task = await test.running(session, { deadlines });
    await test.advance(6 * SECOND);
    expect(await send(test.storage, task, 1, bodies.complete)).toBe("RECORDED");
    expect(await other.applyDecisions([test.decision(task, timePassed)])).toEqual([false]);
    expect((await test.read(task.identity.id)).state).toBe("COMPLETED");
  });

  it("close the attempt when the deadline commits first: the success is refused and the task tried again", async () => {
    const task = await test.running(session, { deadlines });
    await test.advance(6 * SECOND);
    expect(await other.applyDecisions([test.decision(task, timePassed)])).toEqual([true]);
    expect(await send(test.storage, task, 1, bodies.complete)).toBe("LEASE_LOST");
    expect((await test.read(task.identity.id)).live).toMatchObject({ state: "PENDING", pendingReason: "RETRY", failures: 1 });
  });
});
