// Who connects, and what does it handle? A Hello becomes a WorkerHello; slots that change later are never refused, only bounded.

import type { Handler, Hello, Slots } from "@leasehold/proto/leasehold/v1/worker_service";
import type { HandlerSlots, WorkerHello, WorkerMessage } from "../dispatch/messages.js";
import type { Violation } from "../domain/event.js";
import { parseNames } from "./validate-query.js";
import { checkName, checkText, parseLabels, parseUuid } from "./validate-text.js";
import { parseDuration } from "./validate-time.js";

/** Most slots of a session. */
export const MAX_SLOTS = 10_000;
/** Bounds of the session TTL that a worker may wish. */
export const MIN_TTL_US = 2_000_000;
export const MAX_TTL_US = 3_600_000_000;

const MAX_HANDLERS = 500;
const MAX_WORKER_NAME_BYTES = 128;
const MAX_FEATURES = 32;

/** The hello. Where violations were added the answer must not be used. */
export function parseHello(hello: Hello, violations: Violation[]): WorkerHello {
  checkText(hello.workerName, "hello.worker_name", 1, MAX_WORKER_NAME_BYTES, violations);
  checkText(hello.sdk, "hello.sdk", 0, MAX_WORKER_NAME_BYTES, violations);
  checkText(hello.language, "hello.language", 0, MAX_WORKER_NAME_BYTES, violations);
  if (hello.slots < 0 || hello.slots > MAX_SLOTS) violations.push({ field: "hello.slots", description: `must be 0 to ${MAX_SLOTS}` });
  if (hello.connection < 1)
    violations.push({ field: "hello.connection", description: "must be at least 1, and higher with each hello of a session" });
  if (hello.features.length > MAX_FEATURES) violations.push({ field: "hello.features", description: `must be at most ${MAX_FEATURES}` });
  // More than one lease a slot cannot be held, but slots may have been lowered since; the largest number of slots bounds both.
  if (hello.heldLeaseTokens.length > MAX_SLOTS)
    violations.push({ field: "hello.held_lease_tokens", description: `must be at most ${MAX_SLOTS}` });
  if (hello.sessionId === "" && hello.heldLeaseTokens.length > 0)
    violations.push({ field: "hello.held_lease_tokens", description: "needs a session_id" });
  return {
    workerName: hello.workerName,
    sdk: hello.sdk,
    language: hello.language,
    queues: parseNames(hello.queues, "hello.queues", violations),
    slots: hello.slots,
    handlers: parseHandlers(hello.handlers, violations),
    labels: parseLabels(hello.labels, "hello.labels", violations),
    ttlUs: parseDuration(hello.sessionTtl, "hello.session_ttl", MIN_TTL_US, MAX_TTL_US, violations),
    connection: hello.connection,
    sessionId: hello.sessionId === "" ? null : parseUuid(hello.sessionId, "hello.session_id", violations),
    heldLeaseTokens: hello.heldLeaseTokens,
  };
}

/** Changed slots. A stream never ends for a bad number here: it is taken as the nearest one that is allowed. */
export function parseSlots(slots: Slots): NonNullable<WorkerMessage["slots"]> {
  return { total: bounded(slots.total), handlers: slots.handlers.slice(0, MAX_HANDLERS).map(toHandlerSlots) };
}

function parseHandlers(handlers: readonly Handler[], violations: Violation[]): HandlerSlots[] {
  if (handlers.length === 0 || handlers.length > MAX_HANDLERS)
    violations.push({ field: "hello.handlers", description: `must be 1 to ${MAX_HANDLERS}` });
  const names = new Set<string>();
  return handlers.slice(0, MAX_HANDLERS).map((handler, index) => {
    const field = `hello.handlers[${index}]`;
    checkName(handler.taskName, `${field}.task_name`, violations);
    if (names.has(handler.taskName)) violations.push({ field: `${field}.task_name`, description: "is listed twice" });
    names.add(handler.taskName);
    if (handler.slots !== undefined && (handler.slots < 0 || handler.slots > MAX_SLOTS))
      violations.push({ field: `${field}.slots`, description: `must be 0 to ${MAX_SLOTS}` });
    return toHandlerSlots(handler);
  });
}

function toHandlerSlots({ taskName, slots }: Handler): HandlerSlots {
  return { taskName, slots: slots === undefined ? null : bounded(slots) };
}

function bounded(slots: number): number {
  return Math.min(Math.max(slots, 0), MAX_SLOTS);
}
