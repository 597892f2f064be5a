// Do the domain and Postgres agree after any history? Random steps of owners, workers and time, taken on plain objects and through two
// servers' storages, everything compared after each. A longer run by hand: LEASEHOLD_MODEL_RUNS=2000 npx vitest run test/model
//
// A failure prints its seed and path. Put them, with a word on what went wrong, into seeds.json: those run first, always.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Model } from "./model.js";
import { ownerSteps } from "./owner-steps.js";
import { SECOND } from "./step.js";
import { openSystem, type System } from "./system.js";
import { timeSteps } from "./time-steps.js";
import { openSession, workerSteps } from "./worker-steps.js";
import seeds from "./seeds.json" with { type: "json" };

const RUNS = Number(process.env["LEASEHOLD_MODEL_RUNS"] ?? 40);
/** Far more than a run takes; a history that hangs is ended by the statement limit. */
const LIMIT_MS = Math.max(120_000, RUNS * 3000);

let system: System;
beforeAll(async () => {
  system = await openSystem();
});
afterAll(() => system[Symbol.asyncDispose]());

const histories = fc.commands([fc.oneof(...ownerSteps, ...workerSteps, ...timeSteps)], { maxCommands: 100, size: "max" });

async function play(settings: fc.Parameters<unknown>): Promise<void> {
  const property = fc.asyncProperty(histories, async (steps) => {
    const begin = async (): Promise<{ model: Model; real: System }> => {
      await system.reset();
      const model = new Model();
      await openSession(model, system, 0, 60 * SECOND);
      return { model, real: system };
    };
    await fc.asyncModelRun(begin, steps);
  });
  await fc.assert(property, { plugins: [fc.unbiased()], ...settings } as fc.Parameters<[Iterable<fc.AsyncCommand<Model, System>>]>);
}

// What no history reaches is proven by none.
const TO_REACH = [
  ...[
    "leased",
    "leased suspect",
    "leased while stored",
    "late decision written",
    "late decision refused",
    "take over taken",
    "take over renewed",
    "take over stale",
  ],
  ...["checkpoint RECORDED", "checkpoint ALREADY_RECORDED", "checkpoint RETRY_LATER", "checkpoint LEASE_LOST", "invalid INVALID"],
  ...["complete RECORDED", "fail RECORDED", "fail ALREADY_RECORDED", "suspend RECORDED", "release RECORDED", "cancel RECORDED"],
  ...["proceeded changed", "proceeded repeated", "cancel-requested changed", "updated changed", "retry retried", "retry completed"],
  ...["rejected CANCEL_REQUESTED", "rejected TASK_NOT_SUSPENDED", "rejected PATCH_NOT_APPLICABLE"],
  ...["MAX_ATTEMPTS", "NOT_RETRYABLE", "POISONED", "QUEUE_DEADLINE", "TOTAL_DEADLINE", "INVALID_REPORT"].map((reason) => `ended ${reason}`),
  ...["CANCEL_REQUESTED", "CANCELLED_BY_WORKER", "REPLACED", "COMPLETED"].map((reason) => `ended ${reason}`),
];

describe("the model and Postgres", () => {
  it.each(seeds)("agree after the kept histories: $why", async ({ seed, path, runs }) => play({ seed, path, numRuns: runs }), LIMIT_MS);

  it("have met everything in the kept histories that may happen to a task", () => {
    expect(TO_REACH.filter((what) => !system.reached.has(what))).toEqual([]);
  });

  it("agree after any history", () => play({ numRuns: RUNS }), LIMIT_MS);
});
