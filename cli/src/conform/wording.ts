// How does a message read in a transcript? One short line for each part of it; long payloads are cut.
import type { Payload } from "@leasehold/proto/leasehold/v1/task";
import {
  type Lease,
  type Report,
  type ServerMessage,
  type Verdict,
  VerdictCode,
  type WorkerMessage,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { msFromDuration } from "./messages.js";
import { REPORT_KINDS } from "./scenario.js";

/** Names a lease by its label. */
type Naming = (token: string) => string;

const MOST_PAYLOAD = 80;

/** A message of the worker. */
export function workerLines(message: WorkerMessage, name: Naming): string[] {
  const { hello, heartbeat, slots, reports, progress, drain } = message;
  const lines: string[] = [];
  if (hello !== undefined) {
    const held = hello.heldLeaseTokens.map(name).join(", ");
    const names = hello.handlers.map(({ taskName }) => taskName).join(", ");
    lines.push(
      `hello ${JSON.stringify(hello.workerName)} connection ${hello.connection} session ${hello.sessionId || "none"} holds [${held}] slots ${hello.slots} handlers ${names}`,
    );
  }
  if (heartbeat !== undefined) lines.push(`heartbeat ${heartbeat.number}, leases received ${heartbeat.leasesReceived}`);
  if (slots !== undefined) lines.push(`slots ${slots.total}`);
  for (const report of reports) lines.push(`report ${report.reportSeq} of ${name(report.leaseToken)}: ${reportText(report)}`);
  for (const { leaseToken } of progress) lines.push(`progress of ${name(leaseToken)}`);
  if (drain !== undefined) lines.push("drain");
  return lines.length === 0 ? ["an empty message"] : lines;
}

/** What a report says. */
export function reportText(report: Report): string {
  const kinds = REPORT_KINDS.filter((kind) => report[kind] !== undefined);
  const { complete, fail, suspend } = report;
  const saved = REPORT_KINDS.map((kind) => report[kind]?.executionMetadata).find((payload) => payload !== undefined);
  const parts = [kinds.join(" and ") || "nothing"];
  if (saved !== undefined) parts.push(payloadText(saved));
  if (complete?.result !== undefined) parts.push(`result ${payloadText(complete.result)}`);
  if (fail !== undefined) parts.push(`code ${JSON.stringify(fail.error?.code ?? "")} retryable ${fail.retryable ?? "left out"}`);
  if (suspend?.untilProceeded === true) parts.push("until proceeded");
  if (suspend?.untilAfter !== undefined) parts.push(`until ${msFromDuration(suspend.untilAfter)} ms have passed`);
  return parts.join(" ");
}

/** A message of the scripted server. */
export function serverLines(message: ServerMessage, name: Naming): string[] {
  const { welcome, leases, verdicts, cancels, revoked, heartbeatAnswer, drain } = message;
  const lines: string[] = [];
  if (welcome !== undefined) {
    const [every, ttl] = [welcome.heartbeatInterval, welcome.sessionTtl].map((part) => (part === undefined ? 0 : msFromDuration(part)));
    const kept = welcome.keptLeaseTokens.map(name).join(", ");
    const dropped = welcome.droppedLeaseTokens.map(name).join(", ");
    lines.push(`welcome session ${welcome.sessionId} heartbeat every ${every} ms ttl ${ttl} ms keeps [${kept}] drops [${dropped}]`);
  }
  for (const lease of leases) lines.push(leaseText(lease, name));
  for (const verdict of verdicts) lines.push(verdictText(verdict, name));
  for (const { leaseToken } of cancels) lines.push(`cancel of ${name(leaseToken)}`);
  for (const { leaseToken, reason } of revoked) lines.push(`revoked ${name(leaseToken)}, reason ${reason}`);
  if (heartbeatAnswer !== undefined) lines.push(`heartbeat ${heartbeatAnswer.number} answered`);
  if (drain !== undefined) lines.push("server drain");
  return lines;
}

function leaseText({ leaseToken, name: task, metadata, executionMetadata, attempt }: Lease, name: Naming): string {
  const given = metadata === undefined ? "no metadata" : payloadText(metadata);
  const saved = executionMetadata === undefined ? "" : ` execution metadata ${payloadText(executionMetadata)}`;
  return `lease ${name(leaseToken)} of ${task} attempt ${attempt}, ${given}${saved}`;
}

function verdictText({ leaseToken, reportSeq, code, retryAfter }: Verdict, name: Naming): string {
  const later = retryAfter === undefined ? "" : ` after ${msFromDuration(retryAfter)} ms`;
  return `verdict on report ${reportSeq} of ${name(leaseToken)}: ${VerdictCode[code]}${later}`;
}

function payloadText({ data }: Payload): string {
  const text = data.subarray(0, MOST_PAYLOAD).toString();
  return data.length > MOST_PAYLOAD ? `${text}… (${data.length} bytes)` : text;
}
