// Do ids sort by the time they were made, look like UUIDs of version 7, and say in their last byte where they live?
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { shardOf, uuidV7 } from "@leasehold/server/domain/shard";
import { NOW } from "../../support/domain.js";

const bytes = fc.uint8Array({ minLength: 10, maxLength: 10 });
const instant = fc.integer({ min: 0, max: 9_007_199_254_740_991 });

describe("an id", () => {
  it("is a UUID of version 7 and variant 2", () => {
    fc.assert(
      fc.property(instant, bytes, (us, random) => {
        expect(uuidV7(us, random)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      }),
    );
  });

  it("begins with its millisecond", () => {
    fc.assert(
      fc.property(instant, bytes, (us, random) => {
        const id = uuidV7(us, random).replaceAll("-", "");
        expect(Number.parseInt(id.slice(0, 12), 16)).toBe(Math.floor(us / 1000));
      }),
    );
  });

  it("sorts by time, to less than a microsecond", () => {
    fc.assert(
      fc.property(instant, fc.integer({ min: 1, max: 5000 }), bytes, bytes, (us, later, one, other) => {
        expect(uuidV7(us, one) < uuidV7(us + later, other)).toBe(true);
      }),
    );
  });

  it("differs by chance within a microsecond", () => {
    expect(uuidV7(NOW, new Uint8Array(10))).not.toBe(uuidV7(NOW, new Uint8Array(10).fill(1)));
  });

  it("ends with the byte that it is told to end with", () => {
    fc.assert(
      fc.property(bytes, fc.integer({ min: 0, max: 255 }), (random, last) => {
        const id = uuidV7(NOW, random, last);
        expect(id.endsWith(last.toString(16).padStart(2, "0"))).toBe(true);
        expect(id.slice(0, -2)).toBe(uuidV7(NOW, random).slice(0, -2));
      }),
    );
  });
});

describe("a shard", () => {
  it("is the only one on plain Postgres", () => {
    expect(shardOf("0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5dff", 1)).toBe(0);
  });

  it.each([
    ["00", 64, 0],
    ["3f", 64, 63],
    ["40", 64, 0],
    ["ff", 64, 63],
    ["ff", 256, 255],
    ["0a", 256, 10],
  ])("of an id that ends with %s among %i is %i", (last, shards, shard) => {
    expect(shardOf(`0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d${last}`, shards)).toBe(shard);
  });
});
