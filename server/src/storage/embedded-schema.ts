// How does an embedded database get a schema whose time is moved from outside? The migrations make it as everywhere; then `leasehold_now()` is
// replaced by one that reads what each statement is told, and what passing time does to an idle server is written where hours are leapt over.

import type { EmbeddedDatabase, EmbeddedStatement } from "./embedded-database.js";
import { readMigrations } from "./migrate.js";
import { optionalInteger, quoteIdentifier } from "./statement.js";

// What the server asks of each of its connections, as far as results depend on it, and no plan for tables that are empty yet.
const SESSION_SETTINGS = `
  SET timezone = 'UTC'; SET datestyle = 'ISO'; SET bytea_output = 'hex'; SET client_min_messages = 'warning'; SET jit = off;
  SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = 'force_generic_plan'; SET synchronous_commit = off;`;

/** What a schema is emptied of before somebody else uses it. */
const TABLES = [
  "tasks",
  "live_tasks",
  "finished_tasks",
  "execution_metadata",
  "task_keys",
  "task_labels",
  "task_events",
  "task_progress",
  "sessions",
  "servers",
  "revoked_leases",
];

/** Settings of the session, once after it was started. */
export async function prepareSession(database: EmbeddedDatabase): Promise<void> {
  await database.alone((session) => session.script(SESSION_SETTINGS));
}

/** Makes a schema by the server's migrations. Its name must be one that no setting of Postgres minds: letters, digits and underscores. */
export async function prepareSchema(database: EmbeddedDatabase, schema: string, nowUs: number): Promise<void> {
  const migrations = await readMigrations();
  const quoted = quoteIdentifier(schema);
  await database.alone(async (session) => {
    await session.run([timeStatement(schema, nowUs)]);
    await session.script(`CREATE SCHEMA ${quoted}; SET search_path TO ${quoted}, pg_catalog;`);
    // Nobody is there who could be held up, and a script is one transaction.
    for (const { sql } of migrations) await session.script(sql.replaceAll(/\bCONCURRENTLY\b/g, ""));
    await session.script(
      `CREATE OR REPLACE FUNCTION ${quoted}.leasehold_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
        SELECT timestamptz '1970-01-01 00:00:00+00' + current_setting('${settingOf(schema)}')::int8 * interval '1 microsecond' $$;
      SET search_path TO DEFAULT;`,
    );
  });
  await resetTime(database, schema, nowUs);
}

/** Empties a schema, so that it is as `prepareSchema` made it. */
export async function emptySchema(database: EmbeddedDatabase, schema: string, nowUs: number): Promise<void> {
  const quoted = quoteIdentifier(schema);
  // Tests leave a few rows: deleting them is ten times as fast as truncating tables with their indexes.
  await database.alone((session) => session.script(TABLES.map((table) => `DELETE FROM ${quoted}.${table};`).join(" ")));
  await resetTime(database, schema, nowUs);
}

/** What tells a schema the time; goes before a statement. The time is in microseconds since 1970. */
export function timeStatement(schema: string, nowUs: number): EmbeddedStatement {
  return { name: "leasehold_time", text: "SELECT set_config($1, $2, false)", values: [settingOf(schema), String(nowUs)] };
}

/**
 * When something is due next that the database knows, in microseconds since 1970, looking only beyond `nowUs`; null: nothing ever. Sessions in
 * `alive` count as living on.
 */
export async function nextDueUs(
  database: EmbeddedDatabase,
  schema: string,
  nowUs: number,
  alive: readonly string[],
): Promise<number | null> {
  const quoted = quoteIdentifier(schema);
  const text = `SELECT ceil(extract(epoch FROM min(d.due)) * 1000000)::int8 FROM (
      SELECT min(l.run_at) AS due FROM ${quoted}.live_tasks l WHERE l.state <> 1 AND l.run_at > $1
      UNION ALL
      SELECT min(x.due) FROM ${quoted}.live_tasks l CROSS JOIN LATERAL (
        VALUES (l.queue_deadline), (l.attempt_deadline), (l.silence_deadline), (l.total_deadline), (l.cancel_deadline)) x(due) WHERE x.due > $1
      UNION ALL
      SELECT min(p.update_time + l.silence_limit_us * interval '1 microsecond') FROM ${quoted}.task_progress p
        JOIN ${quoted}.live_tasks l ON l.shard = p.shard AND l.id = p.id AND l.silence_deadline IS NOT NULL
        WHERE p.update_time + l.silence_limit_us * interval '1 microsecond' > $1
      UNION ALL
      SELECT min(s.expires_at) FROM ${quoted}.sessions s WHERE s.end_time IS NULL AND s.expires_at > $1 AND s.id <> ALL ($2::uuid[])) d`;
  const values = [instantText(nowUs), alive];
  const { rows } = await database.alone((session) => session.run([{ name: `${schema} next_due`, text, values }]));
  return rows[0] === undefined ? null : optionalInteger(rows[0], 0);
}

/** Lets time pass by that nobody lived through: the sessions in `alive` heartbeated and upkeep ticked all along. */
export async function leap(database: EmbeddedDatabase, schema: string, byUs: number, alive: readonly string[]): Promise<void> {
  const quoted = quoteIdentifier(schema);
  const by = "$1::int8 * interval '1 microsecond'";
  await database.alone(async (session) => {
    await session.run([
      { name: `${schema} leap_upkeep`, text: `UPDATE ${quoted}.upkeep SET last_tick = last_tick + ${by}`, values: [byUs] },
      { name: `${schema} leap_servers`, text: `UPDATE ${quoted}.servers SET seen_time = seen_time + ${by}`, values: [byUs] },
      {
        name: `${schema} leap_sessions`,
        text: `UPDATE ${quoted}.sessions SET expires_at = expires_at + ${by} WHERE end_time IS NULL AND id = ANY ($2::uuid[])`,
        values: [byUs, alive],
      },
    ]);
  });
}

/** Ends the time of sessions: the next tick of upkeep finds them silent for too long. */
export async function expireSessions(
  database: EmbeddedDatabase,
  schema: string,
  nowUs: number,
  sessionIds: readonly string[],
): Promise<void> {
  const text = `UPDATE ${quoteIdentifier(schema)}.sessions SET expires_at = $1 WHERE end_time IS NULL AND id = ANY ($2::uuid[])`;
  await database.alone((session) => session.run([{ name: `${schema} expire`, text, values: [instantText(nowUs), sessionIds] }]));
}

/** The session that holds a task's lease, and the number of its fencing token; null: nobody holds one. */
export async function holderOf(database: EmbeddedDatabase, schema: string, taskId: string): Promise<string | null> {
  const text = `SELECT session_id::text FROM ${quoteIdentifier(schema)}.live_tasks WHERE id = $1::uuid AND state = 1`;
  const { rows } = await database.alone((session) => session.run([{ name: `${schema} holder`, text, values: [taskId] }]));
  return rows[0]?.[0] ?? null;
}

async function resetTime(database: EmbeddedDatabase, schema: string, nowUs: number): Promise<void> {
  const text = `UPDATE ${quoteIdentifier(schema)}.upkeep SET last_tick = $1, lenient_until = $1`;
  await database.alone((session) => session.run([{ text, values: [instantText(nowUs)] }]));
}

function settingOf(schema: string): string {
  return `leasehold.now_of_${schema}`;
}

function instantText(us: number): string {
  return `${new Date(Math.floor(us / 1000)).toISOString().slice(0, -1)}${String(us % 1000).padStart(3, "0")}+00`;
}
