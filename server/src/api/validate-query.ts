// Which task does a request name, which ones does it filter for, and how much of them does it want?

import type {
  TaskReference as TaskReferenceMessage,
  PendingReason as PendingReasonMessage,
  TaskState as TaskStateMessage,
} from "@leasehold/proto/leasehold/v1/task";
import { TaskView } from "@leasehold/proto/leasehold/v1/task";
import type { TaskFilter } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskOrder } from "@leasehold/proto/leasehold/v1/task_service";
import type { Violation } from "../domain/event.js";
import type { PendingReason, TaskState } from "../domain/task.js";
import type { ListFilter, ListOrder } from "../storage/queries.js";
import { NO_FILTER } from "../storage/queries.js";
import { isSearchable } from "../storage/searchable.js";
import type { TaskReference } from "../storage/storage.js";
import type { View } from "./convert-task.js";
import { PENDING_REASONS, STATES } from "./convert-task.js";
import { jsonFault } from "./json-text.js";
import { checkName, checkText, MAX_KEY_BYTES, parseLabels, parseUuid, REQUIRED } from "./validate-text.js";
import { parseTimestamp } from "./validate-time.js";

const MAX_IDS = 1_000;
const MAX_NAMES = 100;
const MAX_CONTAINED_BYTES = 65_536;
const MAX_ERROR_CODE_BYTES = 128;
const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 1_000;

const STATE_OF = new Map<TaskStateMessage, TaskState>(
  (Object.entries(STATES) as [TaskState, TaskStateMessage][]).map(([state, message]) => [message, state]),
);
const REASON_OF = new Map<PendingReasonMessage, PendingReason>(
  (Object.entries(PENDING_REASONS) as [PendingReason, PendingReasonMessage][]).map(([reason, message]) => [message, reason]),
);

/** The reference: an id, or a name and a key. Where violations were added the answer must not be used. */
export function parseReference(
  reference: TaskReferenceMessage | undefined,
  field: string,
  namespace: string,
  violations: Violation[],
): TaskReference {
  const { taskId, name, key } = reference ?? { taskId: "", name: "", key: "" };
  if (taskId !== "") {
    if (name !== "" || key !== "") violations.push({ field, description: "must be a task_id, or a name and a key, not both" });
    return { namespace, id: parseUuid(taskId, `${field}.task_id`, violations) };
  }
  if (name === "" && key === "") violations.push({ field, description: `${REQUIRED}: a task_id, or a name and a key` });
  else {
    checkName(name, `${field}.name`, violations);
    checkText(key, `${field}.key`, 1, MAX_KEY_BYTES, violations);
  }
  return { namespace, name, key };
}

/** How the reference is named in errors. */
export function showReference(reference: TaskReference): string {
  return "id" in reference ? reference.id : `${reference.name}/${reference.key}`;
}

/** The view; `fallback` where none is asked for. */
export function parseView(view: TaskView, fallback: View, violations: Violation[]): View {
  switch (view) {
    case TaskView.UNSPECIFIED:
      return fallback;
    case TaskView.BASIC:
      return "BASIC";
    case TaskView.FULL:
      return "FULL";
    default:
      violations.push({ field: "view", description: "must be a known view" });
      return fallback;
  }
}

/** Task ids, at least `min`. */
export function parseIds(ids: readonly string[], field: string, min: number, violations: Violation[]): string[] {
  if (ids.length < min || ids.length > MAX_IDS)
    violations.push({ field, description: min === 0 ? `must be at most ${MAX_IDS}` : `must be ${min} to ${MAX_IDS}` });
  return ids.slice(0, MAX_IDS).map((id, index) => parseUuid(id, `${field}[${index}]`, violations));
}

/** The filter of a list. */
export function parseFilter(filter: TaskFilter | undefined, field: string, violations: Violation[]): ListFilter {
  if (filter === undefined) return NO_FILTER;
  const time = (at: "create" | "finish" | "run", end: "From" | "Before"): number | null =>
    parseTimestamp(filter[`${at}Time${end}`], `${field}.${at}_time_${end.toLowerCase()}`, violations);
  if (filter.key !== "") checkText(filter.key, `${field}.key`, 1, MAX_KEY_BYTES, violations);
  return {
    taskIds: parseIds(filter.taskIds, `${field}.task_ids`, 0, violations),
    names: parseNames(filter.names, `${field}.names`, violations),
    queues: parseNames(filter.queues, `${field}.queues`, violations),
    states: parseWords(filter.states, STATE_OF, `${field}.states`, violations),
    pendingReasons: parseWords(filter.pendingReasons, REASON_OF, `${field}.pending_reasons`, violations),
    key: filter.key === "" ? null : filter.key,
    labels: parseLabels(filter.labels, `${field}.labels`, violations),
    metadataContains: parseContained(filter, filter.metadataContains, `${field}.metadata_contains`, violations),
    executionMetadataContains: parseContained(filter, filter.executionMetadataContains, `${field}.execution_metadata_contains`, violations),
    createFromUs: time("create", "From"),
    createBeforeUs: time("create", "Before"),
    finishFromUs: time("finish", "From"),
    finishBeforeUs: time("finish", "Before"),
    runFromUs: time("run", "From"),
    runBeforeUs: time("run", "Before"),
    errorCodes: parseErrorCodes(filter.errorCodes, `${field}.error_codes`, violations),
  };
}

/** JSON that payloads must contain; null where none is asked for. */
function parseContained({ names, states }: TaskFilter, json: string, field: string, violations: Violation[]): string | null {
  if (json === "") return null;
  const data = Buffer.from(json);
  if (names.length === 0 && states.length === 0) violations.push({ field, description: "needs names or states beside it" });
  if (data.length > MAX_CONTAINED_BYTES) violations.push({ field, description: `must be at most ${MAX_CONTAINED_BYTES} bytes` });
  else {
    const fault = jsonFault(data);
    if (fault !== null) violations.push({ field, description: fault });
    else if (!isSearchable({ data, contentType: "" }))
      violations.push({ field, description: "must not hold U+0000, lone surrogates or numbers that Postgres cannot hold" });
  }
  return json;
}

function parseErrorCodes(codes: readonly string[], field: string, violations: Violation[]): readonly string[] {
  if (codes.length > MAX_NAMES) violations.push({ field, description: `must be at most ${MAX_NAMES}` });
  codes.slice(0, MAX_NAMES).forEach((code, index) => checkText(code, `${field}[${index}]`, 1, MAX_ERROR_CODE_BYTES, violations));
  return codes;
}

/** The order of a list, as far as its filter allows it. */
export function parseOrder(order: TaskOrder, { states }: ListFilter, violations: Violation[]): ListOrder {
  const allowed = (which: readonly TaskState[], what: string): void => {
    if (states.some((state) => !which.includes(state)))
      violations.push({ field: "order", description: `is for ${what} tasks: no other states` });
  };
  switch (order) {
    case TaskOrder.UNSPECIFIED:
    case TaskOrder.NEWEST_FIRST:
      return "NEWEST_FIRST";
    case TaskOrder.OLDEST_FIRST:
      return "OLDEST_FIRST";
    case TaskOrder.FINISHED_LAST_FIRST:
      allowed(["COMPLETED", "FAILED", "CANCELLED"], "finished");
      return "FINISHED_LAST_FIRST";
    case TaskOrder.WAITING_LONGEST_FIRST:
      allowed(["SUSPENDED"], "suspended");
      return "WAITING_LONGEST_FIRST";
    default:
      violations.push({ field: "order", description: "must be a known order" });
      return "NEWEST_FIRST";
  }
}

/** The size of a page. */
export function parsePageSize(pageSize: number, violations: Violation[]): number {
  if (pageSize < 0 || pageSize > MAX_PAGE_SIZE) violations.push({ field: "page_size", description: `must be at most ${MAX_PAGE_SIZE}` });
  return pageSize === 0 ? DEFAULT_PAGE_SIZE : pageSize;
}

/** Task names or queues, at most 100. */
export function parseNames(names: readonly string[], field: string, violations: Violation[]): readonly string[] {
  if (names.length > MAX_NAMES) violations.push({ field, description: `must be at most ${MAX_NAMES}` });
  names.slice(0, MAX_NAMES).forEach((name, index) => checkName(name, `${field}[${index}]`, violations));
  return names;
}

function parseWords<Message, Word>(
  messages: readonly Message[],
  words: ReadonlyMap<Message, Word>,
  field: string,
  violations: Violation[],
): Word[] {
  const found = new Set<Word>();
  for (const [index, message] of messages.entries()) {
    const word = words.get(message);
    if (word !== undefined) found.add(word);
    else {
      violations.push({ field: `${field}[${index}]`, description: "must be a known value, not UNSPECIFIED" });
      break;
    }
  }
  return [...found];
}
