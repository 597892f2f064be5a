// What happened to a task? Its timeline, oldest first, in pages that end before the answer grows too large for a message.

import { TaskEvent as TaskEventMessage, TaskEventType as TypeMessage } from "@leasehold/proto/leasehold/v1/task_service";
import type { ListTaskEventsRequest, ListTaskEventsResponse } from "@leasehold/proto/leasehold/v1/task_service";
import type { TaskError as TaskErrorMessage } from "@leasehold/proto/leasehold/v1/task";
import { FinishReason as FinishReasonMessage } from "@leasehold/proto/leasehold/v1/task";
import type { Violation } from "../domain/event.js";
import type { TaskError } from "../domain/task.js";
import type { EventPlace, TaskEvent, TaskEventType } from "../storage/queries.js";
import type { UnaryHandler } from "./call.js";
import { FINISH_REASONS, STATES } from "./convert-task.js";
import { toTimestamp } from "./convert-time.js";
import { decodeEventToken, encodeEventToken, eventBinding } from "./page-token.js";
import type { ReadParts } from "./read-tasks.js";
import { refuse, refuseViolations } from "./status.js";
import { parsePageSize, parseReference, showReference } from "./validate-query.js";

/** Entries that are in memory at once: each may have an error of 64 KiB. */
const STEP = 100;
const ANSWER_OVERHEAD_BYTES = 1024;
const ENTRY_OVERHEAD_BYTES = 8;

const TYPES = {
  SUBMITTED: TypeMessage.SUBMITTED,
  LEASED: TypeMessage.LEASED,
  CHECKPOINTED: TypeMessage.CHECKPOINTED,
  SUSPENDED: TypeMessage.SUSPENDED,
  PROCEEDED: TypeMessage.PROCEEDED,
  PROCEED_REMEMBERED: TypeMessage.PROCEED_REMEMBERED,
  PROCEED_DROPPED: TypeMessage.PROCEED_DROPPED,
  PATCH_UNAPPLIED: TypeMessage.PATCH_UNAPPLIED,
  WOKEN: TypeMessage.WOKEN,
  ATTEMPT_FAILED: TypeMessage.ATTEMPT_FAILED,
  RELEASED: TypeMessage.RELEASED,
  LEASE_LOST: TypeMessage.LEASE_LOST,
  REATTESTED: TypeMessage.REATTESTED,
  LATE_REPORT_REFUSED: TypeMessage.LATE_REPORT_REFUSED,
  INVALID_REPORT: TypeMessage.INVALID_REPORT,
  CANCEL_REQUESTED: TypeMessage.CANCEL_REQUESTED,
  RETRIED: TypeMessage.RETRIED,
  UPDATED: TypeMessage.UPDATED,
  FINISHED: TypeMessage.FINISHED,
} as const satisfies Record<TaskEventType, TypeMessage>;

/** ListTaskEvents. */
export function listTaskEvents({ storage, config }: ReadParts): UnaryHandler<ListTaskEventsRequest, ListTaskEventsResponse> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const pageSize = parsePageSize(request.pageSize, violations);
    refuseViolations(violations);
    const missing = (): never => refuse("TASK_NOT_FOUND", { resource: showReference(reference) });
    // A key may pass to another task between two pages: from here on it is the id that counts.
    const id = "id" in reference ? reference.id : ((await storage.readTask(reference, false, context))?.id ?? missing());
    const binding = eventBinding(namespace, id);
    let after: EventPlace | null = decodeEventToken(request.pageToken, binding);
    const events: TaskEventMessage[] = [];
    let bytes = ANSWER_OVERHEAD_BYTES;
    for (;;) {
      const wanted = Math.min(pageSize - events.length, STEP);
      const found = (await storage.listTaskEvents({ namespace, id }, after, wanted + 1, context)) ?? missing();
      for (const entry of found.slice(0, wanted)) {
        const event = toEvent(entry);
        bytes += TaskEventMessage.encode(event).finish().length + ENTRY_OVERHEAD_BYTES;
        if (bytes > config.limits.messageBytes && after !== null && events.length > 0)
          return { events, nextPageToken: encodeEventToken(after, binding) };
        events.push(event);
        after = entry.at;
      }
      if (found.length <= wanted || after === null) return { events, nextPageToken: "" };
      if (events.length >= pageSize) return { events, nextPageToken: encodeEventToken(after, binding) };
    }
  };
}

function toEvent(entry: TaskEvent): TaskEventMessage {
  return {
    eventTime: toTimestamp(entry.at.timeUs),
    type: TYPES[entry.type],
    attempt: entry.attempt,
    workerName: entry.workerName,
    fencingToken: BigInt(entry.type === "CHECKPOINTED" && entry.workerName === "" ? 0 : entry.at.fencingToken),
    state: STATES[entry.state],
    message: entry.message,
    error: toEventError(entry.error),
    runTime: toTimestamp(entry.runAtUs),
    count: BigInt(entry.count),
    finishReason: entry.finishReason === null ? FinishReasonMessage.UNSPECIFIED : FINISH_REASONS[entry.finishReason],
  };
}

// The timeline carries no payloads; the stack of an earlier attempt is nowhere else.
function toEventError(error: TaskError | null): TaskErrorMessage | undefined {
  if (error === null) return undefined;
  const { code, message, stack = "", cause = null } = error;
  return { code, message, details: undefined, stack, cause: toEventError(cause) };
}
