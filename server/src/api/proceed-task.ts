// How does a task go on that waits? A ProceedTask becomes one event; the domain decides whether it is applied, remembered or refused.

import { createHash } from "node:crypto";
import type { ProceedTaskRequest, ProceedTaskResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { ProceedResult, ProceedTaskRequest as ProceedCodec } from "@leasehold/proto/leasehold/v1/task_service";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { Event, Violation } from "../domain/event.js";
import { isJson } from "../domain/proceeds.js";
import type { LiveState } from "../domain/task.js";
import type { ListFilter, PageStart } from "../storage/queries.js";
import type { ListPage, Storage, TaskReference } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";
import type { CallContext, UnaryHandler } from "./call.js";
import { accepted, demandedRevision, readChanged } from "./decided.js";
import { refuse, refuseViolations } from "./status.js";
import { parsePayload } from "./validate-payload.js";
import { parseFilter, parseReference } from "./validate-query.js";
import { checkText, cleanText } from "./validate-text.js";
import { parseTimestamp } from "./validate-time.js";

/** What proceeding works with. */
export interface ProceedParts {
  readonly storage: Storage;
  readonly commands: TaskCommands;
  readonly clock: Clock;
  readonly config: Config;
}

const UNFINISHED: readonly LiveState[] = ["PENDING", "RUNNING", "SUSPENDED"];
const MAX_NOTE_BYTES = 4096;
const MAX_REQUEST_ID_BYTES = 128;

/** ProceedTask. */
export function proceedTask(parts: ProceedParts): UnaryHandler<ProceedTaskRequest, ProceedTaskResponse> {
  const { storage, commands, clock, config } = parts;
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const target = parseTarget(request, namespace, violations);
    const event = parseProceed(request, context, clock.nowUs(), config.limits.payloadBytes, violations);
    refuseViolations(violations);
    const reference = "reference" in target ? target.reference : await onlyMatch(storage, namespace, target.filter, context);
    const result = await commands.decide(reference, event, demandedRevision(request.etag), context);
    const { before, answer } = accepted(result, reference);
    const became = answer.kind === "repeated" ? answer.result : answer.kind === "changed" ? answer.proceedResult : undefined;
    return {
      task: await readChanged(parts, namespace, before.identity.id, "BASIC"),
      result: became === "REMEMBERED" ? ProceedResult.REMEMBERED : ProceedResult.APPLIED,
    };
  };
}

type Target = { readonly reference: TaskReference } | { readonly filter: ListFilter };

function parseTarget({ task, filter, requestId }: ProceedTaskRequest, namespace: string, violations: Violation[]): Target {
  if (filter === undefined) return { reference: parseReference(task, "task", namespace, violations) };
  if (task !== undefined) violations.push({ field: "filter", description: "must not be set together with task" });
  // Sent again it could meet another task, which knows nothing of the first answer.
  if (requestId !== "") violations.push({ field: "request_id", description: "must not be set together with filter" });
  const parsed = parseFilter(filter, "filter", violations);
  const states = parsed.states.length === 0 ? UNFINISHED : UNFINISHED.filter((state) => parsed.states.includes(state));
  if (states.length === 0)
    violations.push({ field: "filter.states", description: "must have an unfinished state: no other can be proceeded" });
  return { filter: { ...parsed, states } };
}

/** The one unfinished task that matches. A page may end early because it looked at many rows in vain, so the walk goes on until it is sure. */
async function onlyMatch(storage: Storage, namespace: string, filter: ListFilter, caller: Caller): Promise<TaskReference> {
  const found: string[] = [];
  let after: PageStart | null = null;
  do {
    const query = { namespace, filter, order: "NEWEST_FIRST", after, pageSize: 2, withPayloads: false } as const;
    const page: ListPage = await storage.listTasks(query, caller);
    found.push(...page.tasks.map(({ id }) => id));
    after = page.next;
  } while (after !== null && found.length < 2 && !caller.gone());
  const [id, another] = found;
  if (id === undefined) return refuse("TASK_NOT_FOUND", { message: "No unfinished task matches the filter." });
  if (another !== undefined) return refuse("MULTIPLE_TASKS");
  return { namespace, id };
}

function parseProceed(
  request: ProceedTaskRequest,
  { traceContext }: CallContext,
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
      ...(traceContext === null ? {} : { traceContext }),
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
