// How is an answer of `transition` built? The few shapes that every decision ends in.

import type { Answer, Change, Context, Ending, ReportBody, RevocationReason, TimelineEntry, TimelineType } from "./event.js";
import type { FinishReason, LiveTask, Payload, PendingReason, TaskError } from "./task.js";

/** The task goes on with these fields changed; every write raises the revision by one. */
export function change(task: LiveTask, fields: Partial<LiveTask>, timeline: readonly TimelineEntry[] = []): Change {
  return { kind: "changed", task: { ...task, ...fields, revision: task.revision + 1 }, timeline };
}

/** The task waits to be leased again. */
export function pending(task: LiveTask, reason: PendingReason, runAtUs: number, timeline: readonly TimelineEntry[]): Change {
  return change(task, { state: "PENDING", pendingReason: reason, runAtUs }, timeline);
}

/** The task ends. Proceeds that nobody consumed are dropped with an entry. */
export function finish(
  task: LiveTask,
  { nowUs }: Context,
  state: Ending["state"],
  reason: FinishReason | null,
  how: { result?: Payload; error?: TaskError | null; logged?: boolean; revoked?: RevocationReason },
): Ending {
  const dropped = task.proceeds?.remembered.length ?? 0;
  const timeline = [
    ...(dropped > 0 ? [entry("PROCEED_DROPPED", state, { message: `${String(dropped)} of them` })] : []),
    ...(how.logged === true ? [entry("FINISHED", state, { error: how.error ?? null, finishReason: reason })] : []),
  ];
  const ended = { ...task, proceeds: null, revision: task.revision + 1 };
  const revoked = how.revoked === undefined ? {} : { revoked: how.revoked };
  return {
    kind: "finished",
    task: ended,
    state,
    reason,
    result: how.result ?? null,
    error: how.error ?? null,
    finishTimeUs: nowUs,
    timeline,
    ...revoked,
  };
}

/** The task ends because a cancel was asked for; what its handler said is kept as the cause. */
export function cancelled(task: LiveTask, context: Context, cause: TaskError | null, revoked?: RevocationReason): Ending {
  const how = { error: cancelError(task, cause), logged: true, ...(revoked === undefined ? {} : { revoked }) };
  return finish(task, context, "CANCELLED", "CANCEL_REQUESTED", how);
}

/** The lease is over. */
export function close(task: LiveTask): LiveTask {
  return { ...task, lease: null, attemptDeadlineUs: null, silenceDeadlineUs: null };
}

/** The fields that new execution metadata changes. */
export function saving(task: LiveTask, executionMetadata: Payload): Pick<LiveTask, "executionMetadataVersion" | "executionMetadataBytes"> {
  return { executionMetadataVersion: task.executionMetadataVersion + 1, executionMetadataBytes: executionMetadata.data.byteLength };
}

/** The error of a cancelled task: the reason of the cancel, and what the handler said. */
export function cancelError(task: LiveTask, cause: TaskError | null): TaskError {
  return { code: "CANCELLED", message: task.cancel?.reason ?? "", ...(cause === null ? {} : { cause }) };
}

/** The error of a task that lost too many leases in a row. */
export function poisonError(task: LiveTask): TaskError {
  return { code: "LEASE_LOST", message: `${String(task.lostLeases)} leases in a row were lost, the last one by worker ${task.workerName}` };
}

/** The part of an answer that names what was left out of a report. */
export function leftOut(violations: readonly { field: string; description: string }[]): { violations?: typeof violations } {
  return violations.length === 0 ? {} : { violations };
}

/** What is wrong with a report, for people. */
export function describe(body: Extract<ReportBody, { kind: "invalid" }>): string {
  return body.violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
}

/** One entry of the timeline. */
export function entry(type: TimelineType, state: TimelineEntry["state"], fields: Partial<TimelineEntry>): TimelineEntry {
  return { type, state, ...fields };
}

/** The time of an event has not come, or it happened already. */
export function nothingToDo(): Answer {
  return { kind: "rejected", rejection: { reason: "NOTHING_TO_DO" } };
}
