// What may still happen to a finished task? It is taken up again, or removed with everything that belongs to it.

import type { FinishedTask, Reopening } from "../domain/reopen.js";
import { reopen } from "../domain/reopen.js";
import type { FinalState, LiveTask } from "../domain/task.js";
import { timelineParameters } from "./apply-decisions.js";
import type { DecideStatements } from "./decide.js";
import { readError, writeError } from "./json-columns.js";
import { FINISHED_FIRST, finishedOf, LIVE_COLUMN_COUNT, LIVE_COLUMNS, pendingReasonNumber, readLive, stateOf } from "./live-rows.js";
import type { Connection, Statement } from "./statement.js";
import { instant, integer } from "./statement.js";
import type { Deleted, Retried } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface FinishedStatements {
  readonly lockFinished: Statement;
  readonly isLive: Statement;
  readonly takeKey: Statement;
  readonly reopen: Statement;
  readonly remove: Statement;
}

/** The row of a finished task `x` that `lockFinished` has locked before in the same transaction, so that its place stands. */
const THE_LOCKED_ROW = `x.shard = $1 AND x.id = $2::uuid
        AND x.ctid = (SELECT f.ctid FROM $schema.finished_tasks f WHERE ${finishedOf("$2::uuid")} ${FINISHED_FIRST})`;

/** Builds the statements of this file for one schema. */
export function finishedStatements(build: Build): FinishedStatements {
  return {
    lockFinished: build(
      "lock_finished",
      `SELECT ${LIVE_COLUMNS}, f.state, f.error FROM $schema.finished_tasks f
      CROSS JOIN LATERAL (SELECT * FROM $schema.tasks t WHERE t.shard = $1 AND t.id = f.id OFFSET 0) t
      CROSS JOIN LATERAL (
        SELECT f.id, f.namespace, f.queue, f.priority, 0 AS state, f.pending_reason, f.run_at, NULL::timestamptz AS suspend_time, f.failures,
          f.lost_leases, 0 AS releases, NULL::bytea AS lease_nonce, NULL::uuid AS session_id, NULL::int8 AS session_epoch, f.lease_time,
          f.worker_name, f.fencing_token, 0 AS settled_seq, f.last_outcome_nonce, f.last_outcome_seq, f.last_outcome_invalid,
          NULL::timestamptz AS queue_deadline, NULL::timestamptz AS attempt_deadline, NULL::timestamptz AS silence_deadline,
          NULL::timestamptz AS total_deadline, NULL::text AS cancel_reason, NULL::timestamptz AS cancel_time,
          NULL::timestamptz AS cancel_deadline, NULL::text AS proceeds, f.execution_metadata_version, f.execution_metadata_bytes,
          f.checkpoint_count, f.checkpoint_time, NULL::text AS last_error, f.revision) l
      WHERE ${finishedOf("$2::uuid")} AND f.namespace = $3 ${FINISHED_FIRST} FOR UPDATE OF f`,
    ),
    isLive: build("is_live", `SELECT 1 FROM $schema.live_tasks l WHERE l.shard = $1 AND l.id = $2::uuid AND l.namespace = $3`),
    // Keeps a key that the task holds, takes again one that is free.
    takeKey: build(
      "take_key_again",
      `INSERT INTO $schema.task_keys AS k (shard, namespace, name, key, id) VALUES ($1::int2, $2, $3, $4, $5::uuid)
      ON CONFLICT (shard, namespace, name, key) DO UPDATE SET id = excluded.id, held_until = NULL
        WHERE k.id = excluded.id OR k.held_until <= $schema.leasehold_now()
      RETURNING k.id`,
    ),
    reopen: build(
      "reopen_task",
      `WITH gone AS (DELETE FROM $schema.finished_tasks x WHERE ${THE_LOCKED_ROW} RETURNING x.*),
      forgotten AS (DELETE FROM $schema.execution_metadata m WHERE m.shard = $1 AND m.id = $2::uuid AND $3::int8 = 0),
      live AS (
        INSERT INTO $schema.live_tasks (shard, namespace, id, queue, name, priority, state, pending_reason, run_at, revision, failures,
          lost_leases, create_time, fencing_token, lease_time, worker_name, last_outcome_nonce, last_outcome_seq, last_outcome_invalid, queue_deadline,
          total_deadline, attempt_limit_us, silence_limit_us, execution_metadata_version, execution_metadata_bytes, checkpoint_count,
          checkpoint_time, last_error, last_error_code)
        SELECT $1::int2, g.namespace, g.id, g.queue, g.name, g.priority, 0, $4::int2,
          timestamptz '1970-01-01 00:00:00+00' + $5::int8 * interval '1 microsecond', g.revision + 1, $6::int4, $7::int4, g.create_time, g.fencing_token,
          g.lease_time, g.worker_name, g.last_outcome_nonce, g.last_outcome_seq, g.last_outcome_invalid,
          timestamptz '1970-01-01 00:00:00+00' + $8::int8 * interval '1 microsecond',
          timestamptz '1970-01-01 00:00:00+00' + $9::int8 * interval '1 microsecond', $10::int8, $11::int8, $3::int8, $12::int4,
          g.checkpoint_count, g.checkpoint_time, $13, $14
        FROM gone g RETURNING id, namespace, revision, fencing_token, worker_name)
      INSERT INTO $schema.task_events (shard, namespace, id, revision, place, event_time, type, state, attempt, fencing_token, worker_name,
        message, error, run_at, finish_reason)
      SELECT $1::int2, d.namespace, d.id, d.revision, p.place, c.now, p.type, p.state, p.attempt, d.fencing_token, d.worker_name, p.message,
        p.error, p.run_at, p.finish_reason
      FROM unnest($15::uuid[], $16::int2[], $17::text[], $18::int2[], $19::int4[], $20::text[], $21::text[], $22::timestamptz[],
        $23::int2[]) AS p(id, place, type, state, attempt, message, error, run_at, finish_reason) JOIN live d USING (id),
        (SELECT $schema.leasehold_now() AS now) c
      RETURNING id`,
    ),
    remove: build(
      "delete_task",
      `WITH g AS (
        DELETE FROM $schema.finished_tasks x WHERE ${THE_LOCKED_ROW} RETURNING x.id),
      said AS MATERIALIZED (SELECT t.* FROM g CROSS JOIN LATERAL (
        SELECT t.namespace, t.id, t.name, t.key, t.create_time, t.labels FROM $schema.tasks t WHERE t.shard = $1 AND t.id = g.id OFFSET 0) t),
      t AS (DELETE FROM $schema.tasks x WHERE x.shard = $1 AND x.id = $2::uuid AND EXISTS (SELECT 1 FROM g)),
      k AS (
        DELETE FROM $schema.task_keys x USING (
          SELECT y.tid FROM said CROSS JOIN LATERAL (
            SELECT k.ctid AS tid FROM $schema.task_keys k WHERE k.shard = $1 AND k.namespace = said.namespace AND k.name = said.name
              AND k.key = said.key AND k.id = said.id OFFSET 0) y) z
        WHERE x.shard = $1 AND x.id = $2::uuid AND x.ctid = z.tid),
      m AS (DELETE FROM $schema.execution_metadata x WHERE x.shard = $1 AND x.id = $2::uuid AND EXISTS (SELECT 1 FROM g)),
      e AS (DELETE FROM $schema.task_events x WHERE x.shard = $1 AND x.id = $2::uuid AND EXISTS (SELECT 1 FROM g)),
      p AS (DELETE FROM $schema.task_progress x WHERE x.shard = $1 AND x.id = $2::uuid AND EXISTS (SELECT 1 FROM g)),
      b AS (
        DELETE FROM $schema.task_labels x USING (
          SELECT y.tid FROM said CROSS JOIN LATERAL jsonb_array_elements(said.labels::jsonb) AS p(pair) CROSS JOIN LATERAL (
            SELECT b.ctid AS tid FROM $schema.task_labels b WHERE b.shard = $1 AND b.namespace = said.namespace AND b.key = p.pair ->> 0
              AND b.value = p.pair ->> 1 AND b.create_time = said.create_time AND b.id = said.id OFFSET 0) y) z
        WHERE x.shard = $1 AND x.id = $2::uuid AND x.ctid = z.tid)
      SELECT id FROM g`,
    ),
  };
}

/** Takes a finished task up again; to be called within a transaction that is rolled back unless it answers `retried`. */
export async function retryFinished(
  connection: Connection,
  statements: FinishedStatements & DecideStatements,
  shard: number,
  namespace: string,
  id: string,
  how: Reopening,
  etagRevision: number | undefined,
): Promise<Retried> {
  const finished = await lockFinished(connection, statements, shard, namespace, id);
  if (finished === null) return { kind: await liveOrUnknown(connection, statements, shard, namespace, id) };
  if (etagRevision !== undefined && etagRevision !== finished.task.revision) return { kind: "etag-mismatch" };
  const [clock] = await connection.run(statements.now, [shard, id, false]);
  if (clock === undefined) throw new Error("the clock statement answered nothing");
  const answer = reopen(finished, how, instant(clock, 0));
  if (answer.kind === "rejected") return { kind: "completed" };
  const { name, key } = answer.task.identity;
  if (key !== null && (await connection.run(statements.takeKey, [shard, namespace, name, key, id])).length === 0)
    return { kind: "key-taken" };
  const timeline = answer.timeline.map((entry, place) => ({ id, place, attempt: answer.task.failures + 1, entry }));
  const { deadlines } = answer.task.identity;
  const task = answer.task;
  await connection.run(statements.reopen, [
    shard,
    id,
    task.executionMetadataVersion,
    pendingReasonNumber(task.pendingReason),
    task.runAtUs,
    task.failures,
    task.lostLeases,
    task.queueDeadlineUs,
    task.totalDeadlineUs,
    deadlines.attemptUs,
    deadlines.silenceUs,
    task.executionMetadataBytes,
    writeError(task.lastError),
    task.lastError?.code ?? null,
    ...timelineParameters(timeline),
  ]);
  return { kind: "retried", before: finished.task, task };
}

/** Removes a finished task; to be called within a transaction. */
export async function deleteFinished(
  connection: Connection,
  statements: FinishedStatements,
  shard: number,
  namespace: string,
  id: string,
  etagRevision: number | undefined,
): Promise<Deleted> {
  const finished = await lockFinished(connection, statements, shard, namespace, id);
  if (finished === null) return { kind: await liveOrUnknown(connection, statements, shard, namespace, id) };
  if (etagRevision !== undefined && etagRevision !== finished.task.revision) return { kind: "etag-mismatch" };
  await connection.run(statements.remove, [shard, id]);
  return { kind: "deleted", id };
}

async function lockFinished(
  connection: Connection,
  statements: FinishedStatements,
  shard: number,
  namespace: string,
  id: string,
): Promise<FinishedTask | null> {
  const [row] = await connection.run(statements.lockFinished, [shard, id, namespace]);
  if (row === undefined) return null;
  const task: LiveTask = readLive(row);
  const state = stateOf(integer(row, LIVE_COLUMN_COUNT)) as FinalState;
  return { task, state, error: readError(row[LIVE_COLUMN_COUNT + 1] ?? null) };
}

async function liveOrUnknown(
  connection: Connection,
  statements: FinishedStatements,
  shard: number,
  namespace: string,
  id: string,
): Promise<"not-finished" | "not-found"> {
  const [row] = await connection.run(statements.isLive, [shard, id, namespace]);
  return row === undefined ? "not-found" : "not-finished";
}
