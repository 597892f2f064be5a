// How are tasks stored? Many in one statement; an id that exists is left alone and asked about in a second one.

import type { NewTask } from "../domain/new-task.js";
import { boolArray, byteaArray, instantArray, int2Array, int8Array, textArray, uuidArray } from "./binary-arrays.js";
import { writeLabels, writeRetryPolicy, writeTraceContext } from "./json-columns.js";
import { pendingReasonNumber } from "./live-rows.js";
import { isSearchable } from "./searchable.js";
import type { Connection, Statement } from "./statement.js";
import { hexDigits, instant, text } from "./statement.js";
import type { Inserted } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface InsertStatements {
  readonly insert: Statement;
  readonly existing: Statement;
}

/** Builds the statements of this file for one schema. */
export function insertStatements(build: Build): InsertStatements {
  return {
    // A task that is due at once carries no time of its own: it was created, and is due, when this statement runs.
    insert: build(
      "insert_tasks",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now),
      n AS MATERIALIZED (
        SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int2[], $7::int2[], $8::timestamptz[], $9::text[],
          $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::int8[], $15::bytea[], $16::text[], $17::bool[], $18::bytea[],
          $19::text[], $20::text[], $21::text[], $22::bytea[], $23::bytea[], $24::text[], $25::bool[])
        AS u(id, namespace, name, queue, priority, pending_reason, schedule_time, key, key_hold_us, queue_us, attempt_us, silence_us,
          total_us, metadata, metadata_type, metadata_searchable, metadata_fingerprint, labels, retry_policy, trace_context,
          content_hash, em, em_type, em_searchable)),
      k AS MATERIALIZED (
        INSERT INTO $schema.task_keys AS k (shard, namespace, name, key, id)
        SELECT $1::int2, n.namespace, n.name, n.key, n.id FROM n
        WHERE n.key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM $schema.tasks x WHERE x.shard = $1 AND x.id = n.id)
        ORDER BY n.namespace, n.name, n.key
        -- A key of the same id is that of a task stored meanwhile, which may have finished and hold it: its end stays.
        ON CONFLICT (shard, namespace, name, key) DO UPDATE SET id = excluded.id,
          held_until = CASE WHEN k.id = excluded.id THEN k.held_until END
          WHERE k.held_until <= (SELECT now FROM c) OR k.id = excluded.id
        RETURNING k.id),
      t AS (
        INSERT INTO $schema.tasks (shard, namespace, id, name, key, key_hold_us, create_time, schedule_time, queue_deadline_us,
          attempt_deadline_us, silence_deadline_us, total_deadline_us, metadata, metadata_type, metadata_searchable,
          metadata_fingerprint, labels, retry_policy, trace_context, content_hash)
        SELECT $1::int2, namespace, id, name, key, key_hold_us, c.now, schedule_time, queue_us, attempt_us, silence_us, total_us,
          metadata, metadata_type, metadata_searchable, metadata_fingerprint, labels, retry_policy, trace_context, content_hash
        FROM n, c
        -- A task with a key is stored only if the key is its own now.
        WHERE n.key IS NULL OR n.id IN (SELECT id FROM k)
        ON CONFLICT (shard, id) DO NOTHING
        RETURNING id, create_time),
      l AS (
        INSERT INTO $schema.live_tasks (shard, namespace, id, queue, name, priority, state, pending_reason, create_time,
          run_at, revision, queue_deadline, total_deadline, attempt_limit_us, silence_limit_us, execution_metadata_version,
          execution_metadata_bytes)
        SELECT $1::int2, n.namespace, n.id, n.queue, n.name, n.priority, 0, n.pending_reason, t.create_time,
          GREATEST(n.schedule_time, t.create_time), 1,
          GREATEST(n.schedule_time, t.create_time) + n.queue_us * interval '1 microsecond',
          t.create_time + n.total_us * interval '1 microsecond', n.attempt_us, n.silence_us,
          CASE WHEN n.em IS NULL THEN 0 ELSE 1 END, coalesce(octet_length(n.em), 0)
        FROM t JOIN n USING (id)),
      e AS (
        INSERT INTO $schema.execution_metadata (shard, namespace, id, version, searchable, content_type, content)
        SELECT $1::int2, n.namespace, n.id, 1, n.em_searchable, n.em_type, n.em
        FROM t JOIN n USING (id) WHERE n.em IS NOT NULL),
      b AS (
        INSERT INTO $schema.task_labels (shard, namespace, key, value, create_time, id)
        SELECT $1::int2, n.namespace, p.key, p.value, t.create_time, n.id
        FROM unnest($26::uuid[], $27::text[], $28::text[]) AS p(id, key, value) JOIN t USING (id) JOIN n USING (id))
      SELECT t.id, t.create_time, c.now FROM t, c`,
    ),
    existing: build(
      "existing_tasks",
      `SELECT t.id, t.content_hash, t.namespace FROM unnest($2::uuid[]) AS u(id) CROSS JOIN LATERAL (
        SELECT * FROM $schema.tasks t WHERE t.shard = $1 AND t.id = u.id OFFSET 0) t`,
    ),
  };
}

/** Stores tasks of one shard, sorted by id; answers them in the order given. `observe` gets the database's time. */
export async function insertTasks(
  connection: Connection,
  statements: InsertStatements,
  shard: number,
  tasks: readonly NewTask[],
  observe: (nowUs: number) => void,
): Promise<Inserted[]> {
  const sorted = distinctById(tasks);
  const rows = await connection.run(statements.insert, parameters(shard, sorted));
  const created = new Map(rows.map((row) => [text(row, 0), instant(row, 1)]));
  const first = rows[0];
  if (first !== undefined) observe(instant(first, 2));
  const answered = new Set<NewTask>();
  for (const task of sorted) if (created.has(task.submission.id)) answered.add(task);
  const missing = tasks.filter((task) => !answered.has(task));
  const stored = missing.length === 0 ? new Map<string, StoredContent>() : await readExisting(connection, statements, shard, missing);
  return tasks.map((task) => {
    const createTimeUs = answered.has(task) ? created.get(task.submission.id) : undefined;
    if (createTimeUs !== undefined) return { kind: "created", createTimeUs };
    const existing = stored.get(task.submission.id);
    return { kind: "id-exists", sameContent: sameContent(task, existing), exists: existing !== undefined };
  });
}

interface StoredContent {
  readonly hash: string | null;
  readonly namespace: string;
}

// The same id twice in one batch: the first is stored, the second is answered like one that came later.
function distinctById(tasks: readonly NewTask[]): NewTask[] {
  const byId = new Map<string, NewTask>();
  for (const task of tasks) if (!byId.has(task.submission.id)) byId.set(task.submission.id, task);
  return [...byId.values()].sort((a, b) => (a.submission.id < b.submission.id ? -1 : 1));
}

async function readExisting(
  connection: Connection,
  statements: InsertStatements,
  shard: number,
  tasks: readonly NewTask[],
): Promise<Map<string, StoredContent>> {
  const rows = await connection.run(statements.existing, [shard, uuidArray(tasks.map((task) => task.submission.id))]);
  return new Map(rows.map((row) => [text(row, 0), { hash: hexDigits(row, 1), namespace: text(row, 2) }]));
}

function sameContent(task: NewTask, stored: StoredContent | undefined): boolean {
  const { contentHash, namespace } = task.submission;
  if (stored?.namespace !== namespace || stored.hash === null || contentHash === null) return false;
  return Buffer.from(contentHash).toString("hex") === stored.hash;
}

function parameters(shard: number, tasks: readonly NewTask[]): unknown[] {
  const submissions = tasks.map((task) => task.submission);
  const labels = submissions.flatMap(({ id, labels }) => [...labels].map(([key, value]) => ({ id, key, value })));
  return [
    shard,
    uuidArray(submissions.map((s) => s.id)),
    textArray(submissions.map((s) => s.namespace)),
    textArray(submissions.map((s) => s.name)),
    textArray(submissions.map((s) => s.queue)),
    int2Array(submissions.map((s) => s.priority)),
    int2Array(tasks.map((task) => pendingReasonNumber(task.live.pendingReason))),
    instantArray(submissions.map((s) => s.scheduleUs)),
    textArray(submissions.map((s) => s.key)),
    int8Array(submissions.map((s) => s.keyHoldUs)),
    int8Array(submissions.map((s) => s.deadlines.queueUs)),
    int8Array(submissions.map((s) => s.deadlines.attemptUs)),
    int8Array(submissions.map((s) => s.deadlines.silenceUs)),
    int8Array(submissions.map((s) => s.deadlines.totalUs)),
    byteaArray(submissions.map((s) => s.metadata.data)),
    textArray(submissions.map((s) => s.metadata.contentType)),
    boolArray(submissions.map((s) => isSearchable(s.metadata))),
    byteaArray(submissions.map((s) => s.metadataFingerprint)),
    textArray(submissions.map((s) => writeLabels(s.labels))),
    textArray(submissions.map((s) => writeRetryPolicy(s.retryPolicy))),
    textArray(submissions.map((s) => writeTraceContext(s.traceContext))),
    byteaArray(submissions.map((s) => s.contentHash)),
    byteaArray(submissions.map((s) => s.executionMetadata?.data ?? null)),
    textArray(submissions.map((s) => s.executionMetadata?.contentType ?? null)),
    boolArray(submissions.map((s) => (s.executionMetadata === null ? null : isSearchable(s.executionMetadata)))),
    uuidArray(labels.map((label) => label.id)),
    textArray(labels.map((label) => label.key)),
    textArray(labels.map((label) => label.value)),
  ];
}
