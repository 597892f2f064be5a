// How does the scripted server make the messages that it sends? Durations, payloads, leases and the ends of streams.
import { Metadata, type ServerErrorResponse, status } from "@grpc/grpc-js";
import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import { ErrorInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { Payload, PendingReason, TaskError } from "@leasehold/proto/leasehold/v1/task";
import { Lease, Limits, Resumption, Welcome } from "@leasehold/proto/leasehold/v1/worker_service";
import type { Step } from "./scenario.js";

/** What the welcomes of the kit say unless a scenario says otherwise: short, so that a scenario about silence takes seconds. */
export const DEFAULT_HEARTBEAT_MS = 1_000;
/** Session TTL of the welcomes, in milliseconds. */
export const DEFAULT_TTL_MS = 4_000;

const LIMITS = Limits.create({
  maxPayloadBytes: 1_048_576,
  maxErrorBytes: 65_536,
  maxMessageBytes: 16_777_216,
  maxSlots: 10_000,
  maxReports: 100,
  minKeepaliveInterval: { seconds: 10n, nanos: 0 },
});

/** Milliseconds, as a message. */
export function durationFromMs(ms: number): Duration {
  return { seconds: BigInt(Math.floor(ms / 1_000)), nanos: Math.round((ms % 1_000) * 1_000_000) };
}

/** A message, in milliseconds. */
export function msFromDuration({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1_000 + nanos / 1_000_000;
}

/** JSON as a payload. */
export function jsonPayload(value: unknown): Payload {
  return Payload.create({ data: Buffer.from(JSON.stringify(value)) });
}

/** A welcome with the settings of the kit. */
export function welcomeOf(sessionId: string, intervalMs: number, ttlMs: number, kept: string[], dropped: string[]): Welcome {
  return Welcome.create({
    sessionId,
    heartbeatInterval: durationFromMs(intervalMs),
    sessionTtl: durationFromMs(ttlMs),
    limits: LIMITS,
    keptLeaseTokens: kept,
    droppedLeaseTokens: dropped,
    serverVersion: "conform",
  });
}

/** The lease that a step describes. */
export function leaseOf(step: Extract<Step, { do: "lease" }>, leaseToken: string, fencingToken: number): Lease {
  const { task, metadata, bytes, executionMetadata, attempt = 1, deadlineMs, resumed, note, failedBefore } = step;
  const reason = resumed === undefined ? (attempt > 1 ? PendingReason.RETRY : PendingReason.NEW) : PendingReason[resumed];
  return Lease.create({
    leaseToken,
    taskId: `00000000-0000-7000-8000-${String(fencingToken).padStart(12, "0")}`,
    name: task,
    queue: "default",
    metadata: bytes === undefined ? (metadata === undefined ? undefined : jsonPayload(metadata)) : jsonPayload("x".repeat(bytes - 2)),
    executionMetadata: executionMetadata === undefined ? undefined : jsonPayload(executionMetadata),
    executionMetadataVersion: executionMetadata === undefined ? 0n : 1n,
    attempt,
    maxAttempts: 3,
    previousError: failedBefore === undefined ? undefined : TaskError.create({ code: failedBefore, message: "the attempt before" }),
    resumption: Resumption.create({ reason, proceeds: note === undefined ? [] : [{ note, proceedTime: { seconds: 1n, nanos: 0 } }] }),
    fencingToken: BigInt(fencingToken),
    attemptDeadlineRemaining: deadlineMs === undefined ? undefined : durationFromMs(deadlineMs),
    createTime: { seconds: 1n, nanos: 0 },
  });
}

/** The end of a stream with a reason, as a server gives it. */
export function endingOf(reason: string): Partial<ServerErrorResponse> & { code: status; details: string } {
  const code = /^(?:SERVER_DRAINING|DATABASE_UNAVAILABLE|AWAY)$/.test(reason) ? status.UNAVAILABLE : status.ABORTED;
  const details = `the scripted server says ${reason}`;
  const value = Buffer.from(ErrorInfo.encode(ErrorInfo.create({ reason, domain: "leasehold" })).finish());
  const any = { typeUrl: "type.googleapis.com/google.rpc.ErrorInfo", value };
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(Status.encode({ code, message: details, details: [any] }).finish()));
  return { code, details, metadata };
}
