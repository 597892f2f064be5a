// How does a gRPC status become a LeaseholdError?
//
// Reads the google.rpc details that travel in `grpc-status-details-bin`, and the google.rpc.Status of a verdict or of one item.
import { Duration } from "@leasehold/proto/google/protobuf/duration";
import { BadRequest, ErrorInfo, ResourceInfo, RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { msFromDuration } from "./duration.js";
import { type ErrorCode, LeaseholdError, type LeaseholdErrorFields, type Violation } from "./errors.js";

/** The trailer that carries a google.rpc.Status. */
export const DETAILS_TRAILER = "grpc-status-details-bin";

/** gRPC's codes by number; 0 is no error, and a server that sends it as one is not understood. */
const CODES: readonly ErrorCode[] = [
  "UNKNOWN",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  // OUT_OF_RANGE: the server does not use it.
  "INVALID_ARGUMENT",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  // DATA_LOSS: the server does not use it.
  "INTERNAL",
  "UNAUTHENTICATED",
];

/** The error of a call that failed. `details` is the raw trailer, if there was one. */
export function errorFromCall(code: number, message: string, details: Uint8Array | undefined, cause?: unknown): LeaseholdError {
  let status: Status = { code, message, details: [] };
  try {
    if (details !== undefined) status = { code, message, details: Status.decode(details).details };
  } catch {
    // A proxy may put anything there; code and message are enough.
  }
  return errorFromStatus(status, { cause });
}

/** The error of a google.rpc.Status. */
export function errorFromStatus(status: Status, about: Partial<LeaseholdErrorFields> = {}): LeaseholdError {
  const details = readDetails(status);
  const code = CODES[status.code] ?? "UNKNOWN";
  return new LeaseholdError({
    message: status.message === "" ? code.toLowerCase().replaceAll("_", " ") : status.message,
    ...details,
    code: details.reason === "TASK_REMOVED" ? "TASK_REMOVED" : code,
    retryable: code === "UNAVAILABLE" || (code === "RESOURCE_EXHAUSTED" && details.retryAfterMs !== undefined),
    ...about,
    // The server's word comes first: a key that is taken is about the task that has it.
    taskId: details.taskId ?? about.taskId,
  });
}

interface Details {
  reason?: string;
  retryAfterMs?: number;
  taskId?: string;
  violations: Violation[];
}

function readDetails(status: Status): Details {
  const found: Details = { violations: [] };
  for (const { typeUrl, value } of status.details) {
    try {
      readDetail(typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value, found);
    } catch {
      // One detail that does not decode hides none of the others.
    }
  }
  return found;
}

function readDetail(type: string, value: Uint8Array, found: Details): void {
  switch (type) {
    case "google.rpc.ErrorInfo":
      found.reason = ErrorInfo.decode(value).reason;
      break;
    case "google.rpc.RetryInfo":
      found.retryAfterMs = msFromDuration(RetryInfo.decode(value).retryDelay ?? Duration.create());
      break;
    case "google.rpc.BadRequest":
      for (const one of BadRequest.decode(value).fieldViolations) found.violations.push({ path: one.field, message: one.description });
      break;
    case "google.rpc.ResourceInfo": {
      const resource = ResourceInfo.decode(value);
      if (resource.resourceType.toLowerCase().includes("task")) found.taskId = resource.resourceName;
      break;
    }
  }
}
