// What comes of two who want different things of one task or session at the same moment? Each pair in both orders, both in flight
// at once: a lock of the test's own holds them up, they queue for it in the order wanted, then it lets go.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Event, ReportBody } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import { claimParts } from "../support/claim-parts.js";
import { bodies, json, proceedEvent } from "../support/domain.js";
import { claimOf, helloOf, nextReport, openTestStorage, payload, type TestStorage, untilBlocked } from "../support/storage.js";
import type { Decision, DecideResult, OpenSession, Storage } from "@leasehold/server/storage/storage";

const SECOND = 1_000_000;
const TTL = 20 * SECOND;

let test: TestStorage;
let other: Storage;
let session: OpenSession;
beforeEach(async () => {
  test = await openTestStorage();
  other = await test.another();
  session = await test.session();
});
afterEach(() => test[Symbol.asyncDispose]());

const orders = [["first"], ["second"]] as const;
const reference = (task: LiveTask) => ({ namespace: "default", id: task.identity.id });
const endOf = async (task: LiveTask): Promise<string> => {
  const { state, live } = await test.read(task.identity.id);
  return state === "PENDING" ? `PENDING ${live.pendingReason}` : state;
};
const rejectionOf = (result: DecideResult): string =>
  result.kind === "decided" && result.decided.answer.kind === "rejected" ? result.decided.answer.rejection.reason : result.kind;

/** Runs both at once on the locked row, `one` before `two` or, where the order says second, after it. */
async function race<A, B>(
  table: string,
  id: string,
  order: "first" | "second",
  one: () => Promise<A>,
  two: () => Promise<B>,
): Promise<[A, B]> {
  const [holder, observer] = [await test.connection(), await test.connection()];
  // Whoever does not wait for the lock proves nothing, and whoever fails is told of at once.
  const waits = <T>(count: number, work: Promise<T>): Promise<unknown> =>
    Promise.race([untilBlocked(observer, count), work.then(() => Promise.reject(new Error("it did not wait for the lock")))]);
  await holder.query("BEGIN");
  await holder.query(`SELECT 1 FROM ${table} WHERE id = $1 FOR UPDATE`, [id]);
  const early = order === "first" ? one() : null;
  if (early !== null) await waits(1, early);
  const right = two();
  await waits(early === null ? 1 : 2, right);
  const left = early ?? one();
  if (early === null) await waits(2, left);
  await holder.query("COMMIT");
  return Promise.all([left, right]);
}

const overTask = <A, B>(task: LiveTask, order: "first" | "second", one: () => Promise<A>, two: () => Promise<B>): Promise<[A, B]> =>
  race("live_tasks", task.identity.id, order, one, two);

async function write(storage: Storage, decision: Decision): Promise<boolean> {
  return (await storage.applyDecisions([decision]))[0] === true;
}

/** A report as a server applies it: on its copy, and where that was outrun, on what is stored. */
async function report(storage: Storage, copy: LiveTask, body: ReportBody): Promise<string> {
  if (await write(storage, test.report(copy, body))) return "RECORDED";
  const result = await storage.decide(reference(copy), nextReport(copy, body));
  if (result.kind !== "decided") return result.kind;
  return result.decided.answer.kind === "rejected" ? result.decided.answer.rejection.reason : "RECORDED";
}

async function eventsOf(task: LiveTask): Promise<string[]> {
  const rows = await test.rows<{ type: string }>("SELECT type FROM task_events WHERE id = $1 ORDER BY revision, place", task.identity.id);
  return rows.map(({ type }) => type);
}

/** The session is silent until it ends; its leases are still RUNNING. */
async function endSession(): Promise<void> {
  await test.advance(TTL);
  expect(await test.storage.endExpiredSessions()).toBe(1);
}

describe("complete and expiry", () => {
  it.each(orders)("record the completion when it commits %s, as long as nobody leased the task since", async (order) => {
    const task = await test.running(session);
    await endSession();
    const lost = test.decision(task, { kind: "lease-lost" });
    const [verdict, expired] = await overTask(
      task,
      order,
      () => report(test.storage, task, bodies.complete),
      () => write(other, lost),
    );
    expect([verdict, expired]).toEqual(["RECORDED", order === "second"]);
    expect(await endOf(task)).toBe("COMPLETED");
  });
});

describe("complete of an old lease and a new lease", () => {
  async function lostAndReady(): Promise<LiveTask> {
    const task = await test.running(session);
    await endSession();
    await write(test.storage, test.decision(task, { kind: "lease-lost" }));
    return task;
  }

  it("refuse the completion when the new lease comes first, and write nothing", async () => {
    const task = await lostAndReady();
    const [again] = await test.lease(await test.session(), { on: other });
    expect(await report(test.storage, task, bodies.complete)).toBe("LEASE_LOST");
    expect((await test.read(task.identity.id)).live).toEqual(again?.live);
  });

  it("lease nothing when the completion comes first", async () => {
    const task = await lostAndReady();
    expect(await report(test.storage, task, bodies.complete)).toBe("RECORDED");
    expect(await test.lease(await test.session(), { on: other })).toEqual([]);
  });

  it("refuse the completion also when the new lease commits while it waits", async () => {
    const task = await lostAndReady();
    const fresh = await test.session();
    const [holder, observer] = [await test.connection(), await test.connection()];
    await holder.query("BEGIN");
    await holder.query(
      `UPDATE live_tasks SET state = 1, lease_nonce = '\\x${"ab".repeat(16)}', session_id = $2, session_epoch = 1, settled_seq = 0,
        fencing_token = fencing_token + 1, revision = revision + 1 WHERE id = $1`,
      [task.identity.id, fresh.id],
    );
    const stale = { ...(await test.read(task.identity.id)).live };
    const completing = report(other, stale, bodies.complete);
    await untilBlocked(observer);
    await holder.query("COMMIT");
    expect(await completing).toBe("LEASE_LOST");
    expect((await test.read(task.identity.id)).live).toMatchObject({
      state: "RUNNING",
      lease: { sessionId: fresh.id, nonce: "ab".repeat(16) },
    });
  });
});

describe("upkeep and a heartbeat", () => {
  it.each(orders)("leave the session alive when the heartbeat commits first, else it has ended: %s", async (order) => {
    const task = await test.running(session);
    await test.advance(TTL);
    const beat = () => other.storeBeats([{ sessionId: session.id, epoch: 1, number: 1 }]);
    const [beats, ended] = await race("sessions", session.id, order, beat, () => test.storage.endExpiredSessions());
    expect([beats.length, ended]).toEqual(order === "first" ? [1, 0] : [0, 1]);
    expect(await test.storage.isSessionAlive("default", session.id)).toBe(order === "first");
    expect((await test.storage.orphanedLeases(10)).lost.map(({ identity }) => identity.id)).toEqual(
      order === "first" ? [] : [task.identity.id],
    );
  });
});

describe("upkeep that picked a lease and its completion", () => {
  it.each(orders)("leave the finished row untouched, whoever writes %s", async (order) => {
    const task = await test.running(session);
    await endSession();
    const { lost } = await other.orphanedLeases(10);
    const picked = test.decision(lost[0]!, { kind: "lease-lost" });
    const [verdict] = await overTask(
      task,
      order,
      () => report(test.storage, task, bodies.complete),
      () => write(other, picked),
    );
    expect(verdict).toBe("RECORDED");
    const finished = await test.rows("SELECT * FROM finished_tasks");
    expect(await write(other, picked)).toBe(false);
    expect(await test.rows("SELECT * FROM finished_tasks")).toEqual(finished);
    expect(await test.rows("SELECT 1 FROM live_tasks")).toEqual([]);
  });
});

describe("two upkeeps", () => {
  it.each(orders)("make one transition and one event, whichever is %s", async (order) => {
    const task = await test.running(session);
    await endSession();
    const pages = [(await test.storage.orphanedLeases(10)).lost, (await other.orphanedLeases(10)).lost];
    const [mine, theirs] = pages.map((page) => test.decision(page[0]!, { kind: "lease-lost" }));
    const written = await overTask(
      task,
      order,
      () => write(test.storage, mine!),
      () => write(other, theirs!),
    );
    expect(written).toEqual(order === "first" ? [true, false] : [false, true]);
    expect((await test.read(task.identity.id)).live.lostLeases).toBe(1);
    expect(await eventsOf(task)).toEqual(["LEASE_LOST"]);
  });
});

describe("two heartbeats", () => {
  it.each(orders)("never move the expiry back, the earlier one %s", async (order) => {
    const expiry = async () =>
      (
        await test.rows<{ at: string; n: string }>("SELECT extract(epoch FROM expires_at)::text AS at, heartbeat_number AS n FROM sessions")
      )[0];
    await test.advance(5 * SECOND);
    const beat = (storage: Storage, number: number) => storage.storeBeats([{ sessionId: session.id, epoch: 1, number }]);
    await race(
      "sessions",
      session.id,
      order,
      () => beat(test.storage, 1),
      () => beat(other, 2),
    );
    expect(await expiry()).toEqual({ at: String((test.nowUs + TTL) / SECOND) + ".000000", n: "2" });
  });
});

describe("complete and cancel", () => {
  const cancel = { kind: "cancel-requested", reason: "stop", graceUs: 30 * SECOND } as const;

  it.each(orders)("let a success inside the grace count, completed %s", async (order) => {
    const task = await test.running(session);
    const [verdict, cancelled] = await overTask(
      task,
      order,
      () => report(test.storage, task, bodies.complete),
      () => other.decide(reference(task), cancel),
    );
    expect(verdict).toBe("RECORDED");
    expect(rejectionOf(cancelled)).toBe(order === "first" ? "finished" : "decided");
    expect(await endOf(task)).toBe("COMPLETED");
  });

  it.each(["fail", "suspend", "suspendFor", "release"] as const)(
    "end as CANCELLED with %s, and queue nothing again, in both orders",
    async (kind) => {
      for (const [order] of orders) {
        const task = await test.running(session);
        const [verdict] = await overTask(
          task,
          order,
          () => report(test.storage, task, bodies[kind]),
          () => other.decide(reference(task), cancel),
        );
        expect(verdict).toBe("RECORDED");
        expect(await endOf(task)).toBe("CANCELLED");
      }
    },
  );

  it.each(orders)("end as CANCELLED when the lease is lost %s", async (order) => {
    const task = await test.running(session);
    await endSession();
    const lost = test.decision(task, { kind: "lease-lost" });
    const [expired] = await overTask(
      task,
      order,
      () => write(test.storage, lost),
      () => other.decide(reference(task), cancel),
    );
    if (!expired) {
      const [orphan] = (await test.storage.orphanedLeases(10)).lost;
      await write(test.storage, test.decision(orphan!, { kind: "lease-lost" }));
    }
    expect(await endOf(task)).toBe("CANCELLED");
  });
});

describe("cancel and lease", () => {
  const cancel = { kind: "cancel-requested", reason: "stop", graceUs: 30 * SECOND } as const;

  it("never lease what was cancelled first", async () => {
    const [id] = await test.store({});
    const groups = await other.groupsWithWork("default", 10);
    await test.storage.decide({ namespace: "default", id: id! }, cancel);
    expect((await other.leaseTasks(claimOf([session], groups))).leased).toEqual([]);
    expect((await test.read(id!)).state).toBe("CANCELLED");
  });

  it("never lease what is being cancelled", async () => {
    const [id] = await test.store({});
    const groups = await other.groupsWithWork("default", 10);
    const holder = await test.connection();
    await holder.query("BEGIN");
    await holder.query("DELETE FROM live_tasks WHERE id = $1", [id]);
    expect((await other.leaseTasks(claimOf([session], groups))).leased).toEqual([]);
    await holder.query("COMMIT");
    expect((await other.leaseTasks(claimOf([session], groups))).leased).toEqual([]);
  });

  it("tell the worker of the cancel with or right after what was leased first", async () => {
    const task = await test.running(session);
    await other.decide(reference(task), cancel);
    expect(await endOf(task)).toBe("RUNNING");
    expect(await test.storage.cancelledLeases([session.id])).toMatchObject([{ sessionId: session.id, task: { identity: task.identity } }]);
  });
});

describe("suspend and proceed", () => {
  it.each(orders)("wake the task once with the change applied, suspended %s", async (order) => {
    const task = await test.running(session, { executionMetadata: payload('{"a":1}') });
    const proceed = proceedEvent({ note: "go", patch: json({ b: 2 }) });
    const [verdict, answer] = await overTask(
      task,
      order,
      () => report(test.storage, task, bodies.suspend),
      () => other.decide(reference(task), proceed),
    );
    expect(verdict).toBe("RECORDED");
    expect(answer).toMatchObject({ decided: { answer: { proceedResult: order === "first" ? "APPLIED" : "REMEMBERED" } } });
    const stored = await test.read(task.identity.id);
    expect(stored.live).toMatchObject({
      state: "PENDING",
      pendingReason: "PROCEEDED",
      executionMetadataVersion: 2,
      proceeds: { consumed: [{ note: "go" }] },
    });
    expect(stored.executionMetadata?.data.toString()).toBe('{"a":1,"b":2}');
    expect((await eventsOf(task)).filter((type) => type === "PROCEEDED")).toHaveLength(1);
    expect(await test.lease(session)).toHaveLength(1);
  });

  it.each(orders)("wake once also when its time has come, the wake %s", async (order) => {
    const task = await test.running(session);
    await report(test.storage, task, { ...bodies.suspendFor, afterUs: SECOND });
    await test.advance(SECOND);
    const asleep = (await test.storage.overdueTasks(10))[0]!;
    const wake = test.decision(asleep, { kind: "time-passed", lenient: false });
    const [, answer] = await overTask(
      task,
      order,
      () => write(test.storage, wake),
      () => other.decide(reference(task), proceedEvent({ note: "go" })),
    );
    expect(answer).toMatchObject({ decided: { answer: { proceedResult: "APPLIED" } } });
    expect((await test.read(task.identity.id)).live).toMatchObject({
      pendingReason: "PROCEEDED",
      proceeds: { consumed: [{ note: "go" }] },
    });
    expect(await test.lease(session)).toHaveLength(1);
  });

  it("apply two proceeds of a suspended task in order, with one wake-up", async () => {
    const task = await test.running(session, { executionMetadata: payload("{}") });
    await report(test.storage, task, bodies.suspend);
    const proceed = (storage: Storage, note: string) =>
      storage.decide(reference(task), proceedEvent({ note, patch: json({ [note]: note, last: note }) }));
    await overTask(
      task,
      "first",
      () => proceed(test.storage, "one"),
      () => proceed(other, "two"),
    );
    const stored = await test.read(task.identity.id);
    expect(stored.executionMetadata?.data.toString()).toBe('{"one":"one","last":"two","two":"two"}');
    expect(stored.live.proceeds?.consumed.map(({ note }) => note)).toEqual(["one", "two"]);
    expect(await test.lease(session)).toHaveLength(1);
  });
});

describe("the same report on two replicas", () => {
  it.each(Object.entries(bodies).filter(([name]) => name !== "badOutcome"))("is recorded once: %s", async (_, body) => {
    const task = await test.running(session, { executionMetadata: payload("{}") });
    const again = body.kind === "invalid" ? "INVALID_REPORT" : "ALREADY_RECORDED";
    const verdicts = await overTask(
      task,
      "first",
      () => report(test.storage, task, body),
      () => report(other, task, body),
    );
    const finished = (await test.read(task.identity.id)).finish !== null;
    expect(verdicts).toEqual(["RECORDED", finished ? "finished" : again]);
  });

  it("is recorded once also when both decide on what is stored", async () => {
    const task = await test.running(session);
    const event: Event = nextReport(task, bodies.fail);
    const decided = await overTask(
      task,
      "first",
      () => test.storage.decide(reference(task), event),
      () => other.decide(reference(task), event),
    );
    expect(decided.map(rejectionOf)).toEqual(["decided", "ALREADY_RECORDED"]);
    expect((await test.read(task.identity.id)).live.failures).toBe(1);
  });
});

describe("a claim on one replica and a takeover on another", () => {
  const takeOver = (storage = other) => storage.takeOverSession(session.id, helloOf({ connection: 2 }), []);

  it("give back what was claimed before the takeover and is not listed", async () => {
    const task = await test.running(session);
    expect(await takeOver()).toMatchObject({ kind: "taken", returned: [{ before: { identity: task.identity } }] });
    expect(await endOf(task)).toBe("PENDING RELEASED");
  });

  it("claim nothing for the older epoch after the takeover", async () => {
    await test.store({});
    await takeOver();
    expect(await test.lease(session)).toEqual([]);
  });

  it("deliver nothing when the takeover comes between the claim and its delivery", async () => {
    const [id] = await test.store({});
    const parts = await claimParts(test.url);
    const claim = claimOf([session], await test.storage.groupsWithWork("default", 10));
    const claimed = await parts.lease(claim, () => takeOver());
    expect([claimed.leased, claimed.outdated.map(({ live }) => live.identity.id)]).toEqual([[], [id]]);
    expect((await test.read(id!)).live).toMatchObject({ state: "PENDING", pendingReason: "RELEASED", failures: 0, lostLeases: 0 });
    await parts.close();
  });

  it("leave to upkeep what a claim took while the takeover was under way, uncharged", async () => {
    const held = await test.running(session);
    const [id] = await test.store({});
    const groups = await test.storage.groupsWithWork("default", 10);
    const [holder, observer] = [await test.connection(), await test.connection()];
    await holder.query("BEGIN");
    await holder.query("SELECT 1 FROM live_tasks WHERE id = $1 FOR UPDATE", [held.identity.id]);
    const taking = takeOver();
    await untilBlocked(observer);
    await test.storage.leaseTasks(claimOf([session], groups));
    await holder.query("COMMIT");
    expect(await taking).toMatchObject({ kind: "taken", session: { epoch: 2 } });
    const { lost, returned } = await test.storage.orphanedLeases(10);
    expect([lost, returned.map(({ identity }) => identity.id)]).toEqual([[], [id]]);
  });
});

describe("two hellos of one session", () => {
  it.each(orders)("leave it to the higher connection number, the lower one %s; a stale one releases nothing", async (order) => {
    const task = await test.running(session);
    const held = [{ taskId: task.identity.id, nonce: task.lease!.nonce }];
    const hello = (storage: Storage, connection: number, listed = held) =>
      storage.takeOverSession(session.id, helloOf({ connection }), listed);
    const [low, high] = await race(
      "sessions",
      session.id,
      order,
      () => hello(test.storage, 2, order === "first" ? held : []),
      () => hello(other, 3),
    );
    expect([low.kind, high.kind]).toEqual([order === "first" ? "taken" : "stale", "taken"]);
    const [row] = await test.rows<{ connection: string; epoch: string }>("SELECT connection, epoch FROM sessions");
    expect(row).toEqual({ connection: "3", epoch: order === "first" ? "3" : "2" });
    expect((await test.read(task.identity.id)).live).toMatchObject({
      state: "RUNNING",
      lease: { nonce: task.lease?.nonce, epoch: Number(row?.epoch) },
    });
  });
});
