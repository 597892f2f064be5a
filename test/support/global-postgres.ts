// What is up before the first test of a run? One Postgres in a temporary folder, with a migrated template database; vitest's globalSetup.
import type { TestProject } from "vitest/node";
import { migrate } from "@leasehold/server/migrate";
import { startOwnPostgres, type OwnPostgres } from "./own-postgres.js";
import { runStatements, templateName, withDatabase } from "./postgres.js";

/** What every test database begins with. The schema has the default name, as a user's would. */
async function fillTemplate(url: string): Promise<void> {
  await migrate(url, { schema: "leasehold" });
}

async function startWithTemplate(start: () => Promise<OwnPostgres>): Promise<OwnPostgres> {
  const postgres = await start();
  try {
    await runStatements(postgres.url, `CREATE DATABASE ${templateName}`);
    await fillTemplate(withDatabase(postgres.url, templateName));
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

// Each vitest project loads this file anew, and the run is to have one Postgres of a kind: they hang on the process.
const place: { [key: symbol]: Shared | undefined } = globalThis;

/** What vitest calls before the tests of a project; what it answers is called after them. */
export type GlobalSetup = (project: TestProject) => Promise<() => Promise<void>>;

/** Starts a Postgres for the first project that asks for its kind, tells the project's tests the connection string, stops it after the last. */
export function sharedPostgres(kind: string, start: () => Promise<OwnPostgres>): GlobalSetup {
  const key = Symbol.for(`leasehold.test.postgres.${kind}`);
  return async (project) => {
    const shared = (place[key] ??= { users: 0, postgres: startWithTemplate(start) });
    shared.users += 1;
    const postgres = await shared.postgres;
    project.provide("postgresUrl", postgres.url);
    return async () => {
      shared.users -= 1;
      if (shared.users > 0) return;
      place[key] = undefined;
      await postgres.remove();
    };
  };
}

export default sharedPostgres("embedded", () => startOwnPostgres());
