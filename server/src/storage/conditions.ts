// Does this Postgres keep what it acknowledges? Its settings are read when a server starts; a kill cannot reveal that fsync is off.

import pg from "pg";

import { toFault } from "./faults.js";

/** Oldest Postgres that is supported, as `server_version_num` counts. */
const OLDEST_VERSION = 140_000;

/** What was read. */
export interface Conditions {
  readonly versionNumber: number;
  readonly inRecovery: boolean;
  readonly fsync: string;
  readonly fullPageWrites: string;
  readonly synchronousCommit: string;
}

/** Postgres cannot be used as it is; the message says what is wrong, one sentence each. */
export class ConditionsError extends Error {
  override readonly name = "ConditionsError";
  constructor(readonly problems: readonly string[]) {
    super(problems.join(" "));
  }
}

/** Reads the conditions through a connection like those of the server. Throws a `DatabaseFault`. */
export async function readConditions(url: string): Promise<Conditions> {
  const client = new pg.Client({ connectionString: url, application_name: "leasehold conditions", connectionTimeoutMillis: 5000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<Conditions>(
      `SELECT current_setting('server_version_num')::int AS "versionNumber", pg_is_in_recovery() AS "inRecovery",
        current_setting('fsync') AS fsync, current_setting('full_page_writes') AS "fullPageWrites",
        current_setting('synchronous_commit') AS "synchronousCommit"`,
    );
    const [conditions] = rows;
    if (conditions === undefined) throw new Error("Postgres answered nothing");
    return conditions;
  } catch (error) {
    throw toFault(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** What makes a Postgres unusable, whatever it is trusted with. */
export function unusable({ versionNumber, inRecovery }: Conditions): string[] {
  return [
    ...(versionNumber < OLDEST_VERSION ? [`Postgres ${String(Math.floor(versionNumber / 10_000))} is too old: 14 is the oldest.`] : []),
    ...(inRecovery ? ["Postgres is in recovery and takes no writes: name the primary."] : []),
  ];
}

/** What makes a Postgres forget what it acknowledged. */
export function notDurable({ fsync, fullPageWrites, synchronousCommit }: Conditions): string[] {
  return [
    ...(fsync === "on" ? [] : ["fsync is off: a crash of the machine may corrupt the database."]),
    ...(fullPageWrites === "on" ? [] : ["full_page_writes is off: a crash of the machine may corrupt pages."]),
    ...(synchronousCommit === "off" ? ["synchronous_commit is off: a crash of Postgres forgets what was acknowledged."] : []),
  ];
}
