// What happens to a task because time passed? Every deadline in every state that can have it, at its very microsecond and one before.
import { describe, expect, it } from "vitest";
import type { LiveTask } from "@leasehold/server/domain/task";
import { NO_DEADLINES } from "@leasehold/server/domain/task";
import { transition } from "@leasehold/server/domain/transition";
import {
  bodies,
  decisionContext,
  lostTask,
  newLiveTask,
  NONCE,
  NOW,
  reportOf,
  runningTask,
  seasonedTask,
  SECOND,
  SESSION,
  tellAnswer,
} from "../../support/domain.js";

const limits = { deadlines: { queueUs: 60 * SECOND, attemptUs: 30 * SECOND, silenceUs: 20 * SECOND, totalUs: 500 * SECOND } };
const cancelOver = { cancel: { reason: "not needed", requestUs: NOW - 30 * SECOND, deadlineUs: NOW } };
const lease = { nonce: "22".repeat(16), sessionId: SESSION, epoch: 1 };

function pass(task: LiveTask, lenient = false, nowUs = NOW): string {
  return tellAnswer(task, transition(task, { kind: "time-passed", lenient }, decisionContext({ nowUs })));
}

const suspended = seasonedTask({ state: "SUSPENDED", runAtUs: null, totalDeadlineUs: NOW });
const failedAttempt = "PENDING RETRY; due +2s, failures 2, lost 0, releases 0, lease closed";

describe("time that passed", () => {
  it.each<[string, LiveTask, string]>([
    [
      "queue deadline of a task that waits",
      newLiveTask({ queueDeadlineUs: NOW }),
      "FAILED QUEUE_DEADLINE; with error QUEUE_DEADLINE; FINISHED",
    ],
    [
      "total deadline of a task that waits",
      newLiveTask({ totalDeadlineUs: NOW }),
      "FAILED TOTAL_DEADLINE; with error TOTAL_DEADLINE; FINISHED",
    ],
    [
      "total deadline of a lost task",
      lostTask({ totalDeadlineUs: NOW }),
      "FAILED TOTAL_DEADLINE; lease closed; with error TOTAL_DEADLINE; FINISHED",
    ],
    [
      "total deadline of a running task",
      runningTask({ totalDeadlineUs: NOW }),
      "FAILED TOTAL_DEADLINE; lease closed; with error TOTAL_DEADLINE, revoked TOTAL_DEADLINE; FINISHED",
    ],
    ["total deadline of a suspended task", suspended, "FAILED TOTAL_DEADLINE; with error TOTAL_DEADLINE; FINISHED"],
    [
      "total deadline before the wake of the same moment",
      { ...suspended, runAtUs: NOW },
      "FAILED TOTAL_DEADLINE; with error TOTAL_DEADLINE; FINISHED",
    ],
    ["wake of a suspended task", { ...suspended, runAtUs: NOW, totalDeadlineUs: null }, "PENDING WOKEN; WOKEN"],
    [
      "attempt deadline",
      runningTask({ attemptDeadlineUs: NOW }),
      `${failedAttempt}, attempt deadline off, last error ATTEMPT_DEADLINE; revoked ATTEMPT_DEADLINE; ATTEMPT_FAILED`,
    ],
    [
      "silence deadline",
      runningTask({ silenceDeadlineUs: NOW }, limits),
      `${failedAttempt}, silence deadline off, last error SILENCE_DEADLINE; revoked SILENCE_DEADLINE; ATTEMPT_FAILED`,
    ],
    [
      "attempt deadline of the last attempt",
      runningTask({ attemptDeadlineUs: NOW, failures: 4 }),
      "FAILED MAX_ATTEMPTS; failures 5, lost 0, releases 0, lease closed, attempt deadline off, last error ATTEMPT_DEADLINE; with error ATTEMPT_DEADLINE, revoked ATTEMPT_DEADLINE; FINISHED",
    ],
    [
      "grace of a cancel",
      runningTask(cancelOver),
      "CANCELLED CANCEL_REQUESTED; lease closed; with error CANCELLED, revoked CANCEL_GRACE_ENDED; FINISHED",
    ],
    [
      "attempt deadline within the grace of a cancel",
      runningTask({ attemptDeadlineUs: NOW, cancel: { ...cancelOver.cancel, deadlineUs: NOW + SECOND } }),
      "CANCELLED CANCEL_REQUESTED; failures 2, lost 0, releases 0, lease closed, attempt deadline off, last error ATTEMPT_DEADLINE; with error CANCELLED, revoked ATTEMPT_DEADLINE; FINISHED",
    ],
  ])("ends by the %s", (_, task, told) => {
    expect(pass(task)).toBe(told);
    expect(pass(task, false, NOW - 1)).toBe("no: NOTHING_TO_DO");
  });

  it.each<[string, LiveTask]>([
    ["attempt deadline", runningTask({ attemptDeadlineUs: NOW })],
    ["silence deadline", runningTask({ silenceDeadlineUs: NOW }, limits)],
    ["grace of a cancel", runningTask(cancelOver)],
  ])("spares the %s right after an outage", (_, task) => {
    expect(pass(task, true)).toBe("no: NOTHING_TO_DO");
  });

  it("calls nobody silent who told of progress since", () => {
    const task = runningTask({ silenceDeadlineUs: NOW }, limits);
    const event = { kind: "time-passed", lenient: false } as const;
    const told = (progressUs: number): string => tellAnswer(task, transition(task, event, decisionContext({ progressUs })));
    expect(told(NOW - 20 * SECOND + 1)).toBe("no: NOTHING_TO_DO");
    expect(told(NOW - 20 * SECOND)).toContain("SILENCE_DEADLINE");
    expect(told(NOW - 90 * SECOND)).toContain("SILENCE_DEADLINE");
  });

  it("wakes, and ends by queue and total deadlines, also right after an outage", () => {
    expect(pass({ ...suspended, runAtUs: NOW, totalDeadlineUs: null }, true)).toContain("PENDING WOKEN");
    expect(pass(newLiveTask({ queueDeadlineUs: NOW }), true)).toContain("QUEUE_DEADLINE");
    expect(pass(runningTask({ totalDeadlineUs: NOW }), true)).toContain("TOTAL_DEADLINE");
  });

  it("tells a late report that its lease is lost once an attempt deadline took it", () => {
    const answer = transition(runningTask({ attemptDeadlineUs: NOW }), { kind: "time-passed", lenient: false }, decisionContext());
    if (answer.kind !== "changed") throw new Error(`it was ${answer.kind}`);
    expect(tellAnswer(answer.task, transition(answer.task, reportOf(bodies.complete), decisionContext()))).toBe("no: LEASE_LOST");
  });
});

describe("deadlines of a lease", () => {
  const waiting = newLiveTask({ queueDeadlineUs: NOW + SECOND, totalDeadlineUs: NOW + 9 * SECOND }, limits);

  it("begin with it, and end the queue deadline for good", () => {
    const answer = transition(waiting, { kind: "leased", lease, workerName: "w", fencingBase: 0 }, decisionContext());
    expect(tellAnswer(waiting, answer)).toBe(
      "RUNNING; lease 22 epoch 1, fence 1, queue deadline off, attempt deadline +30s, silence deadline +20s, worker w",
    );
  });

  it("are counted anew by a checkpoint for silence, and not for the attempt", () => {
    const running = runningTask({ attemptDeadlineUs: NOW + 20 * SECOND, silenceDeadlineUs: NOW + 10 * SECOND }, limits);
    const answer = transition(running, reportOf(bodies.checkpoint), decisionContext());
    expect(answer).toMatchObject({ task: { silenceDeadlineUs: NOW + 20 * SECOND, attemptDeadlineUs: NOW + 20 * SECOND } });
  });

  it.each(["complete", "fail", "suspend", "release", "cancel"] as const)("end with the outcome %s", (kind) => {
    const running = runningTask({ attemptDeadlineUs: NOW + 20 * SECOND, silenceDeadlineUs: NOW + 10 * SECOND }, limits);
    const answer = transition(running, reportOf(bodies[kind]), decisionContext());
    expect(answer).toMatchObject({ task: { silenceDeadlineUs: null, attemptDeadlineUs: null, lease: null } });
  });

  it("stop with a lost lease and go on from where the lease began when its worker comes back", () => {
    const running = runningTask({ attemptDeadlineUs: NOW + 20 * SECOND, silenceDeadlineUs: NOW + 10 * SECOND }, limits);
    const lost = transition(running, { kind: "lease-lost" }, decisionContext());
    if (lost.kind !== "changed") throw new Error(`it was ${lost.kind}`);
    expect(lost.task).toMatchObject({ attemptDeadlineUs: null, silenceDeadlineUs: null });
    const back = transition(lost.task, { kind: "reattested", nonce: NONCE, sessionId: SESSION, epoch: 4 }, decisionContext());
    expect(back).toMatchObject({ task: { attemptDeadlineUs: NOW + 20 * SECOND, silenceDeadlineUs: NOW + 10 * SECOND } });
  });

  it("do not call a worker silent that checkpointed while its lease was lost", () => {
    const lost = lostTask({ checkpointTimeUs: NOW - SECOND, leaseTimeUs: NOW - 60 * SECOND }, limits);
    const old = { ...lost, lease: { ...lost.lease!, leaseTimeUs: NOW - 60 * SECOND } };
    const back = transition(old, { kind: "reattested", nonce: NONCE, sessionId: SESSION, epoch: 4 }, decisionContext());
    expect(back).toMatchObject({ task: { silenceDeadlineUs: NOW - SECOND + 20 * SECOND } });
  });

  it("move with a postponed task for the queue, as long as it was never leased", () => {
    const event = { kind: "updated", priority: null, queue: null, runAtUs: NOW + 100 * SECOND } as const;
    expect(transition(waiting, event, decisionContext())).toMatchObject({
      task: { runAtUs: NOW + 100 * SECOND, queueDeadlineUs: NOW + 160 * SECOND },
    });
    expect(transition(seasonedTask({}, limits), event, decisionContext())).toMatchObject({ task: { queueDeadlineUs: null } });
    expect(transition(newLiveTask({}, { deadlines: NO_DEADLINES }), event, decisionContext())).toMatchObject({
      task: { queueDeadlineUs: null },
    });
  });

  it("let nobody move a task into the past", () => {
    const event = { kind: "updated", priority: null, queue: null, runAtUs: 0 } as const;
    expect(transition(waiting, event, decisionContext())).toMatchObject({ task: { runAtUs: NOW } });
  });
});
