// What does a task look like before something happens to it, and what came of it? Tasks, events and contexts for tests of the domain,
// with all that a test does not mention filled in, and answers told as one line of what changed.
import type { Answer, Context, Event, ReportBody } from "@leasehold/server/domain/event";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import type { LiveTask, Payload, Proceed, ProceedRecord, TaskError, TaskIdentity } from "@leasehold/server/domain/task";
import { NO_DEADLINES, NO_PROCEEDS } from "@leasehold/server/domain/task";

/** When tests of the domain happen, in microseconds. */
export const NOW = 1_700_000_000_123_456;
/** One second in microseconds. */
export const SECOND = 1_000_000;
/** Nonce of the lease that a test's task has, and of the one before. */
export const NONCE = "11".repeat(16);
export const FORMER_NONCE = "00".repeat(16);
/** Session of that lease. */
export const SESSION = "0190b6f2-0000-7000-8000-00000000000a";

/** A JSON payload. */
export function json(value: unknown): Payload {
  return { data: new TextEncoder().encode(JSON.stringify(value)), contentType: "" };
}

/** The text of a payload. */
export function textOf(payload: Payload | null | undefined): string | undefined {
  return payload ? new TextDecoder().decode(payload.data) : undefined;
}

/** What a test's task was submitted with. */
export function taskIdentity(fields: Partial<TaskIdentity> = {}): TaskIdentity {
  return {
    id: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e",
    namespace: "default",
    name: "report.render",
    key: null,
    keyHoldUs: 0,
    retryPolicy: DEFAULT_RETRY_POLICY,
    deadlines: NO_DEADLINES,
    createTimeUs: NOW - 100 * SECOND,
    ...fields,
  };
}

/** A task that was just stored and is due. */
export function newLiveTask(fields: Partial<LiveTask> = {}, identity: Partial<TaskIdentity> = {}): LiveTask {
  return {
    identity: taskIdentity(identity),
    queue: "default",
    priority: 0,
    state: "PENDING",
    pendingReason: "NEW",
    runAtUs: NOW - 50 * SECOND,
    suspendTimeUs: null,
    failures: 0,
    lostLeases: 0,
    releases: 0,
    lease: null,
    workerName: "",
    leaseTimeUs: null,
    fencingToken: 0,
    settledSeq: 0,
    lastOutcome: null,
    queueDeadlineUs: null,
    attemptDeadlineUs: null,
    silenceDeadlineUs: null,
    totalDeadlineUs: null,
    cancel: null,
    proceeds: null,
    executionMetadataVersion: 0,
    executionMetadataBytes: 0,
    checkpointCount: 0,
    checkpointTimeUs: null,
    lastError: null,
    revision: 1,
    ...fields,
  };
}

/** A task that was leased before: it failed once, was lost once and released once, and has checkpointed. */
export function seasonedTask(fields: Partial<LiveTask> = {}, identity: Partial<TaskIdentity> = {}): LiveTask {
  const leasedBefore: Partial<LiveTask> = {
    ...{ failures: 1, lostLeases: 1, releases: 1, workerName: "worker-1", leaseTimeUs: NOW - 10 * SECOND, fencingToken: 7, revision: 20 },
    ...{ lastOutcome: { nonce: FORMER_NONCE, seq: 4, invalid: false }, executionMetadataVersion: 1, executionMetadataBytes: 7 },
    ...{ checkpointCount: 2, checkpointTimeUs: NOW - 60 * SECOND },
  };
  return newLiveTask({ ...leasedBefore, ...fields }, identity);
}

/** The same, RUNNING with two reports settled; with the deadlines of its lease where the submission had limits. */
export function runningTask(fields: Partial<LiveTask> = {}, identity: Partial<TaskIdentity> = {}): LiveTask {
  const lease = { nonce: NONCE, sessionId: SESSION, epoch: 3, leaseTimeUs: NOW - 10 * SECOND };
  return seasonedTask({ state: "RUNNING", pendingReason: "RETRY", lease, settledSeq: 2, ...fields }, identity);
}

/** PENDING because its session fell silent: the token still counts. */
export function lostTask(fields: Partial<LiveTask> = {}, identity: Partial<TaskIdentity> = {}): LiveTask {
  return runningTask({ state: "PENDING", pendingReason: "LEASE_LOST", ...fields }, identity);
}

/** What a decision is made with. */
export function decisionContext(fields: Partial<Context> = {}): Context {
  return { nowUs: NOW, chance: 0, executionMetadata: json({ a: 1 }), maxPayloadBytes: 1_048_576, ...fields };
}

/** An error of a handler. */
export const FAILURE: TaskError = { code: "disk_full", message: "no space left" };

/** A report about the current lease, the next one in order. */
export function reportOf(body: ReportBody, fields: { seq?: number; nonce?: string } = {}): Extract<Event, { kind: "reported" }> {
  return { kind: "reported", nonce: NONCE, seq: 3, body, ...fields };
}

/** A report body of each kind, without execution metadata. */
export const bodies = {
  checkpoint: { kind: "checkpoint", executionMetadata: json({ step: 2 }) },
  complete: { kind: "complete", result: json("done"), executionMetadata: null },
  fail: { kind: "fail", error: FAILURE, retryable: true, retryAfterUs: null, executionMetadata: null, leftOut: [] },
  failForGood: { kind: "fail", error: FAILURE, retryable: false, retryAfterUs: null, executionMetadata: null, leftOut: [] },
  suspend: { kind: "suspend", untilUs: null, afterUs: null, executionMetadata: null },
  suspendUntil: { kind: "suspend", untilUs: NOW + 60 * SECOND, afterUs: null, executionMetadata: null },
  suspendFor: { kind: "suspend", untilUs: null, afterUs: 90 * SECOND, executionMetadata: null },
  cancel: { kind: "cancel", error: FAILURE, executionMetadata: null, leftOut: [] },
  release: { kind: "release", retryAfterUs: null, executionMetadata: null, leftOut: [] },
  badCheckpoint: { kind: "invalid", ends: false, violations: [{ field: "execution_metadata", description: "is no JSON" }] },
  badOutcome: { kind: "invalid", ends: true, violations: [{ field: "result", description: "is no JSON" }] },
} satisfies Record<string, ReportBody>;

/** A proceed that changes nothing. */
export function aProceed(fields: Partial<Proceed> = {}): Proceed {
  return { note: "", proceedUs: NOW, patch: null, runAtUs: null, ...fields };
}

/** The event of a proceed. */
export function proceedEvent(proceed: Partial<Proceed> = {}, fields: Partial<Extract<Event, { kind: "proceeded" }>> = {}): Event {
  return { kind: "proceeded", proceed: aProceed(proceed), replace: null, needsSuspended: false, request: null, ...fields };
}

/** A proceed record with these. */
export function proceedRecord(fields: Partial<ProceedRecord> = {}): ProceedRecord {
  return { ...NO_PROCEEDS, ...fields };
}

const relative = (us: number | null): string => (us === null ? "off" : `${us < NOW ? "" : "+"}${String((us - NOW) / SECOND)}s`);
const listed = (parts: readonly (string | false)[]): string => parts.filter(Boolean).join(", ");

/** Tells an answer as one line: where the task stands, every field that is not as it was, the timeline, what is told to the worker. */
export function tellAnswer(before: LiveTask, answer: Answer): string {
  if (answer.kind === "rejected") return `no: ${answer.rejection.reason}`;
  if (answer.kind === "repeated") return `again: ${answer.result}`;
  const { task, timeline } = answer;
  const standing =
    answer.kind === "finished" ? `${answer.state}${answer.reason === null ? "" : ` ${answer.reason}`}` : standingOf(before, task);
  const fields = changedFields(before, task, answer.kind === "finished");
  const outcome =
    answer.kind === "finished" ? listed([answer.error !== null && `error ${answer.error.code}`, answer.result !== null && "result"]) : "";
  const more = listed([
    outcome !== "" && `with ${outcome}`,
    answer.executionMetadata !== undefined && `saves ${textOf(answer.executionMetadata) ?? ""}`,
    answer.revoked !== undefined && `revoked ${answer.revoked}`,
    answer.violations !== undefined && `violations ${String(answer.violations.length)}`,
    answer.kind === "changed" && answer.proceedResult !== undefined && answer.proceedResult,
  ]);
  return [standing, fields, more, timeline.map(({ type }) => type).join(" ")].filter(Boolean).join("; ");
}

function standingOf(before: LiveTask, task: LiveTask): string {
  if (task.state === before.state && task.pendingReason === before.pendingReason) return "stays";
  return task.state === "PENDING" ? `PENDING ${task.pendingReason}` : task.state;
}

function changedFields(before: LiveTask, after: LiveTask, ended: boolean): string {
  const changed = (key: keyof LiveTask, told: string): string | false => JSON.stringify(before[key]) !== JSON.stringify(after[key]) && told;
  const { lease, lastOutcome, cancel, proceeds } = after;
  return listed([
    changed("runAtUs", `due ${relative(after.runAtUs)}`),
    changed("failures", `failures ${String(after.failures)}`),
    changed("lostLeases", `lost ${String(after.lostLeases)}`),
    changed("releases", `releases ${String(after.releases)}`),
    changed("lease", lease === null ? "lease closed" : `lease ${lease.nonce.slice(0, 2)} epoch ${String(lease.epoch)}`),
    changed("fencingToken", `fence ${String(after.fencingToken)}`),
    changed("settledSeq", `seq ${String(after.settledSeq)}`),
    changed("lastOutcome", `outcome ${String(lastOutcome?.seq)}${lastOutcome?.invalid === true ? " invalid" : ""}`),
    changed("queueDeadlineUs", `queue deadline ${relative(after.queueDeadlineUs)}`),
    changed("attemptDeadlineUs", `attempt deadline ${relative(after.attemptDeadlineUs)}`),
    changed("silenceDeadlineUs", `silence deadline ${relative(after.silenceDeadlineUs)}`),
    changed("totalDeadlineUs", `total deadline ${relative(after.totalDeadlineUs)}`),
    changed("cancel", `cancel by ${relative(cancel?.deadlineUs ?? null)}`),
    !ended && changed("proceeds", proceedsOf(proceeds)),
    changed("executionMetadataVersion", `version ${String(after.executionMetadataVersion)}`),
    changed("checkpointCount", `checkpoints ${String(after.checkpointCount)}`),
    changed("lastError", `last error ${after.lastError?.code ?? "none"}`),
    changed("priority", `priority ${String(after.priority)}`),
    changed("queue", `queue ${after.queue}`),
    changed("workerName", `worker ${after.workerName}`),
  ]);
}

function proceedsOf(record: ProceedRecord | null): string {
  if (record === null) return "proceeds none";
  const { remembered, consumed, unapplied, requests } = record;
  return `proceeds ${[remembered, consumed, unapplied, requests].map((list) => String(list.length)).join("/")}`;
}
