// How does a task go on that waits? A ProceedTask becomes one event; the domain decides whether it is applied, remembered or refused.

import { createHash } from "node:crypto";
import type { ProceedTaskRequest, ProceedTaskResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { ProceedResult, ProceedTaskRequest as ProceedCodec } from "@leasehold/proto/leasehold/v1/task_service";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { Event, Violation } from "../domain/event.js";
import type { Storage } from "../storage/storage.js";
import { isJson } from "../domain/proceeds.js";
import type { UnaryHandler } from "./call.js";
import { fromEtag, toTask } from "./convert-task.js";
import { proceedNotYet } from "./not-yet.js";
import { refusalOfRejection, refuse, RefusedCall, refuseViolations } from "./status.js";
import { parsePayload } from "./validate-payload.js";
import { parseReference, showReference } from "./validate-query.js";
import { checkText, cleanText } from "./validate-text.js";
import { parseTimestamp } from "./validate-time.js";

/** What proceeding works with. */
export interface ProceedParts {
  readonly storage: Storage;
  readonly commands: TaskCommands;
  readonly clock: Clock;
  readonly config: Config;
}

const MAX_NOTE_BYTES = 4096;
const MAX_REQUEST_ID_BYTES = 128;

/** ProceedTask. */
export function proceedTask({ storage, commands, clock, config }: ProceedParts): UnaryHandler<ProceedTaskRequest, ProceedTaskResponse> {
  return async (request, { namespace }) => {
    const missing = proceedNotYet(request);
    if (missing !== null) throw new RefusedCall(missing);
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const event = parseProceed(request, clock.nowUs(), config.limits.payloadBytes, violations);
    refuseViolations(violations);
    const revision = request.etag === "" ? undefined : fromEtag(request.etag);
    const answer = await commands.decide(reference, event, revision);
    if (answer.kind === "not-found") return refuse("TASK_NOT_FOUND", { resource: showReference(reference) });
    if (answer.kind === "finished") return refuse("TASK_FINISHED", { resource: answer.id });
    if (answer.kind === "etag-mismatch") return refuse("ETAG_MISMATCH", { resource: showReference(reference) });
    const { before, answer: decided } = answer.decided;
    const { id } = before.identity;
    if (decided.kind === "rejected") throw new RefusedCall(refusalOfRejection(decided.rejection, id));
    const result = decided.kind === "repeated" ? decided.result : decided.kind === "changed" ? decided.proceedResult : undefined;
    const task = await storage.readTask({ namespace, id }, false);
    if (task === null) return refuse("TASK_REMOVED", { resource: id });
    return {
      task: toTask(task, "BASIC", config.retentionUs),
      result: result === "REMEMBERED" ? ProceedResult.REMEMBERED : ProceedResult.APPLIED,
    };
  };
}

function parseProceed(
  request: ProceedTaskRequest,
  nowUs: number,
  maxBytes: number,
  violations: Violation[],
): Extract<Event, { kind: "proceeded" }> {
  const { update, requestId } = request;
  if (update?.mergePatch !== undefined && update.replace !== undefined)
    violations.push({ field: "update", description: "must have merge_patch or replace, not both" });
  const patch = parsePayload(update?.mergePatch, "update.merge_patch", maxBytes, violations);
  if (patch !== null && !isJson(patch)) violations.push({ field: "update.merge_patch.content_type", description: "must be JSON" });
  if (requestId !== "") checkText(requestId, "request_id", 1, MAX_REQUEST_ID_BYTES, violations);
  return {
    kind: "proceeded",
    proceed: {
      note: cleanText(request.note, MAX_NOTE_BYTES),
      proceedUs: nowUs,
      patch,
      runAtUs: parseTimestamp(request.scheduleTime, "schedule_time", violations),
    },
    replace: parsePayload(update?.replace, "update.replace", maxBytes, violations),
    needsSuspended: request.etag !== "",
    request: requestId === "" ? null : { requestId, bodyHash: bodyHash(request) },
  };
}

/** Hash of what a request asks for, however it names its task. */
function bodyHash(request: ProceedTaskRequest): string {
  const body = ProceedCodec.encode({ ...request, task: undefined, requestId: "" }).finish();
  return createHash("sha256").update(body).digest("hex");
}
