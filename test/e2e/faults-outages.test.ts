// What does an outage of Postgres or of the network to it cost? The measurements of test/fault/measures in small, with bounds that a busy machine keeps.
import { describe, expect, test } from "vitest";
import { deadSockets } from "../fault/measures/dead-sockets.js";
import { postgresKilled } from "../fault/measures/postgres-killed.js";
import { openStage } from "../fault/measures/stage.js";
import { createTestDatabase } from "../support/postgres.js";

describe.concurrent("an outage", () => {
  test("by a crash of Postgres is answered at once, ends by itself and costs no task anything", { timeout: 120_000 }, async () => {
    const awayMs = 12_000;
    const seen = await postgresKilled(awayMs);
    expect(seen.ended).toBe(0);
    expect(seen.charged).toEqual([]);
    expect(seen.lostLeases).toBe(0);
    // Each says that it is Postgres, and when to try again.
    expect(Object.keys(seen.answers)).toEqual(["UNAVAILABLE DATABASE_UNAVAILABLE"]);
    expect(Math.max(...seen.callsTookMs)).toBeLessThan(4_000);
    expect(Math.min(...seen.notServingAfterMs)).toBeGreaterThan(4_000);
    expect(Math.max(...seen.notServingAfterMs)).toBeLessThan(awayMs);
    for (const afterMs of [seen.servingAfterMs, seen.acceptedAfterMs, seen.recordedAfterMs, seen.leasedAfterMs])
      expect(Math.max(...afterMs)).toBeLessThan(10_000);
    expect(Math.max(...seen.logLines)).toBeLessThanOrEqual(awayMs / 1_000);
    // Seven lanes, a listener and two pools of eight for each of two servers.
    expect(seen.mostConnectionsAfter).toBeLessThanOrEqual(48);
  });

  test.for(["everything", "established", "answers", "connect"] as const)(
    "of the network (%s) is answered by each call's deadline, loses nothing and ends by itself",
    { timeout: 120_000 },
    async (variant) => {
      const database = await createTestDatabase();
      try {
        await using stage = await openStage({ databaseUrl: database.url });
        const seen = await deadSockets(stage, variant, 7_000, { beforeMs: 1_000, afterMs: 30_000 });
        expect(seen.late).toBe(0);
        const codes = Object.keys(seen.answers).map((answer) => answer.split(" ")[1]);
        // What finds the lanes stuck is refused as overload until the outage is known as one.
        expect(["OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"]).toEqual(expect.arrayContaining([...new Set(codes)]));
        expect(seen.lost).toBe(0);
        expect(seen.doubled).toBe(0);
        expect(seen.readsBackAfterMs).not.toBeNull();
        expect(seen.acknowledgedAfter).toBeGreaterThan(0);
        expect([seen.lostLeases, seen.stuck]).toEqual([0, 0]);
      } finally {
        await database.drop();
      }
    },
  );
});
