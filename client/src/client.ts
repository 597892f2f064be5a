// How does a program submit tasks and find them again?
//
// Wires the parts of one client. What the parts do is in their files: new-task (what is refused), submission-batch (how calls travel
// together), shared-watch (how waiting scales), call (what is retried).
import { TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { type Caller, type CallOptions, callOnce, openScope, REQUEST_TIMEOUT_MS } from "./call.js";
import { type Clock, systemClock } from "./clock.js";
import type { Connection } from "./connection.js";
import { isTaskDefinition, type MetadataInput, type TaskDefinition, type TaskTypes } from "./define-task.js";
import { invalid, LeaseholdError, type Violation } from "./errors.js";
import { createGrpcTransport, type TlsOptions } from "./grpc-transport.js";
import { type ClientInterceptor, intercept } from "./interceptor.js";
import type { Bigints } from "./json.js";
import { type Logger, standardErrorLog, withFields } from "./log.js";
import { type NewTaskOptions, newTaskFrom, type SubmitItem } from "./new-task.js";
import { createPayloads } from "./payload.js";
import type { PayloadCodec } from "./payload-codec.js";
import { type Proceeded, proceedMatching, type ProceedOptions } from "./proceed.js";
import { type LimitOptions, ServerLimits } from "./server-limits.js";
import { createSharedWatch } from "./shared-watch.js";
import { type SimulatedFailure, type SimulatedRetry, simulateRetry } from "./retry-simulation.js";
import { createSubmissionBatch } from "./submission-batch.js";
import { type SubmittedItem, submitStream } from "./submission-stream.js";
import { createTaskHandle, submittedTask, type SubmittedTask, type TaskHandle } from "./task-handle.js";
import {
  countTasks,
  createTaskList,
  type ListOptions,
  referenceFrom,
  type TaskCount,
  type TaskFilterOptions,
  type TaskList,
  type TaskReferenceInput,
} from "./task-list.js";
import type { RetryOptions } from "./task-options.js";
import { traceSubmissions } from "./tracing.js";
import type { Transport } from "./transport.js";

/** Options of `createClient`. What is left out comes from the environment. */
export interface ClientOptions {
  /** `host:port`. Default LEASEHOLD_ADDRESS (which may be a list with commas), else `127.0.0.1:7410`. */
  readonly address?: string;
  /** Several servers; the client goes on to the next when one is unavailable. */
  readonly addresses?: readonly string[];
  /** Default LEASEHOLD_NAMESPACE, else what the credential says. */
  readonly namespace?: string;
  /** Bearer token, or a function that gives the current one. Default LEASEHOLD_TOKEN. */
  readonly token?: string | (() => string);
  /** Default false: plain text. */
  readonly tls?: TlsOptions;
  /** How integers beyond 2^53 travel. Default `'refuse'`. */
  readonly bigints?: Bigints;
  /** Compress and encrypt payloads, in this order; read in the reverse one. What they encode is neither patched nor searched by the server. */
  readonly codecs?: readonly PayloadCodec[];
  /** Code around every call, the first one outermost. A worker's stream passes them too. */
  readonly interceptors?: readonly ClientInterceptor[];
  /** What the server takes, if its settings differ from the defaults. A worker learns it by itself. */
  readonly limits?: LimitOptions;
  /** Where warnings go. Default: standard error. */
  readonly logger?: Logger;
  /** Another way to a server; for test kits. */
  readonly transport?: Transport;
  /** Another clock; for test kits. */
  readonly clock?: Clock;
  /** Another source of chance, 0 to 1; for test kits. */
  readonly random?: () => number;
}

/** Options of one submission. */
export interface SubmitOptions<Task extends TaskDefinition = TaskDefinition> extends NewTaskOptions<Task>, CallOptions {}

/** A definition whose submitter gives nothing. */
export type TaskWithoutMetadata = TaskDefinition<
  TaskTypes & { readonly metadata: { readonly input: null | undefined; readonly output: unknown } }
>;

/** A connection to Leasehold for whoever owns tasks. Connects with its first call. Every method rejects with a LeaseholdError. */
export interface Client {
  /**
   * Stores a task; resolved means durable. Calls made at the same time travel together. INVALID_ARGUMENT with paths, before anything
   * leaves; ALREADY_EXISTS; FAILED_PRECONDITION. Default timeout 30 s. A submission that was given up may have been stored.
   */
  submit<Task extends TaskDefinition>(
    task: Task,
    metadata: MetadataInput<Task>,
    options?: SubmitOptions<Task>,
  ): Promise<SubmittedTask<Task>>;
  /** As above, for a definition without metadata. */
  submit<Task extends TaskWithoutMetadata>(task: Task): Promise<SubmittedTask<Task>>;
  /** Stores up to 1,000 tasks, all or none. Paths of what is refused begin with `[index]`, or `tasks[index]` where the server refuses it. */
  submitMany<Task extends TaskDefinition>(
    task: Task,
    items: readonly SubmitItem<Task>[],
    options?: CallOptions,
  ): Promise<readonly SubmittedTask<Task>[]>;
  /**
   * Stores any number of tasks, read from an iterable batch after batch, and answers each by itself in their order. Reads on as the answers
   * are read: who stops reading stops submitting. The timeout (default 30 s) is that of a batch. Throws what the iterable throws; CANCELLED.
   */
  submitStream<Task extends TaskDefinition>(
    task: Task,
    items: Iterable<SubmitItem<Task>> | AsyncIterable<SubmitItem<Task>>,
    options?: CallOptions,
  ): AsyncIterableIterator<SubmittedItem<Task>>;
  /** A task by its id, or by its key. Asks nothing. */
  handle<Task extends TaskDefinition>(task: Task, reference: TaskReferenceInput): TaskHandle<Task>;
  /** A task of any definition by its id. Its payloads come unparsed. */
  handle(reference: { readonly id: string }): TaskHandle;
  /**
   * Lets the one unfinished task that matches go on; as `proceed` of its handle. NOT_FOUND if none does, FAILED_PRECONDITION with reason
   * MULTIPLE_TASKS if several do.
   */
  proceed<Task extends TaskDefinition>(
    task: Task,
    filter: TaskFilterOptions<Task>,
    options?: ProceedOptions<Task>,
  ): Promise<Proceeded<Task["name"]>>;
  /** Tasks of a definition. */
  list<Task extends TaskDefinition>(task: Task, filter?: TaskFilterOptions<Task>, options?: ListOptions): TaskList<Task["name"]>;
  /** Tasks of any definition. */
  list(filter?: TaskFilterOptions, options?: ListOptions): TaskList;
  /** How many tasks of a definition match: exactly up to 10,000. */
  count<Task extends TaskDefinition>(task: Task, filter?: TaskFilterOptions<Task>, options?: CallOptions): Promise<TaskCount>;
  /** How many tasks of any definition match: exactly up to 10,000. */
  count(filter?: TaskFilterOptions, options?: CallOptions): Promise<TaskCount>;
  /** When each attempt would run under a policy if this went wrong, in order. What the policy leaves out is the server's default. */
  simulateRetry(retry: RetryOptions, failures: readonly SimulatedFailure[], options?: CallOptions): Promise<SimulatedRetry>;
  /** Ends every call and connection; waits end with CLIENT_CLOSED. */
  close(): void;
  /** As `close`. */
  [Symbol.dispose](): void;
  /** The inside: for this package's worker and test kit. */
  readonly "~connection": Connection;
}

/** Stands for a definition where none is known. */
const UNTYPED: TaskDefinition = {
  name: "",
  metadata: undefined,
  executionMetadata: undefined,
  result: undefined,
  errors: {},
  options: {},
  "~leasehold": "task",
  // Only the compiler reads it, and it reads the annotation.
  "~types": undefined as unknown as TaskTypes,
};

/**
 * Makes a client. Asks nothing of the server yet.
 *
 * @throws LeaseholdError INVALID_ARGUMENT with the path of a malformed option.
 */
export function createClient(options: ClientOptions = {}): Client {
  const clock = options.clock ?? systemClock;
  const transport = intercept(options.transport ?? transportFrom(options), options.interceptors ?? []);
  const caller: Caller = { clock, random: options.random ?? Math.random, transport };
  const limits = new ServerLimits(options.limits);
  const connection: Connection = {
    ...caller,
    limits,
    payloads: createPayloads({ bigints: options.bigints, codecs: options.codecs, limits }),
    watch: createSharedWatch(caller),
    submissions: createSubmissionBatch(caller, limits),
    log: withFields(options.logger ?? standardErrorLog, {}),
  };
  const close = (): void => {
    connection.watch.close();
    caller.transport.close();
  };
  return {
    submit: <Task extends TaskDefinition>(task: Task, metadata?: MetadataInput<Task>, submitOptions: SubmitOptions<Task> = {}) =>
      submit(connection, task, metadata, submitOptions),
    submitMany: (task, items, callOptions = {}) => submitMany(connection, task, items, callOptions),
    submitStream: (task, items, callOptions = {}) => submitStream(connection, task, items, callOptions),
    handle: handleOf(connection),
    proceed: (task, filter, proceedOptions = {}) => proceedOne(connection, task, filter, proceedOptions),
    list: (
      taskOrFilter: TaskDefinition | TaskFilterOptions = {},
      filterOrOptions: TaskFilterOptions | ListOptions = {},
      listOptions: ListOptions = {},
    ) =>
      isTaskDefinition(taskOrFilter)
        ? createTaskList(connection, taskOrFilter, filterOrOptions as TaskFilterOptions, listOptions)
        : createTaskList(connection, undefined, taskOrFilter, filterOrOptions as ListOptions),
    count: (
      taskOrFilter: TaskDefinition | TaskFilterOptions = {},
      filterOrOptions: TaskFilterOptions | CallOptions = {},
      callOptions: CallOptions = {},
    ) =>
      isTaskDefinition(taskOrFilter)
        ? countTasks(connection, taskOrFilter, filterOrOptions as TaskFilterOptions, callOptions)
        : countTasks(connection, undefined, taskOrFilter, filterOrOptions as CallOptions),
    simulateRetry: (retry, failures, callOptions = {}) => simulateRetry(connection, retry, failures, callOptions),
    close,
    [Symbol.dispose]: close,
    "~connection": connection,
  };
}

function handleOf(connection: Connection): Client["handle"] {
  function handle<Task extends TaskDefinition>(task: Task, reference: TaskReferenceInput): TaskHandle<Task>;
  function handle(reference: { readonly id: string }): TaskHandle;
  function handle(task: TaskDefinition | { readonly id: string }, reference?: TaskReferenceInput): TaskHandle {
    if (!isTaskDefinition(task)) return createTaskHandle(connection, UNTYPED, referenceFrom("", task));
    return createTaskHandle(connection, task, referenceFrom(task.name, reference ?? ""));
  }
  return handle;
}

async function submit<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  metadata: MetadataInput<Task> | undefined,
  options: SubmitOptions<Task>,
): Promise<SubmittedTask<Task>> {
  const scope = openScope(connection.clock, options, REQUEST_TIMEOUT_MS);
  try {
    const newTask = await newTaskFrom(task, metadata, options, connection);
    return submittedTask(
      connection,
      task,
      await traceSubmissions([newTask], () => connection.submissions.submit(newTask, scope)),
      options.id === undefined ? newTask.taskId : undefined,
    );
  } finally {
    scope.close();
  }
}

async function proceedOne<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  filter: TaskFilterOptions<Task>,
  options: ProceedOptions<Task>,
): Promise<Proceeded<Task["name"]>> {
  const scope = openScope(connection.clock, options, REQUEST_TIMEOUT_MS);
  try {
    return await proceedMatching(connection, task, filter, options, scope);
  } finally {
    scope.close();
  }
}

async function submitMany<Task extends TaskDefinition>(
  connection: Connection,
  task: Task,
  items: readonly SubmitItem<Task>[],
  options: CallOptions,
): Promise<readonly SubmittedTask<Task>[]> {
  if (items.length === 0) return [];
  if (items.length > 1_000)
    throw invalid([{ path: "items", message: "must be at most 1,000, because all or none are stored; submitStream() takes any number" }]);
  const violations: Violation[] = [];
  const tasks = await Promise.all(
    items.map(async (item, index) => {
      try {
        return await newTaskFrom(task, item.metadata, item, { ...connection, path: `[${String(index)}].` });
      } catch (error) {
        const known = LeaseholdError.from(error);
        if (known.violations.length === 0) throw error;
        violations.push(...known.violations);
        return undefined;
      }
    }),
  );
  if (violations.length > 0) throw invalid(violations, { taskName: task.name });
  const request = { tasks: tasks.filter((one) => one !== undefined), atomic: true };
  const { results } = await traceSubmissions(request.tasks, () => callOnce(connection, options, TaskServiceService.submitTasks, request));
  return request.tasks.map((sent, index) => {
    const result = results[index];
    if (result?.task === undefined)
      throw new LeaseholdError({ code: "INTERNAL", message: `the server gave no answer for task ${String(index)}` });
    const ownId = items[index]?.id === undefined ? sent.taskId : undefined;
    return submittedTask(connection, task, { task: result.task, created: result.created }, ownId);
  });
}

function transportFrom(options: ClientOptions): Transport {
  const { env } = process;
  const listed = options.addresses ?? (options.address ?? env["LEASEHOLD_ADDRESS"] ?? "127.0.0.1:7410").split(",");
  const addresses = listed.map((address) => address.trim());
  const wrong = addresses.findIndex((address) => !/^(\[[0-9a-fA-F:.]+\]|[^\s:/[\]]+):\d{1,5}$/.test(address));
  if (addresses.length === 0 || wrong !== -1)
    throw invalid([{ path: "address", message: `must be host:port, not ${JSON.stringify(addresses[wrong] ?? "")}` }]);
  return createGrpcTransport({
    addresses,
    namespace: options.namespace ?? env["LEASEHOLD_NAMESPACE"],
    token: options.token ?? env["LEASEHOLD_TOKEN"],
    tls: options.tls,
  });
}
