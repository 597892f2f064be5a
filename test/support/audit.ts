// Is every stored task in exactly one place? One query over all tables, for any test that has changed tasks in whatever way; it answers
// what is wrong, and says nothing about what stands as it should.

/** One thing that is wrong: what, and of which task. */
export interface Finding {
  readonly finding: string;
  readonly id: string;
}

// A task is ready, running under a living session, suspended, or finished. Between the end of a session and the next tick of upkeep it runs
// under none: that is said as `orphaned`, for the caller to judge.
const AUDIT = `
  WITH places AS (
    SELECT t.id, t.key, l.id IS NOT NULL AS live, f.id IS NOT NULL AS finished, l.lease_nonce,
      coalesce(l.state = 0 AND l.run_at IS NOT NULL, false) AS ready,
      coalesce(l.state = 1, false) AS running,
      coalesce(l.state = 1 AND s.end_time IS NULL AND s.epoch = l.session_epoch, false) AS attended,
      coalesce(l.state = 2, false) AS suspended,
      coalesce(l.execution_metadata_version, f.execution_metadata_version) AS version, e.version AS stored_version,
      l.execution_metadata_bytes <> octet_length(e.content) OR f.execution_metadata_bytes <> octet_length(e.content) AS other_size,
      l.pending_reason, k.id AS key_id, k.held_until, f.key_hold_until
    FROM tasks t
    LEFT JOIN live_tasks l ON l.shard = t.shard AND l.id = t.id
    LEFT JOIN finished_tasks f ON f.shard = t.shard AND f.id = t.id
    LEFT JOIN sessions s ON s.shard = t.shard AND s.id = l.session_id
    LEFT JOIN execution_metadata e ON e.shard = t.shard AND e.id = t.id
    LEFT JOIN task_keys k ON k.shard = t.shard AND k.namespace = t.namespace AND k.name = t.name AND k.key = t.key AND k.id = t.id),
  known AS (SELECT shard, id FROM tasks)
  SELECT finding, id::text FROM (
    SELECT 'not in exactly one place' AS finding, id FROM places
      WHERE ready::int + running::int + suspended::int + finished::int <> 1 OR live::int + finished::int <> 1
    UNION ALL SELECT 'orphaned', id FROM places WHERE running AND NOT attended
    UNION ALL SELECT 'a lease where none can be, or none where one must be', id FROM places
      WHERE (lease_nonce IS NOT NULL) <> (running OR (ready AND pending_reason = 7))
    UNION ALL SELECT 'execution metadata of another version or size', id FROM places
      WHERE version <> coalesce(stored_version, 0) OR other_size
    UNION ALL SELECT 'unfinished without its key', id FROM places WHERE live AND key IS NOT NULL AND key_id IS NULL
    UNION ALL SELECT 'unfinished with a key that ends', id FROM places WHERE live AND held_until IS NOT NULL
    UNION ALL SELECT 'finished with a key that does not end as it says', id FROM places
      WHERE finished AND key_id IS NOT NULL AND held_until IS DISTINCT FROM key_hold_until
    UNION ALL SELECT 'a key that no task has', k.id FROM task_keys k LEFT JOIN places p ON p.id = k.id AND p.key = k.key WHERE p.id IS NULL
    UNION ALL SELECT 'unfinished but not known', l.id FROM live_tasks l WHERE (l.shard, l.id) NOT IN (SELECT shard, id FROM known)
    UNION ALL SELECT 'finished but not known', f.id FROM finished_tasks f WHERE (f.shard, f.id) NOT IN (SELECT shard, id FROM known)
    UNION ALL SELECT 'execution metadata without a task', e.id FROM execution_metadata e WHERE (e.shard, e.id) NOT IN (SELECT shard, id FROM known)
    UNION ALL SELECT 'timeline without a task', v.id FROM task_events v WHERE (v.shard, v.id) NOT IN (SELECT shard, id FROM known)
    UNION ALL SELECT 'label without a task', b.id FROM task_labels b WHERE (b.shard, b.id) NOT IN (SELECT shard, id FROM known)
  ) AS findings`;

/** Runs the query; `rows` looks names up in Leasehold's schema, as `rows` of a test's storage does. No finding: all is well. */
export async function audit(rows: (text: string) => Promise<Finding[]>): Promise<Finding[]> {
  return rows(AUDIT);
}

/** The same without what is only waiting for the next tick of upkeep. */
export async function auditBetweenTicks(rows: (text: string) => Promise<Finding[]>): Promise<Finding[]> {
  return (await audit(rows)).filter(({ finding }) => finding !== "orphaned");
}
