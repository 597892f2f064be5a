// What does a migration do to those who use the tables meanwhile, to servers that know less, and to what a killed one left behind?
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate, MigrationError, readMigrations } from "@leasehold/server/storage/migrate";
import { schemaProblems } from "@leasehold/server/storage/schema-version";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, runStatements, type TestDatabase } from "../../support/postgres.js";

let database: TestDatabase;
let folder: string;
const clients: pg.Client[] = [];
beforeEach(async () => {
  database = await createTestDatabase();
  await runStatements(database.url, "DROP SCHEMA leasehold CASCADE");
  folder = await mkdtemp(join(tmpdir(), "leasehold-migrations-"));
  await put("0001-one.sql", "CREATE TABLE one (a int);");
  await run();
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end()));
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

const put = (name: string, text: string): Promise<void> => writeFile(join(folder, name), text);
const run = (lockPatienceMs?: number) =>
  migrate(database.url, { schema: "leasehold", folder, ...(lockPatienceMs === undefined ? {} : { lockPatienceMs }) });

async function connect(url = database.url): Promise<pg.Client> {
  const client = new pg.Client(url);
  clients.push(client);
  await client.connect();
  return client;
}

/** A transaction that reads the table and stays open, like that of a backup. */
async function reader(): Promise<pg.Client> {
  const client = await connect();
  await client.query("BEGIN; SELECT * FROM leasehold.one");
  return client;
}

async function refusal(migration: Promise<unknown>): Promise<string> {
  const error: unknown = await migration.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(MigrationError);
  return (error as Error).message;
}

describe("a migration that waits for a lock", () => {
  it("lets through who queued behind it, again and again, and is done once the table is free", async () => {
    const long = await reader();
    await put("0002-column.sql", "ALTER TABLE one ADD COLUMN b int;");
    const migration = run();
    const client = await connect();
    let slowestMs = 0;
    let writes = 0;
    for (const endMs = performance.now() + 4_000; performance.now() < endMs; writes += 1) {
      const beganMs = performance.now();
      await client.query("INSERT INTO leasehold.one (a) VALUES (1)");
      slowestMs = Math.max(slowestMs, performance.now() - beganMs);
    }
    expect(writes).toBeGreaterThan(20);
    expect(slowestMs).toBeLessThan(2_000);
    await long.query("COMMIT");
    expect((await migration).applied).toEqual(["0002-column.sql"]);
  });

  it("gives up in the end with a sentence, and leaves nothing half done", async () => {
    const long = await reader();
    await put("0002-column.sql", "CREATE TABLE two (a int); ALTER TABLE one ADD COLUMN b int;");
    expect(await refusal(run(0))).toContain("0002-column.sql needs a lock on a table that another transaction holds");
    await long.query("COMMIT");
    expect((await run()).applied).toEqual(["0002-column.sql"]);
  });

  it("makes nobody else's transaction fail: it is the one to give way in a deadlock", async () => {
    await put("0002-two.sql", "CREATE TABLE two (a int);");
    await run();
    const other = await connect();
    await other.query("BEGIN; INSERT INTO leasehold.two VALUES (1)");
    await put("0003-both.sql", "ALTER TABLE one ADD COLUMN b int; ALTER TABLE two ADD COLUMN b int;");
    const migration = run();
    const watch = await connect();
    const waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'leasehold migrate' AND wait_event_type = 'Lock'";
    while ((await watch.query(waits)).rowCount === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    // The migration has table one and waits for table two; this has two and waits for one.
    await other.query("INSERT INTO leasehold.one VALUES (1)");
    await other.query("COMMIT");
    expect((await migration).applied).toEqual(["0003-both.sql"]);
  });
});

describe("an index built concurrently", () => {
  const index = (more = ""): string => `-- leasehold: outside a transaction\nCREATE UNIQUE INDEX CONCURRENTLY ${more}one_a ON one (a);`;
  const valid = async (): Promise<unknown> => {
    const client = await connect();
    return (await client.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'leasehold.one_a'::regclass")).rows;
  };

  it.each(["", "IF NOT EXISTS "])("that a failed run left behind INVALID is built again (%s)", async (more) => {
    await runStatements(database.url, "INSERT INTO leasehold.one VALUES (1), (1)");
    await put("0002-index.sql", index(more));
    await expect(run()).rejects.toThrow("could not create unique index");
    expect(await valid()).toEqual([{ indisvalid: false }]);
    await runStatements(database.url, "DELETE FROM leasehold.one");
    expect((await run()).applied).toEqual(["0002-index.sql"]);
    expect(await valid()).toEqual([{ indisvalid: true }]);
  });

  it("that a killed run finished but did not write down is built again", async () => {
    await runStatements(database.url, "CREATE UNIQUE INDEX one_a ON leasehold.one (a)");
    await put("0002-index.sql", index());
    expect((await run()).applied).toEqual(["0002-index.sql"]);
    expect(await valid()).toEqual([{ indisvalid: true }]);
  });
});

describe("a server that knows less than its schema", () => {
  const NEXT = "-- What it is for.\n-- compatible-with: 1\nCREATE TABLE two (a int);";
  const older = async (): Promise<void> => rm(join(folder, "0002-two.sql"));
  const problems = async () => schemaProblems(database.url, "leasehold", await readMigrations(folder));

  it("runs on it where all that is newer is an addition for it", async () => {
    await put("0002-two.sql", NEXT);
    await run();
    await older();
    expect(await run()).toEqual({ applied: [], version: 2 });
    expect(await problems()).toEqual([]);
  });

  it.each([
    ["says nothing", "CREATE TABLE two (a int);"],
    ["is one for later servers only", NEXT.replace("with: 1", "with: 2")],
    ["says it elsewhere than in its opening comment", "CREATE TABLE two (a int);\n-- compatible-with: 1\n"],
  ])("refuses it where a newer file %s", async (_title, sql) => {
    await put("0002-two.sql", sql);
    await run();
    await older();
    const sentence = 'Schema "leasehold" is at version 2, this server knows only 1, and 0002-two.sql is not for it: start a newer server.';
    expect(await refusal(run())).toBe(sentence);
    expect(await problems()).toEqual([sentence]);
  });

  it("names what is missing where the schema went back", async () => {
    await put("0002-two.sql", NEXT);
    expect(await problems()).toEqual(['Schema "leasehold" lacks 0002-two.sql: start this server again to migrate it.']);
  });
});

describe("a role that may not create", () => {
  it("is told what Postgres says, and may start where there is nothing to migrate", async () => {
    const role = `reader_${String(process.pid)}`;
    await runStatements(
      database.url,
      `CREATE ROLE ${role} LOGIN`,
      `GRANT USAGE ON SCHEMA leasehold TO ${role}`,
      `GRANT SELECT ON ALL TABLES IN SCHEMA leasehold TO ${role}`,
    );
    try {
      const url = new URL(database.url);
      url.username = role;
      const asRole = () => migrate(url.href, { schema: "leasehold", folder });
      expect(await asRole()).toEqual({ applied: [], version: 1 });
      await put("0002-two.sql", "CREATE TABLE two (a int);");
      await expect(asRole()).rejects.toThrow("permission denied for schema leasehold");
      expect((await run()).applied).toEqual(["0002-two.sql"]);
    } finally {
      await runStatements(database.url, `DROP OWNED BY ${role}`, `DROP ROLE ${role}`);
    }
  });

  it("of servers that come from before additions were told apart finds the column added, and goes on", async () => {
    await runStatements(database.url, "ALTER TABLE leasehold.schema_migrations DROP COLUMN compatible_with");
    await put("0002-two.sql", "CREATE TABLE two (a int);");
    expect(await run()).toEqual({ applied: ["0002-two.sql"], version: 2 });
  });
});
