// How does a test lose a whole database host? Two Postgres of its own, a primary and a standby that follows it, each in a folder of its own; the
// replication passes a proxy that can be told to swallow it.
import { execFile } from "node:child_process";
import { chown, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { startDatabaseProxy, type DatabaseProxy } from "./database-proxy.js";
import { startOwnPostgres, type OwnPostgres } from "./own-postgres.js";
import { runStatements } from "./postgres.js";
import type { TcpProxy } from "./tcp-proxy.js";

/** How the two are connected. */
export interface PairOptions {
  /** Whether a commit waits until the standby has it. */
  readonly synchronous: boolean;
}

/** A primary, its standby, and the way to them. */
export interface PostgresPair {
  readonly primary: OwnPostgres;
  readonly standby: OwnPostgres;
  /** What the standby hears of the primary comes through here. */
  readonly replication: TcpProxy;
  /** Where clients find the database: the primary, until it is aimed elsewhere. */
  readonly database: DatabaseProxy;
  /** Makes the standby a primary of its own. Whoever calls it has seen to it that the old one is gone. */
  promote(): Promise<void>;
  /** Stops both and removes their folders. */
  remove(): Promise<void>;
}

const PATIENCE_S = 30;
const CLUSTER = "pgdata";
// The standby finds what it missed while it started.
const KEPT = { wal_keep_size: "256MB", wal_retrieve_retry_interval: "100ms" };

/** Starts both, on the disk and with fsync, and waits until the standby follows. */
export async function startPair({ synchronous }: PairOptions): Promise<PostgresPair> {
  // The first start makes the cluster; a copy of it at rest is what the standby begins with.
  const first = await startOwnPostgres({ durable: true });
  await first.stop();
  const { dataDir } = first;
  const standbyDir = await copyAtRest(dataDir);
  const waits = synchronous ? { synchronous_standby_names: "*", synchronous_commit: "on" } : {};
  const primary = await startOwnPostgres({ durable: true, dataDir, settings: { ...KEPT, ...waits } });
  const database = await startDatabaseProxy(primary.url);
  const replication = await startDatabaseProxy(primary.url);
  const remove = async (): Promise<void> => {
    await Promise.all([database.proxy.close(), replication.proxy.close()]);
    await Promise.all([primary.remove(), rm(standbyDir, { recursive: true, force: true })]);
  };
  try {
    const from = `host=127.0.0.1 port=${replication.proxy.port} user=postgres application_name=standby sslmode=disable`;
    const standby = await startOwnPostgres({ durable: true, dataDir: standbyDir, settings: { ...KEPT, primary_conninfo: from } });
    await untilFollowing(primary.url, synchronous ? "sync" : "async");
    return {
      primary,
      standby,
      replication: replication.proxy,
      database,
      promote: () => runStatements(standby.url, `SELECT pg_promote(true, ${PATIENCE_S})`),
      remove: async () => {
        await standby.remove();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function copyAtRest(dataDir: string): Promise<string> {
  const copy = await mkdtemp(join(dirname(dataDir), "leasehold-test-standby-"));
  const cluster = join(copy, CLUSTER);
  await promisify(execFile)("cp", ["-a", join(dataDir, CLUSTER), cluster]);
  const signal = join(cluster, "standby.signal");
  await writeFile(signal, "", { mode: 0o600 });
  // Postgres may run as another user than this process.
  const { uid, gid } = await stat(cluster);
  await chown(signal, uid, gid);
  return copy;
}

async function untilFollowing(url: string, state: "sync" | "async"): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    for (const deadlineMs = performance.now() + PATIENCE_S * 1000; ;) {
      const { rows } = await client.query<{ sync_state: string }>("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'");
      if (rows[0]?.sync_state === state) return;
      if (performance.now() > deadlineMs) throw new Error(`the standby does not follow: ${JSON.stringify(rows)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    await client.end();
  }
}
