// How is a waiting task changed? Priority, due time and queue of what is PENDING, each only if the mask names it.

import type { Task } from "@leasehold/proto/leasehold/v1/task";
import type { UpdateTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import type { Config } from "../config.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { Event, Violation } from "../domain/event.js";
import type { Storage } from "../storage/storage.js";
import type { UnaryHandler } from "./call.js";
import { accepted, demandedRevision, readChanged } from "./decided.js";
import { refuseViolations } from "./status.js";
import { parseReference } from "./validate-query.js";
import { checkPriority } from "./validate-submission.js";
import { checkName, REQUIRED } from "./validate-text.js";
import { parseTimestamp } from "./validate-time.js";

/** What updating works with. */
export interface UpdateParts {
  readonly storage: Storage;
  readonly commands: TaskCommands;
  readonly config: Config;
}

const MASKABLE: readonly string[] = ["priority", "schedule_time", "queue"];
/** Due at once: the domain takes the later of this and its own time. */
const AT_ONCE_US = 0;

/** UpdateTask. */
export function updateTask(parts: UpdateParts): UnaryHandler<UpdateTaskRequest, Task> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const event = parseUpdate(request, violations);
    refuseViolations(violations);
    const result = await parts.commands.decide(reference, event, demandedRevision(request.etag), context);
    const { before } = accepted(result, reference);
    return readChanged(parts, namespace, before.identity.id, "FULL");
  };
}

/** What the mask names is checked and changed; what it does not name is not even looked at. */
function parseUpdate(request: UpdateTaskRequest, violations: Violation[]): Extract<Event, { kind: "updated" }> {
  const mask = request.updateMask ?? [];
  if (mask.length === 0) violations.push({ field: "update_mask", description: `${REQUIRED}: priority, schedule_time or queue` });
  const unknown = mask.findIndex((path) => !MASKABLE.includes(path));
  if (unknown >= 0) violations.push({ field: `update_mask.paths[${unknown}]`, description: "must be priority, schedule_time or queue" });
  const has = (path: string): boolean => mask.includes(path);
  if (has("priority")) checkPriority(request.priority, "priority", violations);
  if (has("queue")) checkName(request.queue, "queue", violations);
  return {
    kind: "updated",
    priority: has("priority") ? request.priority : null,
    queue: has("queue") ? request.queue : null,
    runAtUs: has("schedule_time") ? (parseTimestamp(request.scheduleTime, "schedule_time", violations) ?? AT_ONCE_US) : null,
  };
}
