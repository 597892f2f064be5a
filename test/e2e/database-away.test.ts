// What happens while Postgres is away? Health says so, nobody is restarted, nobody fills a disk with log lines, and everything goes on by itself after.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { startDatabaseProxy } from "../support/database-proxy.js";
import { startOwnPostgres } from "../support/own-postgres.js";
import { eventually, isAlive, test } from "../support/scene.js";
import { healthOf } from "../support/service-calls.js";
import { count, ending, mark } from "./programs/tasks.js";

function lines(text: string): number {
  return text.split("\n").length;
}

describe.concurrent("Postgres", () => {
  test.for(["stop", "kill"] as const)(
    "away by %s and back again costs no task, no process and few log lines",
    { timeout: 120_000 },
    async (end, { scene }) => {
      let postgres = await startOwnPostgres();
      scene.undo(() => postgres.remove());
      const database = await startDatabaseProxy(postgres.url);
      scene.undo(() => database.proxy.close());
      const server = await scene.server({ databaseUrl: database.url });
      const worker = await scene.worker({
        addresses: [server.address],
        name: "patient",
        sessionTtl: "20s",
        tasks: [count.name, mark.name],
      });
      // Its TTL passes during the outage: it must stop, and nobody is charged.
      const hasty = await scene.worker({ addresses: [server.address], name: "hasty", sessionTtl: "2s", tasks: [ending.name] });
      const client = scene.client(server.address);
      const gate = join(scene.folder, "gate");
      const gated = await client.submit(mark, { folder: scene.folder, gate });
      const given = await client.submit(ending, { how: "abort" });
      await hasty.hears("began", given.id);
      const counting = await client.submit(count, { to: 120, stepMs: 100 });
      await worker.hears("began", gated.id);
      await worker.hears("checkpointed", counting.id);
      expect(await healthOf(server.address)).toBe("SERVING");

      const awaySinceMs = performance.now();
      const linesBefore = lines(server.log()) + lines(worker.said());
      await postgres[end]();
      await eventually(
        () => healthOf(server.address),
        (health) => health === "NOT_SERVING",
        "health says that Postgres is away",
      );
      // Five seconds after the last answer, not at the first hiccup.
      expect(performance.now() - awaySinceMs).toBeGreaterThan(4_000);
      expect(await healthOf(server.address, "leasehold.v1.WorkerService")).toBe("NOT_SERVING");
      // This outcome finds no database.
      writeFileSync(gate, "");
      await worker.hears("ended", gated.id);
      const awayMs = performance.now() - awaySinceMs;
      expect(lines(server.log()) + lines(worker.said()) - linesBefore).toBeLessThan(20 + (2 * awayMs) / 1_000);

      postgres = await startOwnPostgres({ dataDir: postgres.dataDir });
      database.moveTo(postgres.url);
      await eventually(
        () => healthOf(server.address),
        (health) => health === "SERVING",
        "health says that Postgres is back",
        30_000,
      );
      expect((await gated.result({ timeout: "30s" })).worker).toBe("patient");
      expect(await counting.result({ timeout: "40s" })).toEqual({ counted: 120, worker: "patient" });
      for (const task of [gated, counting]) {
        expect(await task.snapshot()).toMatchObject({ attempt: 1, lostLeases: 0 });
        expect(worker.times("began", task.id)).toBe(1);
        expect(worker.times("signal", task.id)).toBe(0);
      }
      expect(await hasty.hears("signal", given.id)).toBe("disconnected");
      await eventually(
        () => hasty.times("began", given.id),
        (times) => times > 1,
        "the task that had to be stopped runs again",
      );
      expect(await given.snapshot()).toMatchObject({ state: "running", attempt: 1, lostLeases: 0 });
      await given.cancel({ grace: "10s" });
      expect(await given.outcome({ timeout: "30s" })).toMatchObject({ state: "cancelled" });
      expect([isAlive(server.pid), isAlive(worker.pid)]).toEqual([true, true]);
    },
  );
});
