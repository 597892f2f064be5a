// What holds for a task through any history? Random events on the pure domain, with the invariants looked at after each.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Answer, Event, ReportBody } from "@leasehold/server/domain/event";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import type { LiveTask, Payload } from "@leasehold/server/domain/task";
import { closedLease, transition } from "@leasehold/server/domain/transition";
import { aProceed, bodies, json, newLiveTask, NOW, reportOf, SECOND, SESSION } from "../../support/domain.js";

type Step =
  | { readonly does: "wait"; readonly us: number }
  | { readonly does: "lease" | "lose" | "return" | "replace" | "pass" | "pass leniently" }
  | { readonly does: "reattest"; readonly lease: number }
  /** `lease` counts back from the newest, `ahead` from the next number in order. */
  | { readonly does: "report"; readonly body: ReportBody; readonly lease: number; readonly ahead: number }
  | { readonly does: "cancel"; readonly graceUs: number }
  | { readonly does: "proceed"; readonly patch: Payload | null; readonly inUs: number; readonly requestId: number | null }
  | { readonly does: "update"; readonly inUs: number };

const anyBody = fc.constantFrom<ReportBody>(
  ...Object.values(bodies),
  { ...bodies.complete, executionMetadata: json({ end: 1 }) },
  { ...bodies.suspend, executionMetadata: json({ asleep: 1 }) },
  { ...bodies.fail, executionMetadata: json({ failed: 1 }) },
);
const delay = fc.integer({ min: 0, max: 90 * SECOND });

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ does: fc.constant("wait" as const), us: delay }) },
  { weight: 6, arbitrary: fc.constant({ does: "lease" as const }) },
  { weight: 3, arbitrary: fc.constantFrom("lose" as const, "return" as const, "replace" as const).map((does) => ({ does })) },
  { weight: 3, arbitrary: fc.constantFrom("pass" as const, "pass leniently" as const).map((does) => ({ does })) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant("reattest" as const), lease: fc.nat(1) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      does: fc.constant("report" as const),
      body: anyBody,
      lease: fc.constantFrom(0, 0, 0, 0, 1, 2),
      ahead: fc.constantFrom(0, 0, 0, 0, -1, 1),
    }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("cancel" as const), graceUs: delay }) },
  {
    weight: 3,
    arbitrary: fc.record({
      does: fc.constant("proceed" as const),
      patch: fc.constantFrom(null, json({ b: 1 }), json({ b: null }), { data: new Uint8Array([255]), contentType: "image/png" }),
      inUs: delay,
      requestId: fc.option(fc.nat(3), { nil: null }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("update" as const), inUs: delay }) },
);

const limits = { queueUs: 60 * SECOND, attemptUs: 70 * SECOND, silenceUs: 50 * SECOND, totalUs: 100 * SECOND };
const anyIdentity = fc.record({
  retryPolicy: fc
    .record({ maxAttempts: fc.integer({ min: 1, max: 4 }), maxLostLeases: fc.nat(3) })
    .map((fields) => ({ ...DEFAULT_RETRY_POLICY, ...fields })),
  deadlines: fc.record({
    queueUs: fc.constantFrom(null, limits.queueUs),
    attemptUs: fc.constantFrom(null, limits.attemptUs),
    silenceUs: fc.constantFrom(null, limits.silenceUs),
    totalUs: fc.constantFrom(null, limits.totalUs),
  }),
});

/** A task, its stored execution metadata, all that happened so far. */
class History {
  task: LiveTask;
  finish: Extract<Answer, { kind: "finished" }> | null = null;
  nowUs = NOW;
  stored: Payload | null = null;
  readonly nonces: string[] = [];
  readonly settled = new Set<string>();
  cancelled = false;

  constructor(identity: Partial<LiveTask["identity"]>) {
    const task = newLiveTask({ runAtUs: NOW }, { ...identity, createTimeUs: NOW });
    const { queueUs, totalUs } = task.identity.deadlines;
    this.task = { ...task, queueDeadlineUs: queueUs && NOW + queueUs, totalDeadlineUs: totalUs && NOW + totalUs };
  }

  take(step: Step): void {
    if (step.does === "wait") {
      this.nowUs += step.us;
      return;
    }
    const event = this.eventOf(step);
    if (this.finish !== null) {
      // Nothing reopens a finished task: what is left of it answers reports, and never changes.
      if (event.kind === "reported") expect(closedLease(this.finish.task.lastOutcome, event).kind).toBe("rejected");
      return;
    }
    const before = this.task;
    const answer = transition(before, event, { nowUs: this.nowUs, chance: 0.5, executionMetadata: this.stored, maxPayloadBytes: 1000 });
    if (answer.kind === "rejected" || answer.kind === "repeated") return;
    expectSoundStep(before, event, answer, this.nowUs);
    if (event.kind === "leased") {
      expect(this.cancelled).toBe(false);
      this.nonces.push(event.lease.nonce);
    }
    if (event.kind === "reported") {
      const name = `${event.nonce} ${String(event.seq)}`;
      expect(event.nonce).toBe(this.nonces.at(-1));
      expect(this.settled.has(name)).toBe(false);
      this.settled.add(name);
    }
    this.cancelled ||= event.kind === "cancel-requested";
    this.stored = answer.executionMetadata ?? this.stored;
    this.task = answer.task;
    if (answer.kind === "finished") this.finish = answer;
    else expectSoundTask(answer.task, this.cancelled);
  }

  private eventOf(step: Exclude<Step, { does: "wait" }>): Event {
    switch (step.does) {
      case "lease": {
        const nonce = String(this.nonces.length + 1).padStart(32, "0");
        return { kind: "leased", lease: { nonce, sessionId: SESSION, epoch: 1 }, workerName: "w", fencingBase: 0 };
      }
      case "lose":
        return { kind: "lease-lost" };
      case "return":
        return { kind: "lease-returned" };
      case "replace":
        return { kind: "replaced" };
      case "pass":
        return { kind: "time-passed", lenient: false };
      case "pass leniently":
        return { kind: "time-passed", lenient: true };
      case "reattest":
        return { kind: "reattested", nonce: this.nonce(step.lease), sessionId: SESSION, epoch: 2 };
      case "report":
        return reportOf(step.body, { nonce: this.nonce(step.lease), seq: Math.max(this.task.settledSeq + 1 + step.ahead, 1) });
      case "cancel":
        return { kind: "cancel-requested", reason: "", graceUs: step.graceUs };
      case "update":
        return { kind: "updated", priority: null, queue: null, runAtUs: this.nowUs + step.inUs };
      case "proceed": {
        const proceed = aProceed({ patch: step.patch, runAtUs: this.nowUs + step.inUs, note: String(this.task.revision) });
        const request = step.requestId === null ? null : { requestId: String(step.requestId), bodyHash: "" };
        return { kind: "proceeded", proceed, replace: null, needsSuspended: false, request };
      }
    }
  }

  private nonce(back: number): string {
    return this.nonces.at(-1 - back) ?? "f".repeat(32);
  }
}

/** What one event may do to a task. */
function expectSoundStep(before: LiveTask, event: Event, answer: Exclude<Answer, { kind: "rejected" | "repeated" }>, nowUs: number): void {
  const { task } = answer;
  expect(task.identity).toBe(before.identity);
  expect(task.revision).toBe(before.revision + 1);
  expect(task.fencingToken).toBe(before.fencingToken + (event.kind === "leased" ? 1 : 0));
  expect(task.executionMetadataVersion).toBe(before.executionMetadataVersion + (answer.executionMetadata === undefined ? 0 : 1));
  if (answer.executionMetadata !== undefined) expect(task.executionMetadataBytes).toBe(answer.executionMetadata.data.byteLength);
  expect(task.checkpointCount).toBeGreaterThanOrEqual(before.checkpointCount);
  const newlyRunning = task.state === "RUNNING" && before.state !== "RUNNING";
  if (newlyRunning) expect(["leased", "reattested"]).toContain(event.kind);
  if (event.kind === "leased") expect(before.runAtUs).toBeLessThanOrEqual(nowUs);
  if (answer.kind === "changed" && task.state === "PENDING" && before.state !== "PENDING" && task.pendingReason !== "WOKEN") {
    expect(task.runAtUs).toBeGreaterThanOrEqual(nowUs);
  }
  expectProceedsKept(before, event, answer);
}

/** An acknowledged proceed waits in order until it is consumed with all others, or is dropped with an event. */
function expectProceedsKept(before: LiveTask, event: Event, answer: Exclude<Answer, { kind: "rejected" | "repeated" }>): void {
  const waiting = before.proceeds?.remembered ?? [];
  if (answer.kind === "finished") {
    expect(answer.timeline.some(({ type }) => type === "PROCEED_DROPPED")).toBe(waiting.length > 0);
    return;
  }
  const after = answer.task.proceeds;
  if (event.kind === "proceeded" && answer.proceedResult === "REMEMBERED") expect(after?.remembered).toEqual([...waiting, event.proceed]);
  else if (waiting.length > 0 && answer.task.pendingReason === "PROCEEDED" && answer.task.state === "PENDING") {
    expect(after?.remembered).toEqual([]);
    expect(after?.consumed.slice(-waiting.length)).toEqual(waiting.map(({ note, proceedUs }) => ({ note, proceedUs })));
  } else expect(after?.remembered ?? []).toEqual(waiting);
}

/** What holds for an unfinished task at all times. */
function expectSoundTask(task: LiveTask, cancelled: boolean): void {
  expect(task.lease !== null).toBe(task.state === "RUNNING" || (task.state === "PENDING" && task.pendingReason === "LEASE_LOST"));
  expect(task.runAtUs !== null || task.state === "SUSPENDED").toBe(true);
  expect(task.failures).toBeLessThan(task.identity.retryPolicy.maxAttempts);
  expect(task.lostLeases).toBeLessThanOrEqual(task.identity.retryPolicy.maxLostLeases);
  expect(task.cancel !== null).toBe(cancelled);
  if (cancelled) expect(task.state).toBe("RUNNING");
  if (task.state !== "RUNNING") expect([task.attemptDeadlineUs, task.silenceDeadlineUs]).toEqual([null, null]);
  if (task.leaseTimeUs !== null) expect(task.queueDeadlineUs).toBeNull();
  const times = [task.runAtUs, task.attemptDeadlineUs, task.silenceDeadlineUs, task.totalDeadlineUs, task.checkpointTimeUs];
  for (const us of times) if (us !== null) expect(Number.isSafeInteger(us)).toBe(true);
}

const anyHistory = fc.tuple(anyIdentity, fc.array(anyStep, { minLength: 1, maxLength: 60, size: "max" }));

function play([identity, steps]: [Partial<LiveTask["identity"]>, Step[]]): string {
  const history = new History(identity);
  for (const step of steps) history.take(step);
  return history.finish === null ? history.task.state : `${history.finish.state} ${history.finish.reason ?? ""}`.trim();
}

describe("any history of a task", () => {
  it("keeps its token, revision, counters, proceeds and cancel sound at every step", () => {
    fc.assert(
      fc.property(anyHistory, (history) => void play(history)),
      { numRuns: 1000 },
    );
  });

  // An invariant that nothing meets proves nothing. The seed is fixed, so that chance cannot fail it.
  it("is among those that reach every state and every way to end", () => {
    const ends = new Set(fc.sample(anyHistory, { seed: 1, numRuns: 500 }).map(play));
    expect([...ends].sort()).toEqual([
      "CANCELLED CANCELLED_BY_WORKER",
      "CANCELLED CANCEL_REQUESTED",
      "CANCELLED REPLACED",
      "COMPLETED",
      "FAILED INVALID_REPORT",
      "FAILED MAX_ATTEMPTS",
      "FAILED NOT_RETRYABLE",
      "FAILED POISONED",
      "FAILED QUEUE_DEADLINE",
      "FAILED TOTAL_DEADLINE",
      "PENDING",
      "RUNNING",
      "SUSPENDED",
    ]);
  });
});
