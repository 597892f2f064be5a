// Does each task say why it does not run, the strongest reason first?
import { describe, expect, it } from "vitest";
import type { Candidate, Circumstances, Explanation } from "@leasehold/server/domain/explain";
import { explain } from "@leasehold/server/domain/explain";
import type { LiveTask } from "@leasehold/server/domain/task";
import { newLiveTask, NOW, SECOND } from "../../support/domain.js";

const free: Candidate = { takesFromQueue: true, free: 2, holdsSuspect: false };
const busy: Candidate = { ...free, free: 0 };
const elsewhere: Candidate = { ...free, takesFromQueue: false };

function explained(task: Partial<LiveTask>, circumstances: Partial<Omit<Circumstances, "task">> = {}): Explanation[] {
  const nothing = { nowUs: NOW, finish: null, candidates: [], tasksAhead: 0, pausedSinceUs: null };
  return explain({ ...nothing, ...circumstances, task: newLiveTask(task) });
}

const codes = (...parameters: Parameters<typeof explained>): string[] => explained(...parameters).map(({ code }) => code);
const since = NOW - 50 * SECOND;

describe("a task that is not PENDING", () => {
  it("runs since it was leased", () => {
    const [reason, ...others] = explained({ state: "RUNNING", workerName: "w1", leaseTimeUs: NOW - SECOND });
    expect(reason).toEqual({ code: "RUNNING", message: "Worker w1 runs it.", sinceUs: NOW - SECOND, untilUs: null, tasksAhead: 0 });
    expect(others).toEqual([]);
  });

  it("is finished since it ended, whatever else is true", () => {
    const finish = { state: "FAILED", finishTimeUs: NOW - 9 } as const;
    expect(explained({}, { finish, candidates: [busy] })).toMatchObject([{ code: "FINISHED", sinceUs: NOW - 9, message: "It is FAILED." }]);
  });

  it("waits until a time, or for somebody", () => {
    const suspended = { state: "SUSPENDED", suspendTimeUs: NOW - 7 } as const;
    expect(explained({ ...suspended, runAtUs: NOW + SECOND })).toMatchObject([
      { code: "WAITING_FOR_TIME", sinceUs: NOW - 7, untilUs: NOW + SECOND },
    ]);
    expect(explained({ ...suspended, runAtUs: null })).toMatchObject([{ code: "WAITING_FOR_PROCEED", sinceUs: NOW - 7, untilUs: null }]);
  });
});

describe("a pending task", () => {
  it("that is not due says until when, and what else will be missing then", () => {
    expect(explained({ runAtUs: NOW + 1 }, { candidates: [busy] })).toMatchObject([{ code: "NOT_DUE", untilUs: NOW + 1 }]);
    expect(codes({ runAtUs: NOW + 1 })).toEqual(["NOT_DUE", "NO_WORKER_FOR_NAME"]);
    expect(codes({ runAtUs: NOW + 1 }, { candidates: [elsewhere] })).toEqual(["NOT_DUE", "NO_WORKER_FOR_QUEUE"]);
  });

  it("is due at the very instant", () => {
    expect(codes({ runAtUs: NOW }, { candidates: [free] })).toEqual(["ABOUT_TO_RUN"]);
  });

  it("lacks a worker for its name, or one for its queue", () => {
    expect(codes({})).toEqual(["NO_WORKER_FOR_NAME"]);
    expect(codes({}, { candidates: [elsewhere, elsewhere] })).toEqual(["NO_WORKER_FOR_QUEUE"]);
    expect(codes({}, { candidates: [elsewhere, free] })).toEqual(["ABOUT_TO_RUN"]);
  });

  it("finds all slots busy, with so many ahead", () => {
    expect(explained({}, { candidates: [busy, busy, elsewhere], tasksAhead: 12 })).toEqual([
      {
        code: "ALL_SLOTS_BUSY",
        message: "All slots of the 2 workers that could take it are busy; 12 due tasks of its queue go first.",
        sinceUs: since,
        untilUs: null,
        tasksAhead: 12,
      },
    ]);
    expect(explained({}, { candidates: [busy], tasksAhead: 1 })[0]?.message).toContain("one worker");
  });

  it("is about to run when one worker is free", () => {
    expect(explained({}, { candidates: [busy, free], tasksAhead: 3 })).toMatchObject([
      { code: "ABOUT_TO_RUN", sinceUs: since, tasksAhead: 3 },
    ]);
  });

  it("of a paused queue says so first, and never that it is about to run", () => {
    expect(explained({}, { candidates: [free], pausedSinceUs: NOW - 3 })).toMatchObject([{ code: "QUEUE_PAUSED", sinceUs: NOW - 3 }]);
    expect(codes({ runAtUs: NOW + 1 }, { pausedSinceUs: 1 })).toEqual(["QUEUE_PAUSED", "NOT_DUE", "NO_WORKER_FOR_NAME"]);
  });
});

describe("a task that lost two leases in a row", () => {
  const suspect = { lostLeases: 2, pendingReason: "LEASE_LOST" } as const;
  const holding: Candidate = { ...free, holdsSuspect: true };

  it("waits for a free worker that holds no other such task", () => {
    expect(explained(suspect, { candidates: [holding] })).toMatchObject([{ code: "ISOLATED", sinceUs: since }]);
    expect(codes(suspect, { candidates: [holding, busy] })).toEqual(["ISOLATED"]);
    expect(codes(suspect, { candidates: [busy] })).toEqual(["ISOLATED", "ALL_SLOTS_BUSY"]);
  });

  it("is about to run when there is one", () => {
    expect(codes(suspect, { candidates: [holding, free] })).toEqual(["ABOUT_TO_RUN"]);
  });

  it("is no such task after one loss", () => {
    expect(codes({ lostLeases: 1 }, { candidates: [holding] })).toEqual(["ABOUT_TO_RUN"]);
  });
});
