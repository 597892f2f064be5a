// What comes of everything that can happen to a task, wherever it stands? One table; support/transition-table.ts says what its names mean.
// A row tells every field that changes, relative to now; what it does not tell stays as it was. `proceeds a/b/c/d` counts those that are
// remembered, consumed, unapplied and answered by request id.
import { describe, expect, it } from "vitest";
import { transition } from "@leasehold/server/domain/transition";
import { decisionContext, tellAnswer } from "../../support/domain.js";
import { events, standings } from "../../support/transition-table.js";

type EventName = keyof typeof events;
type Standing = keyof typeof standings;

/** Tasks that nobody holds a token of. */
const UNLEASED = "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER";
const EVERY = Object.keys(standings).join(", ");

const table: Record<EventName, Record<string, string>> = {
  leased: {
    NEW: "RUNNING; lease 22 epoch 1, fence 1, worker worker-2",
    "SCHEDULED, PROCEEDED, RUNNING, CANCELLING, REMEMBERING, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "no: NOTHING_TO_DO",
    "RETRY, WOKEN, RELEASED, RETRIED": "RUNNING; lease 22 epoch 1, fence 8, worker worker-2",
    LOST: "RUNNING; lease 22 epoch 1, fence 8, seq 0, worker worker-2",
  },
  "leased after a failover": {
    NEW: "RUNNING; lease 22 epoch 1, fence 1099511627777, worker worker-1",
    "SCHEDULED, PROCEEDED, RUNNING, CANCELLING, REMEMBERING, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "no: NOTHING_TO_DO",
    "RETRY, WOKEN, RELEASED, RETRIED": "RUNNING; lease 22 epoch 1, fence 1099511627777",
    LOST: "RUNNING; lease 22 epoch 1, fence 1099511627777, seq 0",
  },
  checkpoint: {
    [UNLEASED]: "no: LEASE_LOST",
    LOST: 'stays; seq 3, version 2, checkpoints 3; saves {"step":2}',
    "RUNNING, CANCELLING, REMEMBERING": 'stays; lost 0, releases 0, seq 3, version 2, checkpoints 3; saves {"step":2}',
  },
  complete: {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, CANCELLING": "COMPLETED; lost 0, lease closed, seq 3, outcome 3; with result",
    REMEMBERING: "COMPLETED; lost 0, lease closed, seq 3, outcome 3; with result; PROCEED_DROPPED",
  },
  "complete with execution metadata": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, CANCELLING": 'COMPLETED; lost 0, lease closed, seq 3, outcome 3, version 2; with result, saves {"end":true}',
    REMEMBERING: 'COMPLETED; lost 0, lease closed, seq 3, outcome 3, version 2; with result, saves {"end":true}; PROCEED_DROPPED',
  },
  fail: {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, REMEMBERING":
      "PENDING RETRY; due +2s, failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; ATTEMPT_FAILED",
    CANCELLING:
      "CANCELLED CANCEL_REQUESTED; failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; with error CANCELLED; FINISHED",
  },
  "fail with a delay": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, REMEMBERING":
      "PENDING RETRY; due +7s, failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; ATTEMPT_FAILED",
    CANCELLING:
      "CANCELLED CANCEL_REQUESTED; failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; with error CANCELLED; FINISHED",
  },
  "fail for good": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, CANCELLING":
      "FAILED NOT_RETRYABLE; failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; with error disk_full; FINISHED",
    REMEMBERING:
      "FAILED NOT_RETRYABLE; failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; with error disk_full; PROCEED_DROPPED FINISHED",
  },
  "fail with execution metadata left out": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, REMEMBERING":
      "PENDING RETRY; due +2s, failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; violations 1; ATTEMPT_FAILED",
    CANCELLING:
      "CANCELLED CANCEL_REQUESTED; failures 2, lost 0, releases 0, lease closed, seq 3, outcome 3, last error disk_full; with error CANCELLED, violations 1; FINISHED",
  },
  suspend: {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING": "SUSPENDED; due off, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3; SUSPENDED",
    CANCELLING:
      "CANCELLED CANCEL_REQUESTED; failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3; with error CANCELLED; FINISHED",
    REMEMBERING:
      'PENDING PROCEEDED; due +5s, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3, proceeds 0/2/0/0, version 2; saves {"a":1,"b":3}; SUSPENDED PROCEEDED',
  },
  "suspend until": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING": "SUSPENDED; due +60s, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3; SUSPENDED",
    CANCELLING:
      "CANCELLED CANCEL_REQUESTED; failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3; with error CANCELLED; FINISHED",
    REMEMBERING:
      'PENDING PROCEEDED; due +5s, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3, proceeds 0/2/0/0, version 2; saves {"a":1,"b":3}; SUSPENDED PROCEEDED',
  },
  "suspend for": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING": "SUSPENDED; due +90s, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3; SUSPENDED",
    CANCELLING:
      "CANCELLED CANCEL_REQUESTED; failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3; with error CANCELLED; FINISHED",
    REMEMBERING:
      'PENDING PROCEEDED; due +5s, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3, proceeds 0/2/0/0, version 2; saves {"a":1,"b":3}; SUSPENDED PROCEEDED',
  },
  "suspend with execution metadata": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING":
      'SUSPENDED; due off, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3, version 2; saves {"z":9}; SUSPENDED',
    CANCELLING:
      'CANCELLED CANCEL_REQUESTED; failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3, version 2; with error CANCELLED, saves {"z":9}; FINISHED',
    REMEMBERING:
      'PENDING PROCEEDED; due +5s, failures 0, lost 0, releases 0, lease closed, seq 3, outcome 3, proceeds 0/2/0/0, version 2; saves {"z":9,"b":3}; SUSPENDED PROCEEDED',
  },
  "cancel by the worker": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING": "CANCELLED CANCELLED_BY_WORKER; lost 0, lease closed, seq 3, outcome 3; with error disk_full; FINISHED",
    CANCELLING: "CANCELLED CANCEL_REQUESTED; lost 0, lease closed, seq 3, outcome 3; with error CANCELLED; FINISHED",
    REMEMBERING: "CANCELLED CANCELLED_BY_WORKER; lost 0, lease closed, seq 3, outcome 3; with error disk_full; PROCEED_DROPPED FINISHED",
  },
  release: {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, REMEMBERING": "PENDING RELEASED; due +0s, lost 0, releases 2, lease closed, seq 3, outcome 3; RELEASED",
    CANCELLING: "CANCELLED CANCEL_REQUESTED; lost 0, releases 2, lease closed, seq 3, outcome 3; with error CANCELLED; FINISHED",
  },
  "invalid checkpoint": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, CANCELLING, REMEMBERING": "stays; seq 3; violations 1; INVALID_REPORT",
  },
  "invalid outcome": {
    [UNLEASED]: "no: LEASE_LOST",
    "LOST, RUNNING, CANCELLING":
      "FAILED INVALID_REPORT; failures 2, lost 0, lease closed, seq 3, outcome 3 invalid, last error INVALID_REPORT; with error INVALID_REPORT, violations 1; FINISHED",
    REMEMBERING:
      "FAILED INVALID_REPORT; failures 2, lost 0, lease closed, seq 3, outcome 3 invalid, last error INVALID_REPORT; with error INVALID_REPORT, violations 1; PROCEED_DROPPED FINISHED",
  },
  "lease lost": {
    "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "no: NOTHING_TO_DO",
    "RUNNING, REMEMBERING": "PENDING LEASE_LOST; due +10s, lost 2; revoked LEASE_LOST; LEASE_LOST",
    CANCELLING: "CANCELLED CANCEL_REQUESTED; lease closed; with error CANCELLED, revoked LEASE_LOST; FINISHED",
  },
  "lease lost by a suspect's fault": {
    "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "no: NOTHING_TO_DO",
    "RUNNING, REMEMBERING": "PENDING LEASE_LOST; due +0s; revoked LEASE_LOST; LEASE_LOST",
    CANCELLING: "CANCELLED CANCEL_REQUESTED; lease closed; with error CANCELLED, revoked LEASE_LOST; FINISHED",
  },
  "lease returned": {
    "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "no: NOTHING_TO_DO",
    "RUNNING, REMEMBERING": "PENDING RELEASED; due +0s, lease closed; revoked LEASE_LOST; RELEASED",
    CANCELLING: "CANCELLED CANCEL_REQUESTED; lease closed; with error CANCELLED, revoked LEASE_LOST; FINISHED",
  },
  reattested: {
    [UNLEASED]: "no: LEASE_LOST",
    LOST: "RUNNING; lost 0, lease 11 epoch 4; REATTESTED",
    "RUNNING, CANCELLING, REMEMBERING": "stays; lease 11 epoch 4",
  },
  "reattested with another token": {
    [EVERY]: "no: LEASE_LOST",
  },
  "time passed": {
    "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST, RUNNING, CANCELLING, REMEMBERING, SUSPENDED, SUSPENDED UNTIL":
      "no: NOTHING_TO_DO",
    "SUSPENDED OVER": "PENDING WOKEN; WOKEN",
  },
  "cancel requested": {
    [UNLEASED]: "CANCELLED CANCEL_REQUESTED; cancel by +30s; with error CANCELLED; FINISHED",
    LOST: "CANCELLED CANCEL_REQUESTED; lease closed, cancel by +30s; with error CANCELLED; FINISHED",
    "RUNNING, REMEMBERING": "stays; cancel by +30s; CANCEL_REQUESTED",
    CANCELLING: "no: NOTHING_TO_DO",
  },
  "cancel requested with less grace": {
    [UNLEASED]: "CANCELLED CANCEL_REQUESTED; cancel by +5s; with error CANCELLED; FINISHED",
    LOST: "CANCELLED CANCEL_REQUESTED; lease closed, cancel by +5s; with error CANCELLED; FINISHED",
    "RUNNING, CANCELLING, REMEMBERING": "stays; cancel by +5s; CANCEL_REQUESTED",
  },
  "proceed keeping": {
    "NEW, SCHEDULED, RETRY, RELEASED, RETRIED, LOST, RUNNING": "stays; proceeds 1/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
    PROCEEDED: "stays; proceeds 0/1/0/0; APPLIED; PROCEEDED",
    "WOKEN, SUSPENDED, SUSPENDED UNTIL": "PENDING PROCEEDED; due +0s, proceeds 0/1/0/0; APPLIED; PROCEEDED",
    CANCELLING: "no: CANCEL_REQUESTED",
    REMEMBERING: "stays; proceeds 3/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
    "SUSPENDED OVER": "PENDING PROCEEDED; proceeds 0/1/0/0; APPLIED; PROCEEDED",
  },
  "proceed patching": {
    "NEW, SCHEDULED, RETRY, RELEASED, RETRIED, LOST, RUNNING": "stays; proceeds 1/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
    PROCEEDED: 'stays; proceeds 0/1/0/0, version 2; saves {"a":1,"b":2}, APPLIED; PROCEEDED',
    "WOKEN, SUSPENDED, SUSPENDED UNTIL": 'PENDING PROCEEDED; due +0s, proceeds 0/1/0/0, version 2; saves {"a":1,"b":2}, APPLIED; PROCEEDED',
    CANCELLING: "no: CANCEL_REQUESTED",
    REMEMBERING: "stays; proceeds 3/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
    "SUSPENDED OVER": 'PENDING PROCEEDED; proceeds 0/1/0/0, version 2; saves {"a":1,"b":2}, APPLIED; PROCEEDED',
  },
  "proceed scheduled": {
    "NEW, SCHEDULED, RETRY, RELEASED, RETRIED, LOST, RUNNING": "stays; proceeds 1/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
    PROCEEDED: "stays; proceeds 0/1/0/0; APPLIED; PROCEEDED",
    "WOKEN, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "PENDING PROCEEDED; due +10s, proceeds 0/1/0/0; APPLIED; PROCEEDED",
    CANCELLING: "no: CANCEL_REQUESTED",
    REMEMBERING: "stays; proceeds 3/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
  },
  "proceed replacing": {
    "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST, RUNNING, REMEMBERING": "no: TASK_NOT_SUSPENDED",
    CANCELLING: "no: CANCEL_REQUESTED",
    "SUSPENDED, SUSPENDED UNTIL": 'PENDING PROCEEDED; due +0s, proceeds 0/1/0/0, version 2; saves {"whole":true}, APPLIED; PROCEEDED',
    "SUSPENDED OVER": 'PENDING PROCEEDED; proceeds 0/1/0/0, version 2; saves {"whole":true}, APPLIED; PROCEEDED',
  },
  "proceed with an etag": {
    "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST, RUNNING, REMEMBERING": "no: TASK_NOT_SUSPENDED",
    CANCELLING: "no: CANCEL_REQUESTED",
    "SUSPENDED, SUSPENDED UNTIL": "PENDING PROCEEDED; due +0s, proceeds 0/1/0/0; APPLIED; PROCEEDED",
    "SUSPENDED OVER": "PENDING PROCEEDED; proceeds 0/1/0/0; APPLIED; PROCEEDED",
  },
  "proceed with a request id": {
    "NEW, SCHEDULED, RETRY, RELEASED, RETRIED, LOST, RUNNING": "stays; proceeds 1/0/0/1; REMEMBERED; PROCEED_REMEMBERED",
    PROCEEDED: "stays; proceeds 0/1/0/1; APPLIED; PROCEEDED",
    "WOKEN, SUSPENDED, SUSPENDED UNTIL": "PENDING PROCEEDED; due +0s, proceeds 0/1/0/1; APPLIED; PROCEEDED",
    CANCELLING: "no: CANCEL_REQUESTED",
    REMEMBERING: "stays; proceeds 3/0/0/1; REMEMBERED; PROCEED_REMEMBERED",
    "SUSPENDED OVER": "PENDING PROCEEDED; proceeds 0/1/0/1; APPLIED; PROCEEDED",
  },
  "proceed with a patch that fits nothing": {
    "NEW, SCHEDULED, RETRY, RELEASED, RETRIED, LOST, RUNNING": "stays; proceeds 1/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
    "PROCEEDED, WOKEN, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "no: PATCH_NOT_APPLICABLE",
    CANCELLING: "no: CANCEL_REQUESTED",
    REMEMBERING: "stays; proceeds 3/0/0/0; REMEMBERED; PROCEED_REMEMBERED",
  },
  updated: {
    "NEW, SCHEDULED, RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST": "stays; due +25s, priority 5, queue fast; UPDATED",
    "RUNNING, CANCELLING, REMEMBERING, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER": "no: TASK_NOT_PENDING",
  },
  replaced: {
    "NEW, SCHEDULED": "CANCELLED REPLACED; FINISHED",
    "RETRY, PROCEEDED, WOKEN, RELEASED, RETRIED, LOST, RUNNING, CANCELLING, REMEMBERING, SUSPENDED, SUSPENDED UNTIL, SUSPENDED OVER":
      "no: TASK_STARTED",
  },
};

describe.each(Object.keys(events) as EventName[])("%s", (eventName) => {
  const rows = Object.entries(table[eventName]).flatMap(([names, told]) =>
    names.split(", ").map((name) => [name as Standing, told] as const),
  );

  it("says what becomes of each standing exactly once", () => {
    expect(rows.map(([name]) => name).sort()).toEqual(Object.keys(standings).sort());
  });

  it.each(rows)("of %s makes %s", (name, told) => {
    const before = standings[name];
    const answer = transition(before, events[eventName], decisionContext());
    expect(tellAnswer(before, answer)).toBe(told);
    if (answer.kind === "rejected" || answer.kind === "repeated") return;
    expect(answer.task.revision).toBe(before.revision + 1);
    expect(answer.task.identity).toBe(before.identity);
    if (answer.kind === "finished") return;
    const { state, pendingReason, lease } = answer.task;
    expect(lease !== null).toBe(state === "RUNNING" || (state === "PENDING" && pendingReason === "LEASE_LOST"));
  });
});

describe("the standings of the table", () => {
  it("are left as they are by every event", () => {
    const before = structuredClone(standings);
    for (const task of Object.values(standings)) for (const event of Object.values(events)) transition(task, event, decisionContext());
    expect(standings).toEqual(before);
  });
});
