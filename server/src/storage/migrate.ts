// How does a schema come to the version that this server needs? Plain SQL files, each applied once, under a lock that waits.
// A library was no choice: those tried cannot wait for the lock, keep no checksums, or cannot be embedded (docs/decisions).

import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import pg from "pg";

import { quoteIdentifier } from "./statement.js";

/** A migration file. */
export interface Migration {
  /** The number that its name begins with. */
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hex. */
  readonly checksum: string;
  /** False for files that say `-- leasehold: outside a transaction` in their first line. */
  readonly transactional: boolean;
}

/** What a run did. */
export interface Migrated {
  readonly applied: readonly string[];
  readonly version: number;
}

/** The schema cannot be used as it is; the message says what to do. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

const OUTSIDE_TRANSACTION = "-- leasehold: outside a transaction";
const FILE_FORM = /^(\d{4})-[a-z0-9-]+\.sql$/;

/** The folder of migrations: beside the sources in the repository, inside the package when installed. */
export function migrationsFolder(): string {
  return path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../../migrations");
}

/** Reads the migrations of a folder, in order. */
export async function readMigrations(folder: string = migrationsFolder()): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".sql")).sort();
  return Promise.all(
    files.map(async (file) => {
      const version = FILE_FORM.exec(file)?.[1];
      if (version === undefined) throw new MigrationError(`${file} is not named like 0001-what-it-does.sql.`);
      const sql = await readFile(path.join(folder, file), "utf8");
      const checksum = createHash("sha256").update(sql).digest("hex");
      return { version: Number(version), name: file, sql, checksum, transactional: !sql.startsWith(OUTSIDE_TRANSACTION) };
    }),
  );
}

/**
 * Brings the schema to the newest version. Several servers may call it at once: one works, the others wait and find it done.
 * Refuses a schema that is newer than these files, and files that were changed after they were applied.
 */
export async function migrate(url: string, options: { schema: string; folder?: string }): Promise<Migrated> {
  const migrations = await readMigrations(options.folder);
  const client = new pg.Client({ connectionString: url, application_name: "leasehold migrate", connectionTimeoutMillis: 5000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return await migrateOn(client, options.schema, migrations);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function migrateOn(client: pg.Client, schema: string, migrations: readonly Migration[]): Promise<Migrated> {
  await prepareSchema(client, schema);
  const applied: string[] = [];
  // One transaction and one lock for each file: a killed run goes on where it stopped, and a pooler frees the lock with the transaction.
  for (const migration of migrations) {
    if (await applyOne(client, schema, migration, migrations)) applied.push(migration.name);
  }
  return { applied, version: migrations.at(-1)?.version ?? 0 };
}

async function prepareSchema(client: pg.Client, schema: string): Promise<void> {
  const quoted = quoteIdentifier(schema);
  const exists = await client.query("SELECT to_regclass($1) IS NOT NULL AS there", [`${quoted}.schema_migrations`]);
  if ((exists.rows[0] as { there: boolean }).there) return;
  await inTransaction(client, async () => {
    await lock(client, schema);
    // Two servers that start together: the second one finds both made.
    const made = await client.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema]);
    if (made.rowCount === 0) await client.query(`CREATE SCHEMA ${quoted}`);
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${quoted}.schema_migrations (
        version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())`,
    );
  });
}

async function applyOne(client: pg.Client, schema: string, migration: Migration, all: readonly Migration[]): Promise<boolean> {
  return inTransaction(client, async () => {
    await lock(client, schema);
    const done = await appliedMigrations(client, schema);
    refuseUnknown(done, all, schema);
    if (done.has(migration.version)) return false;
    await client.query(`SET LOCAL search_path TO ${quoteIdentifier(schema)}, pg_catalog`);
    if (migration.transactional) await client.query(migration.sql);
    else await outsideTransaction(client, schema, migration);
    await client.query(`INSERT INTO ${quoteIdentifier(schema)}.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)`, [
      migration.version,
      migration.name,
      migration.checksum,
    ]);
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
    await second.query(migration.sql);
  } finally {
    await second.end();
  }
}

async function appliedMigrations(client: pg.Client, schema: string): Promise<Map<number, { name: string; checksum: string }>> {
  const result = await client.query(`SELECT version, name, checksum FROM ${quoteIdentifier(schema)}.schema_migrations`);
  const rows = result.rows as { version: number; name: string; checksum: string }[];
  return new Map(rows.map((row) => [row.version, row]));
}

function refuseUnknown(done: Map<number, { name: string; checksum: string }>, all: readonly Migration[], schema: string): void {
  const newest = Math.max(0, ...all.map((migration) => migration.version));
  const newer = [...done.keys()].filter((version) => version > newest);
  if (newer.length > 0) {
    throw new MigrationError(
      `Schema "${schema}" is at version ${String(Math.max(...newer))}, this server knows only ${String(newest)}: start a newer server.`,
    );
  }
  for (const migration of all) {
    const before = done.get(migration.version);
    if (before !== undefined && before.checksum !== migration.checksum) {
      throw new MigrationError(
        `${migration.name} was changed after it was applied to schema "${schema}": restore the file and add a new one.`,
      );
    }
  }
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
