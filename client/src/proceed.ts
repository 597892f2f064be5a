// How does a caller let a suspended task go on, and change what it resumes from?
//
// A patch or nothing also works on a task that is not suspended yet (it is remembered). `replace` and `update` need a suspended task:
// `update` reads, changes and writes back under the etag, and starts over when somebody else was faster.
import { type Payload, TaskView } from "@leasehold/proto/leasehold/v1/task";
import { type ExecutionMetadataUpdate, ProceedResult, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { randomUUID } from "node:crypto";
import { type CallOptions, type CallScope, callWithin } from "./call.js";
import { sleep } from "./clock.js";
import type { Connection } from "./connection.js";
import type { ExecutionMetadataInput, TaskDefinition } from "./define-task.js";
import { timeFrom, type TimeInput } from "./duration.js";
import { invalid, LeaseholdError, type Violation } from "./errors.js";
import { startingExecutionMetadata } from "./execution-metadata.js";
import { applyMergePatch } from "./merge-patch.js";
import { parseWithSchema } from "./schema.js";
import { snapshotFrom, type TaskSnapshot, type TaskStateName } from "./task-snapshot.js";
import { createTaskList, type TaskFilterOptions } from "./task-list.js";

/** A JSON Merge Patch (RFC 7396) of a type: null removes a property, arrays are replaced as a whole. */
export type MergePatch<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [Key in keyof T]?: MergePatch<T[Key]> | null }
    : T;

/** What a proceed does. At most one of `patch`, `replace` and `update`. */
export interface ProceedOptions<Task extends TaskDefinition = TaskDefinition> extends CallOptions {
  /**
   * Changes parts of the execution metadata; the server applies it. With codecs the server cannot: then it is read, changed and replaced
   * as by `update`, which needs a suspended task.
   */
  readonly patch?: MergePatch<ExecutionMetadataInput<Task>>;
  /** The new execution metadata. Needs a suspended task. */
  readonly replace?: ExecutionMetadataInput<Task>;
  /**
   * Makes the new execution metadata of the current one, as it is stored (`{}` if nothing is, where the schema accepts that). Called
   * again, at most ten times, when somebody else changed the task meanwhile. Needs a suspended task.
   */
  update?(this: void, current: ExecutionMetadataInput<Task>): ExecutionMetadataInput<Task> | Promise<ExecutionMetadataInput<Task>>;
  /** For the handler and the timeline; at most 4 KiB. */
  readonly note?: string;
  /** Not before this time. Default: at once. */
  readonly scheduleTime?: TimeInput;
  /** Refused with ABORTED unless the task still has this etag. Not together with `update`. */
  readonly etag?: string;
}

/** What became of a proceed. */
export interface Proceeded<Name extends string = string> {
  /** `applied`: it was suspended and goes on. `remembered`: its next suspension uses it at once. */
  readonly result: "applied" | "remembered";
  /** The task after it. */
  readonly task: TaskSnapshot<Name>;
}

/** How often `update` is tried. */
const MOST_UPDATES = 10;

/** Proceeds a task by id. Throws FAILED_PRECONDITION, ABORTED, NOT_FOUND, INVALID_ARGUMENT with paths. */
export async function proceed<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  taskId: string,
  options: ProceedOptions<Task>,
  scope: CallScope,
): Promise<Proceeded<Task["name"]>> {
  const { payloads } = connection;
  const violations: Violation[] = [];
  const kinds = (["patch", "replace", "update"] as const).filter((kind) => options[kind] !== undefined);
  if (kinds.length > 1) violations.push({ path: kinds.join(", "), message: "only one of them can be given" });
  if (options.update !== undefined && options.etag !== undefined) violations.push({ path: "etag", message: "update brings its own" });
  const scheduleTime =
    options.scheduleTime === undefined ? undefined : timeFrom(options.scheduleTime, "scheduleTime", violations, connection.clock);
  if (violations.length > 0) throw invalid(violations);

  for (let tries = 1; ; tries += 1) {
    const { update, etag } = await makeUpdate(connection, task, taskId, options, scope);
    const request = {
      task: { taskId, name: "", key: "" },
      filter: undefined,
      etag,
      update,
      scheduleTime,
      note: options.note ?? "",
      requestId: randomUUID(),
    };
    try {
      const answer = await callWithin(connection, scope, TaskServiceService.proceedTask, request);
      if (answer.task === undefined) throw new LeaseholdError({ code: "INTERNAL", message: "the server answered without a task", taskId });
      return { result: answer.result === ProceedResult.REMEMBERED ? "remembered" : "applied", task: snapshotFrom(answer.task) };
    } catch (error) {
      const rereads = options.update !== undefined || (options.patch !== undefined && payloads.codecNames.length > 0);
      const overtaken = rereads && options.etag === undefined && LeaseholdError.is(error) && error.code === "ABORTED";
      if (!overtaken || tries >= MOST_UPDATES) throw error;
      await sleep(connection.clock, connection.random() * 20 * tries, scope.signal);
    }
  }
}

/** States of a task that a proceed may find. */
const UNFINISHED: readonly TaskStateName[] = ["pending", "running", "suspended"];

/**
 * Proceeds the one unfinished task that matches. It is looked up first: a proceed by filter could not be tried again, one by id can.
 * Throws NOT_FOUND for none, FAILED_PRECONDITION with reason MULTIPLE_TASKS for several, and what `proceed` throws.
 */
export async function proceedMatching<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  filter: TaskFilterOptions<Task>,
  options: ProceedOptions<Task>,
  scope: CallScope,
): Promise<Proceeded<Task["name"]>> {
  const { signal } = scope;
  const remainingMs = scope.remainingMs();
  const call: CallOptions = remainingMs === undefined ? { signal } : { signal, timeout: remainingMs };
  const found: string[] = [];
  for await (const { id } of createTaskList(connection, task, { state: UNFINISHED, ...filter }, { ...call, pageSize: 2 })) {
    found.push(id);
    if (found.length === 2) break;
  }
  const [taskId, another] = found;
  const about = { taskName: task.name };
  if (taskId === undefined) {
    throw new LeaseholdError({ ...about, code: "NOT_FOUND", reason: "TASK_NOT_FOUND", message: `no unfinished ${task.name} matches` });
  }
  if (another !== undefined) {
    const message = `more than one unfinished ${task.name} matches, ${taskId} and ${another} among them`;
    throw new LeaseholdError({ ...about, code: "FAILED_PRECONDITION", reason: "MULTIPLE_TASKS", message });
  }
  return proceed(connection, task, taskId, options, scope);
}

async function makeUpdate<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  taskId: string,
  { patch, replace, update, etag }: ProceedOptions<Task>,
  scope: CallScope,
): Promise<{ update: ExecutionMetadataUpdate | undefined; etag: string }> {
  const { payloads } = connection;
  const hidden = payloads.codecNames.length > 0;
  if (patch !== undefined && !hidden)
    return { update: { mergePatch: await payloads.encode(payloads.write(patch, "patch")), replace: undefined }, etag: etag ?? "" };
  if (replace !== undefined) {
    return { update: { mergePatch: undefined, replace: await replacement(connection, task, replace, "replace") }, etag: etag ?? "" };
  }
  if (update === undefined && patch === undefined) return { update: undefined, etag: etag ?? "" };
  const request = { task: { taskId, name: "", key: "" }, view: TaskView.FULL };
  const current = await callWithin(connection, scope, TaskServiceService.getTask, request);
  if (etag !== undefined && etag !== current.etag) {
    const message = "the task has changed since its etag was read";
    throw new LeaseholdError({ code: "ABORTED", reason: "ETAG_MISMATCH", message, taskId, taskName: task.name });
  }
  const stored = await payloads.decode(current.executionMetadata, "executionMetadata");
  const saved = stored === undefined ? (await startingExecutionMetadata(task)).raw : stored;
  const changed: unknown = update === undefined ? applyMergePatch(saved, payloads.write(patch, "patch").value) : await update(saved);
  const path = update === undefined ? "patch" : "update";
  return { update: { mergePatch: undefined, replace: await replacement(connection, task, changed, path) }, etag: current.etag };
}

async function replacement({ payloads }: Connection, task: TaskDefinition, value: unknown, path: string): Promise<Payload> {
  const written = payloads.write(value, path);
  const violations = task.executionMetadata && (await parseWithSchema(task.executionMetadata, written.value, path)).violations;
  if (violations !== undefined) throw invalid(violations, { taskName: task.name });
  return payloads.encode(written);
}
