// Which task does a request name, which ones does it filter for, and how much of them does it want?

import type {
  TaskReference as TaskReferenceMessage,
  PendingReason as PendingReasonMessage,
  TaskState as TaskStateMessage,
} from "@leasehold/proto/leasehold/v1/task";
import { TaskView } from "@leasehold/proto/leasehold/v1/task";
import type { TaskFilter } from "@leasehold/proto/leasehold/v1/task_service";
import type { Violation } from "../domain/event.js";
import type { PendingReason, TaskState } from "../domain/task.js";
import type { ListFilter, TaskReference } from "../storage/storage.js";
import type { View } from "./convert-task.js";
import { PENDING_REASONS, STATES } from "./convert-task.js";
import { checkName, checkText, MAX_KEY_BYTES, parseLabels, parseUuid, REQUIRED } from "./validate-text.js";
import { parseTimestamp } from "./validate-time.js";

const MAX_IDS = 1_000;
const MAX_NAMES = 100;

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

/** The filter of a list, as far as it is implemented (not-yet.ts refuses the rest). */
export function parseFilter(filter: TaskFilter | undefined, field: string, violations: Violation[]): ListFilter {
  const none: ListFilter = {
    taskIds: [],
    names: [],
    queues: [],
    states: [],
    pendingReasons: [],
    labels: new Map(),
    createFromUs: null,
    createBeforeUs: null,
  };
  if (filter === undefined) return none;
  return {
    taskIds: parseIds(filter.taskIds, `${field}.task_ids`, 0, violations),
    names: parseNames(filter.names, `${field}.names`, violations),
    queues: parseNames(filter.queues, `${field}.queues`, violations),
    states: parseWords(filter.states, STATE_OF, `${field}.states`, violations),
    pendingReasons: parseWords(filter.pendingReasons, REASON_OF, `${field}.pending_reasons`, violations),
    labels: parseLabels(filter.labels, `${field}.labels`, violations),
    createFromUs: parseTimestamp(filter.createTimeFrom, `${field}.create_time_from`, violations),
    createBeforeUs: parseTimestamp(filter.createTimeBefore, `${field}.create_time_before`, violations),
  };
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
