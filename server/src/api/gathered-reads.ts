// How do thousands who wait for tasks read them when they change? Together: reads that are asked for in the same turn share one statement, and
// those of one task one row. A shared read begins after everybody asked for it, so nobody gets a task older than the change they heard of.

import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import { Batcher } from "../dispatch/batch.js";
import { SHARE_OF_READS } from "../storage/pools.js";
import type { Storage, StoredTask } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";

/** Reads one task by its id; null if there is none. A `caller` is refused where he would wait too long; whoever waits already has none. */
export type ReadById = (namespace: string, id: string, withPayloads: boolean, caller?: Caller) => Promise<StoredTask | null>;

/** One read that is asked for, by however many. */
interface Wanted {
  readonly namespace: string;
  readonly id: string;
  readonly callers: (Caller | undefined)[];
  answer: Promise<StoredTask | null> | null;
}

/** Statements under way at once. */
const LANES = 2;
/** Tasks of one statement; with payloads fewer, because each may have three of the largest. */
const MOST = { basic: 500, full: 16 } as const;

/** Makes a reader that gathers. */
export function gatheredReads(storage: Pick<Storage, "readTasks">, clock: Clock, { limits }: Config): ReadById {
  const maxWaitMs = limits.queueWaitMs * SHARE_OF_READS;
  const gather = (withPayloads: boolean): ReadById => {
    // Those that no statement has yet: whoever asks for the same joins them, and costs nothing.
    const asked = new Map<string, Wanted>();
    const bounds = { maxItems: withPayloads ? MOST.full : MOST.basic, maxBytes: Number.MAX_SAFE_INTEGER, maxWaiting: limits.waiters };
    const batcher = new Batcher<Wanted, StoredTask | null>(clock, { ...bounds, lanes: LANES, maxWaitMs }, (wanted) => {
      for (const one of wanted) asked.delete(keyOf(one));
      return readAll(storage, wanted, withPayloads);
    });
    const ask = (wanted: Wanted): Promise<StoredTask | null> => {
      asked.set(keyOf(wanted), wanted);
      const forget = (): void => {
        if (asked.get(keyOf(wanted)) === wanted) asked.delete(keyOf(wanted));
      };
      const answer = batcher.add(wanted, 0, callerOf(wanted.callers));
      answer.catch(forget);
      return answer;
    };
    return (namespace, id, _withPayloads, caller) => {
      const known = asked.get(keyOf({ namespace, id }));
      known?.callers.push(caller);
      const wanted = known ?? { namespace, id, callers: [caller], answer: null };
      return (wanted.answer ??= ask(wanted));
    };
  };
  const [basic, full] = [gather(false), gather(true)];
  return (namespace, id, withPayloads, caller) => (withPayloads ? full : basic)(namespace, id, withPayloads, caller);
}

function keyOf({ namespace, id }: Pick<Wanted, "namespace" | "id">): string {
  return `${namespace}\n${id}`;
}

// Wanted until the last one is gone. Who asked first decides whether it would wait too long: for whoever joins it nothing more is done.
function callerOf(callers: readonly (Caller | undefined)[]): Caller | undefined {
  const [first] = callers;
  if (first === undefined) return undefined;
  return { gone: () => callers.every((caller) => caller?.gone() === true), leftMs: first.leftMs };
}

async function readAll(
  storage: Pick<Storage, "readTasks">,
  wanted: readonly Wanted[],
  withPayloads: boolean,
): Promise<(StoredTask | null)[]> {
  const found = new Map<string, StoredTask>();
  for (const namespace of new Set(wanted.map((one) => one.namespace))) {
    const ids = wanted.filter((one) => one.namespace === namespace).map(({ id }) => id);
    for (const task of await storage.readTasks(namespace, ids, withPayloads)) found.set(keyOf({ namespace, id: task.id }), task);
  }
  return wanted.map((one) => found.get(keyOf(one)) ?? null);
}
