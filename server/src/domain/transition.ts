// What comes of an event? One pure function answers for everything that can happen to an unfinished task.
// It computes every delay and picks every state; SQL only guards and writes what is answered here.
// Claims alone are written by SQL for many tasks at once; their case here says what that statement must do.

import {
  cancelError,
  cancelled,
  change,
  close,
  describe,
  entry,
  finish,
  leftOut,
  nothingToDo,
  pending,
  poisonError,
  saving,
} from "./answers.js";
import type { Answer, Change, Context, Ending, Event, ReportBody } from "./event.js";
import { answered, consume, patchPayload, remember, told, toTell } from "./proceeds.js";
import { afterFailure, afterLostLease, pickDelay, releaseDelay } from "./retry.js";
import type { LiveTask, Payload, ProceedRecord, TaskError } from "./task.js";
import { NO_PROCEEDS } from "./task.js";

type ReportEvent = Extract<Event, { kind: "reported" }>;
type ProceedEvent = Extract<Event, { kind: "proceeded" }>;

/** Answers what an event makes of a task. Never throws for anything that a worker or caller may do. */
export function transition(task: LiveTask, event: Event, context: Context): Answer {
  switch (event.kind) {
    case "leased":
      return leased(task, event, context);
    case "reported":
      return reported(task, event, context);
    case "lease-lost":
      return leaseLost(task, event.charged ?? true, context);
    case "lease-returned":
      return task.state === "RUNNING" ? returned(task, context) : nothingToDo();
    case "reattested":
      return reattested(task, event);
    case "time-passed":
      return timePassed(task, event.lenient, context);
    case "cancel-requested":
      return cancelRequested(task, event, context);
    case "proceeded":
      return proceeded(task, event, context);
    case "updated":
      return updated(task, event, context);
    case "replaced":
      if (task.leaseTimeUs !== null) return { kind: "rejected", rejection: { reason: "TASK_STARTED" } };
      return finish(task, context, "CANCELLED", "REPLACED", { logged: true });
  }
}

function leased(task: LiveTask, event: Extract<Event, { kind: "leased" }>, { nowUs }: Context): Answer {
  if (task.state !== "PENDING" || task.runAtUs === null || task.runAtUs > nowUs) return nothingToDo();
  const { attemptUs, silenceUs } = task.identity.deadlines;
  return change(task, {
    state: "RUNNING",
    lease: { ...event.lease, leaseTimeUs: nowUs },
    workerName: event.workerName,
    leaseTimeUs: nowUs,
    fencingToken: Math.max(task.fencingToken, event.fencingBase) + 1,
    settledSeq: 0,
    queueDeadlineUs: null,
    attemptDeadlineUs: attemptUs === null ? null : nowUs + attemptUs,
    silenceDeadlineUs: silenceUs === null ? null : nowUs + silenceUs,
  });
}

// ---- reports: token first, then content, then number

function reported(task: LiveTask, event: ReportEvent, context: Context): Answer {
  const { body, nonce, seq } = event;
  if (task.lease?.nonce !== nonce) return closedLease(task.lastOutcome, event);
  if (seq <= task.settledSeq) return { kind: "rejected", rejection: invalidOr(body, { reason: "ALREADY_RECORDED" }) };
  if (seq > task.settledSeq + 1 && task.fencingToken < (context.fencingBase ?? 0)) return forgotten(task, context);
  // Before its turn even bad content waits: INVALID is final for the worker, and a number that nobody settled would hold up all later ones.
  if (seq !== task.settledSeq + 1) return { kind: "rejected", rejection: { reason: "OUT_OF_ORDER", expectedSeq: task.settledSeq + 1 } };
  switch (body.kind) {
    case "checkpoint":
      return checkpointed(task, body.executionMetadata, context);
    case "invalid":
      // A refused checkpoint settles its number as a checkpoint that changes nothing else.
      if (!body.ends)
        return {
          ...change(task, { settledSeq: seq }, [entry("INVALID_REPORT", task.state, { message: describe(body) })]),
          violations: body.violations,
        };
      return { ...invalidOutcome(settle(task, event, true), body, context), violations: body.violations };
    default:
      return outcome(settle(task, event, false), body, context);
  }
}

// A failover may have forgotten the reports before this one although they were acknowledged. Nobody would ever send them again, so the lease
// goes back rather than wait for them.
function forgotten(task: LiveTask, context: Context): Answer {
  if (task.state !== "RUNNING") return { kind: "rejected", rejection: { reason: "LEASE_LOST" } };
  return returned(task, context, "reports of its worker were forgotten by a failover of Postgres");
}

/** Answers a report whose lease is not the current one: a known outcome is recognized, everything else has lost its lease. */
export function closedLease(last: LiveTask["lastOutcome"], event: { nonce: string; seq: number; body: ReportBody }): Answer {
  if (last?.nonce !== event.nonce || event.seq > last.seq) return { kind: "rejected", rejection: { reason: "LEASE_LOST" } };
  if (event.seq === last.seq && last.invalid) {
    const violations = event.body.kind === "invalid" ? event.body.violations : [];
    return { kind: "rejected", rejection: { reason: "INVALID_REPORT", violations } };
  }
  return { kind: "rejected", rejection: { reason: "ALREADY_RECORDED" } };
}

function invalidOr<T extends { reason: string }>(
  body: ReportBody,
  other: T,
): T | { reason: "INVALID_REPORT"; violations: readonly { field: string; description: string }[] } {
  return body.kind === "invalid" ? { reason: "INVALID_REPORT", violations: body.violations } : other;
}

function checkpointed(task: LiveTask, executionMetadata: Payload, { nowUs }: Context): Answer {
  const { silenceUs } = task.identity.deadlines;
  const saved = {
    ...saving(task, executionMetadata),
    settledSeq: task.settledSeq + 1,
    checkpointCount: task.checkpointCount + 1,
    checkpointTimeUs: nowUs,
  };
  // After a lost lease the data counts (identity, not clock), but the loss stays charged until the worker re-attests.
  if (task.state !== "RUNNING") return { ...change(task, saved), executionMetadata };
  const next = {
    ...saved,
    lostLeases: 0,
    releases: 0,
    proceeds: told(task.proceeds),
    silenceDeadlineUs: silenceUs === null ? null : nowUs + silenceUs,
  };
  return { ...change(task, next), executionMetadata };
}

/** Closes the lease by an outcome: it is remembered, lost leases are forgiven. */
function settle(task: LiveTask, { nonce, seq }: ReportEvent, invalid: boolean): LiveTask {
  return { ...close(task), lostLeases: 0, settledSeq: seq, lastOutcome: { nonce, seq, invalid } };
}

function outcome(task: LiveTask, body: Exclude<ReportBody, { kind: "checkpoint" | "invalid" }>, context: Context): Answer {
  const saved = body.executionMetadata === null ? {} : { executionMetadata: body.executionMetadata };
  const before = body.executionMetadata === null ? task : { ...task, ...saving(task, body.executionMetadata) };
  switch (body.kind) {
    case "complete":
      return { ...finish(before, context, "COMPLETED", null, { result: body.result }), ...saved };
    case "fail":
      return { ...failed(before, body, context), ...saved, ...leftOut(body.leftOut) };
    case "cancel": {
      const reason = before.cancel === null ? "CANCELLED_BY_WORKER" : "CANCEL_REQUESTED";
      const error = before.cancel === null ? body.error : cancelError(before, body.error);
      return { ...finish(before, context, "CANCELLED", reason, { error, logged: true }), ...saved, ...leftOut(body.leftOut) };
    }
    case "release":
      return { ...released(before, body.retryAfterUs, context), ...saved, ...leftOut(body.leftOut) };
    case "suspend":
      return suspended(before, body, context);
  }
}

function invalidOutcome(task: LiveTask, body: Extract<ReportBody, { kind: "invalid" }>, context: Context): Ending {
  const error: TaskError = { code: "INVALID_REPORT", message: describe(body) };
  return finish({ ...task, failures: task.failures + 1, lastError: error }, context, "FAILED", "INVALID_REPORT", { error, logged: true });
}

function failed(
  task: LiveTask,
  failure: { error: TaskError; retryable: boolean; retryAfterUs: number | null },
  context: Context,
): Change | Ending {
  const next: LiveTask = { ...task, failures: task.failures + 1, releases: 0, lastError: failure.error };
  const answer = afterFailure(task.identity.retryPolicy, next.failures, { ...failure, errorCode: failure.error.code });
  const final = answer.kind === "finish" && answer.reason === "NOT_RETRYABLE";
  if (task.cancel !== null && !final) return cancelled(next, context, failure.error);
  if (answer.kind === "finish") return finish(next, context, "FAILED", answer.reason, { error: failure.error, logged: true });
  const runAtUs = context.nowUs + pickDelay(answer.delay, context.chance);
  return pending(next, "RETRY", runAtUs, [entry("ATTEMPT_FAILED", "PENDING", { error: failure.error, runAtUs })]);
}

function released(task: LiveTask, retryAfterUs: number | null, context: Context): Change | Ending {
  const next = { ...task, releases: task.releases + 1 };
  if (task.cancel !== null) return cancelled(next, context, null);
  const runAtUs = context.nowUs + Math.max(retryAfterUs ?? 0, releaseDelay(task.identity.retryPolicy, next.releases));
  return pending(next, "RELEASED", runAtUs, [entry("RELEASED", "PENDING", { runAtUs })]);
}

function suspended(task: LiveTask, body: Extract<ReportBody, { kind: "suspend" }>, context: Context): Change | Ending {
  const saved = body.executionMetadata === null ? {} : { executionMetadata: body.executionMetadata };
  // A step that ended in a suspension succeeded: every count in a row starts anew.
  const next: LiveTask = { ...task, failures: 0, releases: 0, suspendTimeUs: context.nowUs, proceeds: told(task.proceeds) };
  if (task.cancel !== null) return { ...cancelled(next, context, null), ...saved };
  const remembered = next.proceeds?.remembered ?? [];
  if (remembered.length > 0) return resumed(next, next.proceeds ?? NO_PROCEEDS, remembered, body.executionMetadata, context);
  const runAtUs = body.untilUs ?? (body.afterUs === null ? null : context.nowUs + body.afterUs);
  return { ...change(next, { state: "SUSPENDED", runAtUs }, [entry("SUSPENDED", "SUSPENDED", { runAtUs })]), ...saved };
}

/** Consumes remembered proceeds at a suspension: straight back to PENDING with every change applied in order. */
function resumed(
  task: LiveTask,
  record: ProceedRecord,
  proceeds: ProceedRecord["remembered"],
  reportedMetadata: Payload | null,
  context: Context,
): Change {
  const consumed = consume(record, proceeds, reportedMetadata ?? context.executionMetadata, context.maxPayloadBytes);
  const executionMetadata = consumed.executionMetadata ?? reportedMetadata;
  const runAtUs = Math.max(consumed.runAtUs ?? context.nowUs, context.nowUs);
  // The report's own execution metadata has raised the version already.
  const saved =
    executionMetadata === null
      ? {}
      : {
          ...(reportedMetadata === null ? saving(task, executionMetadata) : { executionMetadataBytes: executionMetadata.data.byteLength }),
        };
  const timeline = [
    entry("SUSPENDED", "SUSPENDED", {}),
    ...(consumed.unapplied > 0 ? [entry("PATCH_UNAPPLIED", "PENDING", { message: `${String(consumed.unapplied)} of them` })] : []),
    entry("PROCEEDED", "PENDING", {
      runAtUs,
      message: proceeds
        .map(({ note }) => note)
        .filter(Boolean)
        .join("; "),
    }),
  ];
  const answer = change(
    { ...task, ...saved },
    { state: "PENDING", pendingReason: "PROCEEDED", runAtUs, proceeds: consumed.record },
    timeline,
  );
  return executionMetadata === null ? answer : { ...answer, executionMetadata };
}

// ---- leases that end without a report

function leaseLost(task: LiveTask, charged: boolean, context: Context): Answer {
  if (task.state !== "RUNNING") return nothingToDo();
  if (task.totalDeadlineUs !== null && task.totalDeadlineUs <= context.nowUs) return deadlineEnds(task, "TOTAL_DEADLINE", context);
  const next: LiveTask = { ...task, lostLeases: task.lostLeases + (charged ? 1 : 0), attemptDeadlineUs: null, silenceDeadlineUs: null };
  const error: TaskError = { code: "LEASE_LOST", message: `worker ${task.workerName} fell silent` };
  // The cancel decides, so the loss is not charged.
  if (task.cancel !== null) return cancelled(close(task), context, error, "LEASE_LOST");
  const delayUs = afterLostLease(task.identity.retryPolicy, next.lostLeases);
  if (delayUs === null)
    return finish(close(next), context, "FAILED", "POISONED", { error: poisonError(next), logged: true, revoked: "LEASE_LOST" });
  const runAtUs = context.nowUs + delayUs;
  // The lease stays on the task: until somebody else gets it, its token still counts.
  return {
    ...change(next, { state: "PENDING", pendingReason: "LEASE_LOST", runAtUs }, [entry("LEASE_LOST", "PENDING", { error, runAtUs })]),
    revoked: "LEASE_LOST",
  };
}

function returned(task: LiveTask, context: Context, message = "not held by its worker"): Answer {
  if (task.cancel !== null) return cancelled(close(task), context, null, "LEASE_LOST");
  return {
    ...pending(close(task), "RELEASED", context.nowUs, [entry("RELEASED", "PENDING", { message })]),
    revoked: "LEASE_LOST",
  };
}

function reattested(task: LiveTask, event: Extract<Event, { kind: "reattested" }>): Answer {
  if (task.lease?.nonce !== event.nonce) return { kind: "rejected", rejection: { reason: "LEASE_LOST" } };
  const lease = { ...task.lease, sessionId: event.sessionId, epoch: event.epoch };
  if (task.state === "RUNNING") return change(task, { lease });
  const { attemptUs, silenceUs } = task.identity.deadlines;
  // The attempt goes on as if the loss had not been: its deadlines count from the lease, silence from what it said last (a checkpoint
  // counts while its lease is lost), and the charge is taken back.
  const lastSaidUs = Math.max(lease.leaseTimeUs, task.checkpointTimeUs ?? 0);
  const deadline = (sinceUs: number, durationUs: number | null): number | null => (durationUs === null ? null : sinceUs + durationUs);
  return change(
    task,
    {
      state: "RUNNING",
      lease,
      lostLeases: Math.max(task.lostLeases - 1, 0),
      attemptDeadlineUs: deadline(lease.leaseTimeUs, attemptUs),
      silenceDeadlineUs: deadline(lastSaidUs, silenceUs),
    },
    [entry("REATTESTED", "RUNNING", {})],
  );
}

// ---- time

function timePassed(task: LiveTask, lenient: boolean, context: Context): Answer {
  const passed = (us: number | null | undefined): boolean => us !== null && us !== undefined && us <= context.nowUs;
  if (passed(task.totalDeadlineUs)) return deadlineEnds(task, "TOTAL_DEADLINE", context);
  if (passed(task.queueDeadlineUs) && task.state === "PENDING") return deadlineEnds(task, "QUEUE_DEADLINE", context);
  if (task.state === "SUSPENDED" && passed(task.runAtUs)) {
    return change(task, { state: "PENDING", pendingReason: "WOKEN" }, [entry("WOKEN", "PENDING", {})]);
  }
  // Right after an outage nobody could report: what would be charged to a worker waits.
  if (task.state !== "RUNNING" || lenient) return nothingToDo();
  if (passed(task.cancel?.deadlineUs)) return cancelled(close(task), context, null, "CANCEL_GRACE_ENDED");
  if (passed(task.attemptDeadlineUs)) return overdue(task, "ATTEMPT_DEADLINE", context);
  if (passed(silentUntil(task, context))) return overdue(task, "SILENCE_DEADLINE", context);
  return nothingToDo();
}

// The stored deadline counts from lease and checkpoints; progress puts it off without being written to the task.
function silentUntil(task: LiveTask, { progressUs }: Context): number | null {
  const { silenceUs } = task.identity.deadlines;
  if (task.silenceDeadlineUs === null || silenceUs === null) return null;
  return Math.max(task.silenceDeadlineUs, (progressUs ?? 0) + silenceUs);
}

function deadlineEnds(task: LiveTask, reason: "TOTAL_DEADLINE" | "QUEUE_DEADLINE", context: Context): Ending {
  const error: TaskError = { code: reason, message: reason === "TOTAL_DEADLINE" ? "not finished in time" : "not leased in time" };
  return finish(close(task), context, "FAILED", reason, {
    error,
    logged: true,
    ...(task.state === "RUNNING" ? { revoked: "TOTAL_DEADLINE" as const } : {}),
  });
}

function overdue(task: LiveTask, code: "ATTEMPT_DEADLINE" | "SILENCE_DEADLINE", context: Context): Change | Ending {
  const error: TaskError = {
    code,
    message: code === "ATTEMPT_DEADLINE" ? "the attempt took too long" : "no checkpoint or progress for too long",
  };
  return { ...failed({ ...close(task), lostLeases: 0 }, { error, retryable: true, retryAfterUs: null }, context), revoked: code };
}

// ---- what owners ask for

function cancelRequested(task: LiveTask, event: Extract<Event, { kind: "cancel-requested" }>, context: Context): Answer {
  const request = { reason: event.reason, requestUs: context.nowUs, deadlineUs: context.nowUs + event.graceUs };
  if (task.state !== "RUNNING") return cancelled({ ...close(task), cancel: request }, context, null);
  if (task.cancel !== null && task.cancel.deadlineUs <= request.deadlineUs) return nothingToDo();
  const cancel = task.cancel === null ? request : { ...task.cancel, deadlineUs: request.deadlineUs };
  return change(task, { cancel }, [entry("CANCEL_REQUESTED", "RUNNING", { message: event.reason, runAtUs: cancel.deadlineUs })]);
}

function proceeded(task: LiveTask, event: ProceedEvent, context: Context): Answer {
  const record = task.proceeds ?? NO_PROCEEDS;
  const before = event.request === null ? undefined : record.requests.find(({ requestId }) => requestId === event.request?.requestId);
  if (before !== undefined) {
    if (before.bodyHash === event.request?.bodyHash) return { kind: "repeated", result: before.result };
    return { kind: "rejected", rejection: { reason: "REQUEST_ID_REUSED" } };
  }
  if (task.cancel !== null) return { kind: "rejected", rejection: { reason: "CANCEL_REQUESTED" } };
  const woken = task.state === "PENDING" && (task.pendingReason === "PROCEEDED" || task.pendingReason === "WOKEN");
  if ((event.needsSuspended || event.replace !== null) && task.state !== "SUSPENDED")
    return { kind: "rejected", rejection: { reason: "TASK_NOT_SUSPENDED" } };
  if (task.state === "SUSPENDED" || woken) return proceedNow(task, record, event, woken, context);
  const kept = remember(record, event.proceed);
  if (kept === null) return { kind: "rejected", rejection: { reason: "TOO_MANY_PROCEEDS" } };
  const proceeds = answered(kept, event.request && { ...event.request, result: "REMEMBERED" });
  return {
    ...change(task, { proceeds }, [entry("PROCEED_REMEMBERED", task.state, { message: event.proceed.note })]),
    proceedResult: "REMEMBERED",
  };
}

function proceedNow(task: LiveTask, record: ProceedRecord, event: ProceedEvent, woken: boolean, context: Context): Answer {
  const { proceed } = event;
  const patched = proceed.patch === null ? event.replace : patchPayload(context.executionMetadata, proceed.patch);
  // The caller waits for the answer, so a patch that does not fit is refused here rather than left to the handler.
  if (proceed.patch !== null && (patched === null || patched.data.byteLength > context.maxPayloadBytes)) {
    return { kind: "rejected", rejection: { reason: "PATCH_NOT_APPLICABLE" } };
  }
  const asked = Math.max(proceed.runAtUs ?? context.nowUs, context.nowUs);
  const runAtUs = woken && task.pendingReason === "PROCEEDED" ? Math.max(asked, task.runAtUs ?? asked) : asked;
  const proceeds = answered({ ...record, consumed: toTell(record, [proceed]) }, event.request && { ...event.request, result: "APPLIED" });
  const saved = patched === null ? {} : saving(task, patched);
  const timeline = [entry("PROCEEDED", "PENDING", { message: proceed.note, runAtUs })];
  const answer = change(task, { ...saved, state: "PENDING", pendingReason: "PROCEEDED", runAtUs, proceeds }, timeline);
  return { ...answer, ...(patched === null ? {} : { executionMetadata: patched }), proceedResult: "APPLIED" };
}

function updated(task: LiveTask, event: Extract<Event, { kind: "updated" }>, context: Context): Answer {
  if (task.state !== "PENDING") return { kind: "rejected", rejection: { reason: "TASK_NOT_PENDING" } };
  const runAtUs = event.runAtUs === null ? task.runAtUs : Math.max(event.runAtUs, context.nowUs);
  const { queueUs } = task.identity.deadlines;
  const queueDeadlineUs = task.queueDeadlineUs === null || queueUs === null || runAtUs === null ? task.queueDeadlineUs : runAtUs + queueUs;
  return change(task, { priority: event.priority ?? task.priority, queue: event.queue ?? task.queue, runAtUs, queueDeadlineUs }, [
    entry("UPDATED", "PENDING", { runAtUs }),
  ]);
}
