// How does what the dispatcher sends look on the wire? Its messages as ServerMessages, cut so that none grows too large.

import type {
  Cancel,
  Lease,
  Revocation,
  ServerMessage as ServerMessageProto,
  Verdict as VerdictProto,
  Welcome as WelcomeProto,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { DurabilityClass, RevocationReason as RevocationReasonMessage, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { TaskState as TaskStateMessage } from "@leasehold/proto/leasehold/v1/task";
import type { Config } from "../config.js";
import type { OutgoingLease, ServerMessage, Verdict, Welcome } from "../dispatch/messages.js";
import type { RevocationReason } from "../domain/event.js";
import type { Durability } from "../storage/conditions.js";
import { toDuration, toTimestamp } from "./convert-time.js";
import { PENDING_REASONS, STATES, toError, toPayload } from "./convert-task.js";
import { toStatusMessage } from "./status.js";
import { MAX_SLOTS } from "./validate-hello.js";

/** A message of several things is no larger than this, so that it never fills the 64 KiB window of HTTP/2. */
const MESSAGE_BYTES = 32 * 1024;
/** What a lease takes beside its payloads, labels and errors, about. */
const LEASE_OVERHEAD_BYTES = 512;
/** What a verdict takes beside its violations, about. */
const VERDICT_BYTES = 80;
const VIOLATION_BYTES = 256;
const MAX_REPORTS = 10_000;
const MIN_KEEPALIVE_US = 10_000_000;

const VERDICT_CODES = {
  RECORDED: VerdictCode.RECORDED,
  ALREADY_RECORDED: VerdictCode.ALREADY_RECORDED,
  LEASE_LOST: VerdictCode.LEASE_LOST,
  INVALID: VerdictCode.INVALID,
  RETRY_LATER: VerdictCode.RETRY_LATER,
} as const satisfies Record<Verdict["code"], VerdictCode>;

const REVOCATION_REASONS = {
  ATTEMPT_DEADLINE: RevocationReasonMessage.ATTEMPT_DEADLINE,
  SILENCE_DEADLINE: RevocationReasonMessage.SILENCE_DEADLINE,
  TOTAL_DEADLINE: RevocationReasonMessage.TOTAL_DEADLINE,
  CANCEL_GRACE_ENDED: RevocationReasonMessage.CANCEL_GRACE_ENDED,
  LEASE_LOST: RevocationReasonMessage.LEASE_LOST,
} as const satisfies Record<RevocationReason, RevocationReasonMessage>;

const DURABILITY = {
  SYNCHRONOUS_STANDBY: DurabilityClass.SYNCHRONOUS_STANDBY,
  LOCAL: DurabilityClass.LOCAL,
  PROVIDER: DurabilityClass.PROVIDER,
  UNSAFE: DurabilityClass.UNSAFE,
} as const satisfies Record<Durability, DurabilityClass>;

/** The message as one or more of the contract, control first: nothing of it waits behind leases. */
export function toServerMessages(
  message: ServerMessage,
  config: Config,
  serverVersion: string,
  durability?: Durability,
): ServerMessageProto[] {
  const { welcome, leases = [], verdicts = [], cancels = [], revoked = [], heartbeatAnswer, drain } = message;
  const first: ServerMessageProto = {
    welcome: welcome === undefined ? undefined : toWelcome(welcome, config, serverVersion, durability),
    leases: [],
    verdicts: [],
    cancels: cancels.map(({ token, reason, remainingGraceUs }): Cancel => ({
      leaseToken: token,
      reason,
      remainingGrace: toDuration(remainingGraceUs),
    })),
    revoked: revoked.map(({ token, reason }): Revocation => ({ leaseToken: token, reason: REVOCATION_REASONS[reason] })),
    heartbeatAnswer:
      heartbeatAnswer === undefined ? undefined : { number: heartbeatAnswer.number, expiresIn: toDuration(heartbeatAnswer.expiresInUs) },
    drain: drain === undefined ? undefined : { reconnectAfter: toDuration(drain.reconnectAfterUs) },
  };
  const messages = [first];
  fill(messages, verdicts, verdictBytes, (target, verdict) => target.verdicts.push(toVerdict(verdict)));
  fill(messages, leases, leaseBytes, (target, lease) => target.leases.push(toLease(lease)));
  return messages;
}

/** Adds things to the last message while they fit, else to a new one; a single large one may be a message of its own. */
function fill<Thing>(
  messages: ServerMessageProto[],
  things: readonly Thing[],
  bytesOf: (thing: Thing) => number,
  add: (target: ServerMessageProto, thing: Thing) => void,
): void {
  let bytes = 0;
  for (const thing of things) {
    const size = bytesOf(thing);
    let target = messages[messages.length - 1];
    if (target === undefined || (bytes > 0 && bytes + size > MESSAGE_BYTES) || (bytes === 0 && size > MESSAGE_BYTES && !isEmpty(target))) {
      target = emptyMessage();
      messages.push(target);
      bytes = 0;
    }
    add(target, thing);
    bytes += size;
  }
}

/** A message that only shows that the server lives. */
export function emptyMessage(): ServerMessageProto {
  return { welcome: undefined, leases: [], verdicts: [], cancels: [], revoked: [], heartbeatAnswer: undefined, drain: undefined };
}

function isEmpty(message: ServerMessageProto): boolean {
  const { welcome, leases, verdicts, cancels, revoked, heartbeatAnswer, drain } = message;
  return (
    welcome === undefined &&
    heartbeatAnswer === undefined &&
    drain === undefined &&
    leases.length + verdicts.length + cancels.length + revoked.length === 0
  );
}

function toWelcome(welcome: Welcome, config: Config, serverVersion: string, durability: Durability | undefined): WelcomeProto {
  const { payloadBytes, errorBytes, messageBytes } = config.limits;
  return {
    sessionId: welcome.sessionId,
    heartbeatInterval: toDuration(welcome.heartbeatIntervalUs),
    sessionTtl: toDuration(welcome.ttlUs),
    limits: {
      maxPayloadBytes: payloadBytes,
      maxErrorBytes: errorBytes,
      maxMessageBytes: messageBytes,
      maxSlots: MAX_SLOTS,
      maxReports: MAX_REPORTS,
      minKeepaliveInterval: toDuration(MIN_KEEPALIVE_US),
    },
    durability: durability === undefined ? DurabilityClass.UNSPECIFIED : DURABILITY[durability],
    keptLeaseTokens: [...welcome.keptTokens],
    droppedLeaseTokens: [...welcome.droppedTokens],
    features: [],
    serverVersion,
  };
}

/** The lease as its worker gets it. */
export function toLease({ token, leased, payloads, attemptRemainingUs }: OutgoingLease): Lease {
  const { live, labels, traceContext } = leased;
  const { identity, proceeds } = live;
  return {
    leaseToken: token,
    taskId: identity.id,
    name: identity.name,
    queue: live.queue,
    metadata: toPayload(payloads.metadata),
    executionMetadata: toPayload(payloads.executionMetadata),
    executionMetadataVersion: BigInt(live.executionMetadataVersion),
    attempt: live.failures + 1,
    maxAttempts: identity.retryPolicy.maxAttempts,
    labels: labels.size === 0 ? {} : Object.fromEntries(labels),
    previousError: toError(live.lastError, true),
    resumption: {
      reason: PENDING_REASONS[live.pendingReason],
      proceeds: proceeds === null ? [] : proceeds.consumed.map(({ note, proceedUs }) => ({ note, proceedTime: toTimestamp(proceedUs) })),
      unappliedPatches: proceeds === null ? [] : proceeds.unapplied.flatMap((patch) => toPayload(patch) ?? []),
    },
    fencingToken: BigInt(live.fencingToken),
    attemptDeadlineRemaining: attemptRemainingUs === null ? undefined : toDuration(attemptRemainingUs),
    traceContext: traceContext ?? undefined,
    key: identity.key ?? "",
    createTime: toTimestamp(identity.createTimeUs),
    traceLinks: leased.traceLinks === undefined ? [] : [...leased.traceLinks],
  };
}

/** The answer to one report. */
export function toVerdict(verdict: Verdict): VerdictProto {
  const { leaseToken, seq, code, violations, retryAfterUs, executionMetadataVersion, state } = verdict;
  return {
    leaseToken,
    reportSeq: seq,
    code: VERDICT_CODES[code],
    status: violations.length === 0 && code !== "INVALID" ? undefined : toStatusMessage({ reason: "INVALID_REPORT", violations }),
    retryAfter: retryAfterUs === null ? undefined : toDuration(retryAfterUs),
    executionMetadataVersion: BigInt(executionMetadataVersion ?? 0),
    state: state === null ? TaskStateMessage.UNSPECIFIED : STATES[state],
  };
}

function verdictBytes({ violations }: Verdict): number {
  return VERDICT_BYTES + violations.length * VIOLATION_BYTES;
}

/** About how many bytes a lease takes: what can be large is counted, the rest is a flat sum. */
function leaseBytes({ leased, payloads }: OutgoingLease): number {
  const { live, labels } = leased;
  let bytes =
    LEASE_OVERHEAD_BYTES + payloads.metadata.data.byteLength + (payloads.executionMetadata?.data.byteLength ?? 0) + labels.size * 32;
  for (const patch of live.proceeds?.unapplied ?? []) bytes += patch.data.byteLength;
  for (const { note } of live.proceeds?.consumed ?? []) bytes += note.length;
  for (let error = live.lastError; error !== null; error = error.cause ?? null) {
    bytes += error.message.length + (error.stack?.length ?? 0) + (error.details?.data.byteLength ?? 0);
  }
  return bytes;
}
