// Is this the same submission as before? SHA-256 over what was sent, decoded: the order of fields and labels and the trace context,
// which differs with each call, do not count.

import { createHash } from "node:crypto";
import { NewTask } from "@leasehold/proto/leasehold/v1/task_service";
import { DEFAULT_QUEUE } from "./validate-text.js";

/** SHA-256 of a decoded submission. What the server's own settings would fill in is hashed as left out, so that a changed setting changes no hash. */
export function contentHash(task: NewTask, taskId: string): Uint8Array {
  const labels = Object.fromEntries(Object.entries(task.labels).sort(([a], [b]) => (a < b ? -1 : 1)));
  const canonical = { ...task, taskId, labels, queue: task.queue === "" ? DEFAULT_QUEUE : task.queue, traceContext: undefined };
  return createHash("sha256").update(NewTask.encode(canonical).finish()).digest();
}
