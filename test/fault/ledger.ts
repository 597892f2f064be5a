// How is a history looked up? By task, lease, session and worker, made once for all checks.
import type { Beat, Call, Greeted, History, Judged, Leased, Reported, Told } from "./history.js";

/** What went over the wire about one lease. */
export interface LeaseStory {
  /** Its first arrival. */
  readonly lease: Leased;
  readonly reports: readonly Reported[];
  readonly verdicts: readonly Judged[];
  readonly told: readonly Told[];
}

/** A history, looked up. */
export interface Ledger extends History {
  /** The leases of each task that a recording worker got, by fencing token. */
  readonly byTask: ReadonlyMap<string, readonly LeaseStory[]>;
  /** The calls about each task, by their begin. */
  readonly calls: ReadonlyMap<string, readonly Call[]>;
  /** The hellos of each worker process. */
  readonly greetings: ReadonlyMap<string, readonly Greeted[]>;
  /** Time to live by session. */
  readonly ttlMs: ReadonlyMap<string, number>;
  /** When each process began. */
  readonly startedUs: ReadonlyMap<string, number>;
  /** When the last heartbeat of a session was sent that was answered as stored before a moment; minus infinity if there is none. */
  lastBeatUs(session: string, beforeUs: number): number;
}

/** Makes the ledger of a history. */
export function ledgerOf(history: History): Ledger {
  const leases = new Map<string, Leased>();
  const [reports, verdicts, told] = [new Lists<Reported>(), new Lists<Judged>(), new Lists<Told>()];
  const [calls, greetings] = [new Lists<Call>(), new Lists<Greeted>()];
  const [sent, stored] = [new Map<string, number>(), new Lists<Beat>()];
  const [ttlMs, startedUs] = [new Map<string, number>(), new Map<string, number>()];
  for (const entry of history.entries) {
    if (entry.what === "leased" && !leases.has(entry.token)) leases.set(entry.token, entry);
    else if (entry.what === "reported") reports.add(entry.token, entry);
    else if (entry.what === "judged") verdicts.add(entry.token, entry);
    else if (entry.what === "told") told.add(entry.token, entry);
    else if (entry.what === "call") calls.add(entry.task, entry);
    else if (entry.what === "greeted") greetings.add(entry.who, entry);
    else if (entry.what === "welcomed") ttlMs.set(entry.session, entry.ttlMs);
    else if (entry.what === "beat") sent.set(`${entry.session} ${entry.number}`, entry.atUs);
    else if (entry.what === "beat-stored") stored.add(entry.session, entry);
    else if (entry.what === "started") startedUs.set(entry.who, entry.atUs);
  }
  const byTask = new Lists<LeaseStory>();
  for (const lease of [...leases.values()].sort((a, b) => a.fencing - b.fencing))
    byTask.add(lease.task, { lease, reports: reports.of(lease.token), verdicts: verdicts.of(lease.token), told: told.of(lease.token) });
  return {
    ...history,
    ...{ byTask: byTask.lists, calls: calls.lists, greetings: greetings.lists, ttlMs, startedUs },
    lastBeatUs: (session, beforeUs) => {
      const last = stored.of(session).findLast(({ atUs, number }) => atUs < beforeUs && sent.has(`${session} ${number}`));
      return last === undefined ? Number.NEGATIVE_INFINITY : (sent.get(`${session} ${last.number}`) ?? Number.NEGATIVE_INFINITY);
    },
  };
}

/** Lists by name. */
class Lists<T> {
  readonly lists = new Map<string, T[]>();

  add(name: string, item: T): void {
    const list = this.lists.get(name);
    if (list === undefined) this.lists.set(name, [item]);
    else list.push(item);
  }

  of(name: string): readonly T[] {
    return this.lists.get(name) ?? [];
  }
}
