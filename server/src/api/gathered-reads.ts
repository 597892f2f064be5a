// How do thousands who wait for tasks read them when they change? Together: reads that are asked for in the same turn share one statement, and
// those of one task one row. A shared read begins after everybody asked for it, so nobody gets a task older than the change they heard of.

import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import { Batcher } from "../dispatch/batch.js";
import type { Storage, StoredTask } from "../storage/storage.js";

/** Reads one task by its id; null if there is none. */
export type ReadById = (namespace: string, id: string, withPayloads: boolean) => Promise<StoredTask | null>;

interface Wanted {
  readonly namespace: string;
  readonly id: string;
}

/** Statements under way at once. */
const LANES = 2;
/** Tasks of one statement; with payloads fewer, because each may have three of the largest. */
const MOST = { basic: 500, full: 16 } as const;

/** Makes a reader that gathers. */
export function gatheredReads(storage: Pick<Storage, "readTasks">, clock: Clock, { limits }: Config): ReadById {
  const gather = (withPayloads: boolean): Batcher<Wanted, StoredTask | null> =>
    new Batcher(
      clock,
      { maxItems: withPayloads ? MOST.full : MOST.basic, maxBytes: Number.MAX_SAFE_INTEGER, lanes: LANES, maxWaiting: limits.waiters },
      (wanted) => readAll(storage, wanted, withPayloads),
    );
  const [basic, full] = [gather(false), gather(true)];
  return (namespace, id, withPayloads) => (withPayloads ? full : basic).add({ namespace, id });
}

async function readAll(
  storage: Pick<Storage, "readTasks">,
  wanted: readonly Wanted[],
  withPayloads: boolean,
): Promise<(StoredTask | null)[]> {
  const found = new Map<string, StoredTask>();
  const key = (namespace: string, id: string): string => `${namespace}\n${id}`;
  for (const namespace of new Set(wanted.map((one) => one.namespace))) {
    const ids = new Set(wanted.filter((one) => one.namespace === namespace).map(({ id }) => id));
    for (const task of await storage.readTasks(namespace, [...ids], withPayloads)) found.set(key(namespace, task.id), task);
  }
  return wanted.map(({ namespace, id }) => found.get(key(namespace, id)) ?? null);
}
