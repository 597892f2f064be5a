// What is left of a migration that is killed, or of ten that start at once? A schema that the next start finishes, without hands.
import { join } from "node:path";
import { migrate, readMigrations } from "@leasehold/server/storage/migrate";
import { describe, expect } from "vitest";
import { environment, startProcess } from "../support/child-process.js";
import { createTestDatabase, runStatements } from "../support/postgres.js";
import { eventually, test, type Scene } from "../support/scene.js";

const COMMAND = join(import.meta.dirname, "../../cli/bin/leasehold.js");
const CONNECTED = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'leasehold migrate' AND datname = current_database()";

async function withoutSchema(scene: Scene): Promise<void> {
  await eventually(
    () => scene.rows(CONNECTED),
    (left) => left.length === 0,
    "the connection of the killed one is gone",
  );
  await runStatements(scene.databaseUrl, "DROP SCHEMA IF EXISTS leasehold CASCADE");
}

describe.concurrent("on an empty database", () => {
  test("a migration killed at any moment is continued by the next", { timeout: 120_000 }, async ({ scene }) => {
    const names = (await readMigrations()).map(({ name }) => name);
    const cutAfter = new Set<number>();
    for (const delayMs of [0, 4, 8, 12, 16, 20, 25, 30, 40, 60]) {
      await withoutSchema(scene);
      const env = environment({ LEASEHOLD_DATABASE_URL: scene.databaseUrl });
      const migrating = startProcess(process.execPath, [COMMAND, "migrate"], { env });
      await eventually(
        async () => (await scene.rows(CONNECTED)).length > 0 || migrating.said() !== "",
        (there) => there,
        "it is connected",
      );
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      migrating.child.kill("SIGKILL");
      await migrating.ended;
      const { applied, version } = await migrate(scene.databaseUrl, { schema: "leasehold" });
      cutAfter.add(names.length - applied.length);
      expect(version).toBe(names.length);
      expect(applied).toEqual(names.slice(names.length - applied.length));
    }
    // Some came too late to be cut; not all of them, else this would prove nothing.
    expect(Math.min(...cutAfter)).toBeLessThan(names.length);
  });

  test("ten servers that start at once are all ready, and one of them migrated", { timeout: 180_000 }, async ({ scene }) => {
    const database = await createTestDatabase();
    scene.undo(() => database.drop());
    await runStatements(database.url, "DROP SCHEMA leasehold CASCADE");
    // Each with few connections: it is the start that counts.
    const env = { LEASEHOLD_DATABASE_POOL_SIZE: "2" };
    const servers = await Promise.all(Array.from({ length: 10 }, () => scene.server({ databaseUrl: database.url, env })));
    const files = (await readMigrations()).length;
    const applied = servers.flatMap((server) => server.log().match(/\d{4}-[a-z-]+\.sql/g) ?? []);
    expect(applied.toSorted()).toHaveLength(files);
    expect(new Set(applied).size).toBe(files);
    await Promise.all(servers.map((server) => server.stop()));
  });
});
