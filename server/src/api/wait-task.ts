// How does a caller wait for one task? It is read, then again whenever it changed, until it is where the caller wants it or time is over.

import type { WaitTaskRequest, WaitTaskResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { WaitTarget } from "@leasehold/proto/leasehold/v1/task_service";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { TaskWatch } from "../dispatch/dispatch.js";
import type { Violation } from "../domain/event.js";
import type { Draining } from "./draining.js";
import type { Storage, StoredTask } from "../storage/storage.js";
import type { UnaryHandler } from "./call.js";
import { gatheredReads } from "./gathered-reads.js";
import { fromEtag, toTask } from "./convert-task.js";
import { changes, refuseTooManyWaiters } from "./changes.js";
import { refuse, refuseViolations } from "./status.js";
import { parseReference, parseView, showReference } from "./validate-query.js";
import { parseDuration } from "./validate-time.js";

/** What waiting works with. */
export interface WaitParts {
  readonly storage: Storage;
  readonly watch: TaskWatch;
  readonly clock: Clock;
  readonly config: Config;
  readonly draining: Draining;
}

const MAX_WAIT_US = 60_000_000;

/** WaitTask. */
export function waitTask({ storage, watch, clock, config, draining }: WaitParts): UnaryHandler<WaitTaskRequest, WaitTaskResponse> {
  const read = gatheredReads(storage, clock, config);
  return async (request, context) => {
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", context.namespace, violations);
    const view = parseView(request.view, "FULL", violations);
    const waitUs = parseDuration(request.timeout, "timeout", 0, MAX_WAIT_US, violations) ?? MAX_WAIT_US;
    const reached = parseTarget(request, violations);
    refuseViolations(violations);
    const answer = (task: StoredTask): WaitTaskResponse => ({ task: toTask(task, view, config.retentionUs), reached: reached(task) });

    const full = view === "FULL";
    const first =
      "id" in reference ? await read(reference.namespace, reference.id, full, context) : await storage.readTask(reference, full, context);
    if (first === null) return refuse("TASK_NOT_FOUND", { resource: showReference(reference) });
    if (reached(first) || waitUs === 0) return answer(first);
    refuseTooManyWaiters(watch, 1, config);

    // By id from here on: a key may pass to another task meanwhile.
    const { id, namespace } = first;
    const untilMs = clock.monotonicMs() + waitUs / 1000;
    const changed = changes(watch, [id], clock);
    context.onGone(changed.end);
    const forget = draining.onBegin(changed.end);
    try {
      for (;;) {
        // Checked without payloads: a task that checkpoints often would be read whole each time.
        const now = await read(namespace, id, false);
        if (now === null) return refuse("TASK_REMOVED", { resource: id });
        const leftMs = untilMs - clock.monotonicMs();
        if (reached(now) || leftMs <= 0 || context.gone()) {
          const shown = full ? await read(namespace, id, true) : now;
          if (shown === null) return refuse("TASK_REMOVED", { resource: id });
          if (reached(shown) || leftMs <= 0 || context.gone()) return answer(shown);
        }
        if (draining.begun()) return refuse("SERVER_DRAINING", { retryAfterMs: 0 });
        changed.known(id, now.live.revision);
        await changed.next(leftMs);
      }
    } finally {
      forget();
      changed.end();
    }
  };
}

function parseTarget({ target, etag }: WaitTaskRequest, violations: Violation[]): (task: StoredTask) => boolean {
  const revision = fromEtag(etag);
  switch (target) {
    case WaitTarget.UNSPECIFIED:
    case WaitTarget.FINISHED:
      return (task) => task.finish !== null;
    case WaitTarget.FINISHED_OR_SUSPENDED:
      return (task) => task.finish !== null || task.state === "SUSPENDED";
    case WaitTarget.CHANGED:
      if (etag === "") violations.push({ field: "etag", description: "is required with target CHANGED" });
      return (task) => task.live.revision !== revision;
    default:
      violations.push({ field: "target", description: "must be a known target" });
      return () => true;
  }
}
