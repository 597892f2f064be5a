// What is up before the first test of a run? One Postgres in a temporary folder, with a migrated template database; vitest's globalSetup.
import type { TestProject } from "vitest/node";
import { migrate } from "@leasehold/server/migrate";
import { startOwnPostgres, type OwnPostgres } from "./own-postgres.js";
import { runStatements, templateName, withDatabase } from "./postgres.js";

/** What every test database begins with. The schema has the default name, as a user's would. */
async function fillTemplate(url: string): Promise<void> {
  await migrate(url, { schema: "leasehold" });
}

async function startWithTemplate(fill: (url: string) => Promise<void>): Promise<OwnPostgres> {
  const postgres = await startOwnPostgres();
  try {
    await runStatements(postgres.url, `CREATE DATABASE ${templateName}`);
    await fill(withDatabase(postgres.url, templateName));
    // A connection to the template, of a curious test for example, would make every clone wait and fail.
    await runStatements(postgres.url, `ALTER DATABASE ${templateName} WITH IS_TEMPLATE true ALLOW_CONNECTIONS false`);
    return postgres;
  } catch (error) {
    await postgres.remove();
    throw error;
  }
}

interface Shared {
  users: number;
  readonly postgres: Promise<OwnPostgres>;
}

// Each vitest project loads this file anew, and the run is to have one Postgres: it hangs on the process.
const place: { [key: symbol]: Shared | undefined } = globalThis;
const key = Symbol.for("leasehold.test.postgres");

/** Starts it for the first project that asks, tells the project's tests the connection string, and stops it after the last. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const shared = (place[key] ??= { users: 0, postgres: startWithTemplate(fillTemplate) });
  shared.users += 1;
  const postgres = await shared.postgres;
  project.provide("postgresUrl", postgres.url);
  return async () => {
    shared.users -= 1;
    if (shared.users > 0) return;
    place[key] = undefined;
    await postgres.remove();
  };
}
