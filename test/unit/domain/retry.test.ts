// When does a failed or lost task run again, and when never? Policies and delays as a table, and what holds for all of them.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { afterFailure, afterLostLease, DEFAULT_RETRY_POLICY, pickDelay, releaseDelay } from "@leasehold/server/domain/retry";
import type { RetryPolicy } from "@leasehold/server/domain/task";
import { SECOND } from "../../support/domain.js";

const failure = { errorCode: "disk_full", retryable: true, retryAfterUs: null };
const rules: RetryPolicy["rules"] = [
  { errorCodes: ["bad_input", "forbidden"], action: "FAIL", delaysUs: [] },
  { errorCodes: ["busy"], action: "RETRY", delaysUs: [2 * SECOND, 4 * SECOND] },
  { errorCodes: ["busy", "flaky"], action: "RETRY", delaysUs: [] },
];

function policy(fields: Partial<RetryPolicy> = {}): RetryPolicy {
  return { ...DEFAULT_RETRY_POLICY, ...fields };
}

function delays(fields: Partial<RetryPolicy>, failures: number, about: Partial<typeof failure> | { retryAfterUs: number } = {}): string {
  const answer = afterFailure(policy(fields), failures, { ...failure, ...about });
  if (answer.kind === "finish") return answer.reason;
  const { earliestUs, latestUs } = answer.delay;
  return earliestUs === latestUs ? `${String(latestUs / SECOND)}s` : `${String(earliestUs / SECOND)}s to ${String(latestUs / SECOND)}s`;
}

describe("a failure", () => {
  it.each<[string, Partial<RetryPolicy>, number, object, string]>([
    ["waits at most its first delay", {}, 1, {}, "0.5s to 1s"],
    ["waits twice as long each time", {}, 2, {}, "1s to 2s"],
    ["is tried again while attempts remain", {}, 4, {}, "4s to 8s"],
    ["ends the task with the last attempt", {}, 5, {}, "MAX_ATTEMPTS"],
    ["ends the task when there is one attempt", { maxAttempts: 1 }, 1, {}, "MAX_ATTEMPTS"],
    ["waits no longer than the maximum", { maxAttempts: 99 }, 20, {}, "150s to 300s"],
    ["waits no longer than a maximum below the first delay", { maxUs: SECOND / 4, jitter: 0 }, 1, {}, "0.25s"],
    ["waits exactly without jitter", { jitter: 0 }, 3, {}, "4s"],
    ["waits the same with factor 1", { factor: 1, jitter: 0 }, 4, {}, "1s"],
    ["survives a growth beyond all numbers", { factor: 10, maxAttempts: 1000, jitter: 0 }, 999, {}, "300s"],
    [
      "waits nothing where the first delay is nothing, however large the growth",
      { initialUs: 0, factor: 10, maxAttempts: 1000 },
      999,
      {},
      "0s",
    ],
    ["leaves a millisecond of full jitter", { jitter: 1 }, 1, {}, "0.001s to 1s"],
    ["is never earlier than a delay below a millisecond", { initialUs: 10, jitter: 1 }, 1, {}, "0.00001s"],
    ["takes explicit delays in order", { delaysUs: [3 * SECOND, 9 * SECOND] }, 1, {}, "3s"],
    ["repeats the last explicit delay", { delaysUs: [3 * SECOND, 9 * SECOND] }, 4, {}, "9s"],
    ["takes the worker's word for the delay", { delaysUs: [3 * SECOND] }, 1, { retryAfterUs: 42 * SECOND }, "42s"],
    ["takes the worker's word for no delay", {}, 1, { retryAfterUs: 0 }, "0s"],
    ["that the worker gives up is not tried again", {}, 1, { retryable: false, retryAfterUs: SECOND }, "NOT_RETRYABLE"],
    ["that a rule gives up is not tried again", { rules }, 1, { errorCode: "forbidden" }, "NOT_RETRYABLE"],
    ["that is given up says so also with the last attempt", { rules }, 5, { errorCode: "bad_input" }, "NOT_RETRYABLE"],
    ["follows the delays of its rule", { rules, delaysUs: [SECOND] }, 1, { errorCode: "busy" }, "2s"],
    ["repeats the last delay of its rule", { rules }, 3, { errorCode: "busy" }, "4s"],
    ["follows the policy where its rule has no delays", { rules, delaysUs: [SECOND] }, 1, { errorCode: "flaky" }, "1s"],
    ["with the last attempt ends the task whatever its rule", { rules }, 5, { errorCode: "busy" }, "MAX_ATTEMPTS"],
    ["of another code follows the policy", { rules, jitter: 0 }, 1, { errorCode: "Busy" }, "1s"],
  ])("%s", (_, fields, failures, about, told) => {
    expect(delays(fields, failures, about)).toBe(told);
  });
});

describe("a lost lease", () => {
  it("waits nothing, then 10 s, then 60 s, then poisons the task", () => {
    expect([1, 2, 3, 4].map((lost) => afterLostLease(DEFAULT_RETRY_POLICY, lost))).toEqual([0, 10 * SECOND, 60 * SECOND, null]);
  });

  it("repeats the last delay, and waits nothing where there is none", () => {
    expect(afterLostLease(policy({ maxLostLeases: 9, lostLeaseDelaysUs: [SECOND] }), 9)).toBe(SECOND);
    expect(afterLostLease(policy({ lostLeaseDelaysUs: [] }), 2)).toBe(0);
    expect(afterLostLease(policy({ maxLostLeases: 0 }), 1)).toBeNull();
  });
});

describe("a release", () => {
  it("waits from the third in a row on", () => {
    expect([1, 2, 3, 4, 5, 1000].map((count) => releaseDelay(DEFAULT_RETRY_POLICY, count) / SECOND)).toEqual([0, 0, 10, 60, 60, 60]);
  });

  it("is damped also where the policy has fewer delays, or none", () => {
    for (const lostLeaseDelaysUs of [[], [0], [5 * SECOND]]) {
      expect([2, 3, 4].map((count) => releaseDelay(policy({ lostLeaseDelaysUs }), count) / SECOND)).toEqual([0, 10, 60]);
    }
    const two = policy({ lostLeaseDelaysUs: [0, 5 * SECOND] });
    expect([2, 3, 4].map((count) => releaseDelay(two, count) / SECOND)).toEqual([0, 5, 60]);
  });
});

describe("any policy", () => {
  const us = fc.integer({ min: 0, max: 315_576_000_000_000 });
  const anyPolicy: fc.Arbitrary<RetryPolicy> = fc.record({
    maxAttempts: fc.integer({ min: 1, max: 1000 }),
    initialUs: us,
    factor: fc.double({ min: 1, max: 100, noNaN: true }),
    maxUs: us,
    jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    delaysUs: fc.array(us, { maxLength: 5 }),
    rules: fc.array(
      fc.record({
        errorCodes: fc.array(fc.constantFrom("a", "b"), { minLength: 1, maxLength: 2 }),
        action: fc.constantFrom("RETRY" as const, "FAIL" as const),
        delaysUs: fc.array(us, { maxLength: 3 }),
      }),
      { maxLength: 3 },
    ),
    maxLostLeases: fc.integer({ min: 0, max: 100 }),
    lostLeaseDelaysUs: fc.array(us, { maxLength: 4 }),
  });
  const anyFailure = fc.record({
    errorCode: fc.constantFrom("a", "b", "c"),
    retryable: fc.boolean(),
    retryAfterUs: fc.option(us, { nil: null }),
  });
  const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  it("answers whole microseconds between its bounds, whatever chance says", () => {
    fc.assert(
      fc.property(anyPolicy, fc.integer({ min: 1, max: 1000 }), anyFailure, chance, (some, failures, about, luck) => {
        const answer = afterFailure(some, failures, about);
        if (answer.kind === "finish") return;
        const { earliestUs, latestUs } = answer.delay;
        const delayUs = pickDelay(answer.delay, luck);
        const longest = Math.max(some.maxUs, about.retryAfterUs ?? 0, ...some.delaysUs, ...some.rules.flatMap((rule) => rule.delaysUs));
        expect([earliestUs, latestUs, delayUs].every((value) => Number.isSafeInteger(value) && value >= 0)).toBe(true);
        expect(earliestUs).toBeLessThanOrEqual(delayUs);
        expect(delayUs).toBeLessThanOrEqual(latestUs);
        expect(latestUs).toBeLessThanOrEqual(longest);
      }),
      { numRuns: 1000 },
    );
  });

  it("takes off no more than its jitter's share, but for what leaves a millisecond", () => {
    fc.assert(
      fc.property(anyPolicy, fc.integer({ min: 1, max: 1000 }), (some, failures) => {
        const answer = afterFailure({ ...some, delaysUs: [], rules: [], maxAttempts: 1001 }, failures, failure);
        if (answer.kind === "finish") throw new Error("attempts remain");
        const { earliestUs, latestUs } = answer.delay;
        expect(earliestUs).toBeGreaterThanOrEqual(Math.floor(latestUs * (1 - some.jitter)));
        expect(earliestUs).toBeGreaterThanOrEqual(Math.min(latestUs, 1000));
      }),
    );
  });

  it("never retries at or beyond its budget, and always before it if it may", () => {
    fc.assert(
      fc.property(anyPolicy, fc.integer({ min: 1, max: 1000 }), anyFailure, (some, failures, about) => {
        const answer = afterFailure({ ...some, rules: [] }, failures, about);
        expect(answer.kind === "retry").toBe(about.retryable && failures < some.maxAttempts);
      }),
    );
  });

  it("never makes a later failure wait less than an earlier one, but for chance", () => {
    fc.assert(
      fc.property(anyPolicy, fc.integer({ min: 1, max: 999 }), (some, failures) => {
        const latest = (count: number): number => {
          const answer = afterFailure({ ...some, delaysUs: [], rules: [], maxAttempts: 1001 }, count, failure);
          return answer.kind === "retry" ? answer.delay.latestUs : Number.NaN;
        };
        expect(latest(failures + 1)).toBeGreaterThanOrEqual(latest(failures));
      }),
    );
  });

  it("never answers less than nothing for lost leases and releases", () => {
    fc.assert(
      fc.property(anyPolicy, fc.integer({ min: 1, max: 1000 }), (some, count) => {
        const lost = afterLostLease(some, count);
        expect(lost === null).toBe(count > some.maxLostLeases);
        expect(Number.isSafeInteger(lost ?? 0) && (lost ?? 0) >= 0).toBe(true);
        expect(Number.isSafeInteger(releaseDelay(some, count)) && releaseDelay(some, count) >= 0).toBe(true);
      }),
    );
  });
});
