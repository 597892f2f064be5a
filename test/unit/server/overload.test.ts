// Is refused at once what would wait too long, and nothing else? By a clock that the test moves and batches that end when it says so.
import type { Clock } from "@leasehold/server/clock";
import type { Config } from "@leasehold/server/config";
import { gatheredReads } from "@leasehold/server/api/gathered-reads";
import { BatchTimes } from "@leasehold/server/dispatch/batch-times";
import { Batcher } from "@leasehold/server/dispatch/batch";
import { Turnstile, type Caller } from "@leasehold/server/storage/turnstile";
import { describe, expect, it } from "vitest";
import { storedTask } from "../../support/api-fakes.js";

const PATIENT: Caller = { gone: () => false, leftMs: () => Infinity };

interface Stage {
  readonly clock: Clock & { nowMs: number };
  /** Ends what has been under way the longest. */
  readonly finish: () => Promise<void>;
  readonly begun: number[][];
  readonly work: (items: readonly number[]) => Promise<number[]>;
}

/** Time stands until the test moves it. */
function stage(): Stage {
  const open: (() => void)[] = [];
  const begun: number[][] = [];
  const clock = {
    nowMs: 0,
    nowUs: () => clock.nowMs * 1000,
    observe: () => undefined,
    monotonicMs: () => clock.nowMs,
    after: () => ({ cancel: () => undefined }),
    soon: (callback: () => void) => queueMicrotask(callback),
    chance: () => 0.5,
  };
  return {
    clock,
    begun,
    finish: async () => {
      open.shift()?.();
      await settled();
    },
    work: (items) => {
      begun.push([...items]);
      return new Promise((resolve) => open.push(() => resolve([...items])));
    },
  };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const LIMITS = { maxItems: 10, maxBytes: 1_000_000, lanes: 1, maxWaiting: 1000, maxWaitMs: 500 };

/** A batcher that has stored batches of one and of ten lately, each in `batchMs`, and has one under way. */
async function busy(batchMs: number): Promise<Stage & { batcher: Batcher<number, number> }> {
  const scene = stage();
  const batcher = new Batcher<number, number>(scene.clock, LIMITS, scene.work);
  for (let turn = 0; turn < 3; turn += 1) {
    for (let item = 0; item < (turn === 0 ? 1 : LIMITS.maxItems); item += 1) void batcher.add(item);
    await settled();
    if (turn === 2) break;
    scene.clock.nowMs += batchMs;
    await scene.finish();
  }
  return { ...scene, batcher };
}

const refusal = (call: Promise<unknown>): Promise<unknown> =>
  Promise.race([
    call.then(
      () => "accepted" as const,
      (fault: unknown) => fault,
    ),
    settled().then(() => "accepted" as const),
  ]);

describe("a submission", () => {
  it("is refused at once when the batches before it take longer than it may wait, with what waits as its delay", async () => {
    const { batcher } = await busy(200);
    const answers = await Promise.all(Array.from({ length: 40 }, (_, item) => refusal(batcher.add(item, 0, PATIENT))));
    const accepted = answers.filter((answer) => answer === "accepted").length;
    // 200 ms until the lane is free, then 200 ms for each ten before: two batches fit into half a second, and no third.
    expect(accepted).toBe(20);
    expect(answers.at(-1)).toMatchObject({ kind: "overloaded", outcomeUnknown: false, retryAfterMs: 600 * 1.5 });
  });

  it("is accepted in any number while the database is quick", async () => {
    const { batcher } = await busy(2);
    const answers = await Promise.all(Array.from({ length: 900 }, (_, item) => refusal(batcher.add(item, 0, PATIENT))));
    expect(new Set(answers)).toEqual(new Set(["accepted"]));
  });

  it("is refused while the database hangs, however quick it was before, and accepted as soon as it goes on", async () => {
    const { batcher, clock, finish } = await busy(2);
    expect(await refusal(batcher.add(1, 0, PATIENT))).toBe("accepted");
    clock.nowMs += 600;
    expect(await refusal(batcher.add(2, 0, PATIENT))).toMatchObject({ kind: "overloaded" });
    await finish();
    expect(await refusal(batcher.add(3, 0, PATIENT))).toBe("accepted");
  });

  it("is refused when its caller's deadline ends before its turn", async () => {
    const { batcher } = await busy(200);
    expect(await refusal(batcher.add(1, 0, { ...PATIENT, leftMs: () => 150 }))).toMatchObject({ kind: "overloaded" });
    expect(await refusal(batcher.add(1, 0, { ...PATIENT, leftMs: () => 250 }))).toBe("accepted");
  });

  it("that nobody waits for any more is never sent", async () => {
    const { batcher, finish, begun } = await busy(2);
    let gone = false;
    const left = batcher.add(77, 0, { ...PATIENT, gone: () => gone });
    left.catch(() => undefined);
    void batcher.add(78, 0, PATIENT);
    gone = true;
    await finish();
    expect(begun.at(-1)).toEqual([78]);
    await expect(left).rejects.toMatchObject({ kind: "overloaded", outcomeUnknown: false });
  });
});

describe("a report", () => {
  it("has no caller and is refused by number and bytes only", async () => {
    const { batcher } = await busy(5000);
    const answers = await Promise.all(Array.from({ length: 1001 }, (_, item) => refusal(batcher.add(item))));
    expect(answers.slice(0, 1000).every((answer) => answer === "accepted")).toBe(true);
    expect(answers.at(-1)).toMatchObject({ kind: "overloaded" });

    const scene = stage();
    const small = new Batcher<number, number>(scene.clock, { ...LIMITS, maxWaitingBytes: 100 }, scene.work);
    expect(await Promise.all([80, 30, 20].map((bytes, item) => refusal(small.add(item, bytes))))).toMatchObject([
      "accepted",
      { kind: "overloaded" },
      "accepted",
    ]);
  });
});

describe("the time of a batch", () => {
  it("is that of its size, grows as the sizes seen did, and is forgotten", () => {
    const times = new BatchTimes();
    expect(times.expectedMs(100, 0)).toBe(0);
    times.took(2, 10, 0);
    expect([1, 2, 100].map((count) => times.expectedMs(count, 0))).toEqual([0, 10, 10]);
    times.took(22, 110, 0);
    // 5 ms for each, up to eight times what was seen.
    expect([22, 42, 176, 10_000].map((count) => times.expectedMs(count, 0))).toEqual([110, 210, 880, 880]);
    expect(times.expectedMs(22, 6000)).toBe(0);
    // The smallest are remembered for longer.
    expect([times.aloneMs(6000), times.aloneMs(60_001)]).toEqual([10, 0]);
  });
});

describe("whoever goes to a pool", () => {
  it("waits in turn, is refused where it would wait too long, and never takes the place of what has no caller", async () => {
    const { clock, work, finish, begun } = stage();
    const turnstile = new Turnstile(clock, { places: 2, maxWaiting: 3, maxWaitMs: 500 });
    const pass = (item: number, caller?: Caller): Promise<number[]> => turnstile.pass(() => work([item]), caller);
    for (let item = 0; item < 20; item += 1) {
      void pass(item, PATIENT);
      clock.nowMs += 400;
      await finish();
    }
    begun.length = 0;
    void pass(1, PATIENT);
    void pass(2, PATIENT);
    let gone = false;
    const waits = pass(3, { ...PATIENT, gone: () => gone });
    waits.catch(() => undefined);
    expect(await refusal(pass(4, { ...PATIENT, leftMs: () => 300 }))).toMatchObject({ kind: "overloaded" });
    void pass(5);
    void pass(6);
    // The fourth beyond two places would wait for two visits of 400 ms, and three may wait at all.
    expect(await refusal(pass(7, PATIENT))).toMatchObject({ kind: "overloaded", outcomeUnknown: false });
    expect(await refusal(pass(8))).toMatchObject({ kind: "overloaded" });
    expect(begun).toEqual([[1], [2]]);
    gone = true;
    await finish();
    await finish();
    expect(begun).toEqual([[1], [2], [5], [6]]);
    await expect(waits).rejects.toMatchObject({ kind: "overloaded" });
    expect(turnstile.queued).toBe(0);
  });

  it("is refused while every visit hangs, though visits were short", async () => {
    const { clock, work } = stage();
    const turnstile = new Turnstile(clock, { places: 1, maxWaiting: 100, maxWaitMs: 500 });
    void turnstile.pass(() => work([1]), PATIENT);
    void turnstile.pass(() => work([2]), PATIENT);
    clock.nowMs += 600;
    expect(await refusal(turnstile.pass(() => work([3]), PATIENT))).toMatchObject({ kind: "overloaded" });
  });
});

describe("thousands who read one task at the same moment", () => {
  it("share one row of one statement, also when the first of them goes", async () => {
    const { clock } = stage();
    const asked: (readonly string[])[] = [];
    const storage = {
      readTasks: (_namespace: string, ids: readonly string[]) => {
        asked.push(ids);
        return Promise.resolve(ids.map((id) => storedTask({ id })));
      },
    };
    const read = gatheredReads(storage, clock, { limits: { waiters: 10, queueWaitMs: 100 } } as Config);
    const first = read("default", "a", true, { ...PATIENT, gone: () => true });
    const others = Array.from({ length: 5000 }, () => read("default", "a", true, PATIENT));
    const alone = read("default", "b", true, { ...PATIENT, gone: () => true });
    await expect(alone).rejects.toMatchObject({ kind: "overloaded" });
    expect(new Set((await Promise.all([first, ...others])).map((task) => task?.id))).toEqual(new Set(["a"]));
    expect(asked).toEqual([["a"]]);
    expect(await read("default", "b", true, PATIENT)).toMatchObject({ id: "b" });
  });
});
