// How is an answer of `transition` written? This is the one path that changes a task, and the one place where the fence stands:
// a row is written only if it still has the lease nonce and the revision that the decision was made on.
// The rows are found by id with OFFSET 0 (a join of unnest to the table scans), and the guard stands again in the writing WHERE,
// because a TID scan of older servers rechecks nothing after a concurrent update.

import type { Change, Ending, TimelineEntry } from "../domain/event.js";
import type { LiveTask } from "../domain/task.js";
import { boolArray, byteaArray, hexArray, instantArray, int2Array, int4Array, int8Array, textArray, uuidArray } from "./binary-arrays.js";
import { writeError, writeProceeds } from "./json-columns.js";
import { finishReasonNumber, pendingReasonNumber, stateNumber } from "./live-rows.js";
import { isSearchable } from "./searchable.js";
import type { Connection, Statement } from "./statement.js";
import { instant, text } from "./statement.js";
import type { Decision } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface ApplyStatements {
  readonly change: Statement;
  readonly finish: Statement;
}

// Shared by both statements: execution metadata ($6 to $9) and timeline entries ($10 to $19) of the rows in `done`.
const SAVE_METADATA = `
      saved AS (
        INSERT INTO $schema.execution_metadata AS m (shard, namespace, id, version, searchable, content_type, content)
        SELECT $1::int2, d.namespace, d.id, d.execution_metadata_version, p.searchable, p.content_type, p.content
        FROM unnest($6::uuid[], $7::bool[], $8::text[], $9::bytea[]) AS p(id, searchable, content_type, content) JOIN done d USING (id)
        ON CONFLICT (shard, id) DO UPDATE SET version = excluded.version, searchable = excluded.searchable,
          content_type = excluded.content_type, content = excluded.content),
      logged AS (
        INSERT INTO $schema.task_events (shard, namespace, id, revision, place, event_time, type, state, attempt, fencing_token,
          worker_name, message, error, run_at, finish_reason)
        SELECT $1::int2, d.namespace, d.id, d.revision, p.place, c.now, p.type, p.state, p.attempt, d.fencing_token, d.worker_name, p.message,
          p.error, p.run_at, p.finish_reason
        FROM unnest($10::uuid[], $11::int2[], $12::text[], $13::int2[], $14::int4[], $15::text[], $16::text[], $17::timestamptz[],
          $18::int2[]) AS p(id, place, type, state, attempt, message, error, run_at, finish_reason) JOIN done d USING (id), c)`;

// Leases that were taken away otherwise than by silence, from the four arrays that begin at parameter `first`.
const saveRevoked = (first: number): string => `
      revoked AS (
        INSERT INTO $schema.revoked_leases (shard, session_id, id, nonce, reason, revoke_time)
        SELECT $1::int2, p.session_id, p.id, p.nonce, p.reason, c.now
        FROM unnest($${String(first)}::uuid[], $${String(first + 1)}::uuid[], $${String(first + 2)}::bytea[], $${String(first + 3)}::text[])
          AS p(session_id, id, nonce, reason) JOIN done d USING (id), c
        ON CONFLICT DO NOTHING)`;

// The limit, in parameter `count`, is that of the rows asked for: it changes nothing but the planner's mind, which expects one row then and
// writes by ctid. Expecting three, on tables that were empty, it read the whole primary key for each batch ever after.
const found = (count: number): string => `
      c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now),
      found AS MATERIALIZED (
        SELECT u.*, x.tid FROM u CROSS JOIN LATERAL (
          SELECT l.ctid AS tid FROM $schema.live_tasks l
          WHERE l.shard = $1 AND l.id = u.id AND l.lease_nonce IS NOT DISTINCT FROM u.nonce AND l.revision = u.revision OFFSET 0) x
        WHERE u.not_before IS NULL OR u.not_before <= (SELECT now FROM c)
        LIMIT $${String(count)}::int8)`;

const GUARD = `l.ctid = f.tid AND l.shard = $1 AND l.id = f.id AND l.lease_nonce IS NOT DISTINCT FROM f.nonce AND l.revision = f.revision`;

/** Builds the statements of this file for one schema. */
export function applyStatements(build: Build): ApplyStatements {
  return {
    change: build(
      "apply_changes",
      `WITH u AS MATERIALIZED (
        SELECT * FROM unnest($2::uuid[], $3::bytea[], $4::int8[], $5::timestamptz[], $19::int2[], $20::int2[], $21::int2[],
          $22::timestamptz[], $23::timestamptz[], $24::int4[], $25::int4[], $26::int4[], $27::bytea[], $28::uuid[], $29::int8[],
          $30::int4[], $31::bytea[], $32::int4[], $33::bool[], $34::timestamptz[], $35::timestamptz[], $36::timestamptz[],
          $37::timestamptz[], $38::text[], $39::timestamptz[], $40::timestamptz[], $41::text[], $42::int8[], $43::int4[], $44::int8[],
          $45::timestamptz[], $46::text[], $47::text[], $48::text[])
        AS a(id, nonce, revision, not_before, state, pending_reason, priority, run_at, suspend_time, failures, lost_leases, releases,
          new_nonce, session_id, session_epoch, settled_seq, last_outcome_nonce, last_outcome_seq, last_outcome_invalid,
          queue_deadline, attempt_deadline, silence_deadline, total_deadline, cancel_reason, cancel_time, cancel_deadline, proceeds,
          execution_metadata_version, execution_metadata_bytes, checkpoint_count, checkpoint_time, last_error, last_error_code, queue)),
      ${found(53)},
      done AS (
        UPDATE $schema.live_tasks l SET state = f.state, pending_reason = f.pending_reason, priority = f.priority, run_at = f.run_at,
          suspend_time = f.suspend_time, failures = f.failures, lost_leases = f.lost_leases, releases = f.releases,
          lease_nonce = f.new_nonce, session_id = f.session_id, session_epoch = f.session_epoch, settled_seq = f.settled_seq,
          last_outcome_nonce = f.last_outcome_nonce, last_outcome_seq = f.last_outcome_seq, last_outcome_invalid = f.last_outcome_invalid,
          queue_deadline = f.queue_deadline, attempt_deadline = f.attempt_deadline, silence_deadline = f.silence_deadline,
          total_deadline = f.total_deadline, cancel_reason = f.cancel_reason, cancel_time = f.cancel_time,
          cancel_deadline = f.cancel_deadline, proceeds = f.proceeds, execution_metadata_version = f.execution_metadata_version,
          execution_metadata_bytes = f.execution_metadata_bytes, checkpoint_count = f.checkpoint_count,
          checkpoint_time = f.checkpoint_time, last_error = f.last_error, last_error_code = f.last_error_code, queue = f.queue,
          revision = l.revision + 1
        FROM found f WHERE ${GUARD}
        RETURNING l.id, l.namespace, l.revision, l.fencing_token, l.worker_name, l.execution_metadata_version),
      ${SAVE_METADATA},
      ${saveRevoked(49)}
      SELECT done.id, c.now FROM done, c`,
    ),
    // What is finished comes from the DELETE's RETURNING: a task can never be both unfinished and finished.
    finish: build(
      "apply_endings",
      `WITH u AS MATERIALIZED (
        SELECT * FROM unnest($2::uuid[], $3::bytea[], $4::int8[], $5::timestamptz[], $19::int2[], $20::int2[], $21::int4[], $22::int4[],
          $23::bytea[], $24::int4[], $25::bool[], $26::int8[], $27::int4[], $28::bytea[], $29::text[], $30::text[], $31::text[],
          $32::text[], $33::int8[])
        AS a(id, nonce, revision, not_before, state, finish_reason, failures, lost_leases, last_outcome_nonce, last_outcome_seq,
          last_outcome_invalid, execution_metadata_version, execution_metadata_bytes, result, result_type, error, error_code,
          key, key_hold_us)),
      ${found(38)},
      gone AS (
        DELETE FROM $schema.live_tasks l USING found f WHERE ${GUARD}
        RETURNING l.*, f.state AS final_state, f.finish_reason, f.failures AS final_failures, f.lost_leases AS final_lost,
          f.last_outcome_nonce AS final_nonce, f.last_outcome_seq AS final_seq, f.last_outcome_invalid AS final_invalid,
          f.execution_metadata_version AS final_version, f.execution_metadata_bytes AS final_bytes, f.result, f.result_type,
          f.error, f.error_code, f.key, f.key_hold_us),
      done AS (
        INSERT INTO $schema.finished_tasks (shard, namespace, id, queue, name, priority, state, finish_reason, pending_reason, failures,
          lost_leases, last_outcome_nonce, last_outcome_seq, last_outcome_invalid, revision, finish_time, create_time, run_at, lease_time,
          key_hold_until, fencing_token, execution_metadata_version, execution_metadata_bytes, checkpoint_count, checkpoint_time,
          worker_name, result, result_type, error, error_code)
        SELECT $1::int2, g.namespace, g.id, g.queue, g.name, g.priority, g.final_state, g.finish_reason, g.pending_reason, g.final_failures,
          g.final_lost, g.final_nonce, g.final_seq, g.final_invalid, g.revision + 1, c.now, g.create_time, g.run_at, g.lease_time,
          CASE WHEN g.key_hold_us > 0 THEN c.now + g.key_hold_us * interval '1 microsecond' END, g.fencing_token,
          g.final_version, g.final_bytes, g.checkpoint_count, g.checkpoint_time, g.worker_name, g.result, g.result_type, g.error,
          g.error_code
        FROM gone g, c
        RETURNING id, namespace, revision, fencing_token, worker_name, execution_metadata_version),
      keyed AS MATERIALIZED (
        -- Locked in the order in which keyed inserts lock them: two that go different ways would wait for each other.
        SELECT x.tid, g.id, g.key_hold_us
        FROM (SELECT * FROM gone WHERE key IS NOT NULL ORDER BY namespace, name, key) g CROSS JOIN LATERAL (
          SELECT k.ctid AS tid FROM $schema.task_keys k WHERE k.shard = $1 AND k.namespace = g.namespace AND k.name = g.name
            AND k.key = g.key AND k.id = g.id OFFSET 0 FOR UPDATE) x),
      freed AS (
        DELETE FROM $schema.task_keys k USING keyed f WHERE k.ctid = f.tid AND k.shard = $1 AND k.id = f.id AND f.key_hold_us = 0),
      held AS (
        UPDATE $schema.task_keys k SET held_until = c.now + f.key_hold_us * interval '1 microsecond'
        FROM keyed f, c WHERE k.ctid = f.tid AND k.shard = $1 AND k.id = f.id AND f.key_hold_us > 0),
      ${SAVE_METADATA},
      ${saveRevoked(34)}
      SELECT done.id, c.now FROM done, c`,
    ),
  };
}

/** Writes decisions of one shard, each task at most once. Answers which were written, in the order given. */
export async function applyDecisions(
  connection: Connection,
  statements: ApplyStatements,
  shard: number,
  decisions: readonly Decision[],
  observe: (nowUs: number) => void,
): Promise<boolean[]> {
  // Two decisions about one task: the first is written, the second is told that its task has changed.
  const first = new Map(decisions.toReversed().map((decision) => [decision.before.identity.id, decision]));
  const sorted = [...first.values()].sort((a, b) => (a.before.identity.id < b.before.identity.id ? -1 : 1));
  const changes = sorted.filter((decision): decision is Decision & { answer: Change } => decision.answer.kind === "changed");
  const endings = sorted.filter((decision): decision is Decision & { answer: Ending } => decision.answer.kind === "finished");
  const written = new Set<string>();
  for (const [statement, values] of [
    ...(changes.length === 0 ? [] : [[statements.change, changeParameters(shard, changes)] as const]),
    ...(endings.length === 0 ? [] : [[statements.finish, endingParameters(shard, endings)] as const]),
  ]) {
    const rows = await connection.run(statement, values);
    for (const row of rows) written.add(text(row, 0));
    if (rows[0] !== undefined) observe(instant(rows[0], 1));
  }
  return decisions.map(({ before: { identity } }, index) => written.has(identity.id) && first.get(identity.id) === decisions[index]);
}

function changeParameters(shard: number, decisions: readonly (Decision & { answer: Change })[]): unknown[] {
  const tasks = decisions.map((decision) => decision.answer.task);
  return [
    ...fenceParameters(shard, decisions),
    int2Array(tasks.map((task) => stateNumber(task.state))),
    int2Array(tasks.map((task) => pendingReasonNumber(task.pendingReason))),
    int2Array(tasks.map((task) => task.priority)),
    instantArray(tasks.map((task) => task.runAtUs)),
    instantArray(tasks.map((task) => task.suspendTimeUs)),
    int4Array(tasks.map((task) => task.failures)),
    int4Array(tasks.map((task) => task.lostLeases)),
    int4Array(tasks.map((task) => task.releases)),
    hexArray(tasks.map((task) => task.lease?.nonce ?? null)),
    uuidArray(tasks.map((task) => task.lease?.sessionId ?? null)),
    int8Array(tasks.map((task) => task.lease?.epoch ?? null)),
    int4Array(tasks.map((task) => task.settledSeq)),
    hexArray(tasks.map((task) => task.lastOutcome?.nonce ?? null)),
    int4Array(tasks.map((task) => task.lastOutcome?.seq ?? null)),
    boolArray(tasks.map((task) => task.lastOutcome?.invalid ?? null)),
    instantArray(tasks.map((task) => task.queueDeadlineUs)),
    instantArray(tasks.map((task) => task.attemptDeadlineUs)),
    instantArray(tasks.map((task) => task.silenceDeadlineUs)),
    instantArray(tasks.map((task) => task.totalDeadlineUs)),
    textArray(tasks.map((task) => task.cancel?.reason ?? null)),
    instantArray(tasks.map((task) => task.cancel?.requestUs ?? null)),
    instantArray(tasks.map((task) => task.cancel?.deadlineUs ?? null)),
    textArray(tasks.map((task) => writeProceeds(task.proceeds))),
    int8Array(tasks.map((task) => task.executionMetadataVersion)),
    int4Array(tasks.map((task) => task.executionMetadataBytes)),
    int8Array(tasks.map((task) => task.checkpointCount)),
    instantArray(tasks.map((task) => task.checkpointTimeUs)),
    textArray(tasks.map((task) => writeError(task.lastError))),
    textArray(tasks.map((task) => task.lastError?.code ?? null)),
    textArray(tasks.map((task) => task.queue)),
    ...revokedParameters(decisions),
    decisions.length,
  ];
}

function endingParameters(shard: number, decisions: readonly (Decision & { answer: Ending })[]): unknown[] {
  const endings = decisions.map((decision) => decision.answer);
  const tasks = endings.map((ending) => ending.task);
  return [
    ...fenceParameters(shard, decisions),
    int2Array(endings.map((ending) => stateNumber(ending.state))),
    int2Array(endings.map((ending) => finishReasonNumber(ending.reason))),
    int4Array(tasks.map((task) => task.failures)),
    int4Array(tasks.map((task) => task.lostLeases)),
    hexArray(tasks.map((task) => task.lastOutcome?.nonce ?? null)),
    int4Array(tasks.map((task) => task.lastOutcome?.seq ?? null)),
    boolArray(tasks.map((task) => task.lastOutcome?.invalid ?? null)),
    int8Array(tasks.map((task) => task.executionMetadataVersion)),
    int4Array(tasks.map((task) => task.executionMetadataBytes)),
    byteaArray(endings.map((ending) => ending.result?.data ?? null)),
    textArray(endings.map((ending) => ending.result?.contentType ?? null)),
    textArray(endings.map((ending) => writeError(ending.error))),
    textArray(endings.map((ending) => ending.error?.code ?? null)),
    textArray(tasks.map((task) => task.identity.key)),
    int8Array(tasks.map((task) => task.identity.keyHoldUs)),
    ...revokedParameters(decisions),
    decisions.length,
  ];
}

// $1 to $18: shard, the fence of each task, its new execution metadata, its timeline entries.
function fenceParameters(shard: number, decisions: readonly Decision[]): unknown[] {
  const befores = decisions.map((decision) => decision.before);
  const saved = decisions.filter((decision) => decision.answer.executionMetadata !== undefined);
  const entries = decisions.flatMap((decision) =>
    decision.answer.timeline.map((entry, place) => ({ entry, place, id: decision.before.identity.id, attempt: attemptOf(decision) })),
  );
  return [
    shard,
    uuidArray(befores.map((task) => task.identity.id)),
    hexArray(befores.map((task) => task.lease?.nonce ?? null)),
    int8Array(befores.map((task) => task.revision)),
    instantArray(decisions.map((decision) => decision.notBeforeUs)),
    uuidArray(saved.map((decision) => decision.before.identity.id)),
    boolArray(saved.map(({ answer }) => answer.executionMetadata !== undefined && isSearchable(answer.executionMetadata))),
    textArray(saved.map(({ answer }) => answer.executionMetadata?.contentType ?? null)),
    byteaArray(saved.map(({ answer }) => answer.executionMetadata?.data ?? null)),
    ...timelineParameters(entries),
  ];
}

// A lease that was lost by silence needs no note: its worker finds out from its session.
function revokedParameters(decisions: readonly Decision[]): unknown[] {
  const revoked = decisions.flatMap(({ before, answer }) => {
    const { lease } = before;
    if (lease === null || answer.revoked === undefined || answer.revoked === "LEASE_LOST") return [];
    return [{ id: before.identity.id, sessionId: lease.sessionId, nonce: lease.nonce, reason: answer.revoked }];
  });
  return [
    uuidArray(revoked.map((one) => one.sessionId)),
    uuidArray(revoked.map((one) => one.id)),
    hexArray(revoked.map((one) => one.nonce)),
    textArray(revoked.map((one) => one.reason)),
  ];
}

/** One entry of a timeline on its way into the database. */
export interface TimelineRow {
  readonly id: string;
  readonly place: number;
  readonly attempt: number;
  readonly entry: TimelineEntry;
}

/** The nine arrays of timeline entries: id, place, type, state, attempt, message, error, run_at, finish_reason. */
export function timelineParameters(rows: readonly TimelineRow[]): unknown[] {
  return [
    uuidArray(rows.map((row) => row.id)),
    int2Array(rows.map((row) => row.place)),
    textArray(rows.map((row) => row.entry.type)),
    int2Array(rows.map((row) => stateNumber(row.entry.state))),
    int4Array(rows.map((row) => row.attempt)),
    textArray(rows.map((row) => row.entry.message ?? null)),
    textArray(rows.map((row) => writeError(row.entry.error ?? null))),
    instantArray(rows.map((row) => row.entry.runAtUs ?? null)),
    int2Array(rows.map((row) => finishReasonNumber(row.entry.finishReason ?? null))),
  ];
}

// The attempt that an entry tells of is the one that was running before the answer.
function attemptOf({ before }: Decision): number {
  return attemptNumber(before);
}

/** The attempt that runs, or runs next: 1 + failures in a row. */
export function attemptNumber(task: LiveTask): number {
  return task.failures + 1;
}
