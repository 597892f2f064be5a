// How are tasks read? One by its reference, or a page of them that ends before the answer grows too large for a message.

import { Task } from "@leasehold/proto/leasehold/v1/task";
import type { GetTaskRequest, ListTasksRequest, ListTasksResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskOrder } from "@leasehold/proto/leasehold/v1/task_service";
import type { Config } from "../config.js";
import type { Violation } from "../domain/event.js";
import type { ListQuery, PageStart, Storage } from "../storage/storage.js";
import type { UnaryHandler } from "./call.js";
import type { View } from "./convert-task.js";
import { toTask } from "./convert-task.js";
import { listNotYet } from "./not-yet.js";
import { decodePageToken, encodePageToken } from "./page-token.js";
import { refuse, RefusedCall, refuseViolations } from "./status.js";
import { parseFilter, parseReference, parseView, showReference } from "./validate-query.js";

/** What reading works with. */
export interface ReadParts {
  readonly storage: Storage;
  readonly config: Config;
}

const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 1_000;
/** Tasks with payloads that are in memory at once: each may have three of the largest. */
const FULL_STEP = 16;
/** What the fields around the tasks of an answer take, with a page token. */
const ANSWER_OVERHEAD_BYTES = 1024;
/** Tag and length of one task in an answer. */
const TASK_OVERHEAD_BYTES = 8;

/** GetTask. */
export function getTask({ storage, config }: ReadParts): UnaryHandler<GetTaskRequest, Task> {
  return async (request, { namespace }) => {
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const view = parseView(request.view, "FULL", violations);
    refuseViolations(violations);
    const task = await storage.readTask(reference, view === "FULL");
    if (task === null) return refuse("TASK_NOT_FOUND", { resource: showReference(reference) });
    return toTask(task, view, config.retentionUs);
  };
}

/** ListTasks. */
export function listTasks(parts: ReadParts): UnaryHandler<ListTasksRequest, ListTasksResponse> {
  return async (request, { namespace }) => {
    const violations: Violation[] = [];
    const filter = parseFilter(request.filter, "filter", violations);
    const view = parseView(request.view, "BASIC", violations);
    const newestFirst = parseOrder(request.order, violations);
    if (request.pageSize < 0 || request.pageSize > MAX_PAGE_SIZE)
      violations.push({ field: "page_size", description: `must be at most ${MAX_PAGE_SIZE}` });
    refuseViolations(violations);
    const missing = listNotYet(request);
    if (missing !== null) throw new RefusedCall(missing);
    const after = request.pageToken === "" ? null : decodePageToken(request.pageToken, request, namespace);
    if (request.pageToken !== "" && after === null) {
      refuse("INVALID_PAGE_TOKEN", {
        violations: [{ field: "page_token", description: "must come from the page before, with the same filter and order" }],
      });
    }
    const pageSize = request.pageSize === 0 ? DEFAULT_PAGE_SIZE : request.pageSize;
    const page = await readPage(parts, { namespace, filter, newestFirst, after, pageSize, withPayloads: view === "FULL" }, view);
    return {
      tasks: page.tasks,
      nextPageToken: page.next === null ? "" : encodePageToken(page.next, request, namespace),
      scanLimitReached: false,
    };
  };
}

function parseOrder(order: TaskOrder, violations: Violation[]): boolean {
  if (order < TaskOrder.UNSPECIFIED || order > TaskOrder.WAITING_LONGEST_FIRST)
    violations.push({ field: "order", description: "must be a known order" });
  return order !== TaskOrder.OLDEST_FIRST;
}

/** Reads until the page is full, its bytes are, or nothing is left. At least one task, or the walk would not go on. */
async function readPage({ storage, config }: ReadParts, query: ListQuery, view: View): Promise<{ tasks: Task[]; next: PageStart | null }> {
  const tasks: Task[] = [];
  let bytes = ANSWER_OVERHEAD_BYTES;
  let after = query.after;
  while (tasks.length < query.pageSize) {
    const wanted = Math.min(query.pageSize - tasks.length, view === "FULL" ? FULL_STEP : MAX_PAGE_SIZE);
    const found = await storage.listTasks({ ...query, after, pageSize: wanted });
    for (const stored of found.slice(0, wanted)) {
      const task = toTask(stored, view, config.retentionUs);
      bytes += Task.encode(task).finish().length + TASK_OVERHEAD_BYTES;
      if (bytes > config.limits.messageBytes && tasks.length > 0) return { tasks, next: after };
      tasks.push(task);
      after = { createTimeUs: stored.live.identity.createTimeUs, id: stored.id };
    }
    if (found.length <= wanted) return { tasks, next: null };
  }
  return { tasks, next: after };
}
