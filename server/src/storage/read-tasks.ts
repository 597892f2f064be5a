// Through what are tasks read for people and clients? A pool of their own, through slonik: the only statements that are composed of conditions.

import type { ClientConfig } from "pg";
import { createPool, type DatabasePool, sql } from "slonik";
import { z } from "zod";

import type { Clock } from "../clock.js";
import { DatabaseFault, toFault } from "./faults.js";
import type { Fragment } from "./fragments.js";
import type { ListParts } from "./list-tasks.js";
import { countTasks, listTasks } from "./list-tasks.js";
import type { ListFilter, ListQuery, TaskCount } from "./queries.js";
import { type ReaderDriver, readerDriver } from "./reader-driver.js";
import type { ListPage, StoredTask } from "./storage.js";
import { readStored, selection } from "./task-selection.js";

// Each row arrives as an array of texts, read by the same readers as the hot path's rows.
const CELLS = z.object({ cells: z.string() });

// Every list comes from an index in its order and is short: no plan for a whole table is ever the better one, whatever statistics say.
const START_UP_OPTIONS = [
  // Refused by a standby, whose answers may be old.
  "transaction_read_only=off",
  "timezone=UTC",
  "datestyle=ISO",
  "bytea_output=hex",
  "jit=off",
  "enable_seqscan=off",
  "enable_bitmapscan=off",
  "enable_hashjoin=off",
  "enable_mergejoin=off",
];

/** Reads tasks of one schema. */
export interface TaskReader {
  readTask(shard: number, namespace: string, id: string, withPayloads: boolean): Promise<StoredTask | null>;
  /** Those of the ids that exist, in no order. */
  readTasks(shard: number, namespace: string, ids: readonly string[], withPayloads: boolean): Promise<StoredTask[]>;
  listTasks(shard: number, query: ListQuery): Promise<ListPage>;
  countTasks(shard: number, namespace: string, filter: ListFilter): Promise<TaskCount>;
  close(): Promise<void>;
}

/** Opens the pool that reads go through. */
export async function openReader(
  url: string,
  schema: string,
  poolSize: number,
  statementTimeoutMs: number,
  clock: Pick<Clock, "monotonicMs">,
): Promise<TaskReader> {
  return readerOver(readerUrl(url), readerDriver(readerConfig(url, statementTimeoutMs)), schema, poolSize, clock);
}

/** Opens the pool that reads go through over connections of a driver's making. */
export async function readerOver(
  url: string,
  driverFactory: ReaderDriver,
  schema: string,
  poolSize: number,
  clock: Pick<Clock, "monotonicMs">,
): Promise<TaskReader> {
  const pool = await createPool(url, {
    maximumPoolSize: poolSize,
    driverFactory,
    connectionRetryLimit: 0,
    queryRetryLimit: 1,
    typeParsers: [],
    captureStackTrace: false,
    // Its default runs DISCARD ALL after every use, which costs as much as the read and drops prepared statements.
    resetConnection: () => Promise.resolve(),
  });
  pool.on("error", () => undefined);
  const parts = (shard: number): ListParts => ({ pool, schema, shard, monotonicMs: () => clock.monotonicMs() });
  const read = (shard: number, namespace: string, withPayloads: boolean, which: Fragment): Promise<StoredTask[]> =>
    faultsFrom(() => readThese(pool, schema, shard, namespace, withPayloads, which));
  return {
    readTask: async (shard, namespace, id, withPayloads) =>
      (await read(shard, namespace, withPayloads, sql.fragment`t.id = ${id}::uuid`))[0] ?? null,
    readTasks: (shard, namespace, ids, withPayloads) =>
      read(shard, namespace, withPayloads, sql.fragment`t.id = ANY (${sql.array([...ids], "uuid")})`),
    listTasks: (shard, query) => faultsFrom(() => listTasks(parts(shard), query)),
    countTasks: (shard, namespace, filter) => faultsFrom(() => countTasks(parts(shard), namespace, filter)),
    close: () => pool.end(),
  };
}

async function readThese(
  pool: DatabasePool,
  schema: string,
  shard: number,
  namespace: string,
  withPayloads: boolean,
  which: Fragment,
): Promise<StoredTask[]> {
  const rows = await pool.any(sql.type(CELLS)`
    ${selection(schema, withPayloads)} WHERE t.shard = ${shard} AND ${which} AND t.namespace = ${namespace}`);
  return rows.map((row) => readStored(row.cells, withPayloads));
}

async function faultsFrom<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TypeError) throw error;
    // slonik wraps the driver's error; the SQLSTATE is on the innermost one.
    let inner: unknown = error;
    while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
    const fault = toFault(inner);
    // A read that failed has no outcome that anybody could miss.
    throw new DatabaseFault(fault.kind, fault.message, false, fault.retryAfterMs, { cause: error });
  }
}

function readerConfig(url: string, statementTimeoutMs: number): ClientConfig {
  return {
    connectionString: readerUrl(url),
    application_name: "leasehold reads",
    connectionTimeoutMillis: 5000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + 2000,
  };
}

/** The connection string with the settings that reading statements are planned under. */
export function readerUrl(url: string): string {
  const separator = url.includes("?") ? "&" : "?";
  return `${url}${separator}options=${encodeURIComponent(START_UP_OPTIONS.map((setting) => `-c ${setting}`).join(" "))}`;
}
