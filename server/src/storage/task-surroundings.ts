// Among what does a pending task wait? The living workers that handle its name, what they hold, and the due tasks that go before it.

import { textArray } from "./binary-arrays.js";
import { readOwnSlots } from "./json-columns.js";
import type { TaskSurroundings, Waiting, WorkerRoom } from "./queries.js";
import type { Connection, Row, Statement } from "./statement.js";
import { instant, integer, text } from "./statement.js";
import { SUSPECT_LOSSES } from "../domain/retry.js";

type Build = (name: string, text: string) => Statement;

/** Most tasks ahead that are counted. */
export const MOST_AHEAD = 10_000;

/** Statements of this file. */
export interface SurroundingStatements {
  readonly rooms: Statement;
  readonly ahead: Statement;
}

/** Builds the statements of this file for one schema. */
export function surroundingStatements(build: Build): SurroundingStatements {
  return {
    rooms: build(
      "worker_rooms",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now)
      SELECT c.now, to_jsonb(s.queues), to_jsonb(s.handlers), s.slots, s.own_slots, s.unary, h.held, h.of_name, h.suspect
      FROM c LEFT JOIN LATERAL (
        SELECT * FROM $schema.sessions s WHERE s.shard = $1 AND s.namespace = $2 AND s.end_time IS NULL AND s.expires_at > c.now
          AND $3 = ANY (s.handlers) OFFSET 0) s ON true
      LEFT JOIN LATERAL (
        SELECT count(*) AS held, count(*) FILTER (WHERE l.name = $3) AS of_name,
          coalesce(bool_or(l.lost_leases >= ${String(SUSPECT_LOSSES)}), false) AS suspect
        FROM $schema.live_tasks l WHERE l.shard = $1 AND l.state = 1 AND l.session_id = s.id) h ON true`,
    ),
    // The order of a claim: within a queue by priority, then due time, whatever the name.
    ahead: build(
      "tasks_ahead",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now),
      own AS MATERIALIZED (SELECT l.priority, l.run_at, l.id FROM $schema.live_tasks l WHERE l.shard = $1 AND l.id = $5::uuid)
      SELECT count(*) FROM (
        SELECT 1 FROM own CROSS JOIN unnest($4::text[]) AS n(name) CROSS JOIN generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
          SELECT 1 FROM $schema.live_tasks l WHERE l.shard = $1 AND l.namespace = $2 AND l.queue = $3 AND l.name = n.name
            AND l.priority = p.priority AND l.state = 0 AND l.lost_leases < ${String(SUSPECT_LOSSES)} AND l.run_at <= (SELECT now FROM c)
            AND (p.priority > own.priority OR (l.run_at, l.id) < (own.run_at, own.id))
          ORDER BY l.run_at, l.id LIMIT ${String(MOST_AHEAD)}) x
        WHERE p.priority >= own.priority LIMIT ${String(MOST_AHEAD)}) y`,
    ),
  };
}

/** The workers that handle a task's name, and the database's time. */
export async function readSurroundings(
  connection: Connection,
  statements: SurroundingStatements,
  shard: number,
  { identity }: Waiting,
): Promise<TaskSurroundings> {
  const rows = await connection.run(statements.rooms, [shard, identity.namespace, identity.name]);
  const [first] = rows;
  if (first === undefined) throw new Error("the clock statement answered nothing");
  return { nowUs: instant(first, 0), workers: rows.filter((row) => row[1] !== null).map((row) => readRoom(row, identity.name)) };
}

/** How many due tasks of these names go before a task in its queue, at most `MOST_AHEAD`. */
export async function countAhead(
  connection: Connection,
  statements: SurroundingStatements,
  shard: number,
  { identity, queue }: Waiting,
  names: readonly string[],
): Promise<number> {
  const [row] = await connection.run(statements.ahead, [shard, identity.namespace, queue, textArray(names), identity.id]);
  return row === undefined ? 0 : integer(row, 0);
}

function readRoom(row: Row, name: string): WorkerRoom {
  return {
    queues: JSON.parse(text(row, 1)) as string[],
    handlers: JSON.parse(text(row, 2)) as string[],
    slots: integer(row, 3),
    ownSlots: readOwnSlots(row[4] ?? null).get(name) ?? null,
    unary: row[5] === "t",
    held: integer(row, 6),
    heldOfName: integer(row, 7),
    holdsSuspect: row[8] === "t",
  };
}
