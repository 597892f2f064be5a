// What happens because time passed? Silent sessions end, orphaned leases return, tasks wake, deadlines come, old tasks go: each checked again where it is written.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Answer } from "@leasehold/server/domain/event";
import type { Submission } from "@leasehold/server/domain/new-task";
import type { LiveTask } from "@leasehold/server/domain/task";
import type { OpenSession } from "@leasehold/server/storage/storage";
import { wakeOverdue } from "@leasehold/server/upkeep/due-tasks";
import { expireLeases } from "@leasehold/server/upkeep/lease-expiry";
import { bodies } from "../../support/domain.js";
import {
  helloOf,
  itOverConnections,
  openTestStorage,
  payload,
  storageSettings,
  type TestStorage,
  untilBlocked,
} from "../../support/storage.js";

const SECOND = 1_000_000;
const TTL = 20 * SECOND;
const HOUR = 3600 * SECOND;
const SERVER = "0190b6f2-0000-7000-8000-000000000001";
const retention = { COMPLETED: HOUR, FAILED: 2 * HOUR, CANCELLED: 3 * HOUR };

let test: TestStorage;
let session: OpenSession;
let committed: [LiveTask, Answer["kind"]][];
beforeEach(async () => {
  test = await openTestStorage();
  session = await test.session();
  committed = [];
});
afterEach(() => test[Symbol.asyncDispose]());

function parts() {
  return {
    clock: test.clock,
    storage: test.storage,
    serverId: SERVER,
    retentionUs: retention,
    committed: (before: LiveTask, answer: Answer) => void committed.push([before, answer.kind]),
    alone: () => undefined,
    removed: () => undefined,
    failed: (error: unknown) => {
      throw error;
    },
  };
}

const beat = () => test.storage.storeBeats([{ sessionId: session.id, epoch: session.epoch, number: 1 }]);
const stateOf = async (task: LiveTask) => {
  const { state, live } = await test.read(task.identity.id);
  return state === "PENDING" ? `PENDING ${live.pendingReason}` : state;
};

describe("the end of silent sessions", () => {
  it("comes at the TTL after the last heartbeat, to the microsecond", async () => {
    await test.advance(TTL - 1);
    expect(await test.storage.endExpiredSessions()).toBe(0);
    await test.advance(1);
    expect(await test.storage.endExpiredSessions()).toBe(1);
    expect(await test.storage.endExpiredSessions()).toBe(0);
  });

  itOverConnections("rechecks the expiry: a heartbeat that commits first keeps the session", async () => {
    await test.advance(TTL);
    const beating = await test.connection();
    await beating.query("BEGIN");
    await beating.query("UPDATE sessions SET expires_at = leasehold_now() + interval '20 seconds'");
    const ending = test.storage.endExpiredSessions();
    await untilBlocked(await test.connection());
    await beating.query("COMMIT");
    expect(await ending).toBe(0);
    expect(await test.storage.isSessionAlive("default", session.id)).toBe(true);
  });

  it("forgets ended ones after an hour, not before", async () => {
    await test.advance(TTL);
    await test.storage.endExpiredSessions();
    await test.advance(HOUR);
    await test.storage.endExpiredSessions();
    expect(await test.rows("SELECT 1 FROM sessions")).toHaveLength(1);
    await test.advance(1);
    await test.storage.endExpiredSessions();
    expect(await test.rows("SELECT 1 FROM sessions")).toEqual([]);
  });
});

describe("leases without a living session", () => {
  it("are lost where the session ended, also when it was forgotten", async () => {
    const tasks = [await test.running(session), await test.running(session)];
    await test.advance(TTL);
    await test.storage.endExpiredSessions();
    expect((await test.storage.orphanedLeases(100)).lost).toHaveLength(2);
    await test.rows("DELETE FROM sessions");
    const { lost, bystanders, returned } = await test.storage.orphanedLeases(100);
    expect([lost.length, bystanders, returned]).toEqual([2, [], []]);
    expect(lost.find(({ identity }) => identity.id === tasks[0]?.identity.id)).toEqual(tasks[0]);
  });

  it("are returned where the session goes on with a newer epoch", async () => {
    const task = await test.running(session);
    await test.rows("UPDATE sessions SET epoch = 2");
    const { lost, returned } = await test.storage.orphanedLeases(100);
    expect([lost, returned]).toEqual([[], [task]]);
    await expireLeases(parts());
    expect(await stateOf(task)).toBe("PENDING RELEASED");
    expect((await test.read(task.identity.id)).live).toMatchObject({ failures: 0, lostLeases: 0, lease: null });
  });

  it("are found in pages, and all of them go", async () => {
    const other = await test.session();
    await test.store(...Array.from({ length: 30 }, () => ({})));
    await test.lease([session, other], { most: 15 });
    await test.advance(TTL);
    await test.storage.endExpiredSessions();
    expect((await test.storage.orphanedLeases(7)).lost).toHaveLength(7);
    await expireLeases(parts());
    expect(await test.rows("SELECT 1 FROM live_tasks WHERE state = 0 AND pending_reason = 7 AND lost_leases = 1")).toHaveLength(30);
    expect(committed).toHaveLength(30);
  });

  it("leave those of living sessions alone", async () => {
    const task = await test.running(session);
    const dead = await test.running(await test.session({ ttlUs: 2 * SECOND }));
    await test.advance(10 * SECOND);
    await expireLeases(parts());
    expect([await stateOf(task), await stateOf(dead)]).toEqual(["RUNNING", "PENDING LEASE_LOST"]);
  });

  it("of a session that held a suspect are not charged; the suspect alone is", async () => {
    const [suspect, bystander] = [await test.running(session), await test.running(session)];
    await test.rows("UPDATE live_tasks SET lost_leases = 2 WHERE id = $1", suspect.identity.id);
    await test.advance(TTL);
    await expireLeases(parts());
    expect((await test.read(suspect.identity.id)).live).toMatchObject({ pendingReason: "LEASE_LOST", lostLeases: 3 });
    expect((await test.read(bystander.identity.id)).live).toMatchObject({ pendingReason: "LEASE_LOST", lostLeases: 0 });
  });

  it("are spared right after an outage", async () => {
    const task = await test.running(session);
    await test.storage.tickUpkeep(SERVER);
    await test.advance(TTL);
    // Nobody ticked for so long: the database was away, and nobody could heartbeat.
    await test.storage.tickUpkeep(SERVER);
    await expireLeases(parts());
    expect(await stateOf(task)).toBe("RUNNING");
    await test.advance(TTL);
    await expireLeases(parts());
    expect(await stateOf(task)).toBe("PENDING LEASE_LOST");
  });
});

describe("time that came", () => {
  const deadlines = { queueUs: null, attemptUs: null, silenceUs: null, totalUs: null };

  it("wakes suspended tasks, and not those that wait for a proceed", async () => {
    const [timed, open] = [await test.running(session), await test.running(session)];
    const suspend = { ...bodies.suspendFor, afterUs: 5 * SECOND };
    await test.storage.applyDecisions([test.report(timed, suspend), test.report(open, bodies.suspend)]);
    await test.advance(5 * SECOND - 1);
    expect(await test.storage.overdueTasks(100)).toEqual([]);
    await test.advance(1);
    await wakeOverdue(parts(), false);
    expect([await stateOf(timed), await stateOf(open)]).toEqual(["PENDING WOKEN", "SUSPENDED"]);
    expect((await test.lease(session)).map(({ live }) => live.identity.id)).toEqual([timed.identity.id]);
  });

  it("ends cancels past their grace, whatever their worker does", async () => {
    const task = await test.running(session);
    await test.storage.decide(
      { namespace: "default", id: task.identity.id },
      { kind: "cancel-requested", reason: "", graceUs: 5 * SECOND },
    );
    await test.advance(5 * SECOND);
    await wakeOverdue(parts(), true);
    expect(await stateOf(task)).toBe("RUNNING");
    await wakeOverdue(parts(), false);
    expect(await stateOf(task)).toBe("CANCELLED");
  });

  it("fails by each deadline", async () => {
    const attempt = await test.running(session, { deadlines: { ...deadlines, attemptUs: 5 * SECOND } });
    const silent = await test.running(session, { deadlines: { ...deadlines, silenceUs: 5 * SECOND } });
    const total = await test.running(session, { deadlines: { ...deadlines, totalUs: 5 * SECOND } });
    const [queued] = await test.store({ deadlines: { ...deadlines, queueUs: 5 * SECOND } });
    await test.advance(5 * SECOND - 1);
    expect(await test.storage.overdueTasks(100)).toEqual([]);
    await test.advance(1);
    expect(await test.storage.overdueTasks(100)).toHaveLength(4);
    await wakeOverdue(parts(), false);
    expect([await stateOf(attempt), await stateOf(silent), await stateOf(total), (await test.read(queued!)).finish?.reason]).toEqual([
      "PENDING RETRY",
      "PENDING RETRY",
      "FAILED",
      "QUEUE_DEADLINE",
    ]);
    expect(await test.storage.overdueTasks(100)).toEqual([]);
  });

  it("comes in pages, earliest first, and all of it is done", async () => {
    await test.store(...Array.from({ length: 20 }, (_, at) => ({ deadlines: { ...deadlines, totalUs: (20 - at) * SECOND } })));
    await test.advance(30 * SECOND);
    const page = await test.storage.overdueTasks(5);
    expect(page.map(({ totalDeadlineUs }) => (totalDeadlineUs ?? 0) - test.nowUs + 30 * SECOND)).toEqual(
      [1, 2, 3, 4, 5].map((n) => n * SECOND),
    );
    await wakeOverdue(parts(), false);
    expect(await test.rows("SELECT 1 FROM finished_tasks WHERE state = 4")).toHaveLength(20);
  });
});

describe("a tick", () => {
  const tick = () => test.storage.tickUpkeep(SERVER);

  it("after a gap spares every session for its TTL and charges nothing for a while", async () => {
    await tick();
    const task = await test.running(session);
    await test.advance(60 * SECOND);
    expect(await tick()).toMatchObject({ lenient: true });
    expect(await test.storage.endExpiredSessions()).toBe(0);
    await test.advance(TTL - 1);
    expect(await test.storage.endExpiredSessions()).toBe(0);
    await test.advance(1);
    expect(await test.storage.endExpiredSessions()).toBe(1);
    expect(await stateOf(task)).toBe("RUNNING");
  });

  it("is lenient no longer than it must, once ticks come again", async () => {
    await tick();
    await test.advance(4 * SECOND);
    for (let second = 0; second < 20; second++) {
      expect(await tick()).toMatchObject({ lenient: true });
      await test.advance(SECOND);
    }
    expect(await tick()).toMatchObject({ lenient: false });
  });

  it("is not lenient without a gap, or without anybody to spare", async () => {
    await tick();
    await test.advance(3 * SECOND);
    expect(await tick()).toMatchObject({ lenient: false });
    await test.advance(TTL);
    await test.storage.endExpiredSessions();
    expect(await tick()).toMatchObject({ lenient: false });
  });

  it("knows whether other servers use the database", async () => {
    expect(await tick()).toMatchObject({ alone: true });
    expect(await test.storage.tickUpkeep(storageSettings("").serverId)).toMatchObject({ alone: false });
    await test.advance(9 * SECOND);
    expect(await tick()).toMatchObject({ alone: false });
    await test.advance(2 * SECOND);
    expect(await tick()).toMatchObject({ alone: true });
  });
});

describe("retention", () => {
  async function finished(fields: Partial<Submission> = {}): Promise<string> {
    const task = await test.running(session, { executionMetadata: payload("{}"), labels: new Map([["a", "b"]]), ...fields });
    await test.storage.applyDecisions([test.report(task, bodies.failForGood)]);
    return task.identity.id;
  }
  const leftOf = async (id: string): Promise<string[]> => {
    const tables = ["tasks", "finished_tasks", "execution_metadata", "task_events", "task_labels", "task_progress"];
    const left: string[] = [];
    for (const table of tables) if ((await test.rows(`SELECT 1 FROM ${table} WHERE id = $1`, id)).length > 0) left.push(table);
    return left;
  };

  it("removes every trace of a task when its state's time is over, and not before", async () => {
    const id = await finished();
    await test.advance(2 * HOUR);
    expect(await test.storage.removeExpiredTasks(retention, 100)).toBe(0);
    expect(await leftOf(id)).toEqual(["tasks", "finished_tasks", "execution_metadata", "task_events", "task_labels"]);
    await test.advance(1);
    expect(await test.storage.removeExpiredTasks(retention, 100)).toBe(1);
    expect(await leftOf(id)).toEqual([]);
    expect(await test.storage.readTask({ namespace: "default", id }, true)).toBeNull();
  });

  it("goes by the state that a task ended in", async () => {
    const failed = await finished();
    const task = await test.running(session);
    await test.storage.applyDecisions([test.report(task, bodies.complete)]);
    await test.advance(HOUR + 1);
    expect(await test.storage.removeExpiredTasks(retention, 100)).toBe(1);
    expect(await leftOf(failed)).toContain("tasks");
  });

  it("waits for as long as a key is held", async () => {
    const id = await finished({ key: "k", keyHoldUs: 5 * HOUR });
    await test.advance(5 * HOUR);
    expect(await test.storage.removeExpiredTasks(retention, 100)).toBe(0);
    await test.advance(1);
    expect(await test.storage.removeExpiredTasks(retention, 100)).toBe(1);
    expect(await leftOf(id)).toEqual([]);
    expect(await test.rows("SELECT 1 FROM task_keys")).toEqual([]);
  });

  it("works in pages, oldest first, and frees the id", async () => {
    const ids: string[] = [];
    for (let at = 0; at < 5; at++) {
      ids.push(await finished());
      await test.advance(SECOND);
      await beat();
    }
    await test.advance(3 * HOUR);
    expect(await test.storage.removeExpiredTasks(retention, 2)).toBe(2);
    expect(await test.rows("SELECT 1 FROM finished_tasks WHERE id = ANY($1)", ids.slice(0, 2))).toEqual([]);
    expect(await test.storage.removeExpiredTasks(retention, 10)).toBe(3);
    expect(await test.store({ id: ids[0]! })).toEqual([ids[0]]);
  });

  it("never touches what is not finished", async () => {
    await test.store({});
    await test.advance(1000 * HOUR);
    expect(await test.storage.removeExpiredTasks(retention, 100)).toBe(0);
  });
});

describe("a session that was taken over", () => {
  it("has its undelivered leases returned by the next tick, uncharged", async () => {
    const task = await test.running(session);
    await test.storage.takeOverSession(session.id, helloOf({ connection: 2 }), [
      { taskId: task.identity.id, nonce: task.lease?.nonce ?? "" },
    ]);
    await expireLeases(parts());
    expect(await stateOf(task)).toBe("RUNNING");
  });
});
