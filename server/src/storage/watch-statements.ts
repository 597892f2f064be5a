// How do waiters and progress reach the database without costing a durable write or a statement each?

import { float8Array, instantArray, int8Array, textArray, uuidArray } from "./binary-arrays.js";
import type { Connection, Statement } from "./statement.js";
import { optionalInteger, text } from "./statement.js";
import type { StoredProgress } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface WatchStatements {
  readonly changed: Statement;
  readonly progress: Statement;
  readonly notify: Statement;
}

/** Builds the statements of this file for one schema. */
export function watchStatements(build: Build): WatchStatements {
  return {
    changed: build(
      "changed_tasks",
      `SELECT u.id, r.revision FROM unnest($2::uuid[], $3::int8[]) AS u(id, revision) LEFT JOIN LATERAL (
        SELECT l.revision FROM $schema.live_tasks l WHERE l.shard = $1 AND l.id = u.id
        UNION ALL SELECT f.revision FROM $schema.finished_tasks f WHERE f.shard = $1 AND f.id = u.id) r ON true
      WHERE r.revision IS DISTINCT FROM u.revision`,
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
    notify: build("notify", "SELECT pg_notify($1, p) FROM unnest($2::text[]) AS p"),
  };
}

/** Of the known revisions those that are no longer true; a null revision says that the task is gone. */
export async function readChanged(
  connection: Connection,
  statements: WatchStatements,
  shard: number,
  known: readonly { readonly id: string; readonly revision: number }[],
): Promise<{ id: string; revision: number | null }[]> {
  const rows = await connection.run(statements.changed, [
    shard,
    uuidArray(known.map((k) => k.id)),
    int8Array(known.map((k) => k.revision)),
  ]);
  return rows.map((row) => ({ id: text(row, 0), revision: optionalInteger(row, 1) }));
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
