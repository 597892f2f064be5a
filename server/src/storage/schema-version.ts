// May a server run on this schema? Where it is as old as the server's own migrations, or newer only by additions that the server need not know.

import pg from "pg";

import { toFault } from "./faults.js";
import { quoteIdentifier } from "./statement.js";

/** A migration that a server knows. */
export interface KnownMigration {
  /** The number that its file's name begins with. */
  readonly version: number;
  readonly name: string;
  /** SHA-256 of the file, hex. */
  readonly checksum: string;
}

/** A migration as the schema remembers it. */
export interface AppliedMigration extends KnownMigration {
  /** The oldest schema version whose servers may go on beside it; its own version where it is no mere addition. */
  readonly compatibleWith: number;
}

const COMPATIBLE = /^-- compatible-with: (\d+)$/m;

/** The version that a server brings a schema to. */
export function newestVersion(known: readonly KnownMigration[]): number {
  return Math.max(0, ...known.map(({ version }) => version));
}

/** Reads from a migration file which servers may go on: `-- compatible-with: 3` in its opening comment. Without it none that is older. */
export function compatibleWith(sql: string, version: number): number {
  const opening = /^(?:--[^\n]*(?:\n|$))*/.exec(sql)?.[0] ?? "";
  return Number(COMPATIBLE.exec(opening)?.[1] ?? version);
}

/** What was applied to a schema, oldest first. */
export async function appliedMigrations(client: pg.ClientBase, schema: string): Promise<AppliedMigration[]> {
  const { rows } = await client.query<AppliedMigration>(
    `SELECT version, name, checksum, COALESCE(compatible_with, version) AS "compatibleWith"
    FROM ${quoteIdentifier(schema)}.schema_migrations ORDER BY version`,
  );
  return rows;
}

/** Why a server with these migrations must not touch the schema, in a sentence; null: it may, perhaps after it applied what is missing. */
export function schemaProblem(applied: readonly AppliedMigration[], known: readonly KnownMigration[], schema: string): string | null {
  const newest = newestVersion(known);
  const foreign = applied.filter((migration) => migration.version > newest && migration.compatibleWith > newest);
  if (foreign.length > 0) {
    const at = Math.max(...applied.map(({ version }) => version));
    const names = foreign.map(({ name }) => name).join(", ");
    return `Schema "${schema}" is at version ${String(at)}, this server knows only ${String(newest)}, and ${names} is not for it: start a newer server.`;
  }
  const checksums = new Map(applied.map(({ version, checksum }) => [version, checksum]));
  const changed = known.find(({ version, checksum }) => (checksums.get(version) ?? checksum) !== checksum);
  if (changed === undefined) return null;
  return `${changed.name} was changed after it was applied to schema "${schema}": restore the file and add a new one.`;
}

/** Why a server that runs must stop using its schema: one sentence or none. Throws a `DatabaseFault`. */
export async function schemaProblems(url: string, schema: string, known: readonly KnownMigration[]): Promise<string[]> {
  const client = new pg.Client({
    connectionString: url,
    application_name: "leasehold schema",
    connectionTimeoutMillis: 5000,
    query_timeout: 5000,
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const applied = await appliedMigrations(client, schema);
    const missing = known.filter(({ version }) => !applied.some((migration) => migration.version === version));
    if (missing.length > 0)
      return [`Schema "${schema}" lacks ${missing.map(({ name }) => name).join(", ")}: start this server again to migrate it.`];
    const problem = schemaProblem(applied, known, schema);
    return problem === null ? [] : [problem];
  } catch (error) {
    throw toFault(error);
  } finally {
    client.end().catch(() => undefined);
  }
}
