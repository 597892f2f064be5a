// Does this Postgres keep what it acknowledges, and how well? What its settings say, read again and again while a server runs; a kill cannot
// reveal that fsync is off.

import pg from "pg";

import { DatabaseFault, toFault } from "./faults.js";

/** Oldest Postgres that is supported, as `server_version_num` counts. */
const OLDEST_VERSION = 140_000;

/** What was read. */
export interface Conditions {
  readonly versionNumber: number;
  readonly inRecovery: boolean;
  readonly fsync: string;
  readonly fullPageWrites: string;
  /** Of new connections like those of the server: it may differ by role and database. */
  readonly synchronousCommit: string;
  /** Empty: no commit waits for a standby. */
  readonly synchronousStandbyNames: string;
  /** How many that a commit may wait for are connected; null where the role may not see it. */
  readonly synchronousStandbys: number | null;
  /** As `CONNECTION_TRAITS`. */
  readonly traits: string;
}

/** How well acknowledged writes are kept, worst last: see DurabilityClass in the contract. */
export const DURABILITIES = ["SYNCHRONOUS_STANDBY", "LOCAL", "PROVIDER", "UNSAFE"] as const;
/** One of them. */
export type Durability = (typeof DURABILITIES)[number];

/** How a Postgres stands. */
export interface Standing {
  readonly durability: Durability;
  /** Why it must not be used as it is, one sentence each; none: it may. */
  readonly problems: readonly string[];
}

/** Postgres cannot be used as it is; the message says what is wrong, one sentence each. */
export class ConditionsError extends Error {
  override readonly name = "ConditionsError";
  constructor(readonly problems: readonly string[]) {
    super(problems.join(" "));
  }
}

/** What every operation fails with while Postgres must not be used; nothing was sent to it. */
export class UnfitDatabase extends DatabaseFault {
  constructor(readonly problems: readonly string[]) {
    super("unavailable", problems.join(" "), false, 1000);
  }
}

/** What tells a connection that is to be replaced from a new one, as SQL: the run of the server behind it, and how its commits are kept. */
export const CONNECTION_TRAITS =
  "extract(epoch FROM pg_postmaster_start_time())::text || ' synchronous_commit ' || current_setting('synchronous_commit')";

/** Reads the conditions through a new connection like those of the server. Throws a `DatabaseFault`. */
export async function readConditions(url: string): Promise<Conditions> {
  const client = new pg.Client({
    ...{ connectionString: url, application_name: "leasehold conditions" },
    // A server that hangs must not end the watch.
    ...{ connectionTimeoutMillis: 5000, query_timeout: 5000 },
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<Conditions>(
      `SELECT current_setting('server_version_num')::int AS "versionNumber", pg_is_in_recovery() AS "inRecovery",
        current_setting('fsync') AS fsync, current_setting('full_page_writes') AS "fullPageWrites",
        current_setting('synchronous_commit') AS "synchronousCommit",
        current_setting('synchronous_standby_names') AS "synchronousStandbyNames",
        CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE') THEN
          (SELECT count(*)::int FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) END AS "synchronousStandbys",
        ${CONNECTION_TRAITS} AS traits`,
    );
    const [conditions] = rows;
    if (conditions === undefined) throw new Error("Postgres answered nothing");
    return conditions;
  } catch (error) {
    throw toFault(error);
  } finally {
    client.end().catch(() => undefined);
  }
}

/** What follows from the conditions where they are trusted as `LEASEHOLD_DURABILITY` says. */
export function judge(conditions: Conditions, trusted: "checked" | "provider" | "unsafe"): Standing {
  const forgetful = notDurable(conditions);
  const problems = [...unusable(conditions), ...(trusted === "checked" ? forgetful : [])];
  return { durability: trusted === "provider" ? "PROVIDER" : observed(conditions, forgetful), problems };
}

function observed(conditions: Conditions, forgetful: readonly string[]): Durability {
  const { synchronousStandbyNames, synchronousCommit, synchronousStandbys } = conditions;
  if (forgetful.length > 0) return "UNSAFE";
  // With `local` a commit waits for no standby, whatever names are set.
  const waits = synchronousStandbyNames.trim() !== "" && synchronousCommit !== "local";
  return waits && synchronousStandbys !== 0 ? "SYNCHRONOUS_STANDBY" : "LOCAL";
}

/** What makes a Postgres unusable, whatever it is trusted with. */
export function unusable({ versionNumber, inRecovery }: Pick<Conditions, "versionNumber" | "inRecovery">): string[] {
  return [
    ...(versionNumber < OLDEST_VERSION ? [`Postgres ${String(Math.floor(versionNumber / 10_000))} is too old: 14 is the oldest.`] : []),
    ...(inRecovery ? ["Postgres is in recovery and takes no writes: name the primary."] : []),
  ];
}

/** What makes a Postgres forget what it acknowledged. */
export function notDurable({
  fsync,
  fullPageWrites,
  synchronousCommit,
}: Pick<Conditions, "fsync" | "fullPageWrites" | "synchronousCommit">): string[] {
  return [
    ...(fsync === "on" ? [] : ["fsync is off: a crash of the machine may corrupt the database."]),
    ...(fullPageWrites === "on" ? [] : ["full_page_writes is off: a crash of the machine may corrupt pages."]),
    ...(synchronousCommit === "off" ? ["synchronous_commit is off: a crash of Postgres forgets what was acknowledged."] : []),
  ];
}
