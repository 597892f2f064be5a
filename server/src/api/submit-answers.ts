// What is answered to a submission? The task that was stored, or the one that has its id or key, or why it was refused; and how large
// may the answer of many become?

import type { Task } from "@leasehold/proto/leasehold/v1/task";
import type { Config } from "../config.js";
import type { NewTask } from "../domain/new-task.js";
import { conflictReason } from "../domain/new-task.js";
import { NO_FILTER } from "../storage/queries.js";
import type { Inserted, Storage, StoredTask } from "../storage/storage.js";
import { storedNow, toTask } from "./convert-task.js";
import type { Refusal } from "./status.js";
import { MAX_ITEM_STATUS_BYTES } from "./status.js";

/** What the answers are made with. */
export interface AnswerParts {
  readonly storage: Storage;
  readonly config: Config;
}

/** A task as a submission is answered. */
export interface Submitted {
  readonly task: Task;
  readonly created: boolean;
}

type Created = Extract<Inserted, { kind: "created" }>;

/** All of a BASIC task but its name, queue, key and labels: id, times, deadlines, numbers, and the largest name of a worker. */
const FIXED_TASK_BYTES = 640;
/** Tag and length of one label and of its key and value. */
const LABEL_OVERHEAD_BYTES = 8;
/** Tasks that are read by one statement. */
const READ_STEP = 250;

/** Why a submission is refused because of what exists already; null: it is answered by a task. */
export function refusalOfConflict(inserted: Inserted, { submission }: NewTask, field: string): Refusal | null {
  if (inserted.kind === "created") return null;
  const reason = conflictReason(submission.keyConflictPolicy, inserted);
  if (reason === null) return null;
  const [path, description] =
    inserted.kind === "id-exists" ? ["task_id", "names another task with other content"] : ["key", "is the key of another task"];
  return {
    reason,
    resource: idOf(submission.id, inserted),
    violations: [{ field: `${field}.${path}`, description }],
  };
}

/** The task that a submission led to: its own, or the one that has its key. */
export function idOf(ownId: string, inserted: Inserted): string {
  return inserted.kind === "key-taken" ? inserted.id : ownId;
}

/** The answer of a task that was stored just now. */
export function created({ config }: AnswerParts, task: NewTask, { createTimeUs, leased }: Created): Submitted {
  return { task: toTask(storedNow(task, createTimeUs, leased?.task), "BASIC", config.retentionUs), created: true };
}

/** The answer of one task among many that was read: without what its submission does not bound. */
export function oneOfMany({ config }: AnswerParts, task: StoredTask, wasCreated: boolean): Submitted {
  const shown = toTask(task, "BASIC", config.retentionUs);
  return { task: { ...shown, labels: {}, error: undefined, lastError: undefined }, created: wasCreated };
}

/** Tasks by id, those of them that exist. */
export async function readTasks({ storage }: AnswerParts, namespace: string, ids: readonly string[]): Promise<Map<string, StoredTask>> {
  const distinct = [...new Set(ids)];
  const found = new Map<string, StoredTask>();
  for (let from = 0; from < distinct.length; from += READ_STEP) {
    const taskIds = distinct.slice(from, from + READ_STEP);
    const filter = { ...NO_FILTER, taskIds };
    const query = { namespace, filter, order: "OLDEST_FIRST", after: null, pageSize: READ_STEP, withPayloads: false } as const;
    for (const task of (await storage.listTasks(query)).tasks) found.set(task.id, task);
  }
  return found;
}

/** Most bytes that the answer of a submission takes among those of many; `each`: it may be refused by itself. */
export function mostAnswerBytes({ submission }: NewTask, each: boolean): number {
  let bytes = FIXED_TASK_BYTES + submission.name.length + submission.queue.length + Buffer.byteLength(submission.key ?? "");
  for (const [key, value] of submission.labels) bytes += Buffer.byteLength(key) + Buffer.byteLength(value) + LABEL_OVERHEAD_BYTES;
  return each ? Math.max(bytes, MAX_ITEM_STATUS_BYTES) : bytes;
}
