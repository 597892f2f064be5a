// Does a schema come to the newest version exactly once, whatever its name and however many servers start, and is one refused that this server does not know?
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "@leasehold/server/clock";
import { newTask } from "@leasehold/server/domain/new-task";
import { migrate, MigrationError, readMigrations } from "@leasehold/server/storage/migrate";
import { openStorage } from "@leasehold/server/storage/postgres-storage";
import { NO_FILTER } from "@leasehold/server/storage/queries";
import type { Hint, Storage } from "@leasehold/server/storage/storage";
import { bodies } from "../../support/domain.js";
import { createTestDatabase, runStatements, type TestDatabase } from "../../support/postgres.js";
import { claimOf, helloOf, nextReport, storageSettings, submissionOf } from "../../support/storage.js";

let database: TestDatabase;
let folder: string;
beforeEach(async () => {
  database = await createTestDatabase();
  await runStatements(database.url, "DROP SCHEMA leasehold CASCADE");
  folder = await mkdtemp(join(tmpdir(), "leasehold-migrations-"));
});
afterEach(async () => {
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

async function query<T>(text: string): Promise<T[]> {
  const client = new pg.Client(database.url);
  await client.connect();
  try {
    return (await client.query(text)).rows as T[];
  } finally {
    await client.end();
  }
}

const put = (name: string, text: string): Promise<void> => writeFile(join(folder, name), text);
const run = (schema = "leasehold") => migrate(database.url, { schema, folder });
const applied = async () =>
  (await query<{ name: string }>("SELECT name FROM leasehold.schema_migrations ORDER BY version")).map(({ name }) => name);

async function refusal(): Promise<string> {
  const error: unknown = await run().catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(MigrationError);
  return (error as Error).message;
}

describe("a migration", () => {
  it("by ten servers at once on an empty database is done once, and all find it done", async () => {
    const done = await Promise.all(Array.from({ length: 10 }, () => migrate(database.url, { schema: "leasehold" })));
    const files = (await readMigrations()).map(({ name }) => name);
    expect(done.flatMap((one) => one.applied).sort()).toEqual(files);
    expect(new Set(done.map(({ version }) => version))).toEqual(new Set([(await readMigrations()).at(-1)?.version]));
    expect(await applied()).toEqual(files);
  });

  it("of what is migrated does nothing", async () => {
    await migrate(database.url, { schema: "leasehold" });
    expect((await migrate(database.url, { schema: "leasehold" })).applied).toEqual([]);
  });

  it("goes on where an earlier version stopped", async () => {
    await put("0001-one.sql", "CREATE TABLE one (a int);");
    await run();
    await put("0002-two.sql", "CREATE TABLE two (a int);");
    expect(await run()).toEqual({ applied: ["0002-two.sql"], version: 2 });
  });

  it("that fails leaves the schema as it was before its file, and goes on when the file is right", async () => {
    await put("0001-one.sql", "CREATE TABLE one (a int);");
    await put("0002-two.sql", "CREATE TABLE two (a int); SELECT 1 / 0;");
    await expect(run()).rejects.toThrow("division by zero");
    expect(await applied()).toEqual(["0001-one.sql"]);
    expect(await query("SELECT to_regclass('leasehold.two') AS two")).toEqual([{ two: null }]);
    await put("0002-two.sql", "CREATE TABLE two (a int);");
    expect((await run()).applied).toEqual(["0002-two.sql"]);
  });

  it("outside a transaction builds an index concurrently", async () => {
    await put("0001-one.sql", "CREATE TABLE one (a int);");
    await put("0002-index.sql", "-- leasehold: outside a transaction\nCREATE INDEX CONCURRENTLY one_a ON one (a);");
    expect((await run()).applied).toHaveLength(2);
    expect(await query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'leasehold.one_a'::regclass")).toEqual([{ indisvalid: true }]);
  });

  it("refuses a file that was changed after it was applied", async () => {
    await put("0001-one.sql", "CREATE TABLE one (a int);");
    await run();
    await put("0001-one.sql", "CREATE TABLE one (a int); -- better");
    expect(await refusal()).toContain("0001-one.sql was changed after it was applied");
  });

  it("refuses a schema that is newer than this server", async () => {
    await put("0001-one.sql", "CREATE TABLE one (a int);");
    await put("0007-seven.sql", "CREATE TABLE seven (a int);");
    await run();
    await rm(join(folder, "0007-seven.sql"));
    expect(await refusal()).toContain("is at version 7, this server knows only 1");
  });

  it("refuses a file whose name has no number", async () => {
    await put("one.sql", "SELECT 1;");
    expect(await refusal()).toContain("one.sql is not named like");
  });

  it("takes every file of the repository, each opening with its reason", async () => {
    const migrations = await readMigrations();
    expect(migrations.map(({ version }) => version)).toEqual(migrations.map((_, at) => at + 1));
    for (const { name } of migrations)
      expect(await readFile(join(import.meta.dirname, "../../../migrations", name), "utf8")).toMatch(/^-- /);
  });
});

describe("a schema", () => {
  const storages: Storage[] = [];
  afterEach(async () => {
    await Promise.all(storages.splice(0).map((storage) => storage.close()));
  });

  async function open(schema: string): Promise<Storage> {
    const storage = await openStorage(storageSettings(database.url, schema), systemClock());
    storages.push(storage);
    return storage;
  }

  /** Resolves with the first hint that matters once the storage listens. */
  async function listening(storage: Storage): Promise<{ readonly heard: (Hint | null)[]; readonly more: Promise<void> }> {
    const heard: (Hint | null)[] = [];
    let ready: () => void = () => undefined;
    let told: () => void = () => undefined;
    const listens = new Promise<void>((resolve) => (ready = resolve));
    const more = new Promise<void>((resolve) => (told = resolve));
    storage.onHint((hint) => {
      heard.push(hint);
      if (hint === null) ready();
      else told();
    });
    await listens;
    return { heard, more };
  }

  it.each(["Tasks", "my-app", "select", "ünï", 'a"b', "x".repeat(63), "$schema $1 $&", "a.b", "it's; --"])(
    "named %s holds a whole life of a task",
    async (schema) => {
      expect((await migrate(database.url, { schema })).applied.length).toBeGreaterThan(0);
      expect((await migrate(database.url, { schema })).applied).toEqual([]);
      const storage = await open(schema);
      const task = newTask(submissionOf({ labels: new Map([["a", "b"]]) }), 0);
      await storage.insertTasks([task], true);
      const session = await storage.openSession(helloOf());
      await storage.tickUpkeep("0190b6f2-0000-7000-8000-000000000001");
      await storage.storeBeats([{ sessionId: session.id, epoch: 1, number: 1 }]);
      const { leased } = await storage.leaseTasks(claimOf([session], await storage.groupsWithWork("default", 10)));
      const reference = { namespace: "default", id: task.submission.id };
      await storage.decide(reference, nextReport(leased[0]!.live, bodies.complete));
      expect(await storage.readTask(reference, true)).toMatchObject({ state: "COMPLETED" });
      const newest = { namespace: "default", order: "NEWEST_FIRST", after: null, pageSize: 5, withPayloads: false } as const;
      const found = await storage.listTasks({ ...newest, filter: { ...NO_FILTER, labels: new Map([["a", "b"]]) } });
      expect(found.tasks).toHaveLength(1);
      expect(await storage.orphanedLeases(10)).toMatchObject({ lost: [], returned: [] });
      expect(await storage.overdueTasks(10)).toEqual([]);
      expect(await storage.removeExpiredTasks({ COMPLETED: 0, FAILED: 0, CANCELLED: 0 }, 10)).toBe(1);
      const named = await query<{ nspname: string }>(`SELECT nspname FROM pg_namespace WHERE nspname = $name$${schema}$name$`);
      expect(named).toHaveLength(1);
    },
  );

  it("beside another in one database neither shares its tasks nor hears its hints", async () => {
    for (const schema of ["one", "two"]) await migrate(database.url, { schema });
    const [one, oneToo, two] = [await open("one"), await open("one"), await open("two")];
    await one.insertTasks([newTask(submissionOf(), 0)], false);
    expect(await two.groupsWithWork("default", 10)).toEqual([]);
    const [hearsOne, hearsTwo] = [await listening(oneToo), await listening(two)];
    await one.notify({ groups: [], leases: [], taskIds: ["of one"] });
    await hearsOne.more;
    // Notifications are delivered in the order of commits: what two hears of its own schema afterwards proves that it heard nothing before.
    await (await open("two")).notify({ groups: [], leases: [], taskIds: ["of two"] });
    await hearsTwo.more;
    expect(hearsTwo.heard).toEqual([null, { groups: [], leases: [], taskIds: ["of two"] }]);
    expect(hearsOne.heard).toEqual([null, { groups: [], leases: [], taskIds: ["of one"] }]);
  });
});
