// Who is alive, who takes whose place, and what becomes of the leases: heartbeats, hellos, takeovers and ends.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { LiveTask } from "@leasehold/server/domain/task";
import type { OpenSession, TakeOver } from "@leasehold/server/storage/storage";
import { bodies } from "../../support/domain.js";
import { helloOf, itOverConnections, openTestStorage, type TestStorage, untilBlocked } from "../../support/storage.js";

const SECOND = 1_000_000;
const TTL = 20 * SECOND;

let test: TestStorage;
let session: OpenSession;
beforeEach(async () => {
  test = await openTestStorage();
  session = await test.session();
});
afterEach(() => test[Symbol.asyncDispose]());

const heldOf = (...tasks: readonly LiveTask[]) => tasks.map(({ identity, lease }) => ({ taskId: identity.id, nonce: lease?.nonce ?? "" }));

function takeOver(connection: number, held: readonly LiveTask[] = [], storage = test.storage): Promise<TakeOver> {
  return storage.takeOverSession(session.id, helloOf({ connection }), heldOf(...held));
}

async function expiresInUs(): Promise<number> {
  const [row] = await test.rows<{ us: string }>(
    "SELECT (extract(epoch FROM expires_at - leasehold_now()) * 1000000)::int8 AS us FROM sessions WHERE id = $1",
    session.id,
  );
  return Number(row?.us);
}

/** The session is silent until it ends and its leases are lost. */
async function expire(...tasks: readonly LiveTask[]): Promise<void> {
  await test.advance(TTL);
  expect(await test.storage.endExpiredSessions()).toBe(1);
  await test.storage.applyDecisions(tasks.map((task) => test.decision(task, { kind: "lease-lost" })));
}

describe("a heartbeat", () => {
  const beat = (number: number, epoch = 1) => test.storage.storeBeats([{ sessionId: session.id, epoch, number }]);

  it("gives the session its whole TTL again", async () => {
    await test.advance(15 * SECOND);
    expect(await beat(1)).toEqual([{ sessionId: session.id, expiresInUs: TTL }]);
    expect(await expiresInUs()).toBe(TTL);
  });

  it("never lowers the expiry, nor its number", async () => {
    await test.rows("UPDATE sessions SET expires_at = expires_at + interval '1 hour'");
    await beat(5);
    expect(await beat(4)).toEqual([{ sessionId: session.id, expiresInUs: 3600 * SECOND + TTL }]);
    expect(await test.rows("SELECT heartbeat_number FROM sessions")).toEqual([{ heartbeat_number: "5" }]);
  });

  it("of an older epoch is not stored", async () => {
    await takeOver(2);
    await test.advance(5 * SECOND);
    expect(await beat(9)).toEqual([]);
    expect(await expiresInUs()).toBe(TTL - 5 * SECOND);
    expect(await beat(1, 2)).toHaveLength(1);
  });

  it("of an ended session is not stored", async () => {
    await expire();
    expect(await beat(1)).toEqual([]);
    expect(await test.storage.isSessionAlive("default", session.id)).toBe(false);
  });

  it("is stored until the session is ended, also after its TTL", async () => {
    await test.advance(TTL + SECOND);
    expect(await beat(1)).toHaveLength(1);
    expect(await test.storage.endExpiredSessions()).toBe(0);
  });

  it("is one of many in a statement, and answers for those that it stored", async () => {
    const others = await Promise.all(Array.from({ length: 50 }, () => test.session()));
    const beats = [...others, { ...session, epoch: 7 }].map(({ id, epoch }) => ({ sessionId: id, epoch, number: 1 }));
    const stored = await test.storage.storeBeats(beats);
    expect(stored.map(({ sessionId }) => sessionId).sort()).toEqual(others.map(({ id }) => id).sort());
  });

  itOverConnections("is stored also when it waited for somebody who spared all sessions", async () => {
    const upkeep = await test.connection();
    await upkeep.query("BEGIN");
    await upkeep.query("UPDATE sessions SET expires_at = expires_at + interval '1 second'");
    const beating = beat(1);
    await untilBlocked(await test.connection());
    await upkeep.query("COMMIT");
    expect(await beating).toHaveLength(1);
  });
});

describe("a session", () => {
  it("is known to live in its namespace until it ends", async () => {
    expect(await test.storage.isSessionAlive("default", session.id)).toBe(true);
    expect(await test.storage.isSessionAlive("other", session.id)).toBe(false);
    expect(await test.storage.isSessionAlive("default", "0190b6f2-ffff-7fff-bfff-ffffffffffff")).toBe(false);
  });

  it("tells what it runs, and what of that is cancelled", async () => {
    const one = await test.running(session);
    const two = await test.running(session);
    await test.running(await test.session());
    expect((await test.storage.runningLeases(session.id)).map(({ identity }) => identity.id).sort()).toEqual(
      [one.identity.id, two.identity.id].sort(),
    );
    await test.storage.decide({ namespace: "default", id: two.identity.id }, { kind: "cancel-requested", reason: "stop", graceUs: SECOND });
    const cancelled = await test.storage.cancelledLeases([session.id]);
    expect(cancelled).toMatchObject([{ sessionId: session.id, task: { identity: { id: two.identity.id }, cancel: { reason: "stop" } } }]);
    expect(await test.storage.cancelledLeases([])).toEqual([]);
  });
});

describe("a takeover", () => {
  it("keeps what is listed under the new epoch and gives the rest back, using no attempt", async () => {
    const [listed, unlisted] = [await test.running(session), await test.running(session)];
    const taken = await takeOver(2, [listed]);
    expect(taken).toMatchObject({
      kind: "taken",
      session: { id: session.id, epoch: 2, expiresInUs: TTL },
      kept: [{ identity: listed.identity, lease: { epoch: 2 } }],
    });
    expect((await test.read(listed.identity.id)).live).toMatchObject({
      state: "RUNNING",
      lease: { ...listed.lease, epoch: 2 },
      revision: listed.revision + 1,
    });
    expect((await test.read(unlisted.identity.id)).live).toMatchObject({
      state: "PENDING",
      pendingReason: "RELEASED",
      failures: 0,
      lostLeases: 0,
      lease: null,
    });
    expect(taken.kind === "taken" && taken.returned.map(({ before }) => before.identity.id)).toEqual([unlisted.identity.id]);
  });

  it("gives back what is listed with another token", async () => {
    const task = await test.running(session);
    const taken = await takeOver(2, [{ ...task, lease: { ...task.lease!, nonce: "ff".repeat(16) } }]);
    expect(taken).toMatchObject({ kind: "taken", kept: [], returned: [{ before: { identity: task.identity } }] });
  });

  it("keeps no lease of another session, whoever lists it", async () => {
    const other = await test.session();
    const task = await test.running(other);
    expect(await takeOver(2, [task])).toMatchObject({ kind: "taken", kept: [], returned: [] });
    expect((await test.read(task.identity.id)).live).toEqual(task);
  });

  it("ends what is not listed and was cancelled", async () => {
    const task = await test.running(session);
    await test.storage.decide({ namespace: "default", id: task.identity.id }, { kind: "cancel-requested", reason: "", graceUs: TTL });
    await takeOver(2);
    expect((await test.read(task.identity.id)).state).toBe("CANCELLED");
  });

  it("keeps a cancelled lease that is listed, with its cancel", async () => {
    const task = await test.running(session);
    await test.storage.decide({ namespace: "default", id: task.identity.id }, { kind: "cancel-requested", reason: "", graceUs: TTL });
    expect(await takeOver(2, [task])).toMatchObject({ kept: [{ cancel: { reason: "" }, lease: { epoch: 2 } }] });
  });

  it("with the same or a lower connection number is stale and releases nothing", async () => {
    const task = await test.running(session);
    await takeOver(3, [task]);
    const before = (await test.read(task.identity.id)).live;
    expect(await takeOver(3)).toEqual({ kind: "stale" });
    expect(await takeOver(2)).toEqual({ kind: "stale" });
    expect((await test.read(task.identity.id)).live).toEqual(before);
    expect(await test.rows("SELECT connection, epoch FROM sessions")).toEqual([{ connection: "3", epoch: "2" }]);
  });

  it("never shortens the session's life, and revives one that was not ended yet", async () => {
    await test.storage.takeOverSession(session.id, helloOf({ connection: 2, ttlUs: 2 * SECOND }), []);
    expect(await expiresInUs()).toBe(TTL);
    await test.advance(TTL + SECOND);
    expect(await takeOver(3)).toMatchObject({ kind: "taken", session: { id: session.id } });
    expect(await test.storage.endExpiredSessions()).toBe(0);
  });

  it("of another namespace's session opens a new one and touches nothing", async () => {
    const task = await test.running(session);
    const answer = await test.storage.takeOverSession(session.id, helloOf({ namespace: "other", connection: 9 }), heldOf(task));
    expect(answer).toMatchObject({ kind: "renewed", kept: [] });
    expect((await test.read(task.identity.id)).live).toEqual(task);
  });
});

describe("an ended session renewed", () => {
  it("keeps what still runs under the ended one and what was lost with that token", async () => {
    const [running, lost] = [await test.running(session), await test.running(session)];
    await expire(lost);
    const renewed = await takeOver(2, [running, lost]);
    expect(renewed.kind === "renewed" && renewed.kept.map(({ identity }) => identity.id).sort()).toEqual(
      [running.identity.id, lost.identity.id].sort(),
    );
    if (renewed.kind !== "renewed") return;
    expect(renewed.session.id).not.toBe(session.id);
    for (const task of [running, lost]) {
      expect((await test.read(task.identity.id)).live).toMatchObject({
        state: "RUNNING",
        lostLeases: 0,
        lease: { nonce: task.lease?.nonce, sessionId: renewed.session.id, epoch: 1 },
      });
    }
  });

  it("keeps nothing that somebody else has, has finished or is unknown", async () => {
    const [leased, finished] = [await test.running(session), await test.running(session)];
    await test.storage.applyDecisions([test.report(finished, bodies.complete)]);
    await expire(leased);
    const [again] = await test.lease(await test.session());
    const unknown = { ...leased, identity: { ...leased.identity, id: "0190b6f2-ffff-7fff-bfff-ffffffffffff" } };
    expect(await takeOver(2, [leased, finished, unknown])).toMatchObject({ kind: "renewed", kept: [] });
    expect((await test.read(leased.identity.id)).live).toEqual(again?.live);
  });

  it("leaves what it does not list to upkeep", async () => {
    const task = await test.running(session);
    await expire();
    expect(await takeOver(2)).toMatchObject({ kind: "renewed", kept: [] });
    expect((await test.read(task.identity.id)).live).toEqual(task);
    expect((await test.storage.orphanedLeases(10)).lost).toMatchObject([{ identity: task.identity }]);
  });
});
