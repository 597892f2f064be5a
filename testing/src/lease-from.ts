// What does a task look like that was never submitted? A lease as the server would give it, made from what a test says.

import { randomUUID } from "node:crypto";
import { LeaseholdError, type TaskDefinition } from "@leasehold/client";
import { parseWithSchema, type Payloads, timestampFromMs, captured } from "@leasehold/client/kit";
import { type PendingReason, pendingReasonFromJSON } from "@leasehold/proto/leasehold/v1/task";
import { Lease } from "@leasehold/proto/leasehold/v1/worker_service";
import type { RunSurroundings } from "./run-options.js";

/** Makes the lease. Throws INVALID_ARGUMENT for metadata or execution metadata that could not have been stored. */
export async function leaseFrom<Task extends TaskDefinition>(
  task: Task,
  options: RunSurroundings<Task> & { readonly metadata?: unknown },
  payloads: Payloads,
): Promise<Lease> {
  const metadata = payloads.write(options.metadata ?? null, "metadata");
  const saved = options.executionMetadata === undefined ? undefined : payloads.write(options.executionMetadata, "executionMetadata");
  await require(task.metadata, metadata.value, "metadata");
  if (saved !== undefined) await require(task.executionMetadata, saved.value, "executionMetadata");
  const nowMs = captured.now();
  const proceedTime = timestampFromMs(nowMs);
  return Lease.create({
    leaseToken: randomUUID(),
    taskId: options.id ?? randomUUID(),
    name: task.name,
    queue: options.queue ?? task.options.queue ?? "default",
    key: options.key ?? "",
    labels: { ...options.labels },
    metadata: await payloads.encode(metadata),
    executionMetadata: saved && (await payloads.encode(saved)),
    executionMetadataVersion: saved === undefined ? 0n : 1n,
    attempt: options.attempt ?? 1,
    maxAttempts: options.maxAttempts ?? 10,
    fencingToken: 1n,
    createTime: timestampFromMs(nowMs),
    resumption: {
      reason: reasonOf(options.resumedBy ?? "new"),
      proceeds: (options.notes ?? []).map((note) => ({ note, proceedTime })),
      unappliedPatches: [],
    },
  });
}

async function require(schema: TaskDefinition["metadata"], value: unknown, path: string): Promise<void> {
  const violations = schema && (await parseWithSchema(schema, value, path)).violations;
  if (violations !== undefined)
    throw new LeaseholdError({ code: "INVALID_ARGUMENT", message: `${path} is refused by its schema`, violations });
}

function reasonOf(by: string): PendingReason {
  return pendingReasonFromJSON(`PENDING_REASON_${by.toUpperCase()}`);
}
