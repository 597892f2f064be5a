// How is a finished task run again, or removed? FAILED and CANCELLED go back to PENDING; anything finished can be deleted, with its key freed.

import type { Task } from "@leasehold/proto/leasehold/v1/task";
import type { DeleteTaskRequest, DeleteTaskResponse, RetryTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import type { Config } from "../config.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { Violation } from "../domain/event.js";
import type { Storage, TaskReference } from "../storage/storage.js";
import type { UnaryHandler } from "./call.js";
import { demandedRevision, readChanged, refuseMissing } from "./decided.js";
import { refuse, refuseViolations } from "./status.js";
import { parseReference, showReference } from "./validate-query.js";
import { parseTimestamp } from "./validate-time.js";

/** What retrying and deleting work with. */
export interface FinishedParts {
  readonly storage: Storage;
  readonly commands: TaskCommands;
  readonly config: Config;
}

/** RetryTask. */
export function retryTask(parts: FinishedParts): UnaryHandler<RetryTaskRequest, Task> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const how = {
      resetAttempts: request.resetAttempts ?? true,
      keepExecutionMetadata: request.keepExecutionMetadata ?? true,
      runAtUs: parseTimestamp(request.scheduleTime, "schedule_time", violations),
    };
    refuseViolations(violations);
    const retried = await parts.commands.retry(reference, how, demandedRevision(request.etag), context);
    switch (retried.kind) {
      case "retried":
        return readChanged(parts, namespace, retried.task.identity.id, "FULL");
      case "completed":
        return refuse("TASK_FINISHED", { resource: showReference(reference), message: "The task is COMPLETED, which is final." });
      case "not-finished":
        return refuse("TASK_NOT_FINISHED", { resource: showReference(reference) });
      case "key-taken":
        return refuse("KEY_TAKEN", { resource: await holderOf(parts.storage, reference) });
      default:
        return refuseMissing(retried.kind, reference);
    }
  };
}

/** DeleteTask. */
export function deleteTask({ commands }: FinishedParts): UnaryHandler<DeleteTaskRequest, DeleteTaskResponse> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    refuseViolations(violations);
    const deleted = await commands.remove(reference, demandedRevision(request.etag), context);
    if (deleted.kind === "deleted") return {};
    if (deleted.kind === "not-finished") return refuse("TASK_NOT_FINISHED", { resource: showReference(reference) });
    return refuseMissing(deleted.kind, reference);
  };
}

/** The task that has the key now: the one that the caller may want instead. */
async function holderOf(storage: Storage, reference: TaskReference): Promise<string> {
  const task = await storage.readTask(reference, false);
  const { namespace, name, key } = task?.live.identity ?? { namespace: reference.namespace, name: "", key: null };
  const holder = key === null ? null : await storage.readTask({ namespace, name, key }, false);
  return holder?.id ?? showReference(reference);
}
