// How does a test get a database that nobody else touches? As a clone of a migrated template, in the one Postgres of the whole run.
import pg from "pg";
import { inject } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    /** Connection string of the run's Postgres, to its own database `leasehold`, which tests leave alone. */
    postgresUrl: string;
  }
}

/** The database that every test database is cloned from; made once a run by global-postgres.ts. */
export const templateName = "leasehold_template";

/** A database of one test. */
export interface TestDatabase {
  /** Connection string, for `pg`, `slonik` and LEASEHOLD_DATABASE_URL. */
  readonly url: string;
  /** Ends every connection to it and removes it. */
  drop(): Promise<void>;
}

/** The same server, another database. */
export function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

/** Runs statements one after another on a connection of their own. */
export async function runStatements(url: string, ...statements: readonly string[]): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

let made = 0;

/** Makes a database with the migrated schema and nothing in it, in some 40 ms. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const serverUrl = inject("postgresUrl");
  made += 1;
  const name = `test_${String(process.pid)}_${String(made)}`;
  await runStatements(serverUrl, `CREATE DATABASE ${name} TEMPLATE ${templateName}`);
  return {
    url: withDatabase(serverUrl, name),
    drop: () => runStatements(serverUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
  };
}
