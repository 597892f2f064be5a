// What does an owner's change come to? The storage's answer becomes a refusal, or the task as it stands after the change.

import type { Task } from "@leasehold/proto/leasehold/v1/task";
import type { Config } from "../config.js";
import type { Answer } from "../domain/event.js";
import { DatabaseFault } from "../storage/faults.js";
import type { DecideResult, Decided, Storage, TaskReference } from "../storage/storage.js";
import type { View } from "./convert-task.js";
import { fromEtag, toTask } from "./convert-task.js";
import { refusalOfRejection, refuse, RefusedCall } from "./status.js";
import { showReference } from "./validate-query.js";

/** A decision that was made and not refused. */
export interface Accepted {
  readonly before: Decided["before"];
  readonly answer: Exclude<Answer, { kind: "rejected" }>;
}

/** The revision that an etag demands; undefined where none was given. */
export function demandedRevision(etag: string): number | undefined {
  return etag === "" ? undefined : fromEtag(etag);
}

/** The decision; throws the refusal of everything else. */
export function accepted(result: DecideResult, reference: TaskReference): Accepted {
  switch (result.kind) {
    case "not-found":
    case "etag-mismatch":
      return refuseMissing(result.kind, reference);
    case "finished":
      return refuse("TASK_FINISHED", { resource: result.id });
    case "decided": {
      const { before, answer } = result.decided;
      if (answer.kind === "rejected") throw new RefusedCall(refusalOfRejection(answer.rejection, before.identity.id));
      return { before, answer };
    }
  }
}

/** Throws for a task that is not there, or not as the caller knows it. */
export function refuseMissing(kind: "not-found" | "etag-mismatch", reference: TaskReference): never {
  return refuse(kind === "not-found" ? "TASK_NOT_FOUND" : "ETAG_MISMATCH", { resource: showReference(reference) });
}

/** The task as it stands now; TASK_REMOVED if somebody was faster. */
export async function readChanged(
  { storage, config }: { readonly storage: Storage; readonly config: Config },
  namespace: string,
  id: string,
  view: View,
): Promise<Task> {
  // The change is stored: whatever becomes of this read, nobody may be told that it is not.
  const task = await storage.readTask({ namespace, id }, view === "FULL").catch((error: unknown) => {
    if (!(error instanceof DatabaseFault)) throw error;
    throw new DatabaseFault("unavailable", error.message, true, error.retryAfterMs, { cause: error });
  });
  if (task === null) return refuse("TASK_REMOVED", { resource: id });
  return toTask(task, view, config.retentionUs);
}
