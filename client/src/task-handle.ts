// What can one do with one task?
//
// A handle names a task by id, or by task name and key, and holds nothing else: it is cheap, and works in any process that has the id.
import { type Task as TaskMessage, type TaskReference, TaskView } from "@leasehold/proto/leasehold/v1/task";
import { TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { type CallOptions, type CallScope, callWithin, openScope, REQUEST_TIMEOUT_MS, within } from "./call.js";
import type { Connection } from "./connection.js";
import type { ResultOf, TaskDefinition } from "./define-task.js";
import type { LeaseholdError } from "./errors.js";
import { proceed, type Proceeded, type ProceedOptions } from "./proceed.js";
import type { Submitted } from "./submission-batch.js";
import {
  cancelRequest,
  type CancelOptions,
  type DeleteTaskOptions,
  explainedTask,
  type ExplainedTask,
  retryRequest,
  type RetryTaskOptions,
  updateRequest,
  type UpdateTaskOptions,
} from "./task-changes.js";
import { createTaskEventList, type EventOptions, type TaskEventList } from "./task-events.js";
import { outcomeFrom, resultFrom, type TaskOutcome } from "./task-outcome.js";
import { type FullTaskSnapshot, fullSnapshotFrom, isFinished, snapshotFrom, type TaskSnapshot } from "./task-snapshot.js";

/** One task. Every method rejects with a LeaseholdError: NOT_FOUND, INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNAVAILABLE and what it names. */
export interface TaskHandle<Task extends TaskDefinition = TaskDefinition> {
  /** The id, looked up once if the handle was made from a key. */
  findId(options?: CallOptions): Promise<string>;
  /** Waits for the task to finish and returns its result. TASK_FAILED (see `isTaskFailed`), TASK_CANCELLED, TASK_REMOVED. No timeout by default. */
  result(options?: CallOptions): Promise<ResultOf<Task>>;
  /** Waits for the task to finish, however it does. TASK_REMOVED. No timeout by default. */
  outcome(options?: CallOptions): Promise<TaskOutcome<Task>>;
  /** The task as it is now, with its payloads. SCHEMA_MISMATCH if one does not fit the definition. */
  snapshot(options?: CallOptions): Promise<FullTaskSnapshot<Task>>;
  /** What the task is, then each newest change (a slow reader skips some), until it is finished. */
  watch(options?: CallOptions): AsyncIterableIterator<TaskSnapshot<Task["name"]>>;
  /** Lets the task go on, optionally with changed execution metadata. FAILED_PRECONDITION, ABORTED. */
  proceed(options?: ProceedOptions<Task>): Promise<Proceeded<Task["name"]>>;
  /** Cancels the task: at once while nobody runs it, else its handler is told. FAILED_PRECONDITION if it is finished. */
  cancel(options?: CancelOptions): Promise<TaskSnapshot<Task["name"]>>;
  /** Takes a failed or cancelled task back to pending. FAILED_PRECONDITION if it is neither, also when an earlier try of this call did it. */
  retry(options?: RetryTaskOptions): Promise<TaskSnapshot<Task["name"]>>;
  /** Changes priority, due time or queue of a pending task. FAILED_PRECONDITION if it is not pending, ABORTED. */
  update(options: UpdateTaskOptions): Promise<TaskSnapshot<Task["name"]>>;
  /** Removes a finished task and frees its key. FAILED_PRECONDITION if it is unfinished; NOT_FOUND also when an earlier try of this call did it. */
  delete(options?: DeleteTaskOptions): Promise<void>;
  /** Why it does not run. */
  explain(options?: CallOptions): Promise<ExplainedTask<Task["name"]>>;
  /** What happened to it so far, oldest first. */
  events(options?: EventOptions): TaskEventList;
}

/** A handle that a submission returned: its id is known. */
export interface SubmittedTask<Task extends TaskDefinition = TaskDefinition> extends TaskHandle<Task> {
  /** Id of the task. */
  readonly id: string;
  /** Whether this submission stored it; false if its key or chosen id existed. */
  readonly created: boolean;
}

/** Makes a handle. */
export function createTaskHandle<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  reference: TaskReference,
): TaskHandle<Task> {
  const { clock, payloads, watch } = connection;
  let known = reference.taskId === "" ? undefined : reference.taskId;

  const scoped = async <T>(options: CallOptions, defaultMs: number | undefined, work: (scope: CallScope) => Promise<T>): Promise<T> => {
    const scope = openScope(clock, options, defaultMs);
    try {
      return await work(scope);
    } finally {
      scope.close();
    }
  };
  const get = (scope: CallScope, view: TaskView, of: TaskReference = reference): Promise<TaskMessage> =>
    callWithin(connection, scope, TaskServiceService.getTask, { task: of, view });
  const idWithin = async (scope: CallScope): Promise<string> => (known ??= (await get(scope, TaskView.BASIC)).taskId);
  const byId = async (scope: CallScope): Promise<TaskReference> => ({ taskId: await idWithin(scope), name: "", key: "" });

  const finished = (options: CallOptions): Promise<TaskMessage> =>
    scoped(options, undefined, async (scope) => {
      const taskReference = await byId(scope);
      for (;;) {
        await untilFinished(connection, taskReference.taskId, scope);
        const message = await get(scope, TaskView.FULL, taskReference);
        // Somebody may have retried it between the two answers.
        if (isFinished(message)) return message;
      }
    });

  return {
    findId: (options = {}) => scoped(options, REQUEST_TIMEOUT_MS, idWithin),
    async result(options = {}) {
      const message = await finished(options);
      return resultFrom(await outcomeFrom(task, message, payloads), message);
    },
    async outcome(options = {}) {
      return outcomeFrom(task, await finished(options), payloads);
    },
    async snapshot(options = {}) {
      return fullSnapshotFrom(task, await scoped(options, REQUEST_TIMEOUT_MS, (scope) => get(scope, TaskView.FULL)), payloads);
    },
    async *watch(options = {}) {
      const scope = openScope(clock, options);
      const changes = new Changes();
      let stop = (): void => undefined;
      try {
        stop = watch.follow(await idWithin(scope), changes);
        for (;;) {
          const message = await changes.next(scope);
          yield snapshotFrom(message);
          if (isFinished(message)) return;
        }
      } finally {
        stop();
        scope.close();
      }
    },
    proceed: (options = {}) =>
      scoped(options, REQUEST_TIMEOUT_MS, async (scope) => proceed(connection, task, await idWithin(scope), options, scope)),
    cancel: (options = {}) =>
      scoped(options, REQUEST_TIMEOUT_MS, async (scope) => {
        const request = cancelRequest(await byId(scope), options);
        return snapshotFrom(await callWithin(connection, scope, TaskServiceService.cancelTask, request));
      }),
    retry: (options = {}) =>
      scoped(options, REQUEST_TIMEOUT_MS, async (scope) => {
        const request = retryRequest(await byId(scope), options, clock);
        return snapshotFrom(await callWithin(connection, scope, TaskServiceService.retryTask, request));
      }),
    update: (options) =>
      scoped(options, REQUEST_TIMEOUT_MS, async (scope) => {
        const request = updateRequest(await byId(scope), options, clock);
        return snapshotFrom(await callWithin(connection, scope, TaskServiceService.updateTask, request));
      }),
    delete: (options = {}) =>
      scoped(options, REQUEST_TIMEOUT_MS, async (scope) => {
        const request = { task: await byId(scope), etag: options.etag ?? "" };
        await callWithin(connection, scope, TaskServiceService.deleteTask, request);
      }),
    explain: (options = {}) =>
      scoped(options, REQUEST_TIMEOUT_MS, async (scope) =>
        explainedTask(await callWithin(connection, scope, TaskServiceService.explainTask, { task: reference })),
      ),
    events: (options = {}) => createTaskEventList(connection, reference, options),
  };
}

/** The handle of what a submission stored. `ownId`: the id that the SDK made for it. */
export function submittedTask<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  submitted: Submitted,
  ownId: string | undefined,
): SubmittedTask<Task> {
  const id = submitted.task.taskId;
  const handle = createTaskHandle(connection, task, { taskId: id, name: "", key: "" });
  // A repeated try is told 'not created' about its own task; with an id of the SDK's own the id says it better.
  return { ...handle, id, created: ownId === undefined ? submitted.created : id === ownId };
}

async function untilFinished(connection: Connection, taskId: string, scope: CallScope): Promise<void> {
  const changes = new Changes();
  const stop = connection.watch.follow(taskId, changes);
  try {
    while (!isFinished(await changes.next(scope)));
  } finally {
    stop();
  }
}

/** The newest change that was not read yet: a slow reader costs one task of memory, not a queue. */
class Changes {
  #newest: TaskMessage | undefined;
  #error: LeaseholdError | undefined;
  #wake = (): void => undefined;

  changed(task: TaskMessage): void {
    this.#newest = task;
    this.#wake();
  }

  ended(error: LeaseholdError): void {
    this.#error = error;
    this.#wake();
  }

  async next(scope: CallScope): Promise<TaskMessage> {
    if (this.#newest === undefined && this.#error === undefined) {
      await within(scope, new Promise<void>((resolve) => (this.#wake = resolve)));
    }
    const newest = this.#newest;
    this.#newest = undefined;
    if (newest !== undefined) return newest;
    throw this.#error ?? scope.signal.reason;
  }
}
