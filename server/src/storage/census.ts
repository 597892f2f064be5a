// How much of everything is there? Counted over all unfinished tasks and living sessions, and what Postgres says of its tables, for whoever watches the
// service from outside.

import { stateOf } from "./live-rows.js";
import type { Connection, Statement } from "./statement.js";
import { integer, text } from "./statement.js";
import type { Census } from "./queries.js";

/** Statements of this file. */
export interface CensusStatements {
  readonly censusOfTasks: Statement;
  readonly censusOfSessions: Statement;
  readonly censusOfTables: Statement;
}

/** Tables whose dead rows lie in the way of what comes next. */
const BUSY_TABLES = ["live_tasks", "sessions", "execution_metadata", "tasks", "finished_tasks"];

/** Builds the statements of this file for one schema. */
export function censusStatements(build: (name: string, text: string) => Statement): CensusStatements {
  return {
    censusOfTasks: build(
      "census_of_tasks",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now)
      SELECT l.queue, l.state, count(*),
        COALESCE(extract(epoch FROM c.now - min(l.run_at) FILTER (WHERE l.state = 0 AND l.run_at <= c.now)), 0)
      FROM $schema.live_tasks l CROSS JOIN c WHERE l.shard = $1 GROUP BY l.queue, l.state, c.now`,
    ),
    censusOfSessions: build(
      "census_of_sessions",
      `SELECT count(*), COALESCE(sum(s.slots), 0) FROM $schema.sessions s WHERE s.shard = $1 AND s.end_time IS NULL`,
    ),
    // The schema is that of a row: its name may hold whatever would end a literal.
    censusOfTables: build(
      "census_of_tables",
      `SELECT t.relname, pg_stat_get_live_tuples(t.oid), pg_stat_get_dead_tuples(t.oid), (SELECT max(m.version) FROM $schema.schema_migrations m)
      FROM pg_class t WHERE t.relname IN (${BUSY_TABLES.map((table) => `'${table}'`).join(", ")}) AND t.relnamespace = (
        SELECT c.relnamespace FROM pg_class c WHERE c.oid = (SELECT m.tableoid FROM $schema.schema_migrations m LIMIT 1))`,
    ),
  };
}

/** Counts. */
export async function readCensus(connection: Connection, statements: CensusStatements, shard: number): Promise<Census> {
  const tasks = await connection.run(statements.censusOfTasks, [shard]);
  const [sessions] = await connection.run(statements.censusOfSessions, [shard]);
  const tables = await connection.run(statements.censusOfTables, []);
  return {
    groups: tasks.map((row) => {
      const state = stateOf(integer(row, 1));
      // A live row has no other state.
      if (state !== "RUNNING" && state !== "SUSPENDED" && state !== "PENDING") throw new TypeError(`a live task is ${state}`);
      return { queue: text(row, 0), state, count: integer(row, 2), oldestDueS: Number(text(row, 3)) };
    }),
    sessions: sessions === undefined ? 0 : integer(sessions, 0),
    slots: sessions === undefined ? 0 : integer(sessions, 1),
    tables: tables.map((row) => ({ table: text(row, 0), live: integer(row, 1), dead: integer(row, 2) })),
    schemaVersion: tables[0] === undefined ? 0 : integer(tables[0], 3),
  };
}
