// What becomes of work when processes die, freeze or are replaced? The measurements of test/fault/measures in small, with bounds that a busy machine keeps.
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { deadWorkers } from "../fault/measures/dead-workers.js";
import { rollingRestart } from "../fault/measures/rolling-restart.js";
import { openStage, type Stage } from "../fault/measures/stage.js";
import { createTestDatabase } from "../support/postgres.js";
import { keepAlive, openRawWorker } from "../support/raw-worker.js";

async function measured<T>(measure: (stage: Stage) => Promise<T>): Promise<T> {
  const database = await createTestDatabase();
  try {
    await using stage = await openStage({ databaseUrl: database.url });
    return await measure(stage);
  } finally {
    await database.drop();
  }
}

describe.concurrent("a fault of processes", () => {
  test(
    "dead workers lose their leases no earlier than their TTL allows, and soon after, each lease once",
    { timeout: 120_000 },
    async () => {
      const kills = 8;
      const seen = await measured((stage) => deadWorkers(stage, kills, kills));
      expect(seen.lostAfterMs.length).toBe(2 * kills);
      expect(Math.min(...seen.lostAfterMs)).toBeGreaterThanOrEqual(seen.ttlMs);
      // Two ticks of upkeep are a second; the rest is for a busy machine.
      expect(Math.max(...seen.lostAfterMs)).toBeLessThan(seen.ttlMs + 5_000);
      expect(Math.max(...seen.leasedAgainAfterMs)).toBeLessThan(5_000);
      expect(seen.wrong).toEqual([]);
    },
  );

  test("two servers that are restarted in turn lose no lease and fail no submission", { timeout: 120_000 }, async () => {
    const seen = await measured((stage) => rollingRestart(stage, 1));
    expect(seen.failed).toEqual([]);
    expect(seen.submitted).toBeGreaterThan(100);
    expect(Math.max(...Object.keys(seen.retries).map(Number))).toBeLessThanOrEqual(3);
    expect([seen.lostLeases, seen.unfinished]).toEqual([0, 0]);
    expect(seen.disturbed).toEqual([]);
  });

  test("a server to which each answer of Postgres takes long holds up nobody else's upkeep", { timeout: 60_000 }, async () => {
    const outages = await measured(async (stage) => {
      const near = await stage.server();
      const slow = await stage.database();
      await stage.server({ databaseUrl: slow.url });
      const worker = openRawWorker(near.address, ["e2e.nobody"]);
      stage.undo(async () => worker.close());
      await worker.welcome();
      keepAlive(worker, 500);
      const lenientUntil = async (): Promise<unknown> =>
        (await stage.rows<{ until: unknown }>("SELECT lenient_until::text AS until FROM upkeep"))[0]?.until;
      const before = await lenientUntil();
      // Whoever held a lock from one answer to the next would hold it for longer than a gap in ticks may be.
      slow.proxy.delay("to-client", 2_500);
      await pause(14_000);
      return [before, await lenientUntil()];
    });
    expect(outages[1]).toBe(outages[0]);
  });
});
