-- The tables of a task's life. Every key is led by the shard (one on plain Postgres), every row carries its namespace.
-- What never changes is kept apart from the one narrow row that the hot path locks and rewrites.

-- The database's clock. Every decision about time asks it; tests replace it to move time.
CREATE FUNCTION leasehold_now() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$ SELECT clock_timestamp() $$;

-- What was submitted: immutable, append-only, fat.
CREATE TABLE tasks (
  shard smallint NOT NULL,
  namespace text NOT NULL,
  id uuid NOT NULL,
  name text NOT NULL,
  key text,
  key_hold_us bigint NOT NULL DEFAULT 0,
  create_time timestamptz NOT NULL,
  schedule_time timestamptz,
  queue_deadline_us bigint,
  attempt_deadline_us bigint,
  silence_deadline_us bigint,
  total_deadline_us bigint,
  metadata bytea NOT NULL,
  metadata_type text NOT NULL,
  -- True if Postgres can hold the metadata as jsonb, so that it can be searched.
  metadata_searchable boolean NOT NULL,
  metadata_fingerprint bytea,
  -- As JSON text: pairs sorted by key.
  labels text,
  -- The resolved policy as JSON text; equal policies are equal texts.
  retry_policy text NOT NULL,
  trace_context text,
  content_hash bytea,
  PRIMARY KEY (shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- One narrow row per unfinished task. Fixed-width columns first.
CREATE TABLE live_tasks (
  shard smallint NOT NULL,
  -- 0 PENDING, 1 RUNNING, 2 SUSPENDED
  state smallint NOT NULL,
  -- 1 NEW, 2 SCHEDULED, 3 RETRY, 4 PROCEEDED, 5 WOKEN, 6 RELEASED, 7 LEASE_LOST, 8 RETRIED; kept while it runs
  pending_reason smallint NOT NULL,
  priority smallint NOT NULL,
  failures integer NOT NULL DEFAULT 0,
  lost_leases integer NOT NULL DEFAULT 0,
  releases integer NOT NULL DEFAULT 0,
  settled_seq integer NOT NULL DEFAULT 0,
  last_outcome_seq integer,
  last_outcome_invalid boolean,
  id uuid NOT NULL,
  revision bigint NOT NULL,
  -- A copy, so that lists need no other table.
  create_time timestamptz NOT NULL,
  run_at timestamptz,
  fencing_token bigint NOT NULL DEFAULT 0,
  session_id uuid,
  session_epoch bigint,
  lease_time timestamptz,
  suspend_time timestamptz,
  queue_deadline timestamptz,
  attempt_deadline timestamptz,
  silence_deadline timestamptz,
  total_deadline timestamptz,
  cancel_time timestamptz,
  cancel_deadline timestamptz,
  -- Copies of the submission's limits, so that a claim can set the deadlines of its leases.
  attempt_limit_us bigint,
  silence_limit_us bigint,
  execution_metadata_version bigint NOT NULL DEFAULT 0,
  execution_metadata_bytes integer NOT NULL DEFAULT 0,
  checkpoint_count bigint NOT NULL DEFAULT 0,
  checkpoint_time timestamptz,
  namespace text NOT NULL,
  queue text NOT NULL,
  name text NOT NULL,
  lease_nonce bytea,
  last_outcome_nonce bytea,
  worker_name text NOT NULL DEFAULT '',
  cancel_reason text,
  -- Proceeds that wait, those to be told, and answered request ids, as JSON text.
  proceeds text,
  last_error text,
  last_error_code text,
  PRIMARY KEY (shard, id),
  CONSTRAINT live_tasks_state CHECK (state BETWEEN 0 AND 2),
  CONSTRAINT live_tasks_priority CHECK (priority BETWEEN 0 AND 9),
  CONSTRAINT live_tasks_due CHECK (run_at IS NOT NULL OR state = 2),
  CONSTRAINT live_tasks_session CHECK ((session_id IS NOT NULL) = (lease_nonce IS NOT NULL)),
  CONSTRAINT live_tasks_lease CHECK ((lease_nonce IS NOT NULL) = (state = 1 OR (state = 0 AND pending_reason = 7)))
) WITH (
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05
);

-- Serves the claim (equality up to priority, then due order) and the loose scan of which groups have work.
CREATE INDEX live_tasks_ready ON live_tasks (shard, namespace, queue, name, priority, run_at, id) WHERE state = 0 AND lost_leases < 2;
-- Serves the claim of suspects: tasks that lost two leases in a row, given only to sessions that hold no other such task.
CREATE INDEX live_tasks_suspects ON live_tasks (shard, namespace, run_at, id) WHERE state = 0 AND lost_leases >= 2;
-- Serves takeovers, expiry and the audit: what a session holds.
CREATE INDEX live_tasks_running ON live_tasks (shard, session_id, session_epoch) WHERE state = 1;
-- Serves the wake-up of suspended tasks.
CREATE INDEX live_tasks_waking ON live_tasks (shard, run_at) WHERE state = 2 AND run_at IS NOT NULL;
-- Serves deadlines and the ends of cancels; most tasks are not in it.
CREATE INDEX live_tasks_deadlines ON live_tasks
  (shard, (LEAST(queue_deadline, attempt_deadline, silence_deadline, total_deadline, cancel_deadline)))
  WHERE LEAST(queue_deadline, attempt_deadline, silence_deadline, total_deadline, cancel_deadline) IS NOT NULL;
-- Serves the heartbeat's look for cancels that nobody told the worker yet.
CREATE INDEX live_tasks_cancels ON live_tasks (shard, session_id) WHERE cancel_deadline IS NOT NULL;

-- How finished tasks ended.
CREATE TABLE finished_tasks (
  shard smallint NOT NULL,
  -- 3 COMPLETED, 4 FAILED, 5 CANCELLED
  state smallint NOT NULL,
  finish_reason smallint,
  pending_reason smallint NOT NULL,
  priority smallint NOT NULL,
  failures integer NOT NULL,
  lost_leases integer NOT NULL,
  last_outcome_seq integer,
  last_outcome_invalid boolean,
  id uuid NOT NULL,
  revision bigint NOT NULL,
  finish_time timestamptz NOT NULL,
  create_time timestamptz NOT NULL,
  run_at timestamptz,
  lease_time timestamptz,
  key_hold_until timestamptz,
  fencing_token bigint NOT NULL,
  execution_metadata_version bigint NOT NULL,
  execution_metadata_bytes integer NOT NULL,
  checkpoint_count bigint NOT NULL,
  checkpoint_time timestamptz,
  namespace text NOT NULL,
  queue text NOT NULL,
  name text NOT NULL,
  last_outcome_nonce bytea,
  worker_name text NOT NULL,
  result bytea,
  result_type text,
  error text,
  error_code text,
  PRIMARY KEY (shard, id),
  CONSTRAINT finished_tasks_state CHECK (state BETWEEN 3 AND 5)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Serves retention, oldest first, and lists of finished tasks, finished last first.
CREATE INDEX finished_tasks_state_time ON finished_tasks (shard, namespace, state, finish_time, id);

-- What handlers saved to resume from; a row only where there is some.
CREATE TABLE execution_metadata (
  shard smallint NOT NULL,
  namespace text NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  searchable boolean NOT NULL,
  content_type text NOT NULL,
  content bytea NOT NULL,
  PRIMARY KEY (shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, fillfactor = 70);

-- Taken idempotency keys. While its task is unfinished a key has no end; afterwards it may be held for a while.
CREATE TABLE task_keys (
  shard smallint NOT NULL,
  namespace text NOT NULL,
  name text NOT NULL,
  key text NOT NULL,
  id uuid NOT NULL,
  held_until timestamptz,
  PRIMARY KEY (shard, namespace, name, key)
);

-- Serves lists by one label, newest first.
CREATE TABLE task_labels (
  shard smallint NOT NULL,
  namespace text NOT NULL,
  key text NOT NULL,
  value text NOT NULL,
  create_time timestamptz NOT NULL,
  id uuid NOT NULL,
  PRIMARY KEY (shard, namespace, key, value, create_time, id)
);

-- The timeline of tasks; the plain success path writes none.
CREATE TABLE task_events (
  shard smallint NOT NULL,
  namespace text NOT NULL,
  id uuid NOT NULL,
  -- Revision of the task that the entry belongs to, and its place among those of one revision.
  revision bigint NOT NULL,
  place smallint NOT NULL,
  event_time timestamptz NOT NULL,
  type text NOT NULL,
  state smallint NOT NULL,
  attempt integer NOT NULL,
  fencing_token bigint NOT NULL,
  worker_name text NOT NULL,
  message text,
  error text,
  run_at timestamptz,
  finish_reason smallint,
  PRIMARY KEY (shard, id, revision, place)
);

-- How far running tasks are. Lost with a crash of Postgres: absent means unknown.
CREATE UNLOGGED TABLE task_progress (
  shard smallint NOT NULL,
  id uuid NOT NULL,
  update_time timestamptz NOT NULL,
  done double precision NOT NULL,
  total double precision,
  message text NOT NULL,
  PRIMARY KEY (shard, id)
) WITH (fillfactor = 50);
