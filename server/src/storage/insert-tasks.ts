// How are tasks stored? Many in one statement; an id that exists is left alone and asked about in a second one.

import type { NewTask } from "../domain/new-task.js";
import { storedTask } from "../domain/new-task.js";
import { transition } from "../domain/transition.js";
import { boolArray, byteaArray, hexArray, instantArray, int2Array, int4Array, int8Array, textArray, uuidArray } from "./binary-arrays.js";
import { writeLabels, writeRetryPolicy, writeTraceContext } from "./json-columns.js";
import { pendingReasonNumber } from "./live-rows.js";
import type { LeaseStatements } from "./lease-tasks.js";
import { currentSessions, FENCING_BASE } from "./lease-tasks.js";
import { isSearchable } from "./searchable.js";
import type { Connection, Statement } from "./statement.js";
import { hexDigits, instant, integer, text } from "./statement.js";
import type { Inserted, ReservedSlots } from "./storage.js";

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
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now, ${FENCING_BASE} AS fencing_base),
      n AS MATERIALIZED (
        SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int2[], $7::int2[], $8::timestamptz[], $9::text[],
          $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::int8[], $15::bytea[], $16::text[], $17::bool[], $18::bytea[],
          $19::text[], $20::text[], $21::text[], $22::bytea[], $23::bytea[], $24::text[], $25::bool[], $29::int4[])
        AS u(id, namespace, name, queue, priority, pending_reason, schedule_time, key, key_hold_us, queue_us, attempt_us, silence_us,
          total_us, metadata, metadata_type, metadata_searchable, metadata_fingerprint, labels, retry_policy, trace_context,
          content_hash, em, em_type, em_searchable, session_place)),
      -- As a claim sees them: a session that ended or was taken over meanwhile gets nothing, and its tasks wait.
      sess AS MATERIALIZED (
        SELECT u.place, u.id, u.epoch, u.nonce, u.worker, alive.namespace
        FROM unnest($30::uuid[], $31::int8[], $32::bytea[], $33::text[]) WITH ORDINALITY AS u(id, epoch, nonce, worker, place)
        CROSS JOIN LATERAL (
          SELECT s.namespace FROM $schema.sessions s WHERE s.shard = $1 AND s.id = u.id AND s.epoch = u.epoch
            AND s.end_time IS NULL AND s.expires_at > (SELECT now FROM c) OFFSET 0) alive),
      k AS MATERIALIZED (
        INSERT INTO $schema.task_keys AS k (shard, namespace, name, key, id)
        SELECT $1::int2, n.namespace, n.name, n.key, n.id FROM n
        -- As a value, row by row: as NOT EXISTS it became a join with all tasks.
        WHERE n.key IS NOT NULL AND (SELECT true FROM $schema.tasks x WHERE x.shard = $1 AND x.id = n.id OFFSET 0) IS NULL
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
          execution_metadata_bytes, session_id, session_epoch, lease_nonce, worker_name, lease_time, fencing_token, attempt_deadline,
          silence_deadline)
        SELECT $1::int2, n.namespace, n.id, n.queue, n.name, n.priority, CASE WHEN s.id IS NULL THEN 0 ELSE 1 END, n.pending_reason,
          t.create_time, GREATEST(n.schedule_time, t.create_time), CASE WHEN s.id IS NULL THEN 1 ELSE 2 END,
          CASE WHEN s.id IS NULL THEN GREATEST(n.schedule_time, t.create_time) + n.queue_us * interval '1 microsecond' END,
          t.create_time + n.total_us * interval '1 microsecond', n.attempt_us, n.silence_us,
          CASE WHEN n.em IS NULL THEN 0 ELSE 1 END, coalesce(octet_length(n.em), 0),
          s.id, s.epoch, s.nonce, coalesce(s.worker, ''), CASE WHEN s.id IS NOT NULL THEN t.create_time END,
          CASE WHEN s.id IS NULL THEN 0 ELSE c.fencing_base + 1 END,
          CASE WHEN s.id IS NOT NULL THEN t.create_time + n.attempt_us * interval '1 microsecond' END,
          CASE WHEN s.id IS NOT NULL THEN t.create_time + n.silence_us * interval '1 microsecond' END
        FROM t JOIN n USING (id) CROSS JOIN c LEFT JOIN sess s ON s.place = n.session_place AND s.namespace = n.namespace
          AND (n.schedule_time IS NULL OR n.schedule_time <= t.create_time)
        RETURNING id, fencing_token),
      e AS (
        INSERT INTO $schema.execution_metadata (shard, namespace, id, version, searchable, content_type, content)
        SELECT $1::int2, n.namespace, n.id, 1, n.em_searchable, n.em_type, n.em
        FROM t JOIN n USING (id) WHERE n.em IS NOT NULL),
      b AS (
        INSERT INTO $schema.task_labels (shard, namespace, key, value, create_time, id)
        SELECT $1::int2, n.namespace, p.key, p.value, t.create_time, n.id
        FROM unnest($26::uuid[], $27::text[], $28::text[]) AS p(id, key, value) JOIN t USING (id) JOIN n USING (id))
      SELECT l.id, c.now, l.fencing_token FROM l, c`,
    ),
    existing: build(
      "existing_tasks",
      `SELECT t.id, t.content_hash, t.namespace FROM unnest($2::uuid[]) AS u(id) CROSS JOIN LATERAL (
        SELECT * FROM $schema.tasks t WHERE t.shard = $1 AND t.id = u.id OFFSET 0) t`,
    ),
  };
}

/** Where tasks are stored, and what their leases are made with. */
export interface InsertContext {
  readonly shard: number;
  readonly slots: ReservedSlots;
  /** Gets the database's time. */
  readonly observe: (nowUs: number) => void;
}

/** No slots wait for the tasks. */
export const NO_SLOTS: ReservedSlots = { sessions: [], sessionOf: new Map() };

/** The same in a transaction of its own, and the sessions of what was leased read again behind its commit. */
export async function insertLeasing(
  connection: Connection,
  statements: InsertStatements & Pick<LeaseStatements, "epochs">,
  tasks: readonly NewTask[],
  context: InsertContext,
): Promise<Inserted[]> {
  const { shard, slots } = context;
  const inserting = insertTasks(connection, statements, tasks, context);
  // Sent as one: it is answered by what is there after the commit.
  const reading = readCurrent(connection, statements, shard, slots);
  return withCurrent(await inserting, await reading);
}

/** Reads the sessions of what was leased again, after the commit. */
export async function rereadSessions(
  connection: Connection,
  statements: Pick<LeaseStatements, "epochs">,
  shard: number,
  slots: ReservedSlots,
  inserted: Inserted[],
): Promise<Inserted[]> {
  return withCurrent(inserted, await readCurrent(connection, statements, shard, slots));
}

// What was stored stays stored, whether this can be read or not.
async function readCurrent(
  connection: Connection,
  statements: Pick<LeaseStatements, "epochs">,
  shard: number,
  { sessions }: ReservedSlots,
): Promise<ReadonlySet<string> | null> {
  if (sessions.length === 0) return new Set();
  return currentSessions(connection, statements, shard, sessions).catch(() => null);
}

function withCurrent(inserted: Inserted[], current: ReadonlySet<string> | null): Inserted[] {
  return inserted.map((one) => {
    if (one.kind !== "created" || one.leased === undefined) return one;
    return { ...one, leased: { ...one.leased, isCurrent: current?.has(one.leased.task.lease?.sessionId ?? "") ?? null } };
  });
}

/** Stores tasks of one shard, sorted by id; answers them in the order given. */
export async function insertTasks(
  connection: Connection,
  statements: InsertStatements,
  tasks: readonly NewTask[],
  context: InsertContext,
): Promise<Inserted[]> {
  const sorted = distinctById(tasks);
  const rows = await connection.run(statements.insert, parameters(sorted, context));
  const answers = new Map<NewTask, Inserted>();
  const [first] = rows;
  if (first !== undefined) {
    const createTimeUs = instant(first, 1);
    context.observe(createTimeUs);
    const tokens = new Map(rows.map((row) => [text(row, 0), integer(row, 2)]));
    for (const task of sorted) {
      const token = tokens.get(task.submission.id);
      if (token !== undefined) answers.set(task, createdAt(task, createTimeUs, token, context.slots));
    }
  }
  if (answers.size === tasks.length) return tasks.map((task) => answers.get(task) ?? unanswered());
  const missing = tasks.filter((task) => !answers.has(task));
  const stored = await readExisting(connection, statements, context.shard, missing);
  return tasks.map((task) => {
    const answer = answers.get(task);
    if (answer !== undefined) return answer;
    const existing = stored.get(task.submission.id);
    return { kind: "id-exists", sameContent: sameContent(task, existing), exists: existing !== undefined };
  });
}

// A task that was leased at once has a fencing token.
function createdAt(task: NewTask, createTimeUs: number, fencingToken: number, { sessions, sessionOf }: ReservedSlots): Inserted {
  if (fencingToken === 0) return { kind: "created", createTimeUs };
  const session = sessions[sessionOf.get(task.submission.id) ?? -1];
  if (session === undefined) return unanswered();
  const { nonce, id: sessionId, epoch, workerName } = session;
  const event = { kind: "leased", lease: { nonce, sessionId, epoch }, workerName, fencingBase: fencingToken - 1 } as const;
  const times = { nowUs: createTimeUs, chance: 0, executionMetadata: null, maxPayloadBytes: 0 };
  const answer = transition(storedTask(task, createTimeUs), event, times);
  return answer.kind === "changed" ? { kind: "created", createTimeUs, leased: { task: answer.task, isCurrent: null } } : unanswered();
}

function unanswered(): never {
  throw new Error("the insert answered what it was not asked");
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

function parameters(tasks: readonly NewTask[], { shard, slots }: InsertContext): unknown[] {
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
    int4Array(submissions.map((s) => sessionPlace(slots, s.id))),
    uuidArray(slots.sessions.map((session) => session.id)),
    int8Array(slots.sessions.map((session) => session.epoch)),
    hexArray(slots.sessions.map((session) => session.nonce)),
    textArray(slots.sessions.map((session) => session.workerName)),
  ];
}

/** Places count from 1 in Postgres. */
function sessionPlace({ sessionOf }: ReservedSlots, taskId: string): number | null {
  const index = sessionOf.get(taskId);
  return index === undefined ? null : index + 1;
}
