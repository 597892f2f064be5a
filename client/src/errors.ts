// What can go wrong for a user of the SDK, and how is it told apart?
//
// One class with a closed set of codes. It is recognized by brand and not by `instanceof`, because two copies of a package may live
// in one process. What became of a task itself (its handler's error) is not an error of the SDK until somebody asks for its result.

/** Every code that a `LeaseholdError` can have. docs/errors.md explains each. */
export const ERROR_CODES = [
  // Said by the server, named as in gRPC.
  "INVALID_ARGUMENT",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "FAILED_PRECONDITION",
  "ABORTED",
  "RESOURCE_EXHAUSTED",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNKNOWN",
  // Said by the SDK.
  "TASK_FAILED",
  "TASK_CANCELLED",
  "TASK_REMOVED",
  "SCHEMA_MISMATCH",
  "UNSAFE_INTEGER",
  "PAYLOAD_UNREADABLE",
  "LEASE_LOST",
  "STOPPED",
  "CLIENT_CLOSED",
] as const;

/** A code of a `LeaseholdError`. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** One thing that is wrong, with where. */
export interface Violation {
  /** Where, as in `retry.backoff.initial` or `metadata.items[3].price`. Empty for the whole. */
  readonly path: string;
  /** What, for people. */
  readonly message: string;
}

/** Why a handler was told to stop. The first one is the reason of its signal. */
export type StopReason =
  | { readonly kind: "cancelled"; readonly reason: string; readonly graceMs: number }
  | { readonly kind: "shutdown" }
  | { readonly kind: "disconnected" }
  | { readonly kind: "lease_lost" }
  | { readonly kind: "attempt_deadline" }
  | { readonly kind: "silence_deadline" }
  | { readonly kind: "total_deadline" }
  | { readonly kind: "cancel_grace_ended" };

/** What a `LeaseholdError` is made of. */
export interface LeaseholdErrorFields {
  /** Machine-readable, one of a closed set. */
  readonly code: ErrorCode;
  /** For people, without the code. */
  readonly message: string;
  /** The server's own reason, as in `KEY_METADATA_MISMATCH`; an open set. */
  readonly reason?: string | undefined;
  /** Whether the same call may succeed later. Default false. */
  readonly retryable?: boolean | undefined;
  /** What is wrong, with paths. Default none. */
  readonly violations?: readonly Violation[] | undefined;
  /** Not before this long, in milliseconds, if the server said so. */
  readonly retryAfterMs?: number | undefined;
  /** The task it is about, if one. */
  readonly taskId?: string | undefined;
  /** Name of the task it is about, if one. */
  readonly taskName?: string | undefined;
  /** With TASK_FAILED and TASK_CANCELLED: how the task ended. `isTaskFailed` types it. */
  readonly failure?: FailureFields | undefined;
  /** With STOPPED: why the handler is to stop. */
  readonly stop?: StopReason | undefined;
  /** What caused it. */
  readonly cause?: unknown;
}

/** How a task failed, before a definition types it. */
export interface FailureFields {
  /** A code that the definition declares, or one of the system's. */
  readonly code: string;
  /** For people. */
  readonly message: string;
  /** What the definition declares for the code. */
  readonly data?: unknown;
}

const BRAND = Symbol.for("leasehold.error");
const HELP = "https://github.com/leasehold/leasehold/blob/main/docs/errors.md";

/** The only error that the SDK throws. `LeaseholdError.is` recognizes it, also from another copy of the package. */
export class LeaseholdError extends Error {
  /** Always the same. */
  override readonly name = "LeaseholdError";
  /** Machine-readable, one of a closed set. */
  readonly code: ErrorCode;
  /** The server's own reason, as in `KEY_METADATA_MISMATCH`. */
  readonly reason: string | undefined;
  /** Whether the same call may succeed later. The SDK has then tried for as long as the call's timeout allowed. */
  readonly retryable: boolean;
  /** What is wrong, with paths; empty if the error is not about a value. */
  readonly violations: readonly Violation[];
  /** Not before this long, in milliseconds, if the server said so. */
  readonly retryAfterMs: number | undefined;
  /** The task it is about, if one. */
  readonly taskId: string | undefined;
  /** Name of the task it is about, if one. */
  readonly taskName: string | undefined;
  /** With TASK_FAILED and TASK_CANCELLED: how the task ended. */
  readonly failure: FailureFields | undefined;
  /** With STOPPED: why the handler is to stop. */
  readonly stop: StopReason | undefined;
  /** The page that explains the code. */
  readonly help: string;

  constructor(fields: LeaseholdErrorFields) {
    super(`${fields.code}: ${fields.message}`, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = fields.code;
    this.reason = fields.reason;
    this.retryable = fields.retryable ?? false;
    this.violations = fields.violations ?? [];
    this.retryAfterMs = fields.retryAfterMs;
    this.taskId = fields.taskId;
    this.taskName = fields.taskName;
    this.failure = fields.failure;
    this.stop = fields.stop;
    this.help = `${HELP}#${fields.code.toLowerCase()}`;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** Whether a value is a LeaseholdError, of this copy of the package or of another. */
  static is(value: unknown): value is LeaseholdError {
    return typeof value === "object" && value !== null && BRAND in value;
  }

  /** The value itself if it is a LeaseholdError; else an UNKNOWN one that carries it as its cause. Never throws. */
  static from(value: unknown): LeaseholdError {
    if (LeaseholdError.is(value)) return value;
    return new LeaseholdError({ code: "UNKNOWN", message: describeThrown(value).message, cause: value });
  }
}

/** An INVALID_ARGUMENT with its paths. */
export function invalid(violations: readonly Violation[], about?: Partial<LeaseholdErrorFields>): LeaseholdError {
  const said = violations.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`)).join("; ");
  const message = about?.taskName === undefined ? said : `${said} (task ${about.taskName})`;
  return new LeaseholdError({ code: "INVALID_ARGUMENT", message, violations, ...about });
}

/** Message, stack and cause of whatever was thrown; of an AggregateError without a cause its first error. Never throws, even if reading the value does. */
export function describeThrown(value: unknown): { message: string; stack: string; cause: unknown } {
  const read = (key: "message" | "stack" | "cause" | "errors"): unknown => {
    try {
      return typeof value === "object" && value !== null && key in value ? (value as Record<string, unknown>)[key] : undefined;
    } catch {
      return undefined;
    }
  };
  const message = read("message");
  const stack = read("stack");
  return {
    message: typeof message === "string" ? message : shown(value),
    stack: typeof stack === "string" ? stack : "",
    cause: read("cause") ?? firstOf(read("errors")),
  };
}

function firstOf(errors: unknown): unknown {
  return Array.isArray(errors) ? errors[0] : undefined;
}

function shown(value: unknown): string {
  try {
    if (typeof value === "object" && value !== null) return JSON.stringify([value]).slice(1, -1);
    return String(value);
  } catch {
    return "a value that cannot be shown";
  }
}
