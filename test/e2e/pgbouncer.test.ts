// Do servers work through PgBouncer in transaction mode, set up as docs/operations.md says? The whole life of tasks over few connections, and a
// pooler that is killed meanwhile.
import { describe, expect, vi } from "vitest";
import { startPgBouncer, type PgBouncer } from "../support/pgbouncer.js";
import { eventually, test, type Scene } from "../support/scene.js";
import { runStatements } from "../support/postgres.js";
import { operationsBlock } from "../support/runbook.js";
import { count, quick } from "./programs/tasks.js";

vi.setConfig({ testTimeout: 120_000 });

async function poolerOf(scene: Scene): Promise<PgBouncer> {
  const [role] = await scene.rows("SELECT current_user AS name, current_database() AS database");
  // What the page tells an operator to do, for the role and the database of this test.
  const settings = operationsBlock("sql", "ALTER ROLE leasehold IN DATABASE app SET");
  const own = settings.replaceAll(
    "ROLE leasehold IN DATABASE app",
    `ROLE "${String(role?.["name"])}" IN DATABASE "${String(role?.["database"])}"`,
  );
  await runStatements(scene.databaseUrl, own);
  const [, pgbouncer = ""] = operationsBlock("ini", "pool_mode = transaction").split("[pgbouncer]\n");
  const pooler = await startPgBouncer(scene.databaseUrl, [...pgbouncer.trim().split("\n"), "default_pool_size = 5"]);
  scene.undo(() => pooler.stop());
  return pooler;
}

describe("two servers behind PgBouncer in transaction mode", () => {
  test("do their work over five connections, hear of each other, and outlive its end", async ({ scene }) => {
    const pooler = await poolerOf(scene);
    const env = { LEASEHOLD_DATABASE_LISTEN_URL: scene.databaseUrl, LEASEHOLD_DATABASE_PREPARED_STATEMENTS: "false" };
    const servers = [await scene.server({ databaseUrl: pooler.url, env }), await scene.server({ databaseUrl: pooler.url, env })];
    const addresses = servers.map(({ address }) => address);
    await scene.worker({ addresses: [addresses[0]!], sessionTtl: "10s" });
    const [here, there] = addresses.map((address) => scene.client(address));
    const counting = await here!.submit(count, { to: 15, stepMs: 200 });
    // Stored by the server that has no worker: the other one hears of it.
    const results = await Promise.all(Array.from({ length: 100 }, (_, n) => there!.submit(quick, { n }).then((task) => task.result())));
    expect(results).toHaveLength(100);
    await pooler.restart();
    expect(
      await (await eventually(
        () => there!.submit(quick, { n: 1 }).catch(() => null),
        (task) => task !== null,
        "tasks are stored again",
      ))!.result(),
    ).toMatchObject({ n: 1 });
    expect(await counting.result()).toMatchObject({ counted: 15 });
    expect(await scene.timeline(counting.id)).not.toContain("LEASE_LOST");
    expect(await scene.rows("SELECT id FROM leasehold.live_tasks")).toEqual([]);
    for (const server of servers) expect(server.log()).not.toMatch(/26000|42P05|42P01|prepared statement/);
  });
});
