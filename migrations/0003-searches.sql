-- What lists, keys and worker calls without a stream need beside the hot path.

-- Serves references by name and key (the latest task of a key), and lists by key; the key leads because a list may name it alone.
CREATE INDEX tasks_key ON tasks (shard, namespace, key, name, create_time, id) WHERE key IS NOT NULL;
-- Serve lists of unfinished tasks by state, by name and state, by queue and state, newest first. Running tasks are as few as there are
-- slots: their list sorts them, and a claim, which makes a task RUNNING, writes to none of these.
-- `state + 0`, because `state <> 1` follows from the `state = 0` of a claim's guards, which on empty tables were planned with these indexes
-- and from then on read every pending task. Only lists say it in these words.
CREATE INDEX live_tasks_created ON live_tasks (shard, namespace, state, create_time, id) WHERE state + 0 <> 1;
CREATE INDEX live_tasks_name ON live_tasks (shard, namespace, name, state, create_time, id) WHERE state + 0 <> 1;
CREATE INDEX live_tasks_queue ON live_tasks (shard, namespace, queue, state, create_time, id) WHERE state + 0 <> 1;
-- Serve the same lists of finished tasks.
CREATE INDEX finished_tasks_created ON finished_tasks (shard, namespace, state, create_time, id);
CREATE INDEX finished_tasks_name ON finished_tasks (shard, namespace, name, state, create_time, id);
CREATE INDEX finished_tasks_queue ON finished_tasks (shard, namespace, queue, state, create_time, id);
-- Serves lists of suspended tasks, waiting longest first.
CREATE INDEX live_tasks_suspended ON live_tasks (shard, namespace, suspend_time, id) WHERE state = 2;

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
