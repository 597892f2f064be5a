// What should be stored? The tasks, keys and sessions of one database as plain objects, changed by nothing but the domain's `transition`
// and `reopen`. What SQL does by itself (which tasks a claim takes, who is silent, what a key does) is said here a second time, simply.
import type { Answer, Context, Event, TimelineEntry } from "@leasehold/server/domain/event";
import type { Submission } from "@leasehold/server/domain/new-task";
import { newTask } from "@leasehold/server/domain/new-task";
import type { Reopening } from "@leasehold/server/domain/reopen";
import { reopen } from "@leasehold/server/domain/reopen";
import { SUSPECT_LOSSES } from "@leasehold/server/domain/retry";
import type { FinalState, Finish, LiveState, LiveTask, Payload } from "@leasehold/server/domain/task";
import { transition } from "@leasehold/server/domain/transition";
import { MAX_PAYLOAD_BYTES, START } from "../support/storage.js";

type Applied = Extract<Answer, { kind: "changed" | "finished" }>;

/** The Postgres timeline 1 in the high bits of fencing tokens. */
export const FENCING_BASE = 2 ** 40;
const HOUR = 3_600_000_000;

/** One entry of a timeline as it is stored. */
export interface ModelEntry {
  readonly revision: number;
  readonly place: number;
  readonly attempt: number;
  readonly fencingToken: number;
  readonly workerName: string;
  readonly timeUs: number;
  readonly entry: TimelineEntry;
}

/** A stored task. */
export interface ModelTask {
  readonly submission: Submission;
  /** Of a finished task what is kept of it. */
  live: LiveTask;
  finish: (Finish & { readonly finishTimeUs: number; readonly keyHoldUntilUs: number | null }) | null;
  executionMetadata: Payload | null;
  progressUs: number | null;
  readonly timeline: ModelEntry[];
}

/** A worker's session. */
export interface ModelSession {
  readonly id: string;
  connection: number;
  epoch: number;
  ttlUs: number;
  expiresAtUs: number;
  /** Null while it lives. */
  endedUs: number | null;
}

/** A lease that was given at some time, with the copy of its task that the server of its stream has; null where it has none. */
export interface ModelLease {
  readonly taskId: string;
  readonly nonce: string;
  sessionId: string;
  copy: LiveTask | null;
}

/** A lease taken away otherwise than by silence. */
export interface ModelRevocation {
  readonly sessionId: string;
  readonly id: string;
  readonly nonce: string;
  readonly reason: string;
  readonly timeUs: number;
}

/** The whole database. */
export class Model {
  nowUs = START;
  lastTickUs = START;
  lenientUntilUs = START;
  readonly tasks = new Map<string, ModelTask>();
  readonly keys = new Map<string, { id: string; heldUntilUs: number | null }>();
  readonly sessions: ModelSession[] = [];
  readonly leases: ModelLease[] = [];
  revocations: ModelRevocation[] = [];
  /** Every submission that was made, to be made again. */
  readonly submissions: Submission[] = [];
  /** Decisions that a server made and has not written yet. */
  picked: { readonly before: LiveTask; readonly answer: Applied }[] = [];

  /** Unfinished tasks. */
  get unfinished(): ModelTask[] {
    return [...this.tasks.values()].filter(({ finish }) => finish === null);
  }

  session(id: string): ModelSession | undefined {
    return this.sessions.find((session) => session.id === id);
  }

  /** What the domain answers about a task as it stands. */
  answer(task: ModelTask, event: Event): Answer {
    return transition(task.live, event, this.context(task));
  }

  context(task: ModelTask): Context {
    const { executionMetadata, progressUs } = task;
    return { nowUs: this.nowUs, chance: 0, executionMetadata, progressUs, maxPayloadBytes: MAX_PAYLOAD_BYTES };
  }

  /** Lets an event happen, if the domain lets it. */
  happen(task: ModelTask, event: Event): Answer {
    const answer = this.answer(task, event);
    if (answer.kind === "changed" || answer.kind === "finished") this.apply(task, answer);
    return answer;
  }

  /** Writes an answer down. */
  apply(task: ModelTask, answer: Applied): void {
    const before = task.live;
    const { revision, fencingToken, workerName } = answer.task;
    const stands = { revision, fencingToken, workerName, attempt: before.failures + 1, timeUs: this.nowUs };
    task.timeline.push(...answer.timeline.map((entry, place) => ({ ...stands, place, entry })));
    task.executionMetadata = answer.executionMetadata ?? task.executionMetadata;
    if (before.lease !== null && answer.revoked !== undefined && answer.revoked !== "LEASE_LOST") {
      const { sessionId, nonce } = before.lease;
      this.revocations.push({ sessionId, nonce, id: before.identity.id, reason: answer.revoked, timeUs: this.nowUs });
    }
    if (answer.kind === "changed") task.live = answer.task;
    else this.end(task, answer);
  }

  private end(task: ModelTask, { state, reason, result, error, task: ended }: Extract<Answer, { kind: "finished" }>): void {
    const { id, name, key, keyHoldUs } = ended.identity;
    const keyHoldUntilUs = keyHoldUs > 0 ? this.nowUs + keyHoldUs : null;
    task.finish = { state, reason, result, error, finishTimeUs: this.nowUs, keyHoldUntilUs };
    task.live = whatIsKept(ended, state);
    const place = key === null ? null : keyPlace(name, key);
    if (place === null || this.keys.get(place)?.id !== id) return;
    if (keyHoldUntilUs === null) this.keys.delete(place);
    else this.keys.set(place, { id, heldUntilUs: keyHoldUntilUs });
  }

  // ---- owners

  /** Whether a key is somebody's at the moment. */
  isTaken(place: string): boolean {
    const holder = this.keys.get(place);
    return holder !== undefined && (holder.heldUntilUs === null || holder.heldUntilUs > this.nowUs);
  }

  /** Stores a task whose id and key are free. */
  store(submission: Submission): void {
    const { live } = newTask(submission, this.nowUs);
    const { id, name, key, executionMetadata } = submission;
    this.tasks.set(id, { submission, live, finish: null, executionMetadata, progressUs: null, timeline: [] });
    if (key !== null) this.keys.set(keyPlace(name, key), { id, heldUntilUs: null });
  }

  /** RetryTask. */
  retry(task: ModelTask, how: Reopening): "retried" | "completed" | "key-taken" | "not-finished" {
    const { finish, live } = task;
    if (finish === null) return "not-finished";
    const answer = reopen({ task: { ...live, state: "PENDING" }, state: finish.state, error: finish.error }, how, this.nowUs);
    if (answer.kind === "rejected") return "completed";
    const { id, name, key } = live.identity;
    if (key !== null) {
      const place = keyPlace(name, key);
      if (this.isTaken(place) && this.keys.get(place)?.id !== id) return "key-taken";
      this.keys.set(place, { id, heldUntilUs: null });
    }
    const { revision, fencingToken, workerName, failures } = answer.task;
    const stands = { revision, fencingToken, workerName, attempt: failures + 1, timeUs: this.nowUs };
    task.timeline.push(...answer.timeline.map((entry, place) => ({ ...stands, place, entry })));
    task.live = answer.task;
    task.finish = null;
    if (!how.keepExecutionMetadata) task.executionMetadata = null;
    return "retried";
  }

  /** DeleteTask, and retention. */
  remove(id: string): void {
    this.tasks.delete(id);
    for (const [place, holder] of this.keys) if (holder.id === id) this.keys.delete(place);
  }

  // ---- time

  endSilentSessions(): number {
    const silent = this.sessions.filter(({ endedUs, expiresAtUs }) => endedUs === null && expiresAtUs <= this.nowUs);
    for (const session of silent) session.endedUs = this.nowUs;
    this.revocations = this.revocations.filter(({ timeUs }) => timeUs >= this.nowUs - HOUR);
    return silent.length;
  }

  /** Leases without a living session at their epoch go back or are lost. */
  returnOrphans(): void {
    const running = this.unfinished.filter(({ live }) => live.state === "RUNNING");
    const blamed = new Set(running.filter(({ live }) => live.lostLeases >= SUSPECT_LOSSES).map(({ live }) => live.lease?.sessionId));
    const events = running.flatMap((task): [ModelTask, Event][] => {
      const session = this.session(task.live.lease?.sessionId ?? "");
      if (session?.endedUs === null) return session.epoch === task.live.lease?.epoch ? [] : [[task, { kind: "lease-returned" }]];
      const bystander = blamed.has(task.live.lease?.sessionId) && task.live.lostLeases < SUSPECT_LOSSES;
      return [[task, { kind: "lease-lost", ...(bystander ? { charged: false as const } : {}) }]];
    });
    for (const [task, event] of events) this.happen(task, event);
  }

  letTimePass(lenient: boolean): void {
    for (const task of this.unfinished) this.happen(task, { kind: "time-passed", lenient });
  }

  // ---- claims

  /** Pending tasks that a claim may take, or may not take yet. */
  pending(suspects: boolean): ModelTask[] {
    return this.unfinished.filter(({ live }) => live.state === "PENDING" && live.lostLeases >= SUSPECT_LOSSES === suspects);
  }

  /** Ids of the tasks that a claim takes, in any order: by priority, then due time within a queue, queues taking turns. */
  claimed(suspects: boolean, slots: number, free: number): string[] {
    const due = this.pending(suspects)
      .map(({ live }) => live)
      .filter(({ runAtUs }) => (runAtUs ?? 0) <= this.nowUs);
    const queues = [...new Set(this.pending(suspects).map(({ live }) => live.queue))].sort();
    const lines = queues.map((queue) => {
      const ofQueue = due.filter((task) => task.queue === queue).sort(byPriorityThenTime);
      // No group brings more than a name may have.
      const seen = new Map<string, number>();
      return ofQueue.filter(({ identity, priority }) => counted(seen, `${identity.name} ${priority}`) <= Math.min(free, slots));
    });
    const perName = new Map<string, number>();
    const allowed = new Set(inTurns(lines).filter(({ identity }) => counted(perName, identity.name) <= free));
    const left = lines.map((line) => line.filter((task) => allowed.has(task)));
    return inTurns(left)
      .slice(0, slots)
      .map(({ identity }) => identity.id);
  }
}

/** Where a key is looked up. */
export function keyPlace(name: string, key: string): string {
  return `${name} ${key}`;
}

// A finished row keeps the counters, not what only an unfinished task needs.
function whatIsKept(task: LiveTask, state: FinalState): LiveTask {
  const gone = {
    ...{ suspendTimeUs: null, releases: 0, lease: null, settledSeq: 0, cancel: null, proceeds: null, lastError: null },
    ...{ queueDeadlineUs: null, attemptDeadlineUs: null, silenceDeadlineUs: null, totalDeadlineUs: null },
  };
  return { ...task, ...gone, state: state as string as LiveState };
}

function byPriorityThenTime(a: LiveTask, b: LiveTask): number {
  return b.priority - a.priority || (a.runAtUs ?? 0) - (b.runAtUs ?? 0) || (a.identity.id < b.identity.id ? -1 : 1);
}

function counted(counts: Map<string, number>, what: string): number {
  const count = (counts.get(what) ?? 0) + 1;
  counts.set(what, count);
  return count;
}

/** The first of each line, then the second of each, and so on. */
function inTurns<T>(lines: readonly (readonly T[])[]): T[] {
  const longest = Math.max(0, ...lines.map((line) => line.length));
  return Array.from({ length: longest }, (_, at) => lines.flatMap((line) => line.slice(at, at + 1))).flat();
}
