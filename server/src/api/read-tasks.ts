// How are tasks read? One by its reference, a page of them that ends before the answer grows too large for a message, or their number.

import { Task } from "@leasehold/proto/leasehold/v1/task";
import type {
  CountTasksRequest,
  CountTasksResponse,
  GetTaskRequest,
  ListTasksRequest,
  ListTasksResponse,
} from "@leasehold/proto/leasehold/v1/task_service";
import type { Config } from "../config.js";
import type { Violation } from "../domain/event.js";
import type { ListQuery, PageStart } from "../storage/queries.js";
import { placeOf } from "../storage/queries.js";
import type { Storage } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";
import type { UnaryHandler } from "./call.js";
import type { View } from "./convert-task.js";
import { toTask } from "./convert-task.js";
import { decodePageToken, encodePageToken, listBinding } from "./page-token.js";
import { refuse, refuseViolations } from "./status.js";
import { parseFilter, parseOrder, parsePageSize, parseReference, parseView, showReference } from "./validate-query.js";

/** What reading works with. */
export interface ReadParts {
  readonly storage: Storage;
  readonly config: Config;
}

/** Tasks with payloads that are in memory at once, first and at most: each may have three of the largest. */
const FULL_STEP = { first: 2, most: 16 } as const;
/** What the fields around the tasks of an answer take, with a page token. */
const ANSWER_OVERHEAD_BYTES = 1024;
/** Tag and length of one task in an answer. */
const TASK_OVERHEAD_BYTES = 8;

/** GetTask. */
export function getTask({ storage, config }: ReadParts): UnaryHandler<GetTaskRequest, Task> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const view = parseView(request.view, "FULL", violations);
    refuseViolations(violations);
    const task = await storage.readTask(reference, view === "FULL", context);
    if (task === null) return refuse("TASK_NOT_FOUND", { resource: showReference(reference) });
    return toTask(task, view, config.retentionUs);
  };
}

/** ListTasks. */
export function listTasks(parts: ReadParts): UnaryHandler<ListTasksRequest, ListTasksResponse> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const filter = parseFilter(request.filter, "filter", violations);
    const view = parseView(request.view, "BASIC", violations);
    const order = parseOrder(request.order, filter, violations);
    const pageSize = parsePageSize(request.pageSize, violations);
    refuseViolations(violations);
    const binding = listBinding(request, namespace);
    const after = decodePageToken(request.pageToken, binding);
    const page = await readPage(parts, { namespace, filter, order, after, pageSize, withPayloads: view === "FULL" }, view, context);
    return {
      tasks: page.tasks,
      nextPageToken: page.next === null ? "" : encodePageToken(page.next, binding),
      scanLimitReached: page.scanLimitReached,
    };
  };
}

/** CountTasks. */
export function countTasks({ storage }: ReadParts): UnaryHandler<CountTasksRequest, CountTasksResponse> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const filter = parseFilter(request.filter, "filter", violations);
    refuseViolations(violations);
    return storage.countTasks(namespace, filter, context);
  };
}

interface Page {
  readonly tasks: Task[];
  readonly next: PageStart | null;
  readonly scanLimitReached: boolean;
}

/** Reads until the page is full, its bytes are, or the search ends. At least one task of those found, or the walk would not go on. */
async function readPage({ storage, config }: ReadParts, query: ListQuery, view: View, caller: Caller): Promise<Page> {
  const tasks: Task[] = [];
  let bytes = ANSWER_OVERHEAD_BYTES;
  let after = query.after;
  let step: number = view === "FULL" ? FULL_STEP.first : query.pageSize;
  for (;;) {
    const wanted = Math.min(query.pageSize - tasks.length, step);
    const found = await storage.listTasks({ ...query, after, pageSize: wanted }, caller);
    for (const stored of found.tasks) {
      const task = toTask(stored, view, config.retentionUs);
      bytes += Task.encode(task).finish().length + TASK_OVERHEAD_BYTES;
      if (bytes > config.limits.messageBytes && tasks.length > 0) return { tasks, next: after, scanLimitReached: false };
      tasks.push(task);
      after = placeOf(stored, query.order);
    }
    const { next, scanLimitReached } = found;
    if (next === null || scanLimitReached || tasks.length >= query.pageSize) return { tasks, next, scanLimitReached };
    after = next;
    // As many as will probably fit: what is read beyond that is read again for the next page.
    const fitting = Math.floor(((config.limits.messageBytes - bytes) * tasks.length) / bytes);
    if (view === "FULL") step = Math.min(Math.max(fitting, 1), FULL_STEP.most);
  }
}
