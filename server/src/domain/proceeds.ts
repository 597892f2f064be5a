// What do proceeds do to a task: kept until it suspends, then applied in order, then told to the next attempt?

import { mergePatch } from "./merge-patch.js";
import type { AnsweredRequest, Payload, Proceed, ProceedRecord } from "./task.js";
import { NO_PROCEEDS } from "./task.js";

/** Most proceeds that wait for one suspension. */
export const MAX_REMEMBERED = 16;
/** Most bytes that their patches take together. */
export const MAX_REMEMBERED_BYTES = 1_048_576;
/** Most proceeds that one attempt is told of, the latest: their notes must fit the message of its lease. */
export const MAX_TOLD = 32;
/** Most answered request ids that a task keeps. */
export const MAX_REQUESTS = 32;

const decoder = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** What the consumption of proceeds leaves behind. */
export interface Consumed {
  readonly record: ProceedRecord;
  /** Patched execution metadata; undefined = as it was. */
  readonly executionMetadata?: Payload;
  /** Latest of their schedule times, or null for at once. */
  readonly runAtUs: number | null;
  readonly unapplied: number;
}

/** Whether a payload is JSON, and so may be patched. */
export function isJson(payload: Payload): boolean {
  const type = payload.contentType.split(";")[0]?.trim().toLowerCase() ?? "";
  return type === "" || type === "application/json" || type.endsWith("+json");
}

/** Applies a patch to a document; null if either is not JSON. */
export function patchPayload(target: Payload | null, patch: Payload): Payload | null {
  if (!isJson(patch) || (target !== null && !isJson(target))) return null;
  const text = mergePatch(target === null ? null : decoder.decode(target.data), decoder.decode(patch.data));
  return { data: encoder.encode(text), contentType: target?.contentType ?? patch.contentType };
}

/** Consumes proceeds in order against the execution metadata; what cannot be applied is kept for the handler. */
export function consume(record: ProceedRecord, proceeds: readonly Proceed[], current: Payload | null, maxBytes: number): Consumed {
  let document = current;
  const unapplied: Payload[] = [];
  for (const { patch } of proceeds) {
    if (patch === null) continue;
    const patched = patchPayload(document, patch);
    if (patched === null || patched.data.byteLength > maxBytes) unapplied.push(patch);
    else document = patched;
  }
  const times = proceeds.map((proceed) => proceed.runAtUs).filter((us) => us !== null);
  return {
    record: {
      ...record,
      remembered: [],
      consumed: toTell(record, proceeds),
      unapplied: [...record.unapplied, ...unapplied],
    },
    ...(document !== current && document !== null ? { executionMetadata: document } : {}),
    runAtUs: times.length === 0 ? null : Math.max(...times),
    unapplied: unapplied.length,
  };
}

/** Keeps a proceed until the next suspension; null if too many or too large. */
export function remember(record: ProceedRecord, proceed: Proceed): ProceedRecord | null {
  const remembered = [...record.remembered, proceed];
  const bytes = remembered.reduce((sum, one) => sum + (one.patch?.data.byteLength ?? 0), 0);
  return remembered.length > MAX_REMEMBERED || bytes > MAX_REMEMBERED_BYTES ? null : { ...record, remembered };
}

/** What the next attempt is told of, with these as the latest. */
export function toTell(record: ProceedRecord, proceeds: readonly Proceed[]): ProceedRecord["consumed"] {
  const told = proceeds.map(({ note, proceedUs, traceContext }) => ({
    ...{ note, proceedUs },
    ...(traceContext === undefined ? {} : { traceContext }),
  }));
  return [...record.consumed, ...told].slice(-MAX_TOLD);
}

/** Keeps the answer of a request id, the last 32 of them. */
export function answered(record: ProceedRecord, request: AnsweredRequest | null): ProceedRecord {
  return request === null ? record : { ...record, requests: [...record.requests, request].slice(-MAX_REQUESTS) };
}

/** The handler has taken note: nothing is told again. Null when nothing is left to keep. */
export function told(record: ProceedRecord | null): ProceedRecord | null {
  if (record === null) return null;
  if (record.remembered.length === 0 && record.requests.length === 0) return null;
  return { ...NO_PROCEEDS, remembered: record.remembered, requests: record.requests };
}
