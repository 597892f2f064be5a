// How many leases does a call without a stream claim, when not all that it asks for would fit its answer?
import { Lease } from "@leasehold/proto/leasehold/v1/worker_service";
import { toLease } from "@leasehold/server/api/convert-worker";
import { bytesOf, LeaseSizes } from "@leasehold/server/dispatch/lease-sizes";
import type { OutgoingLease } from "@leasehold/server/dispatch/messages";
import type { LiveTask } from "@leasehold/server/domain/task";
import { describe, expect, it } from "vitest";
import { json, NOW, proceedRecord, runningTask } from "../../support/domain.js";

const ROOM = 1000;

function worker(taskName: string, slots = 100): Parameters<LeaseSizes["most"]>[0] {
  const identity = { workerName: "w", sdk: "", language: "", labels: new Map<string, string>(), heldLeaseTokens: [] };
  return { ...identity, queues: [], slots, handlers: [{ taskName, slots: null }], ttlUs: null, connection: 1, sessionId: null };
}

describe("a call without a stream", () => {
  it("claims what it asks for while nothing is known", () => {
    expect(new LeaseSizes(ROOM).most(worker("a"))).toBe(100);
  });

  it("claims what fits by the last answer to its kind, one at least, and more again when leases become small", () => {
    const sizes = new LeaseSizes(ROOM);
    sizes.learn(worker("a"), [500, 300]);
    expect([sizes.most(worker("a")), sizes.most(worker("a", 1)), sizes.most(worker("b"))]).toEqual([2, 1, 100]);
    sizes.learn(worker("a"), [5000]);
    expect(sizes.most(worker("a"))).toBe(1);
    sizes.learn(worker("a"), []);
    expect(sizes.most(worker("a"))).toBe(1);
    sizes.learn(worker("a"), [4]);
    expect(sizes.most(worker("a"))).toBe(100);
  });
});

describe("the size of a lease", () => {
  const labels = new Map(Array.from({ length: 16 }, (_, n) => [`${n}`.padEnd(128, "k"), "v".repeat(128)]));
  const text = "\u00e9\u2028".repeat(5000);
  const error = { code: "c", message: text, stack: text, details: json(text), cause: { code: "d", message: text } };
  const note = { note: text, proceedUs: NOW };

  function lease(fields: Partial<LiveTask>, payload = json("")): OutgoingLease {
    const live = { ...runningTask(), ...fields };
    const payloads = { metadata: payload, executionMetadata: payload };
    return {
      token: "t".repeat(64),
      leased: { live, labels, traceContext: null, metadata: null, executionMetadata: null },
      payloads,
      attemptRemainingUs: 1,
    };
  }

  it.each([
    ["nothing large", lease({ lastError: null, proceeds: null })],
    ["large payloads", lease({}, json("x".repeat(1_000_000)))],
    ["patches that could not be applied", lease({ proceeds: proceedRecord({ unapplied: [json("x".repeat(500_000)), json("y")] }) })],
    ["long notes", lease({ proceeds: proceedRecord({ consumed: Array.from({ length: 32 }, () => note) }) })],
    ["a long error", lease({ lastError: error })],
  ])("is never thought smaller than it is: %s", (_, one) => {
    expect(bytesOf(one)).toBeGreaterThanOrEqual(Lease.encode(toLease(one)).finish().length);
  });
});
