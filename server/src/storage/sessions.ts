// Who is alive? Sessions of workers: opened, kept by heartbeats, taken over by a newer stream, ended by silence.

import { int4Array, int8Array, textArray, uuidArray } from "./binary-arrays.js";
import { writeLabels, writeOwnSlots } from "./json-columns.js";
import { LIVE_COLUMNS, TASK_OF_LIVE, readLive } from "./live-rows.js";
import type { Connection, Statement } from "./statement.js";
import { hexDigits, integer, text } from "./statement.js";
import type { CancelledLease, OpenSession, RevokedLease, SessionBeat, SessionHello, StoredBeat } from "./storage.js";
import type { RevocationReason } from "../domain/event.js";
import type { LiveTask } from "../domain/task.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface SessionStatements {
  readonly open: Statement;
  readonly takeOver: Statement;
  readonly find: Statement;
  readonly lockHeld: Statement;
  readonly running: Statement;
  readonly lockListed: Statement;
  readonly beat: Statement;
  readonly cancelled: Statement;
  readonly endSession: Statement;
  readonly revoked: Statement;
}

/** Builds the statements of this file for one schema. */
export function sessionStatements(build: Build): SessionStatements {
  return {
    open: build(
      "open_session",
      `INSERT INTO $schema.sessions (shard, namespace, id, connection, epoch, ttl_us, expires_at, create_time, server_id, slots, unary,
        worker_name, sdk, language, queues, handlers, labels, own_slots)
      SELECT $1::int2, $2, $3::uuid, $4::int8, 1, $5::int8, c.now + $5::int8 * interval '1 microsecond', c.now, $6::uuid, $7::int4, $8::bool,
        $9, $10, $11, $12::text[], $13::text[], $14, $15
      FROM (SELECT $schema.leasehold_now() AS now) c`,
    ),
    // One statement that demands a higher connection number: of two streams the newer one wins, whichever comes first.
    takeOver: build(
      "take_over_session",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now)
      UPDATE $schema.sessions s SET connection = $4::int8, epoch = s.epoch + 1, ttl_us = $5::int8,
        expires_at = GREATEST(s.expires_at, (SELECT now FROM c) + $5::int8 * interval '1 microsecond'), server_id = $6::uuid,
        slots = $7::int4, worker_name = $8, sdk = $9, language = $10, queues = $11::text[], handlers = $12::text[], labels = $13, own_slots = $14
      WHERE s.shard = $1 AND s.namespace = $2 AND s.id = $3::uuid AND s.connection < $4::int8 AND s.end_time IS NULL
      RETURNING s.epoch`,
    ),
    find: build(
      "find_session",
      `SELECT s.end_time IS NULL FROM $schema.sessions s WHERE s.shard = $1 AND s.namespace = $2 AND s.id = $3::uuid`,
    ),
    // As text the ids sort as they do otherwise, and no index serves it: the primary key, chosen for its order on empty tables, would be read whole.
    lockHeld: build(
      "lock_held_leases",
      `SELECT ${LIVE_COLUMNS} FROM $schema.live_tasks l ${TASK_OF_LIVE}
      WHERE l.shard = $1 AND l.state = 1 AND l.session_id = $2::uuid ORDER BY l.id::text COLLATE "C" FOR UPDATE OF l`,
    ),
    running: build(
      "running_leases",
      `SELECT ${LIVE_COLUMNS} FROM $schema.live_tasks l ${TASK_OF_LIVE}
      WHERE l.shard = $1 AND l.state = 1 AND l.session_id = $2::uuid`,
    ),
    lockListed: build(
      "lock_listed_leases",
      `SELECT ${LIVE_COLUMNS} FROM $schema.live_tasks l ${TASK_OF_LIVE}
      WHERE l.shard = $1 AND l.id = ANY ($2::uuid[]) ORDER BY l.id FOR UPDATE OF l`,
    ),
    // One row a heartbeat, however many leases. Expiry only ever rises: two heartbeats may arrive in either order.
    beat: build(
      "store_heartbeats",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now),
      u AS MATERIALIZED (
        SELECT b.*, x.tid FROM unnest($2::uuid[], $3::int8[], $4::int8[], $5::int4[], $6::text[]) AS b(id, epoch, number, slots, own_slots) CROSS JOIN LATERAL (
          SELECT s.ctid AS tid FROM $schema.sessions s WHERE s.shard = $1 AND s.id = b.id AND s.epoch = b.epoch AND s.end_time IS NULL OFFSET 0) x)
      UPDATE $schema.sessions s SET expires_at = GREATEST(s.expires_at, c.now + s.ttl_us * interval '1 microsecond'),
        heartbeat_number = GREATEST(s.heartbeat_number, u.number), slots = coalesce(u.slots, s.slots),
        own_slots = CASE WHEN u.slots IS NULL THEN s.own_slots ELSE u.own_slots END
      FROM u, c WHERE s.ctid = u.tid AND s.shard = $1 AND s.id = u.id AND s.epoch = u.epoch AND s.end_time IS NULL
      RETURNING s.id, (extract(epoch FROM s.expires_at - c.now) * 1000000)::int8`,
    ),
    endSession: build(
      "end_session",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now)
      UPDATE $schema.sessions s SET end_time = (SELECT now FROM c) WHERE s.shard = $1 AND s.id = $2::uuid AND s.end_time IS NULL`,
    ),
    revoked: build(
      "revoked_leases",
      `SELECT r.session_id, r.id, r.nonce, r.reason FROM unnest($2::uuid[]) AS u(session_id) CROSS JOIN LATERAL (
        SELECT * FROM $schema.revoked_leases r WHERE r.shard = $1 AND r.session_id = u.session_id OFFSET 0) r`,
    ),
    cancelled: build(
      "cancelled_leases",
      `SELECT ${LIVE_COLUMNS} FROM unnest($2::uuid[]) AS u(session_id) CROSS JOIN LATERAL (
        SELECT * FROM $schema.live_tasks l WHERE l.shard = $1 AND l.session_id = u.session_id AND l.cancel_deadline IS NOT NULL
          AND l.state = 1 OFFSET 0) l ${TASK_OF_LIVE}`,
    ),
  };
}

/** Opens a session with the given id. */
export async function openSession(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  id: string,
  serverId: string,
  hello: SessionHello,
): Promise<OpenSession> {
  await connection.run(statements.open, [
    shard,
    hello.namespace,
    id,
    hello.connection,
    hello.ttlUs,
    serverId,
    hello.slots,
    hello.unary,
    hello.workerName,
    hello.sdk,
    hello.language,
    textArray(hello.queues),
    textArray(hello.handlers),
    writeLabels(hello.labels),
    writeOwnSlots(hello.ownSlots),
  ]);
  return { id, epoch: 1, expiresInUs: hello.ttlUs };
}

/** Raises connection and epoch of a living session; null where it has ended, is unknown, or a newer hello came first. */
export async function raiseEpoch(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  id: string,
  serverId: string,
  hello: SessionHello,
): Promise<OpenSession | null> {
  const [row] = await connection.run(statements.takeOver, [
    shard,
    hello.namespace,
    id,
    hello.connection,
    hello.ttlUs,
    serverId,
    hello.slots,
    hello.workerName,
    hello.sdk,
    hello.language,
    textArray(hello.queues),
    textArray(hello.handlers),
    writeLabels(hello.labels),
    writeOwnSlots(hello.ownSlots),
  ]);
  return row === undefined ? null : { id, epoch: integer(row, 0), expiresInUs: hello.ttlUs };
}

/** Whether a session of this id lives. */
export async function isAlive(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  namespace: string,
  id: string,
): Promise<boolean> {
  const [row] = await connection.run(statements.find, [shard, namespace, id]);
  return row !== undefined && text(row, 0) === "t";
}

/** Locks the running tasks of a session. */
export async function lockHeld(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  sessionId: string,
): Promise<LiveTask[]> {
  return (await connection.run(statements.lockHeld, [shard, sessionId])).map(readLive);
}

/** Locks unfinished tasks by id. */
export async function lockListed(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  ids: readonly string[],
): Promise<LiveTask[]> {
  return (await connection.run(statements.lockListed, [shard, uuidArray(ids)])).map(readLive);
}

/** Stores heartbeats; what is missing from the answer was taken over or has ended. */
export async function storeBeats(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  beats: readonly SessionBeat[],
): Promise<StoredBeat[]> {
  const stored = await runBeats(connection, statements, shard, beats);
  if (stored.length === beats.length) return stored;
  // Whoever waited for a concurrent change of its row (all sessions spared after an outage) stored nothing. Asked again, what is still
  // missing was taken over or has ended indeed.
  const found = new Set(stored.map((beat) => beat.sessionId));
  const missing = beats.filter((beat) => !found.has(beat.sessionId));
  return missing.length === 0 ? stored : [...stored, ...(await runBeats(connection, statements, shard, missing))];
}

async function runBeats(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  beats: readonly SessionBeat[],
): Promise<StoredBeat[]> {
  const sorted = [...beats].sort((a, b) => (a.sessionId < b.sessionId ? -1 : 1));
  const rows = await connection.run(statements.beat, [
    shard,
    uuidArray(sorted.map((beat) => beat.sessionId)),
    int8Array(sorted.map((beat) => beat.epoch)),
    int8Array(sorted.map((beat) => beat.number)),
    int4Array(sorted.map((beat) => beat.slots?.total ?? null)),
    textArray(sorted.map((beat) => (beat.slots === undefined ? null : writeOwnSlots(beat.slots.byName)))),
  ]);
  return rows.map((row) => ({ sessionId: text(row, 0), expiresInUs: integer(row, 1) }));
}

/** Leases that were taken from these sessions otherwise than by silence. */
export async function revokedLeases(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  sessionIds: readonly string[],
): Promise<RevokedLease[]> {
  const rows = await connection.run(statements.revoked, [shard, uuidArray(sessionIds)]);
  return rows.map((row) => ({
    sessionId: text(row, 0),
    taskId: text(row, 1),
    nonce: hexDigits(row, 2) ?? "",
    reason: text(row, 3) as RevocationReason,
  }));
}

/** Cancelled tasks that these sessions run. */
export async function cancelledLeases(
  connection: Connection,
  statements: SessionStatements,
  shard: number,
  sessionIds: readonly string[],
): Promise<CancelledLease[]> {
  const rows = await connection.run(statements.cancelled, [shard, uuidArray(sessionIds)]);
  return rows.map(readLive).flatMap((task) => (task.lease === null ? [] : [{ sessionId: task.lease.sessionId, task }]));
}
