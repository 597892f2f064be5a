// What does upkeep ask the database? Who fell silent, which leases have no living session, which tasks' time has come.

import type { FinalState, LiveTask } from "../domain/task.js";
import { SUSPECT_LOSSES } from "../domain/retry.js";
import { LIVE_COLUMNS, LIVE_COLUMN_COUNT, TASK_OF_LIVE, readLive, stateNumber } from "./live-rows.js";
import type { Connection, Row, Statement } from "./statement.js";
import { instant, integer, text } from "./statement.js";
import type { GroupWithWork, OrphanedLeases } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface UpkeepStatements {
  readonly tick: Statement;
  readonly endExpired: Statement;
  readonly sweepSessions: Statement;
  readonly sweepRevoked: Statement;
  readonly orphaned: Statement;
  readonly waking: Statement;
  readonly deadlines: Statement;
  readonly retention: Statement;
  readonly groups: Statement;
  readonly suspects: Statement;
}

/** Builds the statements of this file for one schema. */
export function upkeepStatements(build: Build): UpkeepStatements {
  return {
    // All of it in one statement: a lock that was held from one statement to the next would outlive a server that freezes between them, and no
    // other could tick. Without living sessions there is nobody to be lenient with: a first start is no outage.
    tick: build(
      "upkeep_tick",
      `WITH u AS MATERIALIZED (
        SELECT x.only_row, x.last_tick, x.lenient_until, $schema.leasehold_now() AS now,
          EXISTS (SELECT 1 FROM $schema.sessions s WHERE s.shard = $1 AND s.end_time IS NULL) AS attended
        FROM $schema.upkeep x FOR UPDATE OF x),
      d AS MATERIALIZED (
        SELECT u.only_row, u.now, o.outage,
          CASE WHEN o.outage THEN u.now + $6::int8 * interval '1 microsecond' ELSE u.lenient_until END AS lenient_until
        FROM u CROSS JOIN LATERAL (SELECT u.attended AND u.now - u.last_tick > $5::int8 * interval '1 microsecond' AS outage) o),
      w AS (UPDATE $schema.upkeep x SET last_tick = d.now, lenient_until = d.lenient_until FROM d WHERE x.only_row = d.only_row),
      spared AS (
        UPDATE $schema.sessions s SET expires_at = GREATEST(s.expires_at, d.now + s.ttl_us * interval '1 microsecond')
        FROM d WHERE d.outage AND s.shard = $1 AND s.end_time IS NULL),
      seen AS (
        INSERT INTO $schema.servers AS s (id, address, version, start_time, seen_time) SELECT $2::uuid, $3, $4, d.now, d.now FROM d
        ON CONFLICT (id) DO UPDATE SET seen_time = excluded.seen_time),
      gone AS (DELETE FROM $schema.servers s WHERE s.seen_time < (SELECT now FROM d) - interval '1 hour')
      SELECT d.now, d.now < d.lenient_until,
        EXISTS (SELECT 1 FROM $schema.servers s WHERE s.id <> $2::uuid AND s.seen_time > d.now - interval '10 seconds') FROM d`,
    ),
    // The time is compared in the writing statement: a heartbeat that was stored a moment ago keeps its session.
    endExpired: build(
      "end_expired_sessions",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now)
      UPDATE $schema.sessions s SET end_time = (SELECT now FROM c)
      WHERE s.shard = $1 AND s.end_time IS NULL AND s.expires_at <= (SELECT now FROM c) RETURNING s.id`,
    ),
    sweepSessions: build(
      "sweep_sessions",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now)
      DELETE FROM $schema.sessions s WHERE s.shard = $1 AND s.end_time < (SELECT now FROM c) - interval '1 hour'`,
    ),
    // `shard + 0`, so that it is by time that rows are found: the primary key begins with the shard, and reads all of them.
    sweepRevoked: build(
      "sweep_revoked",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now)
      DELETE FROM $schema.revoked_leases r WHERE r.shard + 0 = $1 AND r.revoke_time < (SELECT now FROM c) - interval '1 hour'`,
    ),
    // A loose scan over (session, epoch) of running tasks: as many probes as sessions, not as leases.
    orphaned: build(
      "orphaned_leases",
      `WITH RECURSIVE g(session_id, session_epoch) AS (
        (SELECT l.session_id, l.session_epoch FROM $schema.live_tasks l WHERE l.shard = $1 AND l.state = 1
          ORDER BY l.session_id, l.session_epoch LIMIT 1)
        UNION ALL
        SELECT n.* FROM g, LATERAL (
          SELECT l.session_id, l.session_epoch FROM $schema.live_tasks l WHERE l.shard = $1 AND l.state = 1
            AND (l.session_id, l.session_epoch) > (g.session_id, g.session_epoch) ORDER BY l.session_id, l.session_epoch LIMIT 1) n),
      o AS MATERIALIZED (
        SELECT g.*, s.id IS NULL OR s.end_time IS NOT NULL AS lost, EXISTS (
          SELECT 1 FROM $schema.live_tasks l WHERE l.shard = $1 AND l.state = 1 AND l.session_id = g.session_id AND l.lost_leases >= 2) AS blamed
        FROM g LEFT JOIN LATERAL (
          SELECT * FROM $schema.sessions s WHERE s.shard = $1 AND s.id = g.session_id OFFSET 0) s ON true
        WHERE s.id IS NULL OR s.end_time IS NOT NULL OR s.epoch <> g.session_epoch)
      SELECT ${LIVE_COLUMNS}, l.lost, l.blamed FROM (
        SELECT x.*, o.lost, o.blamed FROM o CROSS JOIN LATERAL (
          SELECT * FROM $schema.live_tasks l WHERE l.shard = $1 AND l.state = 1 AND l.session_id = o.session_id
            AND l.session_epoch = o.session_epoch OFFSET 0) x
        -- Suspects last: as long as one is there, the others of its session are not charged.
        ORDER BY x.lost_leases LIMIT $2::int4) l
      ${TASK_OF_LIVE}`,
    ),
    waking: build(
      "waking_tasks",
      `SELECT ${LIVE_COLUMNS} FROM (
        SELECT * FROM $schema.live_tasks l WHERE l.shard = $1 AND l.state = 2 AND l.run_at <= (SELECT $schema.leasehold_now())
        ORDER BY l.run_at LIMIT $2::int4) l
      ${TASK_OF_LIVE}`,
    ),
    deadlines: build(
      "overdue_tasks",
      `SELECT ${LIVE_COLUMNS} FROM (
        SELECT * FROM $schema.live_tasks l WHERE l.shard = $1
          AND LEAST(l.queue_deadline, l.attempt_deadline, l.silence_deadline, l.total_deadline, l.cancel_deadline) IS NOT NULL
          AND LEAST(l.queue_deadline, l.attempt_deadline, l.silence_deadline, l.total_deadline, l.cancel_deadline)
            <= (SELECT $schema.leasehold_now())
          -- A silence deadline is only the earliest moment to look: progress since then puts it off, without a write to this row.
          AND (LEAST(l.queue_deadline, l.attempt_deadline, l.total_deadline, l.cancel_deadline) <= (SELECT $schema.leasehold_now())
            OR NOT EXISTS (SELECT 1 FROM $schema.task_progress p WHERE p.shard = $1 AND p.id = l.id
              AND p.update_time + l.silence_limit_us * interval '1 microsecond' > (SELECT $schema.leasehold_now())))
        ORDER BY LEAST(l.queue_deadline, l.attempt_deadline, l.silence_deadline, l.total_deadline, l.cancel_deadline) LIMIT $2::int4) l
      ${TASK_OF_LIVE}`,
    ),
    // All tables of a task in one statement; in pages, oldest first. Keys and labels are found task by task, each by its whole key: joined to
    // their tables, a plan made while those were empty would read all of them for every task.
    retention: build(
      "remove_expired_tasks",
      `WITH c AS MATERIALIZED (SELECT $schema.leasehold_now() AS now),
      old AS MATERIALIZED (
        SELECT f.id, f.ctid AS tid FROM $schema.finished_tasks f WHERE f.shard = $1 AND f.namespace = $2 AND f.state = $3::int2
          AND f.finish_time < (SELECT now FROM c) - $4::int8 * interval '1 microsecond'
          AND (f.key_hold_until IS NULL OR f.key_hold_until < (SELECT now FROM c))
        ORDER BY f.finish_time, f.id LIMIT $5::int4 FOR UPDATE SKIP LOCKED),
      said AS MATERIALIZED (
        SELECT old.id, t.name, t.key, t.create_time, t.labels FROM old CROSS JOIN LATERAL (
          SELECT t.name, t.key, t.create_time, t.labels FROM $schema.tasks t WHERE t.shard = $1 AND t.id = old.id OFFSET 0) t),
      f AS (
        DELETE FROM $schema.finished_tasks x USING old WHERE x.shard = $1 AND x.id = old.id AND x.ctid = old.tid RETURNING x.id),
      t AS (DELETE FROM $schema.tasks x WHERE x.shard = $1 AND x.id = ANY (ARRAY(SELECT id FROM old))),
      m AS (DELETE FROM $schema.execution_metadata x WHERE x.shard = $1 AND x.id = ANY (ARRAY(SELECT id FROM old))),
      e AS (DELETE FROM $schema.task_events x WHERE x.shard = $1 AND x.id = ANY (ARRAY(SELECT id FROM old))),
      p AS (DELETE FROM $schema.task_progress x WHERE x.shard = $1 AND x.id = ANY (ARRAY(SELECT id FROM old))),
      k AS (
        DELETE FROM $schema.task_keys x USING (
          SELECT said.id, y.tid FROM said CROSS JOIN LATERAL (
            SELECT k.ctid AS tid FROM $schema.task_keys k WHERE k.shard = $1 AND k.namespace = $2 AND k.name = said.name
              AND k.key = said.key AND k.id = said.id OFFSET 0) y
          WHERE said.key IS NOT NULL) z
        WHERE x.shard = $1 AND x.id = z.id AND x.ctid = z.tid),
      b AS (
        DELETE FROM $schema.task_labels x USING (
          SELECT said.id, y.tid FROM said CROSS JOIN LATERAL jsonb_array_elements(said.labels::jsonb) AS p(pair) CROSS JOIN LATERAL (
            SELECT b.ctid AS tid FROM $schema.task_labels b WHERE b.shard = $1 AND b.namespace = $2 AND b.key = p.pair ->> 0
              AND b.value = p.pair ->> 1 AND b.create_time = said.create_time AND b.id = said.id OFFSET 0) y
          WHERE said.labels IS NOT NULL) z
        WHERE x.shard = $1 AND x.id = z.id AND x.ctid = z.tid)
      SELECT count(*) FROM f`,
    ),
    // The first row of a group, by the index's order, is its earliest: one probe a group tells when it has work.
    groups: build(
      "groups_with_work",
      `WITH RECURSIVE g(queue, name, priority, run_at) AS (
        (SELECT l.queue, l.name, l.priority, l.run_at FROM $schema.live_tasks l WHERE l.shard = $1 AND l.namespace = $2 AND l.state = 0 AND l.lost_leases < 2
          ORDER BY l.queue, l.name, l.priority, l.run_at LIMIT 1)
        UNION ALL
        SELECT n.* FROM g, LATERAL (
          SELECT l.queue, l.name, l.priority, l.run_at FROM $schema.live_tasks l WHERE l.shard = $1 AND l.namespace = $2 AND l.state = 0 AND l.lost_leases < 2
            AND (l.queue, l.name, l.priority) > (g.queue, g.name, g.priority)
          ORDER BY l.queue, l.name, l.priority, l.run_at LIMIT 1) n)
      SELECT g.queue, g.name, g.priority, g.run_at, c.now FROM g, (SELECT $schema.leasehold_now() AS now) c LIMIT $3::int4`,
    ),
    suspects: build(
      "suspect_groups",
      `SELECT l.queue, l.name, l.priority, min(l.run_at) FROM (
        SELECT * FROM $schema.live_tasks l WHERE l.shard = $1 AND l.namespace = $2 AND l.state = 0 AND l.lost_leases >= 2
        ORDER BY l.run_at, l.id LIMIT $3::int4) l
      GROUP BY l.queue, l.name, l.priority`,
    ),
  };
}

/** Running tasks without a living session at their epoch. */
export async function orphanedLeases(
  connection: Connection,
  statements: UpkeepStatements,
  shard: number,
  most: number,
): Promise<OrphanedLeases> {
  const rows = await connection.run(statements.orphaned, [shard, most]);
  const orphaned: OrphanedLeases = { lost: [], bystanders: [], returned: [] };
  for (const row of rows) {
    const task = readLive(row);
    if (row[LIVE_COLUMN_COUNT] !== "t") orphaned.returned.push(task);
    else if (row[LIVE_COLUMN_COUNT + 1] === "t" && task.lostLeases < SUSPECT_LOSSES) orphaned.bystanders.push(task);
    else orphaned.lost.push(task);
  }
  return orphaned;
}

/** Suspended tasks to wake, and tasks with a deadline or cancel that has come. */
export async function overdueTasks(connection: Connection, statements: UpkeepStatements, shard: number, most: number): Promise<LiveTask[]> {
  const waking = await connection.run(statements.waking, [shard, most]);
  const deadlines = await connection.run(statements.deadlines, [shard, most]);
  const byId = new Map([...waking, ...deadlines].map(readLive).map((task) => [task.identity.id, task]));
  return [...byId.values()];
}

/** Removes a page of finished tasks for each state. */
export async function removeExpiredTasks(
  connection: Connection,
  statements: UpkeepStatements,
  shard: number,
  namespace: string,
  retentionUs: Readonly<Record<FinalState, number>>,
  most: number,
): Promise<number> {
  let removed = 0;
  for (const state of ["COMPLETED", "FAILED", "CANCELLED"] as const) {
    const [row] = await connection.run(statements.retention, [shard, namespace, stateNumber(state), retentionUs[state], most]);
    removed += row === undefined ? 0 : integer(row, 0);
  }
  return removed;
}

/** Groups that have pending tasks. */
export async function groupsWithWork(
  connection: Connection,
  statements: UpkeepStatements,
  shard: number,
  namespace: string,
  most: number,
  observe: (nowUs: number) => void,
): Promise<GroupWithWork[]> {
  const rows = await connection.run(statements.groups, [shard, namespace, most]);
  if (rows[0] !== undefined) observe(instant(rows[0], 4));
  const suspects = await connection.run(statements.suspects, [shard, namespace, most]);
  const read = (row: Row, suspect: boolean): GroupWithWork => ({
    namespace,
    queue: text(row, 0),
    name: text(row, 1),
    priority: integer(row, 2),
    suspect,
    earliestUs: instant(row, 3),
  });
  return [...rows.map((row) => read(row, false)), ...suspects.map((row) => read(row, true))];
}
