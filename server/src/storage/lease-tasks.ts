// How do free slots get tasks? One claim for several sessions, re-read after commit so that nothing is delivered for a session
// that a newer stream took over meanwhile.

import { SUSPECT_LOSSES } from "../domain/retry.js";
import { hexArray, instantArray, int2Array, int4Array, int8Array, textArray, uuidArray } from "./binary-arrays.js";
import { readLabels, readTraceContext } from "./json-columns.js";
import { LIVE_COLUMN_COUNT, LIVE_COLUMNS, readLive, TASK_OF_LIVE } from "./live-rows.js";
import type { Connection, Row, Statement } from "./statement.js";
import { bytes, instant, text } from "./statement.js";
import type { Claim, Claimed, ClaimingSession, LeasedTask, LeasePayloads } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Payloads up to this size come with the claim; larger ones are read one task at a time. */
export const INLINE_PAYLOAD_BYTES = 8192;

/**
 * The least fencing token of whatever is leased now, as SQL: the timeline of Postgres, which rises with each failover, in the high bits. Read by
 * the statement that leases: a connection may outlive a failover, behind a pooler for one, and what was read when it was opened is then old.
 */
export const FENCING_BASE = "(('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 << 40)";

/** Statements of this file. */
export interface LeaseStatements {
  readonly claim: Statement;
  readonly claimOne: Statement;
  readonly claimSuspects: Statement;
  readonly epochs: Statement;
  readonly payloads: Statement;
}

/** Builds the statements of this file for one schema. */
export function leaseStatements(build: Build): LeaseStatements {
  return {
    // Candidates are picked without locks, merged (within a queue by priority, then due time; queues taking turns), and only
    // the picked ones are locked. The session row is not locked: that would block its heartbeat.
    claim: build("claim", claimText(mergedCandidates(TRUSTED))),
    // A single group has nothing to merge: what is picked is locked at once, and two servers that claim it at the same time take different tasks.
    claimOne: build("claim_one", claimText(ONE_GROUP)),
    claimSuspects: build("claim_suspects", claimText(mergedCandidates(`l.lost_leases >= ${String(SUSPECT_LOSSES)}`))),
    epochs: build(
      "claim_epochs",
      `SELECT u.id FROM unnest($2::uuid[], $3::int8[]) AS u(id, epoch) CROSS JOIN LATERAL (
        SELECT 1 FROM $schema.sessions s WHERE s.shard = $1 AND s.id = u.id AND s.epoch = u.epoch AND s.end_time IS NULL OFFSET 0) alive`,
    ),
    payloads: build(
      "lease_payloads",
      `SELECT t.metadata_type, t.metadata, e.content_type, e.content FROM $schema.tasks t
      LEFT JOIN $schema.execution_metadata e ON e.shard = $1 AND e.id = t.id
      WHERE t.shard = $1 AND t.namespace = $2 AND t.id = $3`,
    ),
  };
}

const TRUSTED = `l.lost_leases < ${String(SUSPECT_LOSSES)}`;

// Leaves the locked rows in `locked`. `which`: tasks that are trusted, or suspects; the two have an index each.
function mergedCandidates(which: string): string {
  return `cand AS MATERIALIZED (
        SELECT x.tid, g.turn, g.name, g.free, x.priority, x.run_at, x.id
        FROM unnest($3::text[], $4::text[], $5::int2[], $6::int4[], $12::timestamptz[], $13::int4[])
          AS g(queue, name, priority, free, run_from, turn)
        CROSS JOIN LATERAL (
          SELECT l.ctid AS tid, l.id, l.priority, l.run_at FROM $schema.live_tasks l
          WHERE l.shard = $1 AND l.namespace = $2 AND l.queue = g.queue AND l.name = g.name AND l.priority = g.priority
            AND l.state = 0 AND ${which} AND l.run_at >= g.run_from AND l.run_at <= (SELECT now FROM c)
          ORDER BY l.run_at, l.id LIMIT LEAST(g.free, (SELECT count(*) FROM slots))) x),
      in_queue AS (
        SELECT cand.*, row_number() OVER (PARTITION BY turn ORDER BY priority DESC, run_at, id) AS of_queue FROM cand),
      -- A name's slots go round its queues like all others: counted by priority alone, one queue would keep them from the rest.
      by_name AS (
        SELECT in_queue.*, row_number() OVER (PARTITION BY name ORDER BY of_queue, turn) AS of_name FROM in_queue),
      by_queue AS (
        SELECT tid, turn, row_number() OVER (PARTITION BY turn ORDER BY of_queue) AS of_queue FROM by_name WHERE of_name <= free),
      picked AS MATERIALIZED (SELECT tid FROM by_queue ORDER BY of_queue, turn LIMIT (SELECT count(*) FROM slots)),
      locked AS MATERIALIZED (
        -- Row by row: as ctid = ANY it was planned, on empty tables, to read the whole primary key.
        SELECT x.tid FROM picked CROSS JOIN LATERAL (
          SELECT l.ctid AS tid FROM $schema.live_tasks l
          WHERE l.ctid = picked.tid AND l.shard = $1 AND l.state = 0 AND l.run_at <= (SELECT now FROM c)
          FOR UPDATE SKIP LOCKED) x)`;
}

const ONE_GROUP = `locked AS MATERIALIZED (
        SELECT l.ctid AS tid FROM $schema.live_tasks l
        WHERE l.shard = $1 AND l.namespace = $2 AND l.queue = ($3::text[])[1] AND l.name = ($4::text[])[1] AND l.priority = ($5::int2[])[1]
          AND l.state = 0 AND ${TRUSTED} AND l.run_at >= ($12::timestamptz[])[1] AND l.run_at <= (SELECT now FROM c)
        ORDER BY l.run_at, l.id LIMIT LEAST(($6::int4[])[1], (SELECT count(*) FROM slots))
        FOR UPDATE SKIP LOCKED)`;

function claimText(locked: string): string {
  return `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now, ${FENCING_BASE} AS fencing_base),
      sess AS MATERIALIZED (
        SELECT u.place, u.id, u.epoch, u.nonce, u.worker
        FROM unnest($7::uuid[], $8::int8[], $9::bytea[], $10::text[]) WITH ORDINALITY AS u(id, epoch, nonce, worker, place)
        CROSS JOIN LATERAL (
          SELECT 1 FROM $schema.sessions s WHERE s.shard = $1 AND s.id = u.id AND s.namespace = $2 AND s.epoch = u.epoch
            AND s.end_time IS NULL AND s.expires_at > (SELECT now FROM c) OFFSET 0) alive),
      slots AS MATERIALIZED (
        SELECT row_number() OVER () AS place, s.id, s.epoch, s.nonce, s.worker
        FROM unnest($11::int4[]) AS u(session_place) JOIN sess s ON s.place = u.session_place),
      ${locked},
      placed AS MATERIALIZED (SELECT tid, row_number() OVER () AS place FROM locked),
      l AS (
        UPDATE $schema.live_tasks l SET state = 1, session_id = s.id, session_epoch = s.epoch, lease_nonce = s.nonce,
          worker_name = s.worker, lease_time = c.now, settled_seq = 0,
          fencing_token = GREATEST(l.fencing_token, c.fencing_base) + 1, revision = l.revision + 1, queue_deadline = NULL,
          attempt_deadline = c.now + l.attempt_limit_us * interval '1 microsecond',
          silence_deadline = c.now + l.silence_limit_us * interval '1 microsecond'
        FROM placed p JOIN slots s ON s.place = p.place, c
        WHERE l.ctid = p.tid AND l.shard = $1 AND l.state = 0
        RETURNING l.*)
      SELECT ${LIVE_COLUMNS}, t.labels, t.trace_context, t.metadata_type,
        CASE WHEN octet_length(t.metadata) <= ${String(INLINE_PAYLOAD_BYTES)} THEN t.metadata END,
        e.content_type, e.content, c.now
      FROM l CROSS JOIN c ${TASK_OF_LIVE}
      LEFT JOIN LATERAL (
        SELECT e.content_type, e.content FROM $schema.execution_metadata e
        WHERE e.shard = $1 AND e.id = l.id AND l.execution_metadata_bytes BETWEEN 1 AND ${String(INLINE_PAYLOAD_BYTES)} OFFSET 0) e ON true`;
}

/** Claims in one shard. */
export async function leaseTasks(
  connection: Connection,
  statements: LeaseStatements,
  shard: number,
  claim: Claim,
  observe: (nowUs: number) => void,
): Promise<Claimed> {
  // Sent as one: the second is answered by what is there after the commit of the first.
  const [rows, current] = await Promise.all([
    runClaim(connection, statements, shard, claim),
    currentSessions(connection, statements, shard, claim.sessions),
  ]);
  const first = rows[0];
  if (first === undefined) return { leased: [], outdated: [] };
  observe(instant(first, LIVE_COLUMN_COUNT + 6));
  const claimed: Claimed = { leased: [], outdated: [] };
  for (const row of rows) {
    const task = readLeased(row);
    const isCurrent = task.live.lease !== null && current.has(task.live.lease.sessionId);
    (isCurrent ? claimed.leased : claimed.outdated).push(task);
  }
  return claimed;
}

function runClaim(connection: Connection, statements: LeaseStatements, shard: number, claim: Claim): Promise<Row[]> {
  const values = claimParameters(shard, claim);
  if (!claim.suspects && claim.groups.length === 1) return connection.run(statements.claimOne, values);
  const queues = [...new Set(claim.groups.map((group) => group.queue))];
  const turns = int4Array(claim.groups.map((group) => queues.indexOf(group.queue)));
  return connection.run(claim.suspects ? statements.claimSuspects : statements.claim, [...values, turns]);
}

/** Those of the sessions that live on at the same epoch, read after the commit of what was leased for them. */
export async function currentSessions(
  connection: Connection,
  statements: Pick<LeaseStatements, "epochs">,
  shard: number,
  sessions: readonly ClaimingSession[],
): Promise<Set<string>> {
  const ids = uuidArray(sessions.map((session) => session.id));
  const epochs = int8Array(sessions.map((session) => session.epoch));
  const alive = await connection.run(statements.epochs, [shard, ids, epochs]);
  return new Set(alive.map((row) => text(row, 0)));
}

/** Reads the payloads of one leased task. */
export async function readPayloads(
  connection: Connection,
  statements: LeaseStatements,
  shard: number,
  namespace: string,
  taskId: string,
): Promise<LeasePayloads | null> {
  const [row] = await connection.run(statements.payloads, [shard, namespace, taskId]);
  if (row === undefined) return null;
  const executionMetadata = bytes(row, 3);
  return {
    metadata: { contentType: text(row, 0), data: bytes(row, 1) ?? Buffer.alloc(0) },
    executionMetadata: executionMetadata === null ? null : { contentType: text(row, 2), data: executionMetadata },
  };
}

/** 1970: no task is due before. */
const BEGINNING_US = 0;

function claimParameters(shard: number, claim: Claim): unknown[] {
  return [
    shard,
    claim.namespace,
    textArray(claim.groups.map((group) => group.queue)),
    textArray(claim.groups.map((group) => group.name)),
    int2Array(claim.groups.map((group) => group.priority)),
    int4Array(claim.groups.map((group) => group.free)),
    uuidArray(claim.sessions.map((session) => session.id)),
    int8Array(claim.sessions.map((session) => session.epoch)),
    hexArray(claim.sessions.map((session) => session.nonce)),
    textArray(claim.sessions.map((session) => session.workerName)),
    int4Array(claim.slots.map((index) => index + 1)),
    instantArray(claim.groups.map(({ fromUs }) => fromUs ?? BEGINNING_US)),
  ];
}

function readLeased(row: Row): LeasedTask {
  const at = LIVE_COLUMN_COUNT;
  const metadata = bytes(row, at + 3);
  const executionMetadata = bytes(row, at + 5);
  return {
    live: readLive(row),
    labels: readLabels(row[at] ?? null),
    traceContext: readTraceContext(row[at + 1] ?? null),
    metadata: metadata === null ? null : { contentType: text(row, at + 2), data: metadata },
    executionMetadata: executionMetadata === null ? null : { contentType: text(row, at + 4), data: executionMetadata },
  };
}
