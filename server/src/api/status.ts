// How does a refusal look on the wire? From a reason to a gRPC error with google.rpc details, or to a google.rpc.Status inside an answer.

import { randomBytes } from "node:crypto";
import type { ServiceError } from "@grpc/grpc-js";
import { Metadata } from "@grpc/grpc-js";
import type { Any } from "@leasehold/proto/google/protobuf/any";
import { BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo, RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import type { Rejection, Violation } from "../domain/event.js";
import { UnfitDatabase } from "../storage/conditions.js";
import { DatabaseFault } from "../storage/faults.js";
import type { AboutTask } from "../domain/task.js";
import { fieldsOf, type Log } from "../telemetry/log.js";
import { toDuration } from "./convert-time.js";
import type { Reason } from "./reasons.js";
import { ERROR_DOMAIN, REASONS } from "./reasons.js";
import { cleanText } from "./validate-text.js";

/** Why a call fails, with everything its caller may want to know. */
export interface Refusal {
  readonly reason: Reason;
  /** More exact than the reason's own sentence. */
  readonly message?: string;
  readonly violations?: readonly Violation[];
  /** What the call was about, as a task's id. */
  readonly resource?: string;
  /** When to try again; sent as RetryInfo. */
  readonly retryAfterMs?: number | null;
  /** Reference under which the log has more. */
  readonly reference?: string;
}

/** Carries a refusal out of a handler; only api/ throws and catches it. */
export class RefusedCall extends Error {
  constructor(readonly refusal: Refusal) {
    super(refusal.message ?? REASONS[refusal.reason].sentence);
  }
}

/** Trailers beyond 8 KiB are cut by some clients, and base64 adds a third: details and message stay well below. */
const MAX_MESSAGE_BYTES = 1024;
/** Most bytes of one item's status: its message, its first violation with field and description at their longest, its other details. */
export const MAX_ITEM_STATUS_BYTES = 1280;
const MAX_ITEM_MESSAGE_BYTES = 256;
/** What a call's own details may take, and those of one item of many: the violations, and field path and description of each. */
const OF_A_CALL = { violations: 3072, text: 512 };
const OF_AN_ITEM = { violations: 256, text: 160 };
type MostBytes = typeof OF_A_CALL;

const TYPE_PREFIX = "type.googleapis.com/google.rpc.";
const DETAILS_KEY = "grpc-status-details-bin";
/** Wait before a call is repeated where nobody knows better. */
const DEFAULT_RETRY_MS = 1000;

/** Throws the refusal. */
export function refuse(reason: Reason, more: Omit<Refusal, "reason"> = {}): never {
  throw new RefusedCall({ reason, ...more });
}

/** Throws INVALID_FIELD if there are violations. */
export function refuseViolations(violations: readonly Violation[]): void {
  if (violations.length > 0) refuse("INVALID_FIELD", { violations });
}

/** The gRPC error of a refusal, with its details in `grpc-status-details-bin`. */
export function toServiceError(refusal: Refusal): ServiceError {
  const message = toStatusMessage(refusal);
  const metadata = new Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(Status.encode(message).finish()));
  return Object.assign(new Error(message.message), { code: REASONS[refusal.reason].code, details: message.message, metadata });
}

/** The refusal as a message, for verdicts and for items of a batch. */
export function toStatusMessage(refusal: Refusal): Status {
  return { code: REASONS[refusal.reason].code, message: messageOf(refusal), details: detailsOf(refusal, OF_A_CALL) };
}

/** The refusal of one item of many: as `toStatusMessage`, with the first violations only, so that a thousand of them fit a message. */
export function toItemStatus(refusal: Refusal): Status {
  const code = REASONS[refusal.reason].code;
  return { code, message: cleanText(messageOf(refusal), MAX_ITEM_MESSAGE_BYTES), details: detailsOf(refusal, OF_AN_ITEM) };
}

/** What a rejection of the domain means to who asked for the change. */
export function refusalOfRejection(rejection: Rejection, resource: string): Refusal {
  switch (rejection.reason) {
    case "TASK_FINISHED":
    case "TASK_NOT_PENDING":
    case "TASK_NOT_SUSPENDED":
    case "CANCEL_REQUESTED":
    case "REQUEST_ID_REUSED":
    case "TOO_MANY_PROCEEDS":
    case "PATCH_NOT_APPLICABLE":
      return { reason: rejection.reason, resource };
    case "TASK_STARTED":
      return { reason: "KEY_TASK_STARTED", resource };
    case "LEASE_LOST":
    case "ALREADY_RECORDED":
    case "OUT_OF_ORDER":
    case "INVALID_REPORT":
    case "NOTHING_TO_DO":
      // Answers to reports and to time; no owner's call has them.
      return { reason: "CONFLICT", resource };
  }
}

/** The refusal of whatever was thrown. What nobody expected is logged, with what it is about, under a reference that the caller gets. */
export function refusalOf(error: unknown, log: Log, method: string, about: AboutTask = {}): Refusal {
  if (error instanceof RefusedCall) return error.refusal;
  if (error instanceof DatabaseFault) {
    const refusal = refusalOfFault(error);
    if (refusal.reason !== "INTERNAL") return refusal;
  }
  const reference = randomBytes(4).toString("hex");
  log.error({ err: error, method, reference, ...fieldsOf(about) }, "a call failed unexpectedly");
  return { reason: "INTERNAL", message: `${REASONS.INTERNAL.sentence} Reference ${reference}.`, reference };
}

function refusalOfFault(fault: DatabaseFault): Refusal {
  // Never the fault's own message: it is the driver's and may name values.
  switch (fault.kind) {
    case "unavailable":
      // Its sentences are this server's own.
      if (fault instanceof UnfitDatabase) return { reason: "DATABASE_UNFIT", message: fault.message, retryAfterMs: fault.retryAfterMs };
      return { reason: "DATABASE_UNAVAILABLE", retryAfterMs: fault.retryAfterMs ?? DEFAULT_RETRY_MS };
    case "overloaded":
      // An unknown outcome is said as UNAVAILABLE: OVERLOADED promises that nothing was stored.
      return { reason: fault.outcomeUnknown ? "DATABASE_UNAVAILABLE" : "OVERLOADED", retryAfterMs: fault.retryAfterMs ?? DEFAULT_RETRY_MS };
    case "conflict":
      return { reason: "CONFLICT" };
    case "invalid-value":
      return { reason: "INVALID_FIELD", message: "The database cannot hold a value of the request." };
    case "unexpected":
      return { reason: "INTERNAL" };
  }
}

function messageOf({ reason, message, violations }: Refusal): string {
  const sentence = message ?? REASONS[reason].sentence;
  const first = violations?.[0];
  // encodeURI throws on lone surrogates inside grpc-js, so the text is cleaned here.
  if (first === undefined) return cleanText(sentence, MAX_MESSAGE_BYTES);
  const more = (violations?.length ?? 0) - 1;
  return cleanText(
    `${message === undefined ? "" : `${message} `}${first.field}: ${first.description}${more > 0 ? ` (and ${more} more)` : ""}`,
    MAX_MESSAGE_BYTES,
  );
}

function detailsOf(refusal: Refusal, most: MostBytes): Any[] {
  const { reason, violations = [], resource, retryAfterMs, reference } = refusal;
  const code = REASONS[reason].code;
  const metadata: Record<string, string> = {
    ...(resource === undefined ? {} : { resource }),
    ...(reference === undefined ? {} : { reference }),
  };
  const details = [any("ErrorInfo", ErrorInfo.encode({ reason, domain: ERROR_DOMAIN, metadata }).finish())];
  if (violations.length > 0) {
    details.push(
      any(
        "BadRequest",
        BadRequest.encode({
          fieldViolations: bounded(violations, most).map((violation) => ({ ...violation, reason, localizedMessage: undefined })),
        }).finish(),
      ),
    );
  }
  if (resource !== undefined) {
    const description = REASONS[reason].sentence;
    details.push(
      any(
        "ResourceInfo",
        ResourceInfo.encode({ resourceType: "leasehold.v1.Task", resourceName: resource, owner: "", description }).finish(),
      ),
    );
    if (code === REASONS.TASK_FINISHED.code) {
      details.push(
        any("PreconditionFailure", PreconditionFailure.encode({ violations: [{ type: reason, subject: resource, description }] }).finish()),
      );
    }
  }
  if (retryAfterMs !== undefined && retryAfterMs !== null) {
    details.push(any("RetryInfo", RetryInfo.encode({ retryDelay: toDuration(retryAfterMs * 1000) }).finish()));
  }
  return details;
}

/** As many violations as fit, at least the first. */
function bounded(violations: readonly Violation[], most: MostBytes): Violation[] {
  let bytes = 0;
  const kept: Violation[] = [];
  for (const { field, description } of violations) {
    const violation = { field: cleanText(field, most.text), description: cleanText(description, most.text) };
    bytes += Buffer.byteLength(violation.field) + Buffer.byteLength(violation.description) + 32;
    if (bytes > most.violations && kept.length > 0) break;
    kept.push(violation);
  }
  return kept;
}

function any(type: string, value: Uint8Array): Any {
  return { typeUrl: TYPE_PREFIX + type, value: Buffer.from(value) };
}
