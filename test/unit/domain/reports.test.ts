// In which order do reports count? Token first, then content, then number; each at most once, an outcome even after later leases.
import { describe, expect, it } from "vitest";
import type { Answer, ReportBody } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import { closedLease, transition } from "@leasehold/server/domain/transition";
import {
  aProceed,
  bodies,
  decisionContext,
  FORMER_NONCE,
  json,
  lostTask,
  NONCE,
  NOW,
  proceedEvent,
  proceedRecord,
  reportOf,
  runningTask,
  seasonedTask,
  SECOND,
  SESSION,
  tellAnswer,
  textOf,
} from "../../support/domain.js";

const kinds = Object.entries(bodies) as [string, ReportBody][];
const valid = kinds.filter(([, body]) => body.kind !== "invalid");

function report(task: LiveTask, body: ReportBody, fields: { seq?: number; nonce?: string } = {}): Answer {
  return transition(task, reportOf(body, fields), decisionContext());
}

function told(task: LiveTask, body: ReportBody, fields: { seq?: number; nonce?: string } = {}): string {
  return tellAnswer(task, report(task, body, fields));
}

function after(answer: Answer): LiveTask {
  if (answer.kind !== "changed") throw new Error(`it was ${answer.kind}`);
  return answer.task;
}

/** Leased again after its first lease ended with this outcome, number 3. */
function leasedAfter(body: ReportBody): LiveTask {
  const pending = { ...after(report(runningTask(), body)), runAtUs: NOW };
  const lease = { nonce: "22".repeat(16), sessionId: SESSION, epoch: 4 };
  return after(transition(pending, { kind: "leased", lease, workerName: "w", fencingBase: 0 }, decisionContext()));
}

describe("a report of a token that is not the newest", () => {
  it.each(kinds)("changes nothing: %s", (_, body) => {
    expect(told(runningTask(), body, { nonce: "99".repeat(16), seq: 1 })).toBe("no: LEASE_LOST");
    expect(told(seasonedTask(), body, { nonce: "99".repeat(16), seq: 1 })).toBe("no: LEASE_LOST");
  });

  it.each(kinds)("is judged by its token before its content and number: %s", (_, body) => {
    expect(told(runningTask(), body, { nonce: FORMER_NONCE, seq: 5 })).toBe("no: LEASE_LOST");
    expect(told(runningTask(), body, { nonce: FORMER_NONCE, seq: 4 })).toBe("no: ALREADY_RECORDED");
    expect(told(runningTask(), body, { nonce: FORMER_NONCE, seq: 1 })).toBe("no: ALREADY_RECORDED");
  });
});

describe("numbers", () => {
  it.each(valid)("that were settled are recorded already, whatever the body: %s", (_, body) => {
    expect(told(runningTask(), body, { seq: 2 })).toBe("no: ALREADY_RECORDED");
    expect(told(runningTask(), body, { seq: 1 })).toBe("no: ALREADY_RECORDED");
    expect(told(lostTask(), body, { seq: 2 })).toBe("no: ALREADY_RECORDED");
  });

  it.each(valid)("wait for those before them: %s", (_, body) => {
    expect(report(runningTask(), body, { seq: 4 })).toEqual({ kind: "rejected", rejection: { reason: "OUT_OF_ORDER", expectedSeq: 3 } });
    expect(told(lostTask(), body, { seq: 99 })).toBe("no: OUT_OF_ORDER");
  });

  it.each(valid)("that wait for what a failover forgot give the lease back: %s", (_, body) => {
    const failover = { ...decisionContext(), fencingBase: 2 * 2 ** 40 };
    const before = { ...runningTask(), fencingToken: 2 ** 40 + 7 };
    const answer = transition(before, reportOf(body, { seq: 4 }), failover);
    expect(answer).toMatchObject({
      kind: "changed",
      revoked: "LEASE_LOST",
      task: { state: "PENDING", lease: null, failures: before.failures },
    });
    // In turn, or of a lease that was given since: as ever.
    expect(transition(before, reportOf(body, { seq: 3 }), failover)).not.toMatchObject({ revoked: "LEASE_LOST" });
    const since = { ...before, fencingToken: 2 * 2 ** 40 + 1 };
    expect(transition(since, reportOf(body, { seq: 4 }), failover)).toMatchObject({
      kind: "rejected",
      rejection: { reason: "OUT_OF_ORDER" },
    });
    const lost = transition({ ...lostTask(), fencingToken: 2 ** 40 + 7 }, reportOf(body, { seq: 99 }), failover);
    expect(lost).toMatchObject({ kind: "rejected", rejection: { reason: "LEASE_LOST" } });
  });

  it("begin at 1 with each lease", () => {
    const again = leasedAfter(bodies.fail);
    expect(again.settledSeq).toBe(0);
    expect(told(again, bodies.checkpoint, { nonce: "22".repeat(16), seq: 1 })).toContain("seq 1");
  });

  it("let the first report of a number stand when another body comes with it", () => {
    const once = after(report(runningTask(), bodies.checkpoint));
    expect(told(once, { kind: "checkpoint", executionMetadata: json("other") })).toBe("no: ALREADY_RECORDED");
    expect(told(once, bodies.complete)).toBe("no: ALREADY_RECORDED");
    expect(told(once, bodies.complete, { seq: 4 })).toContain("COMPLETED");
  });
});

describe("an outcome sent again", () => {
  it.each(["fail", "suspend", "suspendUntil", "release"] as const)(
    "is recorded already after %s, before and after the next lease",
    (kind) => {
      const waiting = after(report(runningTask(), bodies[kind]));
      expect(told(waiting, bodies[kind])).toBe("no: ALREADY_RECORDED");
      const woken = { ...waiting, state: "PENDING" as const, runAtUs: NOW };
      const lease = { nonce: "22".repeat(16), sessionId: SESSION, epoch: 4 };
      const again = after(transition(woken, { kind: "leased", lease, workerName: "w", fencingBase: 0 }, decisionContext()));
      expect(told(again, bodies[kind])).toBe("no: ALREADY_RECORDED");
      expect(told(again, bodies.checkpoint, { seq: 4 })).toBe("no: LEASE_LOST");
    },
  );

  it("is recorded already while the later lease is lost", () => {
    const lost = after(transition(leasedAfter(bodies.fail), { kind: "lease-lost" }, decisionContext()));
    expect(told(lost, bodies.fail)).toBe("no: ALREADY_RECORDED");
  });

  it("of a finished task is answered from what was kept of it", () => {
    const last = { nonce: NONCE, seq: 3, invalid: false };
    const told = (seq: number, nonce = NONCE): unknown => closedLease(last, { nonce, seq, body: bodies.complete });
    expect(told(3)).toEqual({ kind: "rejected", rejection: { reason: "ALREADY_RECORDED" } });
    expect(told(2)).toEqual({ kind: "rejected", rejection: { reason: "ALREADY_RECORDED" } });
    expect(told(4)).toEqual({ kind: "rejected", rejection: { reason: "LEASE_LOST" } });
    expect(told(3, FORMER_NONCE)).toEqual({ kind: "rejected", rejection: { reason: "LEASE_LOST" } });
    expect(closedLease(null, { nonce: NONCE, seq: 1, body: bodies.complete })).toEqual({
      kind: "rejected",
      rejection: { reason: "LEASE_LOST" },
    });
  });
});

describe("a report that cannot be recorded", () => {
  it("is refused again when a checkpoint of its number was", () => {
    const once = after(report(runningTask(), bodies.badCheckpoint));
    expect(told(once, bodies.badCheckpoint)).toBe("no: INVALID_REPORT");
    expect(told(once, bodies.checkpoint)).toBe("no: ALREADY_RECORDED");
    expect(told(once, bodies.complete, { seq: 4 })).toContain("COMPLETED");
  });

  it("changes nothing but the number when it is a checkpoint", () => {
    expect(told(runningTask(), bodies.badCheckpoint)).toBe("stays; seq 3; violations 1; INVALID_REPORT");
  });

  it("is refused again after it ended the task", () => {
    const last = { nonce: NONCE, seq: 3, invalid: true };
    expect(closedLease(last, reportOf(bodies.badOutcome))).toMatchObject({
      rejection: { reason: "INVALID_REPORT", violations: [{ field: "result" }] },
    });
    expect(closedLease(last, reportOf(bodies.complete))).toMatchObject({ rejection: { reason: "INVALID_REPORT", violations: [] } });
    expect(closedLease(last, reportOf(bodies.checkpoint, { seq: 2 }))).toMatchObject({ rejection: { reason: "ALREADY_RECORDED" } });
  });

  it("never settles a number before its turn", () => {
    for (const body of [bodies.badCheckpoint, bodies.badOutcome]) {
      expect(report(runningTask(), body, { seq: 4 }).kind).toBe("rejected");
    }
  });

  it("waits for its predecessor like any other, so that no later number is stuck behind it", () => {
    for (const body of [bodies.badCheckpoint, bodies.badOutcome]) {
      expect(told(runningTask(), body, { seq: 4 })).toBe("no: OUT_OF_ORDER");
    }
  });
});

describe("counts in a row", () => {
  const failing = { failures: 3, lostLeases: 2, releases: 2 };

  it.each<[string, ReportBody, object]>([
    ["checkpoint", bodies.checkpoint, { failures: 3, lostLeases: 0, releases: 0 }],
    ["invalid checkpoint", bodies.badCheckpoint, failing],
    ["failure", bodies.fail, { failures: 4, lostLeases: 0, releases: 0 }],
    ["suspension", bodies.suspend, { failures: 0, lostLeases: 0, releases: 0 }],
    ["release", bodies.release, { failures: 3, lostLeases: 0, releases: 3 }],
    ["completion", bodies.complete, { failures: 3, lostLeases: 0, releases: 2 }],
  ])("are settled by a %s", (_, body, counts) => {
    expect(report(runningTask(failing), body)).toMatchObject({ task: counts });
  });

  it("of lost leases stay as they are with a checkpoint of a lost lease", () => {
    expect(report(lostTask(failing), bodies.checkpoint)).toMatchObject({ task: failing });
  });

  it("end the task when failures reach the budget", () => {
    expect(told(runningTask({ failures: 3 }), bodies.fail)).toContain("PENDING RETRY");
    expect(told(runningTask({ failures: 4 }), bodies.fail)).toContain("FAILED MAX_ATTEMPTS");
  });

  it("end the task when lost leases exceed the budget", () => {
    const lose = (lostLeases: number): string =>
      tellAnswer(runningTask({ lostLeases }), transition(runningTask({ lostLeases }), { kind: "lease-lost" }, decisionContext()));
    expect(lose(0)).toContain("due +0s");
    expect(lose(1)).toContain("due +10s");
    expect(lose(2)).toContain("due +60s");
    expect(lose(3)).toContain("FAILED POISONED");
  });

  it("damp releases from the third on, and never below what the worker asked for", () => {
    const release = (releases: number, retryAfterUs: number | null): Answer =>
      report(runningTask({ releases }), { ...bodies.release, retryAfterUs });
    expect(release(1, null)).toMatchObject({ task: { runAtUs: NOW } });
    expect(release(2, null)).toMatchObject({ task: { runAtUs: NOW + 10 * SECOND } });
    expect(release(3, null)).toMatchObject({ task: { runAtUs: NOW + 60 * SECOND } });
    expect(release(30, null)).toMatchObject({ task: { runAtUs: NOW + 60 * SECOND } });
    expect(release(0, 7 * SECOND)).toMatchObject({ task: { runAtUs: NOW + 7 * SECOND } });
    expect(release(3, 7 * SECOND)).toMatchObject({ task: { runAtUs: NOW + 60 * SECOND } });
  });
});

describe("proceeds and reports", () => {
  const waiting = proceedRecord({ consumed: [{ note: "told", proceedUs: NOW }], unapplied: [json(1)], requests: [] });

  it("are told until a checkpoint, and not again", () => {
    expect(report(runningTask({ proceeds: waiting }), bodies.checkpoint)).toMatchObject({ task: { proceeds: null } });
    expect(report(runningTask({ proceeds: waiting }), bodies.fail)).toMatchObject({ task: { proceeds: waiting } });
    expect(report(runningTask({ proceeds: waiting }), bodies.release)).toMatchObject({ task: { proceeds: waiting } });
    expect(report(runningTask({ proceeds: waiting }), bodies.suspend)).toMatchObject({ task: { proceeds: null } });
  });

  it("meet in either order: PENDING with the change applied, one wake-up", () => {
    const proceed = proceedEvent({ patch: json({ b: 2 }) });
    const suspendedFirst = after(report(runningTask(), bodies.suspend));
    const thenProceeded = transition(suspendedFirst, proceed, decisionContext());
    const thenSuspended = report(after(transition(runningTask(), proceed, decisionContext())), bodies.suspend);
    for (const answer of [thenProceeded, thenSuspended]) {
      expect(answer).toMatchObject({
        kind: "changed",
        task: { state: "PENDING", pendingReason: "PROCEEDED", runAtUs: NOW, executionMetadataVersion: 2 },
      });
      expect(answer.kind === "changed" && textOf(answer.executionMetadata)).toBe('{"a":1,"b":2}');
    }
  });

  it("leave a patch that does not fit to the handler, and the task wakes all the same", () => {
    const remembered = [
      aProceed({ patch: json({ b: 2 }) }),
      aProceed({ patch: { data: new Uint8Array([255]), contentType: "image/png" } }),
    ];
    const answer = report(runningTask({ proceeds: proceedRecord({ remembered }) }), bodies.suspend);
    expect(tellAnswer(runningTask(), answer)).toContain("SUSPENDED PATCH_UNAPPLIED PROCEEDED");
    expect(after(answer).proceeds).toMatchObject({ remembered: [], unapplied: [remembered[1]?.patch] });
  });
});
