// What does a worker say about its leases? Reports with their content checked: what cannot be recorded is said in the body and never ends
// the stream. A failure, release or cancel loses only what was wrong in it, so that it never ends less retryable than it says.

import type { Report, WorkerMessage as WorkerMessageProto } from "@leasehold/proto/leasehold/v1/worker_service";
import type { Progress } from "@leasehold/proto/leasehold/v1/task";
import type { WorkerMessage, WorkerProgress, WorkerReport } from "../dispatch/messages.js";
import type { ReportBody, Violation } from "../domain/event.js";
import type { Payload } from "../domain/task.js";
import { parseError } from "./validate-error.js";
import { parseSlots } from "./validate-hello.js";
import { NULL_PAYLOAD, parsePayload } from "./validate-payload.js";
import { cleanText } from "./validate-text.js";
import { MAX_DURATION_US, parseDuration, parseTimestamp } from "./validate-time.js";
import { parseTraceContext } from "./validate-trace.js";

/** The limits that reports are checked against. */
export interface ReportLimits {
  readonly payloadBytes: number;
  readonly errorBytes: number;
}

const MAX_PROGRESS_MESSAGE_BYTES = 1024;
const NONE: readonly never[] = [];

/** Any message after hello. Never refuses anything. */
export function parseWorkerMessage(message: WorkerMessageProto, limits: ReportLimits): WorkerMessage {
  const { heartbeat, slots, reports, progress, drain } = message;
  return {
    heartbeat: heartbeat === undefined ? null : { number: heartbeat.number, leasesReceived: heartbeat.leasesReceived },
    slots: slots === undefined ? null : parseSlots(slots),
    reports: reports.length === 0 ? NONE : reports.map((report) => parseReport(report, limits)),
    progress: progress.length === 0 ? NONE : progress.flatMap(({ leaseToken, progress: how }) => parseProgress(leaseToken, how)),
    drain: drain !== undefined,
  };
}

/** One report with its body checked. */
export function parseReport(report: Report, limits: ReportLimits): WorkerReport {
  const parsed = { leaseToken: report.leaseToken, seq: report.reportSeq, body: parseBody(report, limits) };
  const traceContext = report.traceContext === undefined ? null : parseTraceContext(report.traceContext);
  return traceContext === null ? parsed : { ...parsed, traceContext };
}

function parseBody(report: Report, limits: ReportLimits): ReportBody {
  const { checkpoint, complete, fail, suspend, cancel, release } = report;
  const kinds =
    +(checkpoint !== undefined) +
    +(complete !== undefined) +
    +(fail !== undefined) +
    +(suspend !== undefined) +
    +(cancel !== undefined) +
    +(release !== undefined);
  // Which of several was meant nobody knows, so nothing is ended by it.
  if (kinds !== 1) return invalid(false, [{ field: "report", description: `must have exactly one kind, not ${kinds}` }]);
  if (report.reportSeq < 1) return invalid(false, [{ field: "report_seq", description: "must be 1, 2, 3 … for each lease" }]);
  if (complete !== undefined) return parseComplete(complete, limits);
  if (checkpoint !== undefined) return parseCheckpoint(checkpoint, limits);
  if (fail !== undefined) return parseFail(fail, limits);
  if (suspend !== undefined) return parseSuspend(suspend, limits);
  if (release !== undefined) return parseRelease(release, limits);
  return parseCancel(cancel, limits);
}

function parseCheckpoint(checkpoint: NonNullable<Report["checkpoint"]>, { payloadBytes }: ReportLimits): ReportBody {
  const violations: Violation[] = [];
  const executionMetadata = parsePayload(checkpoint.executionMetadata, "checkpoint.execution_metadata", payloadBytes, violations);
  if (executionMetadata !== null) return { kind: "checkpoint", executionMetadata };
  if (violations.length === 0) violations.push({ field: "checkpoint.execution_metadata", description: "is required" });
  return invalid(false, violations);
}

function parseComplete(complete: NonNullable<Report["complete"]>, { payloadBytes }: ReportLimits): ReportBody {
  const violations: Violation[] = [];
  const result = parsePayload(complete.result, "complete.result", payloadBytes, violations) ?? NULL_PAYLOAD;
  const executionMetadata = parsePayload(complete.executionMetadata, "complete.execution_metadata", payloadBytes, violations);
  return violations.length > 0 ? invalid(true, violations) : { kind: "complete", result, executionMetadata };
}

function parseSuspend(suspend: NonNullable<Report["suspend"]>, { payloadBytes }: ReportLimits): ReportBody {
  const { untilTime, untilAfter, untilProceeded } = suspend;
  const violations: Violation[] = [];
  if (untilTime === undefined && untilAfter === undefined && !untilProceeded)
    violations.push({ field: "suspend", description: "must have until_time, until_after or until_proceeded" });
  if (untilTime !== undefined && untilAfter !== undefined)
    violations.push({ field: "suspend.until_after", description: "must not be set together with until_time" });
  const untilUs = parseTimestamp(untilTime, "suspend.until_time", violations);
  const afterUs = parseDuration(untilAfter, "suspend.until_after", 0, MAX_DURATION_US, violations);
  const executionMetadata = parsePayload(suspend.executionMetadata, "suspend.execution_metadata", payloadBytes, violations);
  return violations.length > 0 ? invalid(true, violations) : { kind: "suspend", untilUs, afterUs, executionMetadata };
}

function parseFail(fail: NonNullable<Report["fail"]>, { payloadBytes, errorBytes }: ReportLimits): ReportBody {
  const leftOut: Violation[] = [];
  const executionMetadata = parsePayload(fail.executionMetadata, "fail.execution_metadata", payloadBytes, leftOut);
  const error = parseError(fail.error, "fail.error", errorBytes, leftOut);
  const retryAfterUs = parseDuration(fail.retryAfter, "fail.retry_after", 0, MAX_DURATION_US, leftOut);
  return { kind: "fail", error, retryable: fail.retryable ?? true, retryAfterUs, executionMetadata, leftOut };
}

function parseCancel(cancel: Report["cancel"], { payloadBytes, errorBytes }: ReportLimits): ReportBody {
  const leftOut: Violation[] = [];
  const executionMetadata: Payload | null = parsePayload(cancel?.executionMetadata, "cancel.execution_metadata", payloadBytes, leftOut);
  return { kind: "cancel", error: parseError(cancel?.error, "cancel.error", errorBytes, leftOut), executionMetadata, leftOut };
}

function parseRelease(release: NonNullable<Report["release"]>, { payloadBytes }: ReportLimits): ReportBody {
  const leftOut: Violation[] = [];
  const executionMetadata = parsePayload(release.executionMetadata, "release.execution_metadata", payloadBytes, leftOut);
  return {
    kind: "release",
    retryAfterUs: parseDuration(release.retryAfter, "release.retry_after", 0, MAX_DURATION_US, leftOut),
    executionMetadata,
    leftOut,
  };
}

/** Progress is lossy: what makes no sense is nothing. */
function parseProgress(leaseToken: string, progress: Progress | undefined): WorkerProgress[] {
  if (progress === undefined || !Number.isFinite(progress.done)) return [];
  const total = progress.total !== undefined && Number.isFinite(progress.total) ? progress.total : null;
  return [{ leaseToken, done: progress.done, total, message: cleanText(progress.message, MAX_PROGRESS_MESSAGE_BYTES) }];
}

function invalid(ends: boolean, violations: readonly Violation[]): ReportBody {
  return { kind: "invalid", ends, violations };
}
