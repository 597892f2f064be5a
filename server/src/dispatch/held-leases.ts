// What does a worker hold? Its leases without a final verdict, with this server's copy of each task and the reports that wait
// for their turn: those of one lease go one after the other, those of different leases side by side.

import type { LiveTask, TraceContext } from "../domain/task.js";
import type { WorkerReport } from "./messages.js";

/** One held lease. */
export interface HeldLease {
  readonly token: string;
  readonly taskName: string;
  readonly taskId: string;
  /** Leased after two losses in a row. */
  readonly suspect: boolean;
  /** The task as this server knows it; null when the copy is outdated. */
  copy: LiveTask | null;
  readonly waiting: WorkerReport[];
  busy: boolean;
  /** How many leases its stream had delivered with it, to compare with `leases_received`; 0 for leases of an earlier stream. */
  readonly delivered: number;
  readonly deliveredAtMs: number;
  /** The trace that its reports belong to; null: none, or one of an earlier stream. */
  readonly traceContext: TraceContext | null;
}

/** The leases of one session. */
export class HeldLeases {
  private readonly byToken = new Map<string, HeldLease>();
  private readonly byTaskId = new Map<string, HeldLease>();
  /** Held and reserved, by task name. */
  private readonly names = new Map<string, number>();
  private reserved = 0;

  get size(): number {
    return this.byToken.size;
  }

  /** Slots that are taken: by leases, and by tasks that are being stored with one. */
  get taken(): number {
    return this.byToken.size + this.reserved;
  }

  /** The same of each task name. */
  get takenByName(): ReadonlyMap<string, number> {
    return this.names;
  }

  /** Takes a slot before its lease is there. */
  reserve(taskName: string): void {
    this.reserved++;
    this.count(taskName, 1);
  }

  /** Gives it back: the lease is held by now, or there is none. */
  unreserve(taskName: string): void {
    this.reserved--;
    this.count(taskName, -1);
  }

  add(lease: HeldLease): void {
    if (this.byToken.has(lease.token)) return;
    this.byToken.set(lease.token, lease);
    this.byTaskId.set(lease.taskId, lease);
    this.count(lease.taskName, 1);
  }

  get(token: string): HeldLease | undefined {
    return this.byToken.get(token);
  }

  ofTask(taskId: string): HeldLease | undefined {
    return this.byTaskId.get(taskId);
  }

  /** Forgets a lease; answers whether it was held. */
  remove(lease: HeldLease): boolean {
    if (!this.byToken.delete(lease.token)) return false;
    if (this.byTaskId.get(lease.taskId) === lease) this.byTaskId.delete(lease.taskId);
    this.count(lease.taskName, -1);
    return true;
  }

  private count(taskName: string, more: 1 | -1): void {
    const left = (this.names.get(taskName) ?? 0) + more;
    if (left === 0) this.names.delete(taskName);
    else this.names.set(taskName, left);
  }

  all(): IterableIterator<HeldLease> {
    return this.byToken.values();
  }
}
