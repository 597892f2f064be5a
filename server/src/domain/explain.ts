// Why does a task not run? The same questions that the dispatcher asks before it claims, answered for one task, the strongest reason first.

import { SUSPECT_LOSSES } from "./retry.js";
import type { FinalState, LiveTask } from "./task.js";

/** A reason. */
export type ExplanationCode =
  | "RUNNING"
  | "FINISHED"
  | "NOT_DUE"
  | "WAITING_FOR_TIME"
  | "WAITING_FOR_PROCEED"
  | "NO_WORKER_FOR_NAME"
  | "NO_WORKER_FOR_QUEUE"
  | "ALL_SLOTS_BUSY"
  | "QUEUE_PAUSED"
  | "ISOLATED"
  | "ABOUT_TO_RUN";

/** One reason. */
export interface Explanation {
  readonly code: ExplanationCode;
  /** For people. */
  readonly message: string;
  readonly sinceUs: number | null;
  readonly untilUs: number | null;
  /** Due tasks of its queue that go first. */
  readonly tasksAhead: number;
}

/** A connected worker that handles the task's name. */
export interface Candidate {
  readonly takesFromQueue: boolean;
  /** Free slots for the task's name. */
  readonly free: number;
  /** It holds a task that lost two leases in a row. */
  readonly holdsSuspect: boolean;
}

/** What decides it. */
export interface Circumstances {
  readonly nowUs: number;
  readonly task: LiveTask;
  /** How and when it ended, or null. */
  readonly finish: { readonly state: FinalState; readonly finishTimeUs: number } | null;
  readonly candidates: readonly Candidate[];
  readonly tasksAhead: number;
  /** Since when its queue is paused, or null. */
  readonly pausedSinceUs: number | null;
}

/** Explains why a task does not run; at least one reason. */
export function explain(circumstances: Circumstances): Explanation[] {
  const { task, finish } = circumstances;
  if (finish !== null) return [reason("FINISHED", `It is ${finish.state}.`, { sinceUs: finish.finishTimeUs })];
  switch (task.state) {
    case "RUNNING":
      return [reason("RUNNING", `Worker ${task.workerName} runs it.`, { sinceUs: task.leaseTimeUs })];
    case "SUSPENDED":
      return [suspended(task)];
    case "PENDING":
      return pending(circumstances);
  }
}

function suspended({ suspendTimeUs, runAtUs }: LiveTask): Explanation {
  if (runAtUs === null) return reason("WAITING_FOR_PROCEED", "It is suspended until somebody proceeds it.", { sinceUs: suspendTimeUs });
  return reason("WAITING_FOR_TIME", "It is suspended until a time, or until somebody proceeds it.", {
    sinceUs: suspendTimeUs,
    untilUs: runAtUs,
  });
}

function pending({ task, nowUs, candidates, tasksAhead, pausedSinceUs }: Circumstances): Explanation[] {
  const found: Explanation[] = [];
  const { runAtUs } = task;
  const due = runAtUs === null || runAtUs <= nowUs;
  if (pausedSinceUs !== null) found.push(reason("QUEUE_PAUSED", `Queue ${task.queue} is paused.`, { sinceUs: pausedSinceUs }));
  if (!due) found.push(reason("NOT_DUE", "It is not due yet.", { untilUs: runAtUs }));
  const takers = candidates.filter(({ takesFromQueue }) => takesFromQueue);
  if (candidates.length === 0) found.push(reason("NO_WORKER_FOR_NAME", `No connected worker handles ${task.identity.name}.`));
  else if (takers.length === 0)
    found.push(reason("NO_WORKER_FOR_QUEUE", `Workers handle ${task.identity.name}, but none takes from queue ${task.queue}.`));
  // How busy workers are now says nothing about when it will be due.
  else if (due) found.push(...amongTakers(task, takers, tasksAhead, found.length === 0));
  return found;
}

function amongTakers(task: LiveTask, takers: readonly Candidate[], tasksAhead: number, nothingElse: boolean): Explanation[] {
  const { runAtUs: sinceUs } = task;
  const found: Explanation[] = [];
  const suspect = task.lostLeases >= SUSPECT_LOSSES;
  const trusted = suspect ? takers.filter(({ holdsSuspect }) => !holdsSuspect) : takers;
  const free = trusted.some((taker) => taker.free > 0);
  if (suspect && !free)
    found.push(reason("ISOLATED", "It lost two leases in a row: it waits for a free worker that holds no other such task.", { sinceUs }));
  if (!takers.some((taker) => taker.free > 0))
    found.push(
      reason("ALL_SLOTS_BUSY", `All slots of the ${plural(takers.length, "worker")} that could take it are busy; ${ahead(tasksAhead)}.`, {
        sinceUs,
        tasksAhead,
      }),
    );
  if (free && nothingElse) found.push(reason("ABOUT_TO_RUN", `A worker is free for it; ${ahead(tasksAhead)}.`, { sinceUs, tasksAhead }));
  return found;
}

function ahead(tasks: number): string {
  return tasks === 1 ? "1 due task of its queue goes first" : `${String(tasks)} due tasks of its queue go first`;
}

function plural(count: number, word: string): string {
  return count === 1 ? `one ${word}` : `${String(count)} ${word}s`;
}

function reason(
  code: ExplanationCode,
  message: string,
  { sinceUs = null, untilUs = null, tasksAhead = 0 }: Partial<Pick<Explanation, "sinceUs" | "untilUs" | "tasksAhead">> = {},
): Explanation {
  return { code, message, sinceUs, untilUs, tasksAhead };
}
