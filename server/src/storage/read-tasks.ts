// How are tasks read for people and clients? Through slonik, the only place where a statement is composed of conditions.

import { createPool, sql, type DatabasePool } from "slonik";
import { z } from "zod";

import type { LiveTask, Payload, TaskState } from "../domain/task.js";
import { DatabaseFault, toFault } from "./faults.js";
import { readError, readLabels, readTraceContext } from "./json-columns.js";
import {
  finishReasonOf,
  isFinal,
  LIVE_COLUMN_COUNT,
  LIVE_COLUMNS_AS_TEXT,
  pendingReasonNumber,
  readLive,
  stateNumber,
  stateOf,
} from "./live-rows.js";
import type { Row } from "./statement.js";
import { bytes, instant, integer, optionalInstant, optionalInteger, text } from "./statement.js";
import type { ListQuery, StoredFinish, StoredProgress, StoredTask, TaskReference } from "./storage.js";

// Each row arrives as one array of texts, read by the same readers as the hot path's rows.
const CELLS = z.object({ cells: z.array(z.string().nullable()) });

/** Reads tasks of one schema. */
export interface TaskReader {
  readTask(shard: number, reference: TaskReference & { readonly id: string }, withPayloads: boolean): Promise<StoredTask | null>;
  listTasks(shard: number, query: ListQuery): Promise<StoredTask[]>;
  close(): Promise<void>;
}

/** Opens the pool that reads go through. */
export async function openReader(url: string, schema: string, poolSize: number, statementTimeoutMs: number): Promise<TaskReader> {
  const pool = await createPool(withUtc(url), {
    maximumPoolSize: poolSize,
    statementTimeout: statementTimeoutMs,
    connectionTimeout: 5000,
    connectionRetryLimit: 0,
    queryRetryLimit: 1,
    typeParsers: [],
    captureStackTrace: false,
    // Its default runs DISCARD ALL after every use, which costs as much as the read and drops prepared statements.
    resetConnection: () => Promise.resolve(),
  });
  pool.on("error", () => undefined);
  return {
    readTask: (shard, reference, withPayloads) => faultsFrom(() => readTask(pool, schema, shard, reference, withPayloads)),
    listTasks: (shard, query) => faultsFrom(() => listTasks(pool, schema, shard, query)),
    close: () => pool.end(),
  };
}

async function readTask(
  pool: DatabasePool,
  schema: string,
  shard: number,
  reference: { namespace: string; id: string },
  withPayloads: boolean,
): Promise<StoredTask | null> {
  const rows = await pool.any(sql.type(CELLS)`
    ${selection(schema, withPayloads)}
    WHERE t.shard = ${shard} AND t.id = ${reference.id}::uuid AND t.namespace = ${reference.namespace}`);
  const row = rows[0];
  return row === undefined ? null : readStored(row.cells, withPayloads);
}

async function listTasks(pool: DatabasePool, schema: string, shard: number, query: ListQuery): Promise<StoredTask[]> {
  const order = query.newestFirst ? sql.fragment`ORDER BY t.create_time DESC, t.id DESC` : sql.fragment`ORDER BY t.create_time, t.id`;
  const rows = await pool.any(sql.type(CELLS)`
    ${selection(schema, query.withPayloads)}
    WHERE t.shard = ${shard} AND t.namespace = ${query.namespace} AND ${sql.join(conditions(schema, query), sql.fragment` AND `)}
    ${order} LIMIT ${query.pageSize + 1}`);
  return rows.map((row) => readStored(row.cells, query.withPayloads));
}

function conditions(schema: string, { filter, after, newestFirst }: ListQuery) {
  const found = [sql.fragment`true`];
  if (filter.taskIds.length > 0) found.push(sql.fragment`t.id = ANY (${sql.array([...filter.taskIds], "uuid")})`);
  if (filter.names.length > 0) found.push(sql.fragment`t.name = ANY (${sql.array([...filter.names], "text")})`);
  if (filter.queues.length > 0) found.push(sql.fragment`l.queue = ANY (${sql.array([...filter.queues], "text")})`);
  if (filter.states.length > 0) found.push(sql.fragment`l.state = ANY (${sql.array(filter.states.map(stateNumber), "int2")})`);
  if (filter.pendingReasons.length > 0) {
    found.push(sql.fragment`l.state = 0 AND l.pending_reason = ANY (${sql.array(filter.pendingReasons.map(pendingReasonNumber), "int2")})`);
  }
  for (const [key, value] of filter.labels) {
    found.push(sql.fragment`EXISTS (
      SELECT 1 FROM ${sql.identifier([schema, "task_labels"])} b
      WHERE b.shard = t.shard AND b.namespace = t.namespace AND b.key = ${key} AND b.value = ${value} AND b.id = t.id)`);
  }
  if (filter.createFromUs !== null) found.push(sql.fragment`t.create_time >= ${micros(filter.createFromUs)}`);
  if (filter.createBeforeUs !== null) found.push(sql.fragment`t.create_time < ${micros(filter.createBeforeUs)}`);
  if (after !== null) {
    const start = sql.fragment`(${micros(after.createTimeUs)}, ${after.id}::uuid)`;
    found.push(newestFirst ? sql.fragment`(t.create_time, t.id) < ${start}` : sql.fragment`(t.create_time, t.id) > ${start}`);
  }
  return found;
}

// A timestamp from whole microseconds, exact: an interval of microseconds is integer arithmetic in Postgres.
function micros(us: number) {
  return sql.fragment`(timestamptz '1970-01-01 00:00:00+00' + ${Math.floor(us / 1_000_000)}::float8 * interval '1 second' + ${us % 1_000_000}::float8 * interval '1 microsecond')`;
}

// A task is in exactly one of the two tables, so the union gives one row; columns that a finished task has no use for are null.
// Progress counts for the lease that made it: what an earlier attempt said is not how far this one is.
function selection(schema: string, withPayloads: boolean) {
  const table = (name: string) => sql.identifier([schema, name]);
  const payloads = withPayloads ? sql.fragment`t.metadata::text, e.content::text, l.result::text` : sql.fragment`NULL, NULL, NULL`;
  return sql.fragment`
    SELECT ARRAY[${raw(LIVE_COLUMNS_AS_TEXT)}, t.schedule_time::text, t.labels, t.trace_context, t.metadata_type, octet_length(t.metadata)::text,
      e.content_type, l.finish_reason::text, l.finish_time::text, l.key_hold_until::text, l.result_type, octet_length(l.result)::text, l.error,
      p.done::text, p.total::text, p.message, p.update_time::text, ${payloads}] AS cells
    FROM ${table("tasks")} t
    JOIN LATERAL (
      SELECT l.id, l.namespace, l.queue, l.priority, l.state, l.pending_reason, l.run_at, l.suspend_time, l.failures, l.lost_leases,
        l.releases, l.lease_nonce, l.session_id, l.session_epoch, l.lease_time, l.worker_name, l.fencing_token, l.settled_seq,
        l.last_outcome_nonce, l.last_outcome_seq, l.last_outcome_invalid, l.queue_deadline, l.attempt_deadline, l.silence_deadline,
        l.total_deadline, l.cancel_reason, l.cancel_time, l.cancel_deadline, l.proceeds, l.execution_metadata_version,
        l.execution_metadata_bytes, l.checkpoint_count, l.checkpoint_time, l.last_error, l.revision,
        NULL::int2 AS finish_reason, NULL::timestamptz AS finish_time, NULL::timestamptz AS key_hold_until, NULL::bytea AS result,
        NULL::text AS result_type, NULL::text AS error
      FROM ${table("live_tasks")} l WHERE l.shard = t.shard AND l.id = t.id
      UNION ALL
      SELECT f.id, f.namespace, f.queue, f.priority, f.state, f.pending_reason, f.run_at, NULL, f.failures, f.lost_leases, 0, NULL, NULL,
        NULL, f.lease_time, f.worker_name, f.fencing_token, 0, f.last_outcome_nonce, f.last_outcome_seq, f.last_outcome_invalid, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, f.execution_metadata_version, f.execution_metadata_bytes, f.checkpoint_count, f.checkpoint_time,
        NULL, f.revision, f.finish_reason, f.finish_time, f.key_hold_until, f.result, f.result_type, f.error
      FROM ${table("finished_tasks")} f WHERE f.shard = t.shard AND f.id = t.id) l ON true
    LEFT JOIN ${table("execution_metadata")} e ON e.shard = t.shard AND e.id = t.id
    LEFT JOIN ${table("task_progress")} p ON p.shard = t.shard AND p.id = t.id AND l.state = 1 AND p.update_time >= l.lease_time`;
}

// A constant of this room as SQL: slonik has no other way to take text that is not a literal template.
function raw(constant: string) {
  return { ...sql.fragment``, sql: constant, values: [] };
}

function readStored(cells: Row, withPayloads: boolean): StoredTask {
  const at = LIVE_COLUMN_COUNT;
  const live: LiveTask = readLive(cells);
  const state: TaskState = stateOf(integer(cells, 13));
  const executionMetadata = withPayloads ? payload(cells, at + 5, at + 17) : null;
  return {
    id: live.identity.id,
    namespace: live.identity.namespace,
    state,
    live,
    finish: isFinal(state) ? readFinish(cells, state, withPayloads) : null,
    scheduleUs: optionalInstant(cells, at),
    labels: readLabels(cells[at + 1] ?? null),
    traceContext: readTraceContext(cells[at + 2] ?? null),
    metadataBytes: integer(cells, at + 4),
    metadata: withPayloads ? payload(cells, at + 3, at + 16) : null,
    executionMetadata,
    progress: readProgress(cells),
  };
}

function readFinish(cells: Row, state: StoredFinish["state"], withPayloads: boolean): StoredFinish {
  const at = LIVE_COLUMN_COUNT;
  return {
    state,
    reason: finishReasonOf(optionalInteger(cells, at + 6)),
    finishTimeUs: instant(cells, at + 7),
    keyHoldUntilUs: optionalInstant(cells, at + 8),
    resultBytes: optionalInteger(cells, at + 10) ?? 0,
    result: withPayloads ? payload(cells, at + 9, at + 18) : null,
    error: readError(cells[at + 11] ?? null),
  };
}

function readProgress(cells: Row): StoredProgress | null {
  const at = LIVE_COLUMN_COUNT + 12;
  const updateUs = optionalInstant(cells, at + 3);
  if (updateUs === null) return null;
  const total = cells[at + 1] ?? null;
  return { done: Number(cells[at]), total: total === null ? null : Number(total), message: text(cells, at + 2), updateUs };
}

function payload(cells: Row, typeAt: number, contentAt: number): Payload | null {
  const content = bytes(cells, contentAt);
  return content === null ? null : { contentType: text(cells, typeAt), data: content };
}

async function faultsFrom<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TypeError) throw error;
    // slonik wraps the driver's error; the SQLSTATE is on the innermost one.
    let inner: unknown = error;
    while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
    const fault = toFault(inner);
    // A read that failed has no outcome that anybody could miss.
    throw new DatabaseFault(fault.kind, fault.message, false, fault.retryAfterMs, { cause: error });
  }
}

function withUtc(url: string): string {
  const separator = url.includes("?") ? "&" : "?";
  return `${url}${separator}options=${encodeURIComponent("-c timezone=UTC -c datestyle=ISO -c bytea_output=hex -c jit=off")}`;
}
