-- Who is alive: connected workers, and the servers that serve them.

-- One row per worker session; a heartbeat rewrites it in place, whatever number of leases it holds.
CREATE TABLE sessions (
  shard smallint NOT NULL,
  namespace text NOT NULL,
  id uuid NOT NULL,
  -- Raised by each Hello of the worker; the higher one wins.
  connection bigint NOT NULL,
  -- Raised by the server with each takeover; written into leases.
  epoch bigint NOT NULL,
  ttl_us bigint NOT NULL,
  expires_at timestamptz NOT NULL,
  heartbeat_number bigint NOT NULL DEFAULT 0,
  create_time timestamptz NOT NULL,
  end_time timestamptz,
  server_id uuid NOT NULL,
  -- As the last heartbeat said; 0 while it drains.
  slots integer NOT NULL,
  -- Slots of single task names, as JSON text: pairs; null where it has none.
  own_slots text,
  -- True for sessions of LeaseTasks, which have no stream.
  unary boolean NOT NULL,
  worker_name text NOT NULL,
  sdk text NOT NULL,
  language text NOT NULL,
  queues text[] NOT NULL,
  handlers text[] NOT NULL,
  -- As JSON text: pairs sorted by key.
  labels text,
  PRIMARY KEY (shard, id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- No index on expires_at: each heartbeat moves it, and without an index the row is rewritten in place (HOT).
-- Sessions are few; ended ones are removed after an hour.

-- Servers that use this database. The newest `seen_time` of all is also the last moment at which the database was known to work.
CREATE TABLE servers (
  id uuid PRIMARY KEY,
  address text NOT NULL,
  version text NOT NULL,
  start_time timestamptz NOT NULL,
  seen_time timestamptz NOT NULL
) WITH (fillfactor = 50);

-- When upkeep ran last, by any server. A gap means that nobody could heartbeat.
CREATE TABLE upkeep (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  last_tick timestamptz NOT NULL,
  -- Until then no session expires and nothing is charged to workers.
  lenient_until timestamptz NOT NULL
) WITH (fillfactor = 10);

INSERT INTO upkeep (last_tick, lenient_until) VALUES (leasehold_now(), leasehold_now());
