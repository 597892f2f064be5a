// How is a task cancelled? At once while nobody runs it, else its worker is told and has a grace period. A cancelled task answers itself.

import type { Task } from "@leasehold/proto/leasehold/v1/task";
import type { CancelTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import type { Config } from "../config.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { Violation } from "../domain/event.js";
import type { Storage } from "../storage/storage.js";
import type { UnaryHandler } from "./call.js";
import { toTask } from "./convert-task.js";
import { refusalOfRejection, refuse, RefusedCall, refuseViolations } from "./status.js";
import { parseReference, showReference } from "./validate-query.js";
import { cleanText } from "./validate-text.js";
import { MAX_DURATION_US, parseDuration } from "./validate-time.js";

/** What cancelling works with. */
export interface CancelParts {
  readonly storage: Storage;
  readonly commands: TaskCommands;
  readonly config: Config;
}

const MAX_REASON_BYTES = 4096;
const DEFAULT_GRACE_US = 30_000_000;

/** CancelTask. */
export function cancelTask({ storage, commands, config }: CancelParts): UnaryHandler<CancelTaskRequest, Task> {
  return async (request, { namespace }) => {
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const graceUs = parseDuration(request.grace, "grace", 0, MAX_DURATION_US, violations) ?? DEFAULT_GRACE_US;
    refuseViolations(violations);
    const answer = await commands.decide(reference, {
      kind: "cancel-requested",
      reason: cleanText(request.reason, MAX_REASON_BYTES),
      graceUs,
    });
    if (answer.kind === "not-found") return refuse("TASK_NOT_FOUND", { resource: showReference(reference) });
    // No etag was given, so none can differ.
    if (answer.kind === "etag-mismatch") return refuse("ETAG_MISMATCH", { resource: showReference(reference) });
    if (answer.kind === "finished" && answer.outcome.state !== "CANCELLED") return refuse("TASK_FINISHED", { resource: answer.id });
    const id = answer.kind === "finished" ? answer.id : answer.decided.before.identity.id;
    // NOTHING_TO_DO: an earlier cancel ends sooner, and stands.
    if (
      answer.kind === "decided" &&
      answer.decided.answer.kind === "rejected" &&
      answer.decided.answer.rejection.reason !== "NOTHING_TO_DO"
    ) {
      throw new RefusedCall(refusalOfRejection(answer.decided.answer.rejection, id));
    }
    const task = await storage.readTask({ namespace, id }, true);
    if (task === null) return refuse("TASK_REMOVED", { resource: id });
    return toTask(task, "FULL", config.retentionUs);
  };
}
