// Does a simulation say what a task would really go through? Against known delays, and against `transition` itself.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { LiveTask, RetryPolicy } from "@leasehold/server/domain/task";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import type { SimulatedFailure } from "@leasehold/server/domain/simulate";
import { simulate } from "@leasehold/server/domain/simulate";
import { transition } from "@leasehold/server/domain/transition";
import { bodies, decisionContext, newLiveTask, NONCE, NOW, SECOND, SESSION } from "../../support/domain.js";

const failed: SimulatedFailure = { kind: "failed", errorCode: "x", retryable: true, retryAfterUs: null };
const lost: SimulatedFailure = { kind: "lease-lost" };
const policy = (fields: Partial<RetryPolicy> = {}): RetryPolicy => ({ ...DEFAULT_RETRY_POLICY, ...fields });
const told = (attempts: ReturnType<typeof simulate>): string[] =>
  attempts.map((next) =>
    next.kind === "finish" ? next.reason : `${next.attempt}: ${next.delay.earliestUs / SECOND} to ${next.delay.latestUs / SECOND} s`,
  );

describe("a simulation", () => {
  it("doubles from the initial delay, chance taking off up to half, and ends with the attempts", () => {
    expect(told(simulate(policy(), Array<SimulatedFailure>(7).fill(failed)))).toEqual([
      "2: 0.5 to 1 s",
      "3: 1 to 2 s",
      "4: 2 to 4 s",
      "5: 4 to 8 s",
      "MAX_ATTEMPTS",
    ]);
  });

  it.each([
    ["a factor of 1", { factor: 1, initialUs: 3 * SECOND, jitter: 0 }, ["2: 3 to 3 s", "3: 3 to 3 s"]],
    ["a maximum below the initial delay", { maxUs: SECOND, initialUs: 3 * SECOND, jitter: 0 }, ["2: 1 to 1 s", "3: 1 to 1 s"]],
    ["a list, whose last delay repeats", { delaysUs: [SECOND, 4 * SECOND] }, ["2: 1 to 1 s", "3: 4 to 4 s", "4: 4 to 4 s"]],
    ["a single attempt", { maxAttempts: 1 }, ["MAX_ATTEMPTS"]],
  ])("keeps to %s", (_, fields, expected) => {
    expect(told(simulate(policy(fields), Array<SimulatedFailure>(expected.length).fill(failed)))).toEqual(expected);
  });

  it("lets a worker's delay replace one, a rule's list the policy's, and either end the task", () => {
    const rules = [
      { errorCodes: ["busy"], action: "RETRY" as const, delaysUs: [7 * SECOND] },
      { errorCodes: ["gone"], action: "FAIL" as const, delaysUs: [] },
    ];
    const some = policy({ jitter: 0, rules });
    const busy: SimulatedFailure = { ...failed, errorCode: "busy" };
    expect(told(simulate(some, [failed, { ...failed, retryAfterUs: 2 * SECOND }, busy, { ...failed, errorCode: "gone" }, failed]))).toEqual(
      ["2: 1 to 1 s", "3: 2 to 2 s", "4: 7 to 7 s", "NOT_RETRYABLE"],
    );
    expect(told(simulate(some, [{ ...failed, retryable: false }]))).toEqual(["NOT_RETRYABLE"]);
  });

  it("counts lost leases apart and in a row", () => {
    const all = [lost, lost, lost, failed, lost, lost, lost, lost, failed];
    expect(told(simulate(policy({ jitter: 0 }), all))).toEqual([
      "1: 0 to 0 s",
      "1: 10 to 10 s",
      "1: 60 to 60 s",
      "2: 1 to 1 s",
      "2: 0 to 0 s",
      "2: 10 to 10 s",
      "2: 60 to 60 s",
      "POISONED",
    ]);
  });

  it("says nothing about nothing", () => {
    expect(simulate(policy(), [])).toEqual([]);
  });
});

it("a simulation agrees with what transition makes of a task, step by step", () => {
  const anyPolicy = fc.record({
    maxAttempts: fc.integer({ min: 1, max: 4 }),
    maxLostLeases: fc.integer({ min: 0, max: 3 }),
    jitter: fc.constantFrom(0, 0.5, 1),
    delaysUs: fc.constantFrom([], [SECOND], [SECOND, 4 * SECOND]),
  });
  const anyFailure: fc.Arbitrary<SimulatedFailure> = fc.oneof(
    fc.constant(lost),
    fc.record({
      kind: fc.constant("failed" as const),
      errorCode: fc.constant("x"),
      retryable: fc.boolean(),
      retryAfterUs: fc.constant(null),
    }),
  );
  fc.assert(
    fc.property(anyPolicy, fc.array(anyFailure, { maxLength: 8 }), (fields, happened) => {
      const retryPolicy = policy(fields);
      let task: LiveTask = newLiveTask({}, { retryPolicy });
      simulate(retryPolicy, happened).forEach((next, at) => {
        task = leased(task);
        const answer = transition(task, eventOf(happened[at] ?? lost), decisionContext({ chance: 0.25 }));
        if (next.kind === "finish") {
          expect(answer).toMatchObject({ kind: "finished", state: "FAILED", reason: next.reason });
          return;
        }
        if (answer.kind !== "changed") throw new Error(`the task ended at ${String(at)}`);
        task = answer.task;
        const delayUs = (task.runAtUs ?? 0) - NOW;
        expect(task.failures + 1).toBe(next.attempt);
        expect(delayUs).toBeGreaterThanOrEqual(next.delay.earliestUs);
        expect(delayUs).toBeLessThanOrEqual(next.delay.latestUs);
      });
    }),
  );
});

function leased(task: LiveTask): LiveTask {
  const due = { ...task, runAtUs: NOW };
  const lease = { nonce: NONCE, sessionId: SESSION, epoch: 1 };
  const answer = transition(due, { kind: "leased", lease, workerName: "w", fencingBase: 0 }, decisionContext());
  if (answer.kind !== "changed") throw new Error("it was not leased");
  return answer.task;
}

function eventOf(failure: SimulatedFailure): Parameters<typeof transition>[1] {
  if (failure.kind === "lease-lost") return { kind: "lease-lost" };
  return { kind: "reported", nonce: NONCE, seq: 1, body: { ...bodies.fail, retryable: failure.retryable } };
}
