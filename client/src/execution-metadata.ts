// What does a task resume from when nothing was saved yet?
//
// A machine begins in its initial state. Else `{}` if the schema accepts it (defaults fill it), else undefined. A definition that accepts neither cannot begin without execution
// metadata given at submission.
import { isMachineDefinition } from "./define-machine.js";
import type { TaskDefinition } from "./define-task.js";
import { type Parsed, parseWithSchema } from "./schema.js";

/** Where a task begins: as the schema reads it, and as JSON would hold it. */
export type Start = Parsed<unknown> & { readonly raw?: unknown };

const starts = new WeakMap<TaskDefinition, Promise<Start>>();

/** Where a task begins when nothing was saved; worked out once per definition. */
export function startingExecutionMetadata(task: TaskDefinition): Promise<Start> {
  let start = starts.get(task);
  if (start === undefined) {
    start = findStart(task);
    starts.set(task, start);
  }
  return start;
}

async function findStart(task: TaskDefinition): Promise<Start> {
  const { executionMetadata: schema } = task;
  if (schema === undefined) return { value: null };
  if (isMachineDefinition(task)) return { ...(await parseWithSchema(schema, task.initial, "initial")), raw: task.initial };
  const empty = await parseWithSchema(schema, {}, "executionMetadata");
  if (empty.violations === undefined) return { ...empty, raw: {} };
  const absent = await parseWithSchema(schema, undefined, "executionMetadata");
  return absent.violations === undefined ? absent : empty;
}

/** Execution metadata as a handler reads it: what was saved, or where the task begins. Never throws. */
export async function readExecutionMetadata(task: TaskDefinition, saved: unknown): Promise<Parsed<unknown>> {
  if (task.executionMetadata === undefined) return { value: saved ?? null };
  if (saved !== undefined) return parseWithSchema(task.executionMetadata, saved, "executionMetadata");
  const start = await startingExecutionMetadata(task);
  // Parsed anew: two runs in one process must not share an object.
  return start.violations === undefined ? parseWithSchema(task.executionMetadata, start.raw, "executionMetadata") : start;
}
