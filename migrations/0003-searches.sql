-- What lists, keys and worker calls without a stream need beside the hot path.

-- Serves references by name and key: the latest task of a key.
CREATE INDEX tasks_key ON tasks (shard, namespace, name, key, create_time DESC) WHERE key IS NOT NULL;
-- Serves lists of one name, newest first; the state is looked up by the primary key.
CREATE INDEX tasks_name ON tasks (shard, namespace, name, create_time, id);
-- Serves lists of finished tasks by state, by name and state, by queue and state, newest first.
CREATE INDEX finished_tasks_created ON finished_tasks (shard, namespace, state, create_time, id);
CREATE INDEX finished_tasks_name ON finished_tasks (shard, namespace, name, state, create_time, id);
CREATE INDEX finished_tasks_queue ON finished_tasks (shard, namespace, queue, state, create_time, id);
-- Serves lists of suspended tasks, waiting longest first.
CREATE INDEX live_tasks_suspended ON live_tasks (shard, namespace, suspend_time, id) WHERE state = 2;
-- Serves the sweep of progress that belongs to no running task.
CREATE INDEX task_progress_time ON task_progress (update_time);

-- Leases that were taken from their worker otherwise than by its own report: told by RenewLeases, and by the server that serves
-- the session where the hint was lost. Swept with their sessions.
CREATE TABLE revoked_leases (
  shard smallint NOT NULL,
  session_id uuid NOT NULL,
  id uuid NOT NULL,
  nonce bytea NOT NULL,
  reason text NOT NULL,
  revoke_time timestamptz NOT NULL,
  PRIMARY KEY (shard, session_id, id, nonce)
);
