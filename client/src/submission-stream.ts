// How are more tasks submitted than fit in memory?
//
// Items are read from any iterable, batch after batch: while one batch is read by the caller, the next one is on its way, and nothing more
// is taken from the source. Each item gets its own answer; what may be tried again is tried again for its batch.
import { type CallOptions, openScope, REQUEST_TIMEOUT_MS } from "./call.js";
import type { Connection } from "./connection.js";
import type { TaskDefinition } from "./define-task.js";
import { LeaseholdError } from "./errors.js";
import { newTaskFrom, type SubmitItem } from "./new-task.js";
import { submittedTask, type SubmittedTask } from "./task-handle.js";
import { traceSubmissions } from "./tracing.js";

/** What became of one item of `submitStream`. */
export type SubmittedItem<Task extends TaskDefinition = TaskDefinition> =
  | {
      /** Its place in the iterable, from 0. */
      readonly index: number;
      /** The stored task. */
      readonly task: SubmittedTask<Task>;
      readonly error?: undefined;
    }
  | {
      /** Its place in the iterable, from 0. */
      readonly index: number;
      readonly task?: undefined;
      /** Why it was refused, or not stored in time. */
      readonly error: LeaseholdError;
    };

/** Items of one batch. The gatherer of submissions cuts it further where messages would be too large. */
const BATCH_ITEMS = 500;

/** Submits and answers in the order of the items. Throws only what the iterable throws, after the answers of what it gave before. */
export async function* submitStream<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  items: Iterable<SubmitItem<Task>> | AsyncIterable<SubmitItem<Task>>,
  options: CallOptions,
): AsyncGenerator<SubmittedItem<Task>, undefined, undefined> {
  let batch: SubmitItem<Task>[] = [];
  let first = 0;
  let inFlight: Promise<readonly SubmittedItem<Task>[]> = Promise.resolve([]);
  const send = (): Promise<readonly SubmittedItem<Task>[]> => {
    const before = inFlight;
    inFlight = submitBatch(connection, task, batch, first, options);
    // Who stops reading never asks for it.
    inFlight.catch(() => undefined);
    first += batch.length;
    batch = [];
    return before;
  };
  let ended: { readonly error: unknown } | undefined;
  try {
    for await (const item of items) {
      if (options.signal?.aborted === true)
        throw new LeaseholdError({ code: "CANCELLED", message: "the caller's signal fired", cause: options.signal.reason });
      batch.push(item);
      if (batch.length === BATCH_ITEMS) yield* await send();
    }
  } catch (error) {
    ended = { error };
  }
  yield* await send();
  yield* await inFlight;
  if (ended !== undefined) throw ended.error;
  return undefined;
}

async function submitBatch<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  items: readonly SubmitItem<Task>[],
  first: number,
  options: CallOptions,
): Promise<readonly SubmittedItem<Task>[]> {
  const scope = openScope(connection.clock, options, REQUEST_TIMEOUT_MS);
  try {
    const made = await Promise.all(
      items.map((item, index) =>
        newTaskFrom(task, item.metadata, item, { ...connection, path: `[${String(first + index)}].` }).catch((error: unknown) =>
          LeaseholdError.from(error),
        ),
      ),
    );
    // All at once, so that they travel together.
    return await Promise.all(
      made.map(async (newTask, at): Promise<SubmittedItem<Task>> => {
        const index = first + at;
        if (LeaseholdError.is(newTask)) return { index, error: newTask };
        try {
          const submitted = await traceSubmissions([newTask], () => connection.submissions.submit(newTask, scope), items.length);
          return { index, task: submittedTask(connection, task, submitted, items[at]?.id === undefined ? newTask.taskId : undefined) };
        } catch (error) {
          return { index, error: LeaseholdError.from(error) };
        }
      }),
    );
  } finally {
    scope.close();
  }
}
