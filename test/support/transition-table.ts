// Which tasks and events does the table of transitions cross? Every way in which an unfinished task can stand, everything that can happen.
import type { Event } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import {
  aProceed,
  bodies,
  json,
  lostTask,
  newLiveTask,
  NONCE,
  NOW,
  proceedEvent,
  proceedRecord,
  reportOf,
  runningTask,
  seasonedTask,
  SECOND,
  SESSION,
} from "./domain.js";

const cancel = { reason: "not needed", requestUs: NOW - SECOND, deadlineUs: NOW + 20 * SECOND };
const remembered = [
  aProceed({ note: "first", patch: json({ b: 2 }) }),
  aProceed({ note: "second", patch: json({ b: 3 }), runAtUs: NOW + 5 * SECOND }),
];

/** Tasks at rest and at work, by a name for their row. */
export const standings = {
  NEW: newLiveTask(),
  SCHEDULED: newLiveTask({ pendingReason: "SCHEDULED", runAtUs: NOW + 40 * SECOND }),
  RETRY: seasonedTask({ pendingReason: "RETRY", runAtUs: NOW }),
  PROCEEDED: seasonedTask({ pendingReason: "PROCEEDED", runAtUs: NOW + 15 * SECOND, suspendTimeUs: NOW - 20 * SECOND }),
  WOKEN: seasonedTask({ pendingReason: "WOKEN", suspendTimeUs: NOW - 60 * SECOND }),
  RELEASED: seasonedTask({ pendingReason: "RELEASED" }),
  RETRIED: seasonedTask({ pendingReason: "RETRIED" }),
  LOST: lostTask(),
  RUNNING: runningTask(),
  CANCELLING: runningTask({ cancel }),
  REMEMBERING: runningTask({ proceeds: proceedRecord({ remembered }) }),
  SUSPENDED: seasonedTask({ state: "SUSPENDED", runAtUs: null, suspendTimeUs: NOW - 20 * SECOND }),
  "SUSPENDED UNTIL": seasonedTask({ state: "SUSPENDED", runAtUs: NOW + 30 * SECOND, suspendTimeUs: NOW - 20 * SECOND }),
  "SUSPENDED OVER": seasonedTask({ state: "SUSPENDED", runAtUs: NOW, suspendTimeUs: NOW - 20 * SECOND }),
} as const satisfies Record<string, LiveTask>;

const lease = { nonce: "22".repeat(16), sessionId: "0190b6f2-0000-7000-8000-00000000000b", epoch: 1 };
const request = { requestId: "r-1", bodyHash: "f00d" };
const sessionNow = { nonce: NONCE, sessionId: SESSION, epoch: 4 };

/** Everything that can happen, by a name for its part of the table. */
export const events = {
  leased: { kind: "leased", lease, workerName: "worker-2", fencingBase: 0 },
  "leased after a failover": { kind: "leased", lease, workerName: "worker-1", fencingBase: 2 ** 40 },
  checkpoint: reportOf(bodies.checkpoint),
  complete: reportOf(bodies.complete),
  "complete with execution metadata": reportOf({ ...bodies.complete, executionMetadata: json({ end: true }) }),
  fail: reportOf(bodies.fail),
  "fail with a delay": reportOf({ ...bodies.fail, retryAfterUs: 7 * SECOND }),
  "fail for good": reportOf(bodies.failForGood),
  "fail with execution metadata left out": reportOf({ ...bodies.fail, leftOut: bodies.badOutcome.violations }),
  suspend: reportOf(bodies.suspend),
  "suspend until": reportOf(bodies.suspendUntil),
  "suspend for": reportOf(bodies.suspendFor),
  "suspend with execution metadata": reportOf({ ...bodies.suspend, executionMetadata: json({ z: 9 }) }),
  "cancel by the worker": reportOf(bodies.cancel),
  release: reportOf(bodies.release),
  "invalid checkpoint": reportOf(bodies.badCheckpoint),
  "invalid outcome": reportOf(bodies.badOutcome),
  "lease lost": { kind: "lease-lost" },
  "lease lost by a suspect's fault": { kind: "lease-lost", charged: false },
  "lease returned": { kind: "lease-returned" },
  reattested: { kind: "reattested", ...sessionNow },
  "reattested with another token": { kind: "reattested", ...sessionNow, nonce: lease.nonce },
  "time passed": { kind: "time-passed", lenient: false },
  "cancel requested": { kind: "cancel-requested", reason: "changed my mind", graceUs: 30 * SECOND },
  "cancel requested with less grace": { kind: "cancel-requested", reason: "hurry", graceUs: 5 * SECOND },
  "proceed keeping": proceedEvent({ note: "go" }),
  "proceed patching": proceedEvent({ patch: json({ b: 2 }) }),
  "proceed scheduled": proceedEvent({ runAtUs: NOW + 10 * SECOND }),
  "proceed replacing": proceedEvent({}, { replace: json({ whole: true }) }),
  "proceed with an etag": proceedEvent({}, { needsSuspended: true }),
  "proceed with a request id": proceedEvent({}, { request }),
  "proceed with a patch that fits nothing": proceedEvent({ patch: { data: new Uint8Array([1]), contentType: "application/x-binary" } }),
  updated: { kind: "updated", priority: 5, queue: "fast", runAtUs: NOW + 25 * SECOND },
  replaced: { kind: "replaced" },
} as const satisfies Record<string, Event>;
