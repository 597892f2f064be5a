// Which leases stay in the trace of what set them going, and which begin another that links back? No trace may grow without bound.
import { MOST_LEASES_OF_A_TRACE, runTrace } from "@leasehold/server/domain/run-trace";
import type { TraceContext } from "@leasehold/server/domain/task";
import { describe, expect, it } from "vitest";
import { NOW, proceedRecord, runningTask, SECOND } from "../../support/domain.js";

const DAY = 86_400 * SECOND;
const TIMELINE = 2 ** 40;

function contextOf(digit: string): TraceContext {
  return { traceparent: `00-${digit.repeat(32)}-${digit.repeat(16)}-01`, tracestate: "", baggage: "" };
}

const submission = contextOf("a");
const [first, second] = [contextOf("b"), contextOf("c")];

function proceeded(...contexts: readonly (TraceContext | undefined)[]) {
  const consumed = contexts.map((traceContext) => ({ note: "", proceedUs: NOW, ...(traceContext && { traceContext }) }));
  return { pendingReason: "PROCEEDED", suspendTimeUs: NOW, proceeds: proceedRecord({ consumed }) } as const;
}

describe("the trace of a lease", () => {
  it("is that of the submission for the first attempts", () => {
    const task = runningTask({ pendingReason: "RETRY", failures: 2, fencingToken: 3 * TIMELINE + 3, suspendTimeUs: null });
    expect(runTrace(task, submission, NOW)).toEqual({ parent: submission, links: [] });
  });

  it.each([
    ["after it was woken", { pendingReason: "WOKEN", suspendTimeUs: NOW }],
    ["when it is tried again after it was woken", { pendingReason: "RETRY", suspendTimeUs: NOW, failures: 1 }],
    ["after a RetryTask", { pendingReason: "RETRIED" }],
    ["after many failures", { pendingReason: "RETRY", failures: MOST_LEASES_OF_A_TRACE }],
    ["after many leases, whatever became of them", { pendingReason: "LEASE_LOST", fencingToken: TIMELINE + MOST_LEASES_OF_A_TRACE + 1 }],
  ] as const)("is another that links back %s", (_when, fields) => {
    expect(runTrace(runningTask({ suspendTimeUs: null, ...fields }), submission, NOW)).toEqual({ parent: null, links: [submission] });
  });

  it("is another that links back where a day has passed", () => {
    const task = runningTask({ suspendTimeUs: null }, { createTimeUs: NOW - DAY });
    expect(runTrace(task, submission, NOW)).toEqual({ parent: null, links: [submission] });
  });

  it("is that of the latest proceed, linked to the submission and the proceeds before", () => {
    const task = runningTask(proceeded(first, undefined, second));
    expect(runTrace(task, submission, NOW)).toEqual({ parent: second, links: [submission, first] });
    expect(runTrace(task, null, NOW)).toEqual({ parent: second, links: [first] });
  });

  it("is another that links to everything where a proceed's run goes on and on", () => {
    const task = runningTask({ ...proceeded(first), pendingReason: "RELEASED", releases: MOST_LEASES_OF_A_TRACE });
    expect(runTrace(task, submission, NOW)).toEqual({ parent: null, links: [submission, first] });
  });

  it("is nobody's where neither submission nor proceed had one", () => {
    expect(runTrace(runningTask(proceeded(undefined)), null, NOW)).toEqual({ parent: null, links: [] });
  });

  it("has a bounded number of leases, however often the task suspends, fails or is lost", () => {
    const joined = Array.from({ length: 500 }, (_, lease) =>
      runTrace(runningTask({ suspendTimeUs: null, fencingToken: TIMELINE + lease + 1 }), submission, NOW),
    ).filter(({ parent }) => parent === submission);
    expect(joined).toHaveLength(MOST_LEASES_OF_A_TRACE);
  });
});
