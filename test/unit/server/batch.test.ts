// Do calls that share a statement share each other's faults? Only where the fault is everybody's.
import { describe, expect, it } from "vitest";
import { systemClock } from "@leasehold/server/clock";
import { Batcher } from "@leasehold/server/dispatch/batch";
import { DatabaseFault } from "@leasehold/server/storage/faults";

const LIMITS = { maxItems: 8, maxBytes: 1000, lanes: 1, maxWaiting: 100 };

function refusing(poison: (item: number) => boolean, error: Error): { batches: number[][]; batcher: Batcher<number, number> } {
  const batches: number[][] = [];
  const batcher = new Batcher<number, number>(systemClock(), LIMITS, (items) => {
    batches.push([...items]);
    return items.some(poison) ? Promise.reject(error) : Promise.resolve(items.map((item) => item * 10));
  });
  return { batches, batcher };
}

const outcomes = async (calls: readonly Promise<number>[]): Promise<(number | string)[]> =>
  (await Promise.allSettled(calls)).map((call) => (call.status === "fulfilled" ? call.value : (call.reason as Error).message));

describe("items of one batch", () => {
  it.each(["invalid-value", "unexpected", "conflict"] as const)("that Postgres refuses fail alone: %s", async (kind) => {
    const { batcher } = refusing((item) => item === 5, new DatabaseFault(kind, "refused", false, null));
    const calls = [0, 1, 2, 3, 4, 5, 6, 7].map((item) => batcher.add(item));
    expect(await outcomes(calls)).toEqual([0, 10, 20, 30, 40, "refused", 60, 70]);
  });

  it("that a bug throws over fail alone", async () => {
    const { batcher } = refusing((item) => item === 0 || item === 7, new TypeError("odd"));
    const calls = [0, 1, 2, 3, 4, 5, 6, 7].map((item) => batcher.add(item));
    expect(await outcomes(calls)).toEqual(["odd", 10, 20, 30, 40, 50, 60, "odd"]);
  });

  it("fail together, unrepeated, when nobody knows whether they were stored", async () => {
    const { batcher, batches } = refusing(() => true, new DatabaseFault("unavailable", "away", true, 100));
    expect(await outcomes([1, 2, 3].map((item) => batcher.add(item)))).toEqual(["away", "away", "away"]);
    expect(batches).toEqual([[1, 2, 3]]);
  });
});

describe("a batch", () => {
  it("takes what fits by number and bytes, and a single larger item", async () => {
    const { batcher, batches } = refusing(() => false, new Error("never"));
    await Promise.all([batcher.add(1, 600), batcher.add(2, 300), batcher.add(3, 300), batcher.add(4, 5000), batcher.add(5)]);
    expect(batches).toEqual([[1, 2], [3], [4], [5]]);
  });
});
