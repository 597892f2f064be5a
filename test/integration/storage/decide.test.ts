// Does an event happen to the task that is stored, under a lock, with the time read after it?
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { OpenSession, StoredTask } from "@leasehold/server/storage/storage";
import { bodies, json, proceedEvent } from "../../support/domain.js";
import { itOverConnections, nextReport, openTestStorage, payload, type TestStorage, untilBlocked } from "../../support/storage.js";

const SECOND = 1_000_000;
const UNKNOWN = "0190b6f2-ffff-7fff-bfff-ffffffffffff";
const cancel = { kind: "cancel-requested", reason: "no need", graceUs: 30 * SECOND } as const;

let test: TestStorage;
let session: OpenSession;
beforeEach(async () => {
  test = await openTestStorage();
  session = await test.session();
});
afterEach(() => test[Symbol.asyncDispose]());

const at = (id: string, namespace = "default") => ({ namespace, id });

async function suspended(executionMetadata = payload('{"a":1}')): Promise<StoredTask> {
  const task = await test.running(session, { executionMetadata });
  await test.storage.applyDecisions([test.report(task, bodies.suspend)]);
  return test.read(task.identity.id);
}

describe("deciding about a task", () => {
  it("writes what the domain answers, and tells what was before", async () => {
    const task = await test.running(session);
    const result = await test.storage.decide(at(task.identity.id), cancel);
    expect(result).toMatchObject({
      kind: "decided",
      decided: { before: task, answer: { kind: "changed", task: { cancel: { reason: "no need" } } } },
    });
    expect((await test.read(task.identity.id)).live).toMatchObject({
      revision: task.revision + 1,
      cancel: { deadlineUs: test.nowUs + 30 * SECOND },
    });
  });

  it("writes nothing where the domain says no", async () => {
    const [id] = await test.store({});
    const result = await test.storage.decide(at(id!), { kind: "lease-lost" });
    expect(result).toMatchObject({ kind: "decided", decided: { answer: { kind: "rejected", rejection: { reason: "NOTHING_TO_DO" } } } });
    expect((await test.read(id!)).live.revision).toBe(1);
  });

  it("knows what is unknown, of another namespace, or finished", async () => {
    const task = await test.running(session);
    const { id } = task.identity;
    expect(await test.storage.decide(at(UNKNOWN), cancel)).toEqual({ kind: "not-found" });
    expect(await test.storage.decide(at(id, "other"), cancel)).toEqual({ kind: "not-found" });
    await test.storage.applyDecisions([test.report(task, bodies.complete)]);
    const lastOutcome = { nonce: task.lease?.nonce, seq: 1, invalid: false };
    expect(await test.storage.decide(at(id), cancel)).toEqual({ kind: "finished", id, outcome: { state: "COMPLETED", lastOutcome } });
    expect(await test.storage.decide(at(id, "other"), cancel)).toEqual({ kind: "not-found" });
  });

  it("remembers of a task that an invalid report ended that it was invalid", async () => {
    const task = await test.running(session);
    await test.storage.applyDecisions([test.report(task, bodies.badOutcome)]);
    expect(await test.storage.decide(at(task.identity.id), cancel)).toMatchObject({
      outcome: { state: "FAILED", lastOutcome: { invalid: true } },
    });
  });

  it("compares an etag before anything else", async () => {
    const { id, live } = await suspended();
    expect(await test.storage.decide(at(id), proceedEvent(), live.revision - 1)).toEqual({ kind: "etag-mismatch" });
    expect(await test.storage.decide(at(id), proceedEvent(), live.revision)).toMatchObject({ kind: "decided" });
    expect(await test.storage.decide(at(id), proceedEvent(), live.revision)).toEqual({ kind: "etag-mismatch" });
  });

  it("patches the execution metadata that is stored", async () => {
    const { id } = await suspended(payload('{"n":9007199254740993,"a":1}'));
    await test.storage.decide(at(id), proceedEvent({ patch: json({ b: 2 }) }));
    await test.storage.decide(at(id), proceedEvent({ patch: json({ a: null, c: 3 }) }));
    const stored = await test.read(id);
    expect(stored.executionMetadata?.data.toString()).toBe('{"n":9007199254740993,"b":2,"c":3}');
    expect(stored.live).toMatchObject({ state: "PENDING", pendingReason: "PROCEEDED", executionMetadataVersion: 3 });
    expect(stored.live.proceeds?.consumed).toHaveLength(2);
  });

  it("applies what was remembered to the execution metadata that is stored, when the task suspends", async () => {
    const task = await test.running(session, { executionMetadata: payload('{"a":1}') });
    const { id } = task.identity;
    expect(await test.storage.decide(at(id), proceedEvent({ patch: json({ b: 2 }) }))).toMatchObject({
      decided: { answer: { proceedResult: "REMEMBERED" } },
    });
    const { live } = await test.read(id);
    await test.storage.decide(at(id), nextReport(live, bodies.suspend));
    const stored = await test.read(id);
    expect(stored.executionMetadata?.data.toString()).toBe('{"a":1,"b":2}');
    expect(stored.live).toMatchObject({ state: "PENDING", pendingReason: "PROCEEDED", lease: null });
  });

  itOverConnections("reads the time after it got the lock", async () => {
    const { id } = await suspended();
    const holder = await test.connection();
    const observer = await test.connection();
    await holder.query("BEGIN");
    await holder.query("SELECT 1 FROM live_tasks WHERE id = $1 FOR UPDATE", [id]);
    const deciding = test.storage.decide(at(id), proceedEvent());
    await untilBlocked(observer);
    await test.advance(60 * SECOND);
    await holder.query("COMMIT");
    await deciding;
    expect((await test.read(id)).live.runAtUs).toBe(test.nowUs);
  });

  itOverConnections("sees the task as the one that held the lock left it: changed, or finished", async () => {
    const task = await test.running(session);
    const observer = await test.connection();
    const holder = await test.connection();
    await holder.query("BEGIN");
    await holder.query("UPDATE live_tasks SET priority = 7, revision = revision + 1 WHERE id = $1", [task.identity.id]);
    const deciding = test.storage.decide(at(task.identity.id), cancel);
    await untilBlocked(observer);
    await holder.query("COMMIT");
    expect(await deciding).toMatchObject({ decided: { before: { priority: 7, revision: task.revision + 1 } } });
    await holder.query("BEGIN");
    await holder.query("DELETE FROM live_tasks WHERE id = $1", [task.identity.id]);
    const tooLate = test.storage.decide(at(task.identity.id), cancel);
    await untilBlocked(observer);
    await holder.query("COMMIT");
    expect(await tooLate).toEqual({ kind: "not-found" });
  });

  it("recognizes a report sent again, after its retry was leased and after the task finished", async () => {
    const task = await test.running(session, { executionMetadata: payload("{}") });
    const failure = nextReport(task, bodies.fail);
    await test.storage.applyDecisions([test.decision(task, failure)]);
    await test.advance(60 * SECOND);
    await test.storage.storeBeats([{ sessionId: session.id, epoch: 1, number: 1 }]);
    const fresh = await test.session();
    const [again] = await test.lease(fresh);
    const recorded = { decided: { answer: { kind: "rejected", rejection: { reason: "ALREADY_RECORDED" } } } };
    expect(await test.storage.decide(at(task.identity.id), failure)).toMatchObject(recorded);
    expect((await test.read(task.identity.id)).live).toEqual(again?.live);
  });
});
