// Does a task stay with nobody when the answer to its claim is lost after the commit? On a real Postgres, with the claim's lane cut there.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LostClaims } from "@leasehold/server/dispatch/lost-claims";
import type { LiveTask } from "@leasehold/server/domain/task";
import { claimOf, openTestStorage, type TestStorage } from "../support/storage.js";

const SECOND = 1_000_000;

let test: TestStorage;
/** What waits for its time on the server's own clock, which moves only when the test says so. */
let timers: { readonly atMs: number; readonly callback: () => void }[];
let nowMs: number;
let cancelled: number;
beforeEach(async () => {
  test = await openTestStorage();
  timers = [];
  nowMs = 0;
  cancelled = 0;
});
afterEach(() => test[Symbol.asyncDispose]());

function lostClaims(asked: () => void = () => undefined): LostClaims {
  const clock = {
    ...test.clock,
    monotonicMs: () => nowMs,
    after: (delayMs: number, callback: () => void) => {
      timers.push({ atMs: nowMs + delayMs, callback });
      return { cancel: () => (cancelled += 1) };
    },
  };
  const storage = {
    runningLeases: (sessionId: string) => {
      asked();
      return test.storage.runningLeases(sessionId);
    },
  };
  const giveBack = async (tasks: readonly LiveTask[]): Promise<void> => {
    await test.storage.applyDecisions(tasks.map((task) => test.decision(task, { kind: "lease-returned" })));
  };
  return new LostClaims(clock, storage, giveBack, 30_000);
}

/** Lets the next timer fire and what it began end; answers whether there was one. */
async function nextLook(until: () => Promise<boolean> | boolean): Promise<boolean> {
  const timer = timers.shift();
  if (timer === undefined) return false;
  nowMs = timer.atMs;
  timer.callback();
  await expect.poll(until, { timeout: 5000 }).toBe(true);
  return true;
}

describe("a claim whose answer was lost", () => {
  it("gives back what it leased, and leaves the session's other leases alone", async () => {
    const session = await test.session({ ttlUs: 60 * SECOND });
    const kept = await test.running(session);
    const [id] = await test.store({});
    const claim = claimOf([session], await test.storage.groupsWithWork("default", 10));
    await test.storage.leaseTasks(claim);
    lostClaims().add(claim.sessions);
    await nextLook(async () => (await test.read(id!)).state === "PENDING");
    expect((await test.read(id!)).live).toMatchObject({ pendingReason: "RELEASED", failures: 0, lostLeases: 0, lease: null });
    expect((await test.read(kept.identity.id)).state).toBe("RUNNING");
  });

  it("gives back what is committed only later", async () => {
    const session = await test.session({ ttlUs: 60 * SECOND });
    const claim = claimOf([session], []);
    let looks = 0;
    lostClaims(() => looks++).add(claim.sessions);
    await nextLook(() => looks === 1 && timers.length === 1);
    const [id] = await test.store({});
    const groups = await test.storage.groupsWithWork("default", 10);
    await test.storage.leaseTasks({ ...claimOf([session], groups), sessions: claim.sessions });
    await nextLook(async () => (await test.read(id!)).state === "PENDING");
  });

  it("is looked for until its statement must have been given up, and no longer", async () => {
    const session = await test.session({ ttlUs: 60 * SECOND });
    let looks = 0;
    lostClaims(() => looks++).add(claimOf([session], []).sessions);
    while (nowMs < 30_000) await nextLook(() => timers.length === 1 || nowMs >= 30_000);
    await test.storage.runningLeases(session.id);
    await new Promise((resolve) => setImmediate(resolve));
    expect(timers).toEqual([]);
    expect(looks).toBeLessThan(10);
  });

  it("is one of many while the database is away: they are looked for together, each session once", async () => {
    const session = await test.session({ ttlUs: 60 * SECOND });
    let looks = 0;
    const lost = lostClaims(() => looks++);
    const claims = Array.from({ length: 50 }, () => claimOf([session], []).sessions);
    for (const sessions of claims) lost.add(sessions);
    expect(cancelled).toBe(49);
    const [id] = await test.store({});
    const groups = await test.storage.groupsWithWork("default", 10);
    await test.storage.leaseTasks({ ...claimOf([session], groups), sessions: claims[7]! });
    timers.splice(0, 49);
    await nextLook(async () => (await test.read(id!)).state === "PENDING");
    expect(looks).toBe(1);
  });
});
