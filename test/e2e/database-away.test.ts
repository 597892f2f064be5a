// What happens while Postgres is away? Health says so, nobody is restarted, nobody fills a disk with log lines, and everything goes on by itself after.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { startOwnPostgres, type OwnPostgres } from "../support/own-postgres.js";
import { eventually, isAlive, test } from "../support/scene.js";
import { healthOf } from "../support/service-calls.js";
import { startTcpProxy } from "../support/tcp-proxy.js";
import { count, mark } from "./programs/tasks.js";

/** Where a Postgres listens, for a proxy; it has another place after each start. */
function socketOf(postgres: OwnPostgres): { path: string } {
  return { path: join(postgres.socketDir, `.s.PGSQL.${new URL(postgres.url).port || "5432"}`) };
}

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
      const proxy = await startTcpProxy(socketOf(postgres));
      scene.undo(() => proxy.close());
      const url = new URL(postgres.url);
      const databaseUrl = `postgresql://${url.username === "" ? "leasehold" : url.username}:${url.password}@127.0.0.1:${proxy.port}${url.pathname}`;
      const server = await scene.server({ databaseUrl });
      const worker = await scene.worker({ addresses: [server.address], name: "patient", sessionTtl: "20s" });
      const client = scene.client(server.address);
      const gate = join(scene.folder, "gate");
      const gated = await client.submit(mark, { folder: scene.folder, gate });
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
      proxy.aim(socketOf(postgres));
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
      expect([isAlive(server.pid), isAlive(worker.pid)]).toEqual([true, true]);
    },
  );
});
