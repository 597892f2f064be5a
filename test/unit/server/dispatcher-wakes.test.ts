// Does the dispatcher wake for a task that becomes due while it looks, and is a claim that failed told to whoever looks after it? A clock that
// goes on with each reading, and no poll that would find it.
import type { Clock } from "@leasehold/server/clock";
import { Dispatcher } from "@leasehold/server/dispatch/dispatcher";
import type { WorkerSession } from "@leasehold/server/dispatch/worker-session";
import type { Claim, GroupWithWork } from "@leasehold/server/storage/storage";
import { describe, expect, it } from "vitest";

const GROUP: GroupWithWork = { namespace: "default", queue: "default", name: "soon", priority: 0, suspect: false, earliestUs: 1_000_000 };

/** As much of a session with room for one task as planning asks for. */
const session = {
  id: "session",
  epoch: 1,
  namespace: "default",
  claimClass: "all",
  holdsSuspect: false,
  limits: () => false,
  free: () => 1,
  freeFor: () => 1,
  takesFrom: () => true,
} as unknown as WorkerSession;

interface MovedClock extends Clock {
  /** Runs what waits for the end of the turn, then the timers that were set, until a claim was made or nothing is left. */
  run(until: () => boolean): Promise<void>;
}

/** A clock that starts `earlyUs` before the group is due and goes on by `stepUs` with each reading. */
function movingClock(earlyUs: number, stepUs: number): MovedClock {
  let nowUs = GROUP.earliestUs - earlyUs;
  const turns: (() => void)[] = [];
  let timers: { atUs: number; callback: () => void }[] = [];
  return {
    nowUs: () => (nowUs += stepUs),
    observe: () => {},
    monotonicMs: () => nowUs / 1000,
    after: (delayMs, callback) => {
      const timer = { atUs: nowUs + delayMs * 1000, callback };
      timers.push(timer);
      return { cancel: () => (timers = timers.filter((other) => other !== timer)) };
    },
    soon: (callback) => void turns.push(callback),
    chance: () => 0.5,
    run: async (until) => {
      for (let left = 100; left > 0 && !until(); left -= 1) {
        const turn = turns.shift();
        const timer = timers[0];
        if (turn !== undefined) turn();
        // An hour is the poll: it would find everything.
        else if (timer !== undefined && timer.atUs < nowUs + 60_000_000) {
          timers = timers.filter((other) => other !== timer);
          nowUs = Math.max(nowUs, timer.atUs);
          timer.callback();
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}

describe("a task that becomes due", () => {
  it.each([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30, 1_000])(
    "%i µs after the dispatcher woke is claimed without a poll",
    async (earlyUs) => {
      const clock = movingClock(earlyUs, 1);
      const claims: Claim[] = [];
      const dispatcher = new Dispatcher(
        clock,
        {
          leaseTasks: (claim) => {
            claims.push(claim);
            return Promise.resolve({ leased: [], outdated: [] });
          },
          groupsWithWork: () => Promise.resolve([GROUP]),
        },
        { batchSize: 10, pollingDelayMs: 3_600_000 },
        () => Promise.resolve(),
        () => Promise.resolve(),
        () => undefined,
        (error) => expect(error).toBeUndefined(),
      );
      dispatcher.add(session);
      await clock.run(() => claims.length > 0);
      dispatcher.stop();
      expect(claims.map(({ groups }) => groups.map(({ name }) => name))).toEqual([["soon"]]);
    },
  );
});

describe("a task of a group that is being claimed", () => {
  it("is looked for again as soon as the claim has ended, not after the next scan", async () => {
    const clock = movingClock(-1, 0);
    const scans: number[] = [];
    const claims: Claim[] = [];
    const dispatcher: Dispatcher = new Dispatcher(
      clock,
      {
        leaseTasks: (claim) => {
          claims.push(claim);
          // Stored after the claim's snapshot was taken and before it was answered.
          if (claims.length === 1) dispatcher.note(GROUP);
          return Promise.resolve({ leased: [], outdated: [] });
        },
        groupsWithWork: () => Promise.resolve(scans.push(claims.length) === 1 ? [GROUP] : []),
      },
      { batchSize: 10, pollingDelayMs: 3_600_000 },
      () => Promise.resolve(),
      () => Promise.resolve(),
      () => undefined,
      (error) => expect(error).toBeUndefined(),
    );
    dispatcher.add(session);
    await clock.run(() => claims.length === 2);
    expect([claims.length, scans]).toEqual([2, [0]]);
    dispatcher.stop();
  });
});

describe("a claim that failed", () => {
  it("is told with the nonces under which it may have leased all the same", async () => {
    const clock = movingClock(-1, 0);
    const claims: Claim[] = [];
    const lost: Claim["sessions"][] = [];
    const failures: unknown[] = [];
    const dispatcher = new Dispatcher(
      clock,
      {
        leaseTasks: (claim) => {
          claims.push(claim);
          return Promise.reject(new Error("the connection broke"));
        },
        groupsWithWork: () => Promise.resolve([GROUP]),
      },
      { batchSize: 10, pollingDelayMs: 3_600_000 },
      () => Promise.resolve(),
      () => Promise.resolve(),
      (sessions) => lost.push(sessions),
      (error) => failures.push(error),
    );
    dispatcher.add(session);
    await clock.run(() => failures.length > 0);
    dispatcher.stop();
    expect(lost).toEqual(claims.map(({ sessions }) => sessions));
    expect(lost.flat().map(({ nonce }) => nonce)).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)]);
    expect(failures).toHaveLength(1);
  });
});
