// Do all places tell the same numbers: counts, walks and the tables, at both servers, under load and at rest?
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Storage } from "@leasehold/server/storage/storage";
import type { TaskState } from "@leasehold/server/domain/task";
import { bodies } from "../../support/domain.js";
import { listQuery, walk } from "../../support/reading.js";
import { openTestStorage, type TestStorage } from "../../support/storage.js";

const TASKS = 500;
const STATES: readonly TaskState[] = ["PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "FAILED", "CANCELLED"];

let test: TestStorage;
let both: readonly Storage[];
beforeAll(async () => {
  test = await openTestStorage();
  both = [test.storage, await test.another()];
  await test.store(...Array.from({ length: TASKS }, (_, at) => ({ name: `n${String(at % 5)}`, queue: `q${String(at % 3)}` })));
});
afterAll(() => test[Symbol.asyncDispose]());

const count = async (storage: Storage, state?: TaskState): Promise<number> =>
  (await storage.countTasks("default", listQuery(state === undefined ? {} : { states: [state] }).filter)).count;

/** Lets tasks go through every state, until none of this many turns is left. */
async function churn(turns: number, on: Storage): Promise<void> {
  const session = await test.session({ slots: 1000 });
  const outcomes = [bodies.complete, bodies.suspendFor, { ...bodies.fail, retryable: false }, bodies.cancel, bodies.release];
  for (let turn = 0; turn < turns; turn++) {
    const leased = await test.lease(session, { most: 6, on });
    await on.applyDecisions(leased.slice(1).map(({ live }, at) => test.report(live, outcomes[at % outcomes.length]!)));
  }
}

describe("while tasks go through their states", () => {
  it("every count of all tasks says all: none is missed or counted twice on its way", async () => {
    const under = { load: true };
    const load = Promise.all(both.map((storage) => churn(25, storage))).finally(() => (under.load = false));
    let counts = 0;
    while (under.load) {
      for (const storage of both) expect(await count(storage)).toBe(TASKS);
      const page = await walk(both[counts % 2]!, {}, "NEWEST_FIRST", 1000);
      expect(new Set(page.map(({ id }) => id)).size).toBe(TASKS);
      counts++;
    }
    await load;
    expect(counts).toBeGreaterThan(3);
  });
});

describe("at rest", () => {
  it("counts, walks and tables agree for every state, at both servers", async () => {
    const rows = await test.rows<{ state: number; count: string }>(
      "SELECT state, count(*) FROM (SELECT state FROM live_tasks UNION ALL SELECT state FROM finished_tasks) t GROUP BY state",
    );
    const stored = STATES.map((_, number) => Number(rows.find(({ state }) => state === number)?.count ?? 0));
    expect(stored.every((number) => number > 0)).toBe(true);
    for (const storage of both) {
      expect(await Promise.all(STATES.map((state) => count(storage, state)))).toEqual(stored);
      const walked = await Promise.all(STATES.map((state) => walk(storage, { states: [state] }, "OLDEST_FIRST", 7)));
      expect(walked.map(({ length }) => length)).toEqual(stored);
      for (const [at, tasks] of walked.entries()) expect(new Set(tasks.map(({ state }) => state))).toEqual(new Set([STATES[at]]));
    }
  });
});
