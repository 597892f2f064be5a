// What can Postgres itself do? The life of a task (insert, lease, complete) as three bare statements on one plain table, in batches, each
// committed durably, with parameters in binary. What Leasehold reaches is told as a share of this.
import { randomFillSync } from "node:crypto";
import pg from "pg";
import { byteaArray, int2Array, textArray, uuidArray } from "./binary-arrays.mjs";
import { nowMs } from "./clock.mjs";
import { payloadBytes, QUEUE } from "./payload.mjs";

const TABLE = `
  CREATE TABLE bench_limit (
    id uuid PRIMARY KEY, queue text NOT NULL, priority smallint NOT NULL, run_at timestamptz NOT NULL, state smallint NOT NULL,
    payload bytea NOT NULL);
  CREATE INDEX bench_limit_ready ON bench_limit (queue, priority DESC, run_at, id) WHERE state = 0`;

const INSERT = `
  INSERT INTO bench_limit (id, queue, priority, run_at, state, payload)
  SELECT u.id, u.queue, u.priority, now(), 0, u.payload
  FROM unnest($1::uuid[], $2::text[], $3::int2[], $4::bytea[]) AS u(id, queue, priority, payload)`;

const LEASE = `
  UPDATE bench_limit SET state = 1 WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM bench_limit WHERE queue = $1 AND state = 0 AND run_at <= now()
    ORDER BY priority DESC, run_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))
  RETURNING id, payload`;

const COMPLETE = `UPDATE bench_limit SET state = 2 WHERE id = ANY($1::uuid[])`;

/** Texts stay texts: reading them as dates or numbers is not what is measured. */
const RAW = { getTypeParser: () => (value) => value };

/** Opens so many connections to a database of its own and makes the table. */
export async function openLimit(databaseUrl, connections) {
  const clients = await Promise.all(
    Array.from({ length: connections }, async () => {
      // Unprotected, the plan made on an empty table scans it sequentially ever after.
      const client = new pg.Client({ connectionString: databaseUrl, options: "-c enable_seqscan=off", types: RAW });
      await client.connect();
      return client;
    }),
  );
  await clients[0].query(TABLE);
  return new Limit(clients);
}

class Limit {
  constructor(clients) {
    this.clients = clients;
  }

  /** Tasks a second through the whole life. */
  life(batch, seconds) {
    return this.#rate(seconds, async (client) => {
      await insert(client, batch);
      return complete(client, await lease(client, batch));
    });
  }

  /** Tasks inserted a second. */
  insert(batch, seconds) {
    return this.#rate(seconds, (client) => insert(client, batch));
  }

  /** Tasks a second from ready to done, of a backlog that is stored before the clock runs. */
  async leaseAndComplete(batch, backlog) {
    await this.reset();
    for (let stored = 0; stored < backlog; stored += 500) await insert(this.clients[0], Math.min(500, backlog - stored));
    return this.#rate(Infinity, async (client) => {
      const leased = await lease(client, batch);
      return leased.length === 0 ? undefined : complete(client, leased);
    });
  }

  /** Empties the table. */
  async reset() {
    await this.clients[0].query("TRUNCATE bench_limit");
  }

  async close() {
    await Promise.all(this.clients.map((client) => client.end()));
  }

  // Every connection goes through rounds until the time is over, or a round finds nothing to do and answers undefined.
  async #rate(seconds, round) {
    const startMs = nowMs();
    const endMs = startMs + seconds * 1000;
    let tasks = 0;
    await Promise.all(
      this.clients.map(async (client) => {
        while (nowMs() < endMs) {
          const count = await round(client);
          if (count === undefined) return;
          tasks += count;
        }
      }),
    );
    return (tasks / (nowMs() - startMs)) * 1000;
  }
}

async function insert(client, batch) {
  const ids = newIds(batch);
  const values = [uuidArray(ids), textArray(ids.map(() => QUEUE)), int2Array(ids.map(() => 0)), byteaArray(ids.map(() => payloadBytes()))];
  await client.query({ name: "insert", text: INSERT, values });
  return batch;
}

async function lease(client, batch) {
  const { rows } = await client.query({ name: "lease", text: LEASE, values: [QUEUE, batch], rowMode: "array" });
  return rows.map(([id]) => Buffer.from(id.replaceAll("-", ""), "hex"));
}

async function complete(client, ids) {
  await client.query({ name: "complete", text: COMPLETE, values: [uuidArray(ids)] });
  return ids.length;
}

/** UUIDs of version 7, ascending by time as the server's. */
function newIds(count) {
  const bytes = randomFillSync(Buffer.allocUnsafe(count * 16));
  const now = Date.now();
  return Array.from({ length: count }, (_, index) => {
    const id = bytes.subarray(index * 16, index * 16 + 16);
    id.writeUIntBE(now, 0, 6);
    id[6] = (id[6] & 0x0f) | 0x70;
    id[8] = (id[8] & 0x3f) | 0x80;
    return id;
  });
}

/** How long three commits in a row take, in milliseconds, so many times, evenly spaced over the seconds. */
export async function threeCommits(databaseUrl, perSecond, seconds) {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query("CREATE TABLE IF NOT EXISTS bench_commits (payload bytea NOT NULL)");
  const tookMs = [];
  const startMs = nowMs();
  for (let turn = 0; turn < perSecond * seconds; turn++) {
    const waitMs = startMs + (turn * 1000) / perSecond - nowMs();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const beganMs = nowMs();
    for (let commit = 0; commit < 3; commit++) {
      await client.query({ name: "commit", text: "INSERT INTO bench_commits VALUES ($1)", values: [payloadBytes()] });
    }
    tookMs.push(nowMs() - beganMs);
  }
  await client.end();
  return tookMs;
}
