// How do waiters and progress reach the database without costing a durable write or a statement each?

import { float8Array, instantArray, int8Array, textArray, uuidArray } from "./binary-arrays.js";
import { FINISHED_FIRST, finishedOf } from "./live-rows.js";
import type { Connection, Statement } from "./statement.js";
import { integer, optionalInteger, text } from "./statement.js";
import type { KnownTask, StoredProgress } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface WatchStatements {
  readonly changed: Statement;
  readonly progress: Statement;
  readonly sweepProgress: Statement;
  readonly notify: Statement;
}

/** Builds the statements of this file for one schema. */
export function watchStatements(build: Build): WatchStatements {
  return {
    changed: build(
      "changed_tasks",
      `SELECT u.id, r.revision FROM unnest($2::uuid[], $3::int8[], $4::timestamptz[]) AS u(id, revision, progress_time) LEFT JOIN LATERAL (
        SELECT l.revision, CASE WHEN l.state = 1 THEN l.lease_time END AS lease_time FROM $schema.live_tasks l WHERE l.shard = $1 AND l.id = u.id
        UNION ALL (SELECT f.revision, NULL FROM $schema.finished_tasks f WHERE ${finishedOf("u.id")} ${FINISHED_FIRST})) r ON true
      WHERE r.revision IS DISTINCT FROM u.revision OR (u.progress_time IS NOT NULL AND r.lease_time IS NOT NULL AND EXISTS (
        SELECT 1 FROM $schema.task_progress p WHERE p.shard = $1 AND p.id = u.id AND p.update_time > u.progress_time
          AND p.update_time >= r.lease_time))`,
    ),
    progress: build(
      "store_progress",
      `INSERT INTO $schema.task_progress AS p (shard, id, update_time, done, total, message)
      SELECT $1::int2, u.id, u.update_time, u.done, u.total, u.message
      FROM unnest($2::uuid[], $3::timestamptz[], $4::float8[], $5::float8[], $6::text[]) AS u(id, update_time, done, total, message)
      CROSS JOIN LATERAL (SELECT 1 FROM $schema.live_tasks l WHERE l.shard = $1 AND l.id = u.id AND l.state = 1 OFFSET 0) running
      ON CONFLICT (shard, id) DO UPDATE SET update_time = excluded.update_time, done = excluded.done, total = excluded.total,
        message = excluded.message`,
    ),
    // What was said a moment ago may be of a task that was read as running and is about to be stored again.
    sweepProgress: build(
      "sweep_progress",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now),
      stray AS MATERIALIZED (
        SELECT p.id FROM $schema.task_progress p WHERE p.shard = $1 AND p.update_time < (SELECT now FROM c) - interval '1 minute'
          AND NOT EXISTS (SELECT 1 FROM $schema.live_tasks l WHERE l.shard = $1 AND l.id = p.id AND l.state = 1)
        LIMIT $2::int4 FOR UPDATE OF p SKIP LOCKED),
      gone AS (DELETE FROM $schema.task_progress p WHERE p.shard = $1 AND p.id = ANY (ARRAY(SELECT id FROM stray)) RETURNING p.id)
      SELECT count(*) FROM gone`,
    ),
    notify: build("notify", "SELECT pg_notify($1, p) FROM unnest($2::text[]) AS p"),
  };
}

/** Of what is known that which is no longer true; a null revision says that the task is gone. */
export async function readChanged(
  connection: Connection,
  statements: WatchStatements,
  shard: number,
  known: readonly KnownTask[],
): Promise<{ id: string; revision: number | null }[]> {
  const rows = await connection.run(statements.changed, [
    shard,
    uuidArray(known.map((k) => k.id)),
    int8Array(known.map((k) => k.revision)),
    instantArray(known.map((k) => k.progressUs)),
  ]);
  return rows.map((row) => ({ id: text(row, 0), revision: optionalInteger(row, 1) }));
}

/** Removes progress that belongs to no running task. */
export async function sweepProgress(connection: Connection, statements: WatchStatements, shard: number, most: number): Promise<number> {
  const [row] = await connection.run(statements.sweepProgress, [shard, most]);
  return row === undefined ? 0 : integer(row, 0);
}

/** Stores progress of tasks that run. */
export async function storeProgress(
  connection: Connection,
  statements: WatchStatements,
  shard: number,
  progress: readonly { readonly taskId: string; readonly progress: StoredProgress }[],
): Promise<void> {
  const sorted = [...progress].sort((a, b) => (a.taskId < b.taskId ? -1 : 1));
  await connection.run(statements.progress, [
    shard,
    uuidArray(sorted.map((one) => one.taskId)),
    instantArray(sorted.map((one) => one.progress.updateUs)),
    float8Array(sorted.map((one) => one.progress.done)),
    float8Array(sorted.map((one) => one.progress.total)),
    textArray(sorted.map((one) => one.progress.message)),
  ]);
}
