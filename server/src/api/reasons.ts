// For which reasons does a call fail? The closed list of ErrorInfo reasons of the domain `leasehold`; docs/errors.md says what to do about each.

import { status } from "@grpc/grpc-js";

/** Domain of every ErrorInfo. */
export const ERROR_DOMAIN = "leasehold";

interface ReasonEntry {
  readonly code: status;
  /** What happened, for people; the message where the call says nothing more exact. */
  readonly sentence: string;
}

/** Every reason with its gRPC status code and a sentence. */
export const REASONS = {
  INVALID_FIELD: { code: status.INVALID_ARGUMENT, sentence: "A field of the request is invalid." },
  MALFORMED_MESSAGE: { code: status.INVALID_ARGUMENT, sentence: "The bytes of the message do not decode." },
  METADATA_TOO_LARGE: { code: status.RESOURCE_EXHAUSTED, sentence: "The gRPC metadata of the call is larger than this server takes." },
  REQUEST_TOO_SLOW: { code: status.DEADLINE_EXCEEDED, sentence: "The request did not arrive in time; nothing was stored." },
  INVALID_PAGE_TOKEN: { code: status.INVALID_ARGUMENT, sentence: "The page token does not belong to this query." },
  INVALID_REPORT: { code: status.INVALID_ARGUMENT, sentence: "The content of the report cannot be recorded." },
  HELLO_EXPECTED: { code: status.INVALID_ARGUMENT, sentence: "The first message of the stream must be a hello, within 5 s." },
  HELLO_REPEATED: { code: status.INVALID_ARGUMENT, sentence: "Only the first message of a stream may be a hello." },
  TASK_NOT_FOUND: { code: status.NOT_FOUND, sentence: "There is no such task." },
  TASK_REMOVED: { code: status.NOT_FOUND, sentence: "The task was removed meanwhile." },
  TASK_ID_CONFLICT: { code: status.ALREADY_EXISTS, sentence: "Another task with other content has this id." },
  KEY_EXISTS: { code: status.ALREADY_EXISTS, sentence: "Another task has this key." },
  KEY_TAKEN: { code: status.FAILED_PRECONDITION, sentence: "Another task has the key of this one now." },
  KEY_METADATA_MISMATCH: { code: status.FAILED_PRECONDITION, sentence: "The task that has this key was submitted with other metadata." },
  KEY_TASK_STARTED: { code: status.FAILED_PRECONDITION, sentence: "The task that has this key was leased already and cannot be replaced." },
  KEY_HELD: { code: status.FAILED_PRECONDITION, sentence: "A finished task still holds this key." },
  TASK_FINISHED: { code: status.FAILED_PRECONDITION, sentence: "The task is finished." },
  TASK_NOT_FINISHED: { code: status.FAILED_PRECONDITION, sentence: "The task is not finished." },
  TASK_NOT_PENDING: { code: status.FAILED_PRECONDITION, sentence: "The task is not PENDING." },
  TASK_NOT_SUSPENDED: { code: status.FAILED_PRECONDITION, sentence: "The task is not SUSPENDED." },
  CANCEL_REQUESTED: { code: status.FAILED_PRECONDITION, sentence: "Somebody asked to cancel the task." },
  MULTIPLE_TASKS: { code: status.FAILED_PRECONDITION, sentence: "More than one task matches the filter." },
  REQUEST_ID_REUSED: { code: status.FAILED_PRECONDITION, sentence: "The request id was used with another request." },
  PATCH_NOT_APPLICABLE: { code: status.FAILED_PRECONDITION, sentence: "The merge patch cannot be applied to the execution metadata." },
  TOO_MANY_PROCEEDS: { code: status.RESOURCE_EXHAUSTED, sentence: "Too many proceeds wait for the task to suspend." },
  ETAG_MISMATCH: { code: status.ABORTED, sentence: "The task has changed since the etag was read." },
  CONFLICT: { code: status.ABORTED, sentence: "Another change came between; nothing was stored." },
  OVERLOADED: { code: status.RESOURCE_EXHAUSTED, sentence: "The server or its database is overloaded; nothing was stored." },
  DATABASE_UNAVAILABLE: { code: status.UNAVAILABLE, sentence: "The database is not reachable; the outcome of the call may be unknown." },
  DATABASE_UNFIT: { code: status.UNAVAILABLE, sentence: "The database must not be used as it is; nothing was stored." },
  SERVER_DRAINING: { code: status.UNAVAILABLE, sentence: "The server is going away: draining." },
  SESSION_TAKEN: { code: status.ABORTED, sentence: "A newer stream has taken the session over." },
  STALE_HELLO: { code: status.ABORTED, sentence: "A hello with a higher connection number came first." },
  SESSION_EXPIRED: { code: status.ABORTED, sentence: "The session expired: connect again with what you hold." },
  WORKER_NOT_READING: { code: status.ABORTED, sentence: "The worker does not read its stream." },
  WORKER_SILENT: { code: status.ABORTED, sentence: "The worker sent nothing for three heartbeat intervals." },
  NAMESPACE_DENIED: { code: status.PERMISSION_DENIED, sentence: "The call may not use this namespace." },
  NOT_IMPLEMENTED: { code: status.UNIMPLEMENTED, sentence: "This server does not implement it yet." },
  INTERNAL: { code: status.INTERNAL, sentence: "The server met a bug." },
} as const satisfies Record<string, ReasonEntry>;

/** A reason for which a call fails. */
export type Reason = keyof typeof REASONS;
