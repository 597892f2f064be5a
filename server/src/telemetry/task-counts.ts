// What is counted of tasks, leases and reports? Read off what was committed, at the one place where all of it is announced.

import type { Answer } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import type { LiveTask } from "../domain/task.js";
import type { LeasedTask } from "../storage/storage.js";
import { Labels } from "./labels.js";
import type { Metrics } from "./metrics.js";

type Committed = Extract<Answer, { kind: "changed" | "finished" }>;
const US_PER_S = 1_000_000;

/** Counts of one server. */
export class TaskCounts {
  readonly queues: Labels;
  readonly names: Labels;

  constructor(
    readonly metrics: Metrics,
    mostNames: number,
    nowMs: () => number,
    private readonly nowUs: () => number,
  ) {
    this.queues = new Labels(mostNames, nowMs);
    this.names = new Labels(mostNames, nowMs);
  }

  /** A task was stored. */
  stored({ submission }: NewTask): void {
    this.metrics.submitted.add(1, { queue: this.queues.of(submission.queue), task_name: this.names.of(submission.name) });
  }

  /** Tasks are handed to their workers. */
  given(tasks: readonly LeasedTask[]): void {
    for (const { live } of tasks) {
      const { leaseTimeUs, runAtUs, queue } = live;
      if (leaseTimeUs === null || runAtUs === null) continue;
      this.metrics.queueWait.record(Math.max(leaseTimeUs - runAtUs, 0) / US_PER_S, { queue: this.queues.of(queue) });
    }
  }

  /** An answer of `transition` was written. */
  committed(before: LiveTask, answer: Committed): void {
    const task_name = this.names.of(before.identity.name);
    if (answer.kind === "finished") {
      const reason = answer.reason === null ? {} : { reason: answer.reason };
      this.metrics.finished.add(1, { task_name, state: answer.state, ...reason });
    }
    const again = backToRun(before, answer);
    if (again !== null) this.metrics.retried.add(1, { task_name, reason: again });
    if (before.lease === null) return;
    const cause = lostBy(before, answer);
    if (cause !== null) this.metrics.lost.add(1, { cause });
    const outcome = cause === null ? outcomeOf(answer) : null;
    if (outcome === null) return;
    const seconds = Math.max(this.nowUs() - before.lease.leaseTimeUs, 0) / US_PER_S;
    this.metrics.attempt.record(seconds, { task_name, outcome });
  }
}

/** Why a task runs again; null where it does not, or nothing but its waiting ended. */
export function backToRun(before: LiveTask, answer: Committed): string | null {
  if (answer.kind === "finished" || answer.task.state !== "PENDING") return null;
  const { pendingReason } = answer.task;
  if (before.state === "PENDING" && pendingReason === before.pendingReason) return null;
  return ["RETRY", "LEASE_LOST", "RELEASED", "RETRIED"].includes(pendingReason) ? pendingReason : null;
}

/** How a lease ended that nobody reported the end of; null where somebody did, or it goes on. */
export function lostBy(before: LiveTask, answer: Committed): string | null {
  if (before.state !== "RUNNING") return null;
  const { state, pendingReason, releases } = answer.task;
  // What a worker releases is counted in its row; what never reached it is not.
  if (answer.kind === "changed" && state === "PENDING" && pendingReason === "RELEASED" && releases === before.releases)
    return "NOT_DELIVERED";
  if (answer.revoked !== undefined) return answer.revoked;
  if (answer.kind === "finished") return answer.reason === "POISONED" ? "LEASE_LOST" : null;
  return state === "PENDING" && pendingReason === "LEASE_LOST" ? "LEASE_LOST" : null;
}

/** What a report made of its attempt; null for anything that ends none. */
export function outcomeOf(answer: Committed): string | null {
  if (answer.kind === "finished") {
    if (answer.reason === "INVALID_REPORT") return "invalid";
    return { COMPLETED: "complete", FAILED: "fail", CANCELLED: "cancel" }[answer.state];
  }
  const { state, pendingReason } = answer.task;
  if (state === "SUSPENDED") return "suspend";
  if (state !== "PENDING") return null;
  // Straight back, because a proceed was remembered: it suspended all the same.
  const outcomes: Partial<Record<typeof pendingReason, string>> = { RETRY: "fail", RELEASED: "release", PROCEEDED: "suspend" };
  return outcomes[pendingReason] ?? null;
}
