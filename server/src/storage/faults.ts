// What went wrong with Postgres, in the few words that callers can act on?

/** The kinds of fault. */
export type FaultKind =
  /** Not reachable, shutting down, in recovery, or the connection broke. */
  | "unavailable"
  /** Deadlock, serialization failure or lock timeout: the same call may succeed when tried again. */
  | "conflict"
  /** Out of connections, memory or disk. */
  | "overloaded"
  /** Postgres refuses a value that passed the door. */
  | "invalid-value"
  /** A bug, here or in the schema. */
  | "unexpected";

/** An exception from the database. `outcomeUnknown`: it may have been committed all the same. */
export class DatabaseFault extends Error {
  override readonly name = "DatabaseFault";

  constructor(
    readonly kind: FaultKind,
    message: string,
    readonly outcomeUnknown: boolean,
    readonly retryAfterMs: number | null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Shortest and longest delay that a refused caller is asked for, before chance makes it up to twice as long. */
const LEAST_DELAY_MS = 100;
const MOST_DELAY_MS = 10_000;

/**
 * The refusal of what would wait too long: nothing was done. The delay it asks for is what waits now, `waitMs`, and up to as much again by
 * `chance` (0 to 1), so that those who were refused together do not come back together.
 */
export function overloaded(message: string, waitMs: number, chance: number): DatabaseFault {
  const delayMs = Math.min(Math.max(waitMs, LEAST_DELAY_MS), MOST_DELAY_MS) * (1 + chance);
  return new DatabaseFault("overloaded", message, false, Math.ceil(delayMs));
}

/** The SQLSTATE of an error from the driver, or null where it did not come from Postgres. */
export function sqlState(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("code" in error)) return null;
  return typeof error.code === "string" && /^[0-9A-Z]{5}$/.test(error.code) ? error.code : null;
}

/** Turns whatever the driver threw into a fault. */
export function toFault(error: unknown): DatabaseFault {
  if (error instanceof DatabaseFault) return error;
  const message = error instanceof Error ? error.message : String(error);
  const state = sqlState(error);
  // No SQLSTATE: the socket broke, timed out or never connected. What was sent may have been committed.
  if (state === null) return new DatabaseFault("unavailable", message, true, 1000, { cause: error });
  const kind = kindOf(state);
  return new DatabaseFault(kind, message, kind === "unavailable", kind === "unavailable" || kind === "overloaded" ? 1000 : null, {
    cause: error,
  });
}

/** Whether the connection must not be used again after a fault. */
export function breaksConnection(fault: DatabaseFault): boolean {
  return fault.kind === "unavailable";
}

function kindOf(state: string): FaultKind {
  if (state === "40001" || state === "40P01" || state === "55P03") return "conflict";
  // 57014 is a statement time-out or a cancel: nothing was stored, the connection is good, but the database is in trouble.
  if (state === "57014") return "overloaded";
  // 0A000: a standby refuses the connection, or a prepared statement is older than its table. Either way another connection may do better.
  if (state === "0A000") return "unavailable";
  if (state.startsWith("08") || state.startsWith("57P") || state === "25006" || state.startsWith("58")) return "unavailable";
  if (state.startsWith("53")) return "overloaded";
  if (state.startsWith("22") || state.startsWith("54")) return "invalid-value";
  return "unexpected";
}
