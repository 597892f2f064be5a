// Who must hear of a committed change? The dispatcher of new work, waiters of changed tasks, workers of cancels and lost leases:
// on this server at once, on the others by a gathered hint.

import type { Clock } from "../clock.js";
import type { Answer, RevocationReason } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import { SUSPECT_LOSSES } from "../domain/retry.js";
import type { LiveTask } from "../domain/task.js";
import type { Group, GroupWithWork, Hint, HintedLease, Storage } from "../storage/storage.js";
import { MOST_HINT_PARTS } from "../storage/wakeups.js";

/** Least time between two hints to other servers: notifying commits serialize in Postgres. */
const HINT_INTERVAL_MS = 50;
/** More tasks than this are not told one by one: two messages hold them. */
const MOST_TASKS = 400;

/** Those on this server who want to know. */
export interface Listeners {
  /** A group has a task that is due at `earliestUs`. */
  work(group: GroupWithWork): void;
  /** A task changed or is gone. */
  changed(taskId: string): void;
  /** A lease was cancelled or taken away; answers whether its worker is connected here. */
  lease(sessionId: string, task: LiveTask, revoked: RevocationReason | null): boolean;
  /** Anything that `transition` decided was committed: for who counts. */
  committed?(before: LiveTask, answer: Extract<Answer, { kind: "changed" | "finished" }>): void;
}

/** Spreads what was committed. */
export class Announcements {
  private groups = new Map<string, GroupWithWork>();
  private leases: HintedLease[] = [];
  private taskIds = new Set<string>();
  private waiting = false;
  private lastHintMs = -HINT_INTERVAL_MS;
  /** True while no other server uses the database: then nobody needs hints. Kept by upkeep. */
  alone = false;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "notify">,
    private readonly listeners: Listeners,
  ) {}

  /** Tasks were stored. */
  stored(tasks: readonly NewTask[]): void {
    for (const { live } of tasks) this.pending(live);
  }

  /** An answer of `transition` was committed; `byHolder`: the worker of the lease reported it and knows. */
  committed(before: LiveTask, answer: Extract<Answer, { kind: "changed" | "finished" }>, byHolder = false): void {
    const { identity } = before;
    if (answer.kind === "changed" && answer.task.state === "PENDING") this.pending(answer.task);
    this.listeners.changed(identity.id);
    this.listeners.committed?.(before, answer);
    this.taskChanged(identity.id);
    const holder = before.state === "RUNNING" && !byHolder ? before.lease : null;
    if (holder !== null) this.tellHolder(before, answer, holder.sessionId);
    this.hintSoon();
  }

  /** A finished task was removed. */
  removed(taskId: string): void {
    this.listeners.changed(taskId);
    this.taskChanged(taskId);
    this.hintSoon();
  }

  private taskChanged(taskId: string): void {
    if (!this.alone && this.taskIds.size <= MOST_TASKS) this.taskIds.add(taskId);
  }

  private tellHolder(before: LiveTask, answer: Extract<Answer, { kind: "changed" | "finished" }>, sessionId: string): void {
    const closed = answer.kind === "finished" || answer.task.state !== "RUNNING";
    const cancelled =
      answer.kind === "changed" && answer.task.cancel !== null && answer.task.cancel.deadlineUs !== before.cancel?.deadlineUs;
    if (!closed && !cancelled) return;
    const revoked = closed ? (answer.revoked ?? "LEASE_LOST") : null;
    const here = this.listeners.lease(sessionId, answer.task, revoked);
    if (!here && this.isTold) this.leases.push({ sessionId, taskId: before.identity.id, revoked });
  }

  private pending(task: LiveTask): void {
    const { identity, queue, priority, runAtUs } = task;
    const group: GroupWithWork = {
      namespace: identity.namespace,
      queue,
      name: identity.name,
      priority,
      suspect: task.lostLeases >= SUSPECT_LOSSES,
      earliestUs: runAtUs ?? 0,
    };
    this.listeners.work(group);
    if (!this.isTold) return;
    const key = groupKey(group);
    const known = this.groups.get(key);
    if (known === undefined || known.earliestUs > group.earliestUs) this.groups.set(key, group);
    this.hintSoon();
  }

  // Beyond what a hint writes out nothing more is gathered: it says then that anything may have changed.
  private get isTold(): boolean {
    return !this.alone && this.groups.size + this.leases.length <= MOST_HINT_PARTS;
  }

  // The first change after a quiet time is told at once, a stream of them every 50 ms, and never two hints at a time.
  private hintSoon(): void {
    if (this.waiting || this.alone || this.groups.size + this.leases.length + this.taskIds.size === 0) return;
    this.waiting = true;
    const delayMs = Math.max(this.lastHintMs + HINT_INTERVAL_MS - this.clock.monotonicMs(), 0);
    if (delayMs === 0)
      this.clock.soon(() => {
        void this.hint();
      });
    else
      this.clock.after(delayMs, () => {
        void this.hint();
      });
  }

  private async hint(): Promise<void> {
    this.lastHintMs = this.clock.monotonicMs();
    const taskIds = this.taskIds.size > MOST_TASKS ? null : [...this.taskIds];
    const hint: Hint = { groups: [...this.groups.values()], leases: this.leases, taskIds };
    this.groups = new Map();
    this.leases = [];
    this.taskIds = new Set();
    // A hint that is lost costs its receivers one polling delay, nothing else.
    await this.storage.notify(hint).catch(() => undefined);
    this.waiting = false;
    this.hintSoon();
  }
}

/** A group as a map key. Names and queues cannot hold the separator. */
export function groupKey(group: Group): string {
  return `${group.namespace}\n${group.queue}\n${group.name}\n${String(group.priority)}${group.suspect ? "\nsuspect" : ""}`;
}
