// What runs in this worker now, and what occupies a slot without a lease?
//
// The server counts leases; a process must count handlers. A run whose lease is gone before its handler ended is an orphan: its slot is free
// to the server and taken here, so the worker lowers its slots until it ends.
import type { LeaseRun } from "./run-lease.js";

/** The runs of a worker. Every question is answered without walking through all of them. */
export class LeaseRuns {
  readonly #byToken = new Map<string, LeaseRun>();
  readonly #byName = new Map<string, number>();
  readonly #taskIds = new Set<string>();
  readonly #orphans = new Set<LeaseRun>();

  /** How many handlers run. */
  get size(): number {
    return this.#byToken.size;
  }

  /** Runs whose lease is gone. */
  get orphans(): ReadonlySet<LeaseRun> {
    return this.#orphans;
  }

  /** All runs. */
  all(): LeaseRun[] {
    return [...this.#byToken.values()];
  }

  /** How many handlers of a task name run. */
  countOf(name: string): number {
    return this.#byName.get(name) ?? 0;
  }

  /** Whether a handler of this very task runs. */
  hasTask(taskId: string): boolean {
    return this.#taskIds.has(taskId);
  }

  /** The run of a lease, if its handler has not ended. */
  get(leaseToken: string): LeaseRun | undefined {
    return this.#byToken.get(leaseToken);
  }

  add(run: LeaseRun): void {
    const { leaseToken, name, taskId } = run.lease;
    this.#byToken.set(leaseToken, run);
    this.#byName.set(name, this.countOf(name) + 1);
    this.#taskIds.add(taskId);
  }

  /** The lease is gone and the handler runs on. */
  orphan(run: LeaseRun): void {
    this.#orphans.add(run);
  }

  /** The handler has ended. */
  remove(run: LeaseRun): void {
    const { leaseToken, name, taskId } = run.lease;
    this.#byToken.delete(leaseToken);
    this.#byName.set(name, this.countOf(name) - 1);
    this.#taskIds.delete(taskId);
    this.#orphans.delete(run);
  }
}
