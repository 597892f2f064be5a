// How are errors, proceeds and retry policies written into text columns, and read back exactly?

import { DEFAULT_RETRY_POLICY } from "../domain/retry.js";
import type { Payload, ProceedRecord, RetryPolicy, TaskError } from "../domain/task.js";
import type { TraceContext } from "../domain/task.js";

interface StoredPayload {
  readonly data: string;
  readonly contentType: string;
}

type StoredError = Omit<TaskError, "details" | "cause"> & { details?: StoredPayload; cause?: StoredError };

function packPayload(payload: Payload): StoredPayload {
  return { data: Buffer.from(payload.data).toString("base64"), contentType: payload.contentType };
}

function unpackPayload(stored: StoredPayload): Payload {
  return { data: Buffer.from(stored.data, "base64"), contentType: stored.contentType };
}

function packError({ details, cause, ...rest }: TaskError): StoredError {
  return { ...rest, ...(details ? { details: packPayload(details) } : {}), ...(cause ? { cause: packError(cause) } : {}) };
}

function unpackError({ details, cause, ...rest }: StoredError): TaskError {
  return { ...rest, ...(details ? { details: unpackPayload(details) } : {}), ...(cause ? { cause: unpackError(cause) } : {}) };
}

/** Writes an error. */
export function writeError(error: TaskError | null): string | null {
  return error === null ? null : JSON.stringify(packError(error));
}

/** Reads an error. */
export function readError(cell: string | null): TaskError | null {
  return cell === null ? null : unpackError(JSON.parse(cell) as StoredError);
}

/** Writes what proceeds did to a task. */
export function writeProceeds(record: ProceedRecord | null): string | null {
  if (record === null) return null;
  return JSON.stringify({
    ...record,
    remembered: record.remembered.map((proceed) => ({ ...proceed, patch: proceed.patch && packPayload(proceed.patch) })),
    unapplied: record.unapplied.map(packPayload),
  });
}

/** Reads what proceeds did to a task. */
export function readProceeds(cell: string | null): ProceedRecord | null {
  if (cell === null) return null;
  const stored = JSON.parse(cell) as Omit<ProceedRecord, "remembered" | "unapplied"> & {
    remembered: (Omit<ProceedRecord["remembered"][number], "patch"> & { patch: StoredPayload | null })[];
    unapplied: StoredPayload[];
  };
  return {
    ...stored,
    remembered: stored.remembered.map((proceed) => ({ ...proceed, patch: proceed.patch && unpackPayload(proceed.patch) })),
    unapplied: stored.unapplied.map(unpackPayload),
  };
}

/** Writes a trace context. */
export function writeTraceContext(context: TraceContext | null): string | null {
  return context === null ? null : JSON.stringify(context);
}

/** Reads a trace context. */
export function readTraceContext(cell: string | null): TraceContext | null {
  return cell === null ? null : (JSON.parse(cell) as TraceContext);
}

/** Writes labels, sorted by key. */
export function writeLabels(labels: ReadonlyMap<string, string>): string | null {
  if (labels.size === 0) return null;
  return JSON.stringify([...labels].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Reads labels. */
export function readLabels(cell: string | null): ReadonlyMap<string, string> {
  return cell === null ? NO_LABELS : new Map(JSON.parse(cell) as [string, string][]);
}

/** Writes slots of single task names. */
export function writeOwnSlots(slots: ReadonlyMap<string, number>): string | null {
  return slots.size === 0 ? null : JSON.stringify([...slots]);
}

/** Reads slots of single task names. */
export function readOwnSlots(cell: string | null): ReadonlyMap<string, number> {
  return new Map(cell === null ? [] : (JSON.parse(cell) as [string, number][]));
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

// Nearly all tasks share a few policies: each is parsed and written once.
const MOST_CACHED = 1000;
const parsedPolicies = new Map<string, RetryPolicy>();
const writtenPolicies = new WeakMap<RetryPolicy, string>();

/** Writes a retry policy; equal policies are equal texts. */
export function writeRetryPolicy(policy: RetryPolicy): string {
  let cell = writtenPolicies.get(policy);
  if (cell === undefined) {
    cell = JSON.stringify(policy, Object.keys(DEFAULT_RETRY_POLICY).concat("errorCodes", "action"));
    writtenPolicies.set(policy, cell);
  }
  return cell;
}

/** Reads a retry policy. */
export function readRetryPolicy(cell: string): RetryPolicy {
  let policy = parsedPolicies.get(cell);
  if (policy === undefined) {
    policy = JSON.parse(cell) as RetryPolicy;
    if (parsedPolicies.size >= MOST_CACHED) parsedPolicies.clear();
    parsedPolicies.set(cell, policy);
  }
  return policy;
}
