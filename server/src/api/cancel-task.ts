// How is a task cancelled? At once while nobody runs it, else its worker is told and has a grace period. A cancelled task answers itself.

import type { Task } from "@leasehold/proto/leasehold/v1/task";
import type { CancelTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import type { Config } from "../config.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { Violation } from "../domain/event.js";
import type { DecideResult, Storage } from "../storage/storage.js";
import type { UnaryHandler } from "./call.js";
import { accepted, readChanged } from "./decided.js";
import { refuseViolations } from "./status.js";
import { parseReference } from "./validate-query.js";
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
export function cancelTask(parts: CancelParts): UnaryHandler<CancelTaskRequest, Task> {
  return async (request, context) => {
    const { namespace } = context;
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", namespace, violations);
    const graceUs = parseDuration(request.grace, "grace", 0, MAX_DURATION_US, violations) ?? DEFAULT_GRACE_US;
    refuseViolations(violations);
    const event = { kind: "cancel-requested", reason: cleanText(request.reason, MAX_REASON_BYTES), graceUs } as const;
    const result = await parts.commands.decide(reference, event, undefined, context);
    return readChanged(parts, namespace, standing(result) ?? accepted(result, reference).before.identity.id, "FULL");
  };
}

/** The task that is as the caller wants it already: it was cancelled, or an earlier cancel ends sooner and stands. */
function standing(result: DecideResult): string | null {
  if (result.kind === "finished") return result.outcome.state === "CANCELLED" ? result.id : null;
  if (result.kind !== "decided" || result.decided.answer.kind !== "rejected") return null;
  return result.decided.answer.rejection.reason === "NOTHING_TO_DO" ? result.decided.before.identity.id : null;
}
