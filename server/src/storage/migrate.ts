// How does a schema come to the version that this server needs? Plain SQL files, each applied once, under a lock that waits.
// A library was no choice: those tried cannot wait for the lock, keep no checksums, or cannot be embedded (docs/decisions).

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import pg from "pg";

import { type Clock, systemClock } from "../clock.js";
import { sqlState } from "./faults.js";
import { type AppliedMigration, appliedMigrations, compatibleWith, type KnownMigration, schemaProblem } from "./schema-version.js";
import { quoteIdentifier } from "./statement.js";

/** A migration file. */
export interface Migration extends KnownMigration {
  readonly sql: string;
  /** False for files that say `-- leasehold: outside a transaction` in their first line. */
  readonly transactional: boolean;
  /** The oldest schema version whose servers may go on while it is applied and after; its own version where it is no mere addition. */
  readonly compatibleWith: number;
}

/** What a run did, and the version that the schema has now: higher than that of the files where a newer server was here. */
export interface Migrated {
  readonly applied: readonly string[];
  readonly version: number;
}

/** The schema cannot be used as it is; the message says what to do. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

const OUTSIDE_TRANSACTION = "-- leasehold: outside a transaction";
/** How long a file waits for a lock on a table: everything that comes later waits behind it, so this is what a submission may be late. */
const LOCK_WAIT_MS = 500;
/** Between two tries, what waited gets through. */
const BETWEEN_TRIES_MS = 1_000;
/** A transaction that holds a table for longer is nobody's plan, and a start that hangs tells nobody. */
const LOCK_PATIENCE_MS = 300_000;
const INDEX_BUILT = /^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"?([^\s"]+)"?\s+ON\b/gim;
const FILE_FORM = /^(\d{4})-[a-z0-9-]+\.sql$/;

/** The folder of migrations: beside the sources in the repository, inside the package when installed. */
export function migrationsFolder(): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const inRepository = path.resolve(here, "../../../migrations");
  return existsSync(inRepository) ? inRepository : path.resolve(here, "../../migrations");
}

/** Reads the migrations of a folder, in order. */
export async function readMigrations(folder: string = migrationsFolder()): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".sql")).sort();
  return Promise.all(
    files.map(async (file) => {
      const version = FILE_FORM.exec(file)?.[1];
      if (version === undefined) throw new MigrationError(`${file} is not named like 0001-what-it-does.sql.`);
      const sql = await readFile(path.join(folder, file), "utf8");
      return {
        version: Number(version),
        name: file,
        sql,
        checksum: createHash("sha256").update(sql).digest("hex"),
        transactional: !sql.startsWith(OUTSIDE_TRANSACTION),
        compatibleWith: compatibleWith(sql, Number(version)),
      };
    }),
  );
}

/**
 * Brings the schema to the newest version. Several servers may call it at once: one works, the others wait and find it done. Those that serve
 * meanwhile go on: no file waits for a lock on a table for longer than half a second at a time. Refuses a schema that is newer than these files
 * by more than additions, and files that were changed after they were applied. `lockPatienceMs`: for how long a file is tried while somebody
 * holds a lock that it needs.
 */
export async function migrate(url: string, options: { schema: string; folder?: string; lockPatienceMs?: number }): Promise<Migrated> {
  const { schema, folder, lockPatienceMs = LOCK_PATIENCE_MS } = options;
  const migrations = await readMigrations(folder);
  const client = new pg.Client({ connectionString: url, application_name: "leasehold migrate", connectionTimeoutMillis: 5000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return await migrateOn(client, schema, migrations, lockPatienceMs);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function migrateOn(client: pg.Client, schema: string, migrations: readonly Migration[], lockPatienceMs: number): Promise<Migrated> {
  const clock = systemClock();
  await prepareSchema(client, schema);
  const applied: string[] = [];
  // One transaction and one lock for each file: a killed run goes on where it stopped, and a pooler frees the lock with the transaction.
  for (const migration of migrations) {
    if (await patiently(migration, lockPatienceMs, clock, () => applyOne(client, schema, migration, migrations)))
      applied.push(migration.name);
  }
  const all = await appliedMigrations(client, schema);
  return { applied, version: all.at(-1)?.version ?? 0 };
}

async function prepareSchema(client: pg.Client, schema: string): Promise<void> {
  const quoted = quoteIdentifier(schema);
  const ready = await client.query("SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'compatible_with'", [
    `${quoted}.schema_migrations`,
  ]);
  if (ready.rowCount === 1) return;
  await inTransaction(client, async () => {
    await lock(client, schema);
    // Two servers that start together: the second one finds both made.
    const made = await client.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema]);
    if (made.rowCount === 0) await client.query(`CREATE SCHEMA ${quoted}`);
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${quoted}.schema_migrations (
        version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())`,
    );
    await client.query(`ALTER TABLE ${quoted}.schema_migrations ADD COLUMN IF NOT EXISTS compatible_with integer`);
  });
}

// Whoever holds a table, as a backup or a long report does, is let through with everybody who waits behind.
async function patiently<T>(migration: Migration, patienceMs: number, clock: Clock, work: () => Promise<T>): Promise<T> {
  const deadlineMs = clock.monotonicMs() + patienceMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!["55P03", "40P01"].includes(sqlState(error) ?? "")) throw error;
      if (clock.monotonicMs() + BETWEEN_TRIES_MS > deadlineMs) {
        throw new MigrationError(
          `${migration.name} needs a lock on a table that another transaction holds: end the one with the oldest xact_start in pg_stat_activity, then start again.`,
        );
      }
    }
    await new Promise<void>((resolve) => clock.after(BETWEEN_TRIES_MS, resolve));
  }
}

async function applyOne(client: pg.Client, schema: string, migration: Migration, all: readonly Migration[]): Promise<boolean> {
  return inTransaction(client, async () => {
    await lock(client, schema);
    const done = await appliedMigrations(client, schema);
    refuseUnfit(done, all, schema);
    if (done.some(({ version }) => version === migration.version)) return false;
    await client.query(`SET LOCAL search_path TO ${quoteIdentifier(schema)}, pg_catalog`);
    if (migration.transactional) {
      await client.query(`SET LOCAL lock_timeout TO ${String(LOCK_WAIT_MS)}`);
      await client.query(migration.sql);
    } else await outsideTransaction(client, schema, migration);
    await client.query(
      `INSERT INTO ${quoteIdentifier(schema)}.schema_migrations (version, name, checksum, compatible_with) VALUES ($1, $2, $3, $4)`,
      [migration.version, migration.name, migration.checksum, migration.compatibleWith],
    );
    return true;
  });
}

// For statements like CREATE INDEX CONCURRENTLY, run by a second connection while this one holds the lock.
async function outsideTransaction(client: pg.Client, schema: string, migration: Migration): Promise<void> {
  const { connectionParameters } = client as unknown as { connectionParameters: pg.ClientConfig };
  const second = new pg.Client(connectionParameters);
  second.on("error", () => undefined);
  await second.connect();
  try {
    await second.query(`SET search_path TO ${quoteIdentifier(schema)}, pg_catalog`);
    // A run that was killed leaves its index behind, INVALID or, a moment later, whole but not written down. Waits until its end.
    for (const [, name = ""] of migration.sql.matchAll(INDEX_BUILT))
      await second.query(`DROP INDEX CONCURRENTLY IF EXISTS ${quoteIdentifier(schema)}.${quoteIdentifier(name)}`);
    await second.query(migration.sql);
  } finally {
    await second.end();
  }
}

function refuseUnfit(done: readonly AppliedMigration[], all: readonly Migration[], schema: string): void {
  const problem = schemaProblem(done, all, schema);
  if (problem !== null) throw new MigrationError(problem);
}

// Waits for as long as another server migrates. Within the transaction, so that it is never left behind in a pooled connection.
async function lock(client: pg.Client, schema: string): Promise<void> {
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended('leasehold migrate ' || $1, 0))", [schema]);
}

async function inTransaction<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  await client.query("BEGIN");
  try {
    const result = await work();
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}
