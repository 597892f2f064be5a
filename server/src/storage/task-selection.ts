// How does a task look that is read for people and clients? Selected from all its tables as one JSON array of texts, and read from it: the driver's
// own reading of arrays goes letter by letter, which for payloads of a mebibyte keeps everybody else waiting.

import { sql } from "slonik";
import { z } from "zod";

import type { LiveTask, Payload, TaskState } from "../domain/task.js";
import type { Fragment } from "./fragments.js";
import { constant, table } from "./fragments.js";
import { readError, readLabels, readTraceContext } from "./json-columns.js";
import { finishReasonOf, isFinal, LIVE_COLUMN_COUNT, LIVE_COLUMNS_AS_TEXT, readLive, stateOf } from "./live-rows.js";
import type { Row } from "./statement.js";
import { bytes, instant, integer, optionalInstant, optionalInteger, text } from "./statement.js";
import type { StoredFinish, StoredProgress, StoredTask } from "./storage.js";

// A task is in exactly one of the two tables, so the union gives one row; columns that a finished task has no use for are null.
// Progress counts for the lease that made it: what an earlier attempt said is not how far this one is.
/**
 * The task as one JSON array of texts, `cells`, for `readStored`, FROM `tasks t` and everything beside it; the WHERE is the caller's. `from` replaces `tasks t`
 * where the rows come from elsewhere, and must bring an alias `t` all the same.
 */
export function selection(schema: string, withPayloads: boolean, from?: Fragment): Fragment {
  const tasks = from ?? sql.fragment`${table(schema, "tasks")} t`;
  const payloads = withPayloads ? sql.fragment`t.metadata::text, e.content::text, l.result::text` : sql.fragment`NULL, NULL, NULL`;
  return sql.fragment`
    SELECT to_json(ARRAY[${constant(LIVE_COLUMNS_AS_TEXT)}, t.schedule_time::text, t.labels, t.trace_context, t.metadata_type, octet_length(t.metadata)::text,
      e.content_type, l.finish_reason::text, l.finish_time::text, l.key_hold_until::text, l.result_type, octet_length(l.result)::text, l.error,
      p.done::text, p.total::text, p.message, p.update_time::text, ${payloads}])::text AS cells
    FROM ${tasks}
    JOIN LATERAL (
      SELECT l.id, l.namespace, l.queue, l.priority, l.state, l.pending_reason, l.run_at, l.suspend_time, l.failures, l.lost_leases,
        l.releases, l.lease_nonce, l.session_id, l.session_epoch, l.lease_time, l.worker_name, l.fencing_token, l.settled_seq,
        l.last_outcome_nonce, l.last_outcome_seq, l.last_outcome_invalid, l.queue_deadline, l.attempt_deadline, l.silence_deadline,
        l.total_deadline, l.cancel_reason, l.cancel_time, l.cancel_deadline, l.proceeds, l.execution_metadata_version,
        l.execution_metadata_bytes, l.checkpoint_count, l.checkpoint_time, l.last_error, l.revision,
        NULL::int2 AS finish_reason, NULL::timestamptz AS finish_time, NULL::timestamptz AS key_hold_until, NULL::bytea AS result,
        NULL::text AS result_type, NULL::text AS error
      FROM ${table(schema, "live_tasks")} l WHERE l.shard = t.shard AND l.id = t.id
      UNION ALL
      SELECT f.id, f.namespace, f.queue, f.priority, f.state, f.pending_reason, f.run_at, NULL, f.failures, f.lost_leases, 0, NULL, NULL,
        NULL, f.lease_time, f.worker_name, f.fencing_token, 0, f.last_outcome_nonce, f.last_outcome_seq, f.last_outcome_invalid, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, f.execution_metadata_version, f.execution_metadata_bytes, f.checkpoint_count, f.checkpoint_time,
        NULL, f.revision, f.finish_reason, f.finish_time, f.key_hold_until, f.result, f.result_type, f.error
      FROM ${table(schema, "finished_tasks")} f WHERE f.shard = t.shard AND f.id = t.id) l ON true
    LEFT JOIN ${table(schema, "execution_metadata")} e ON e.shard = t.shard AND e.id = t.id
    LEFT JOIN ${table(schema, "task_progress")} p ON p.shard = t.shard AND p.id = t.id AND l.state = 1 AND p.update_time >= l.lease_time`;
}

const CELLS = z.array(z.string().nullable());

/** Reads a task that was selected so. */
export function readStored(selected: string, withPayloads: boolean): StoredTask {
  const cells = CELLS.parse(JSON.parse(selected));
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
