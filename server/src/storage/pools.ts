// Which connections does who share? Each class of work has a pool of its own, so that what may wait never stands before what must not: a flood of
// reads, or owners' calls that hang until their time-out, takes no connection from a report or from upkeep.

import type { Clock } from "../clock.js";
import type { ConnectionSettings, Reachability, Transactions } from "./connections.js";
import { TransactionPool } from "./connections.js";
import { Turnstile } from "./turnstile.js";

/** What waits before the pools. */
export interface QueueSettings extends ConnectionSettings {
  /** Longest that a submission may be expected to wait, in milliseconds. */
  readonly queueWaitMs: number;
}

/** The pools, in the order in which they are shed. */
export interface Pools {
  /** Before slonik's own pool, which would let any number wait. */
  readonly reads: Turnstile;
  /** Reads that go by other statements than lists: keys, timelines, explanations. */
  readonly lookups: Transactions;
  /** Submissions that need a transaction: with keys, or all or nothing. */
  readonly submissions: Transactions;
  /** What owners change: cancel, proceed, update, retry, delete. */
  readonly commands: Transactions;
  /** Reports on outdated copies, takeovers of sessions, payloads of leases. */
  readonly workers: Transactions;
  readonly upkeep: Transactions;
  /** All that hold connections. */
  readonly all: readonly Transactions[];
}

/** Most calls of owners that wait before a pool, beside the bound on their time: some megabytes. */
const MOST_CALLS = 5_000;
/** Most reports that wait to be decided on the stored task: as many as one stream may have without a verdict. */
const MOST_REPORTS = 20_000;
/** Reads give way first: they may wait half as long as a submission. */
export const SHARE_OF_READS = 0.5;
/** What somebody decided about a task that is there is worth more than a new one, and a cancel takes load away. */
const SHARE_OF_COMMANDS = 2;
/** One for the ticks, one for what is removed beside them. */
const UPKEEP_PLACES = 2;

/** Makes the pools; nothing connects yet. */
export function openPools(settings: QueueSettings, reachability: Reachability, clock: Clock): Pools {
  const { poolSize, queueWaitMs } = settings;
  const turnstile = (places: number, maxWaitMs: number, maxWaiting = MOST_CALLS): Turnstile =>
    new Turnstile(clock, { places, maxWaiting, maxWaitMs });
  const pool = (name: string, places: number, maxWaitMs: number, maxWaiting?: number): TransactionPool =>
    new TransactionPool({ ...settings, poolSize: places }, name, turnstile(places, maxWaitMs, maxWaiting), reachability);
  const quarter = Math.ceil(poolSize / 4);
  const reads = turnstile(poolSize, queueWaitMs * SHARE_OF_READS);
  const lookups = pool("lookups", quarter, queueWaitMs * SHARE_OF_READS);
  const submissions = pool("submissions", quarter, queueWaitMs);
  const commands = pool("commands", poolSize, queueWaitMs * SHARE_OF_COMMANDS);
  const workers = pool("workers", Math.ceil(poolSize / 2), Number.POSITIVE_INFINITY, MOST_REPORTS);
  const upkeep = pool("upkeep", UPKEEP_PLACES, Number.POSITIVE_INFINITY);
  return { reads, lookups, submissions, commands, workers, upkeep, all: [lookups, submissions, commands, workers, upkeep] };
}
