// Do counts say what became of leases and attempts, and do labels stay few?
import { transition } from "@leasehold/server/domain/transition";
import type { Event } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import { Labels, OTHER } from "@leasehold/server/telemetry/labels";
import { backToRun, lostBy, outcomeOf } from "@leasehold/server/telemetry/task-counts";
import { describe, expect, it } from "vitest";
import { bodies, decisionContext, lostTask, NOW, reportOf, runningTask } from "../../../support/domain.js";

function counted(before: LiveTask, event: Event): { lost: string | null; outcome: string | null; again: string | null } {
  const answer = transition(before, event, decisionContext());
  if (answer.kind !== "changed" && answer.kind !== "finished") throw new Error(`nothing came of ${event.kind}: ${answer.kind}`);
  const lost = lostBy(before, answer);
  return { lost, outcome: lost === null ? outcomeOf(answer) : null, again: backToRun(before, answer) };
}

describe("what is counted of a change", () => {
  it.each([
    ["complete", { lost: null, outcome: "complete", again: null }],
    ["fail", { lost: null, outcome: "fail", again: "RETRY" }],
    ["suspend", { lost: null, outcome: "suspend", again: null }],
    ["cancel", { lost: null, outcome: "cancel", again: null }],
    ["release", { lost: null, outcome: "release", again: "RELEASED" }],
    ["checkpoint", { lost: null, outcome: null, again: null }],
  ] as const)("of a report: %s", (kind, expected) => {
    expect(counted(runningTask(), reportOf(bodies[kind]))).toEqual(expected);
  });

  it("of a lease that is lost or never reached its worker", () => {
    expect(counted(runningTask(), { kind: "lease-lost" })).toMatchObject({ lost: "LEASE_LOST", outcome: null, again: "LEASE_LOST" });
    expect(counted(runningTask(), { kind: "lease-returned" })).toMatchObject({ lost: "NOT_DELIVERED", outcome: null });
  });

  it("of a deadline", () => {
    const late = runningTask({ attemptDeadlineUs: NOW - 1 });
    expect(counted(late, { kind: "time-passed", lenient: false })).toMatchObject({
      lost: "ATTEMPT_DEADLINE",
      outcome: null,
      again: "RETRY",
    });
  });

  it("of an outcome that comes after its lease was lost: the loss is not counted again", () => {
    expect(counted(lostTask(), reportOf(bodies.complete))).toEqual({ lost: null, outcome: "complete", again: null });
  });
});

describe("labels", () => {
  it("are the first names, and `other` for the rest", () => {
    const labels = new Labels(2, () => 0);
    expect(["a", "b", "c", "a"].map((name) => labels.of(name))).toEqual(["a", "b", OTHER, "a"]);
    expect(labels.usedWithin(1)).toEqual(["a", "b"]);
  });

  it("stay as few however many names come", () => {
    const labels = new Labels(100, () => 0);
    expect(new Set(Array.from({ length: 50_000 }, (_, index) => labels.of(`queue ${String(index)}`))).size).toBe(101);
  });

  it("make room for another where one was not used for an hour", () => {
    let nowMs = 0;
    const labels = new Labels(1, () => nowMs);
    labels.of("old");
    nowMs = 3_600_000;
    expect([labels.of("new"), labels.of("old")]).toEqual(["new", OTHER]);
  });
});
