// How are tasks found?
//
// A list is an AsyncIterable that fetches page after page, and gives pages by hand for whoever shows them one at a time. It carries no
// payloads: a snapshot of the handle does.
import type { TaskReference } from "@leasehold/proto/leasehold/v1/task";
import { TaskView } from "@leasehold/proto/leasehold/v1/task";
import { TaskFilter, TaskOrder, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { type CallOptions, callOnce } from "./call.js";
import type { Connection } from "./connection.js";
import type { ExecutionMetadataInput, MetadataInput, TaskDefinition } from "./define-task.js";
import { timeFrom, type TimeInput } from "./duration.js";
import { invalid, type Violation } from "./errors.js";
import { toJsonText } from "./json.js";
import { snapshotFrom, stateFromName, type TaskSnapshot, type TaskStateName } from "./task-snapshot.js";
import { wholeNumber } from "./task-options.js";

/** A part of a value, as jsonb containment takes it. */
export type PartOf<T> = T extends readonly unknown[] ? T : T extends object ? { readonly [Key in keyof T]?: PartOf<T[Key]> } : T;

/** Which tasks. All conditions hold at once; within a list any may match. */
export interface TaskFilterOptions<Task extends TaskDefinition = TaskDefinition> {
  /** At most 1,000. */
  readonly ids?: readonly string[];
  /** Without a definition: these task names, at most 100. */
  readonly names?: readonly string[];
  /** One of these states. */
  readonly state?: readonly TaskStateName[];
  /** At most 100. */
  readonly queues?: readonly string[];
  /** Exactly this key. */
  readonly key?: string;
  /** All of these. */
  readonly labels?: Readonly<Record<string, string>>;
  /** What the metadata must contain. Needs a definition, `names` or `state`. */
  readonly metadata?: PartOf<MetadataInput<Task>>;
  /** What the execution metadata must contain. Needs a definition, `names` or `state`. */
  readonly executionMetadata?: PartOf<ExecutionMetadataInput<Task>>;
  /** Ended, or last failed, with one of these; at most 100. */
  readonly errorCodes?: readonly string[];
  /** Created at or after. */
  readonly createdFrom?: TimeInput;
  /** Created before. */
  readonly createdBefore?: TimeInput;
  /** Finished at or after. */
  readonly finishedFrom?: TimeInput;
  /** Finished before. */
  readonly finishedBefore?: TimeInput;
}

/** In what order and in what portions. */
export interface ListOptions extends CallOptions {
  /** Default `newest_first`. */
  readonly order?: "newest_first" | "oldest_first" | "finished_last_first" | "waiting_longest_first";
  /** Tasks a page, 1 to 1,000. Default 100. */
  readonly pageSize?: number;
}

/** A page of a list. */
export interface TaskPage<Name extends string = string> {
  /** In the order that was asked for. */
  readonly tasks: readonly TaskSnapshot<Name>[];
  /** Give it to `page` for the next one; undefined on the last. */
  readonly nextPageToken: string | undefined;
}

/** A list: iterate over it, or take pages by hand. */
export interface TaskList<Name extends string = string> extends AsyncIterable<TaskSnapshot<Name>> {
  /** One page; without a token the first. INVALID_ARGUMENT, UNAVAILABLE. */
  page(token?: string): Promise<TaskPage<Name>>;
}

const ORDERS = {
  newest_first: TaskOrder.NEWEST_FIRST,
  oldest_first: TaskOrder.OLDEST_FIRST,
  finished_last_first: TaskOrder.FINISHED_LAST_FIRST,
  waiting_longest_first: TaskOrder.WAITING_LONGEST_FIRST,
} as const;

/** Makes a list. Nothing is fetched before it is read. */
export function createTaskList(
  connection: Connection,
  task: TaskDefinition | undefined,
  filter: TaskFilterOptions,
  options: ListOptions,
): TaskList {
  const page = async (token = ""): Promise<TaskPage> => {
    const pageSize = options.pageSize ?? 100;
    const violations: Violation[] = [];
    wholeNumber(pageSize, "pageSize", 1, 1_000, violations);
    const request = {
      filter: filterFrom(connection, task, filter, violations),
      order: ORDERS[options.order ?? "newest_first"],
      pageSize,
      pageToken: token,
      view: TaskView.BASIC,
    };
    if (violations.length > 0) throw invalid(violations);
    const answer = await callOnce(connection, options, TaskServiceService.listTasks, request);
    return { tasks: answer.tasks.map(snapshotFrom), nextPageToken: answer.nextPageToken === "" ? undefined : answer.nextPageToken };
  };
  return {
    page,
    async *[Symbol.asyncIterator]() {
      let token: string | undefined;
      do {
        const { tasks, nextPageToken } = await page(token);
        yield* tasks;
        token = nextPageToken;
      } while (token !== undefined);
    },
  };
}

/** How many tasks match. */
export interface TaskCount {
  /** At most 10,000. */
  readonly count: number;
  /** Whether there are more, or may be: the server stops looking at a bound. */
  readonly more: boolean;
}

/** Counts. Throws INVALID_ARGUMENT with paths. */
export async function countTasks(
  connection: Connection,
  task: TaskDefinition | undefined,
  filter: TaskFilterOptions,
  options: CallOptions,
): Promise<TaskCount> {
  const violations: Violation[] = [];
  const request = { filter: filterFrom(connection, task, filter, violations) };
  if (violations.length > 0) throw invalid(violations);
  return callOnce(connection, options, TaskServiceService.countTasks, request);
}

/** The protobuf form of a filter; violations are added. */
export function filterFrom(
  connection: Connection,
  task: TaskDefinition | undefined,
  filter: TaskFilterOptions,
  violations: Violation[],
): TaskFilter {
  // Containment is the server's work, and it cannot look into what a codec made.
  const codecs = connection.payloads.codecNames.join(", ");
  for (const path of ["metadata", "executionMetadata"] as const) {
    if (codecs !== "" && filter[path] !== undefined)
      violations.push({ path, message: `cannot be searched: the codecs of this client (${codecs}) hide it from the server; use labels` });
  }
  const time = (input: TimeInput | undefined, path: string): TaskFilter["createTimeFrom"] =>
    input === undefined ? undefined : timeFrom(input, path, violations, connection.clock);
  return TaskFilter.create({
    taskIds: [...(filter.ids ?? [])],
    names: task === undefined ? [...(filter.names ?? [])] : [task.name],
    states: (filter.state ?? []).map(stateFromName),
    queues: [...(filter.queues ?? [])],
    key: filter.key ?? "",
    labels: { ...filter.labels },
    metadataContains: filter.metadata === undefined ? "" : toJsonText(filter.metadata, "metadata", "bigint"),
    executionMetadataContains:
      filter.executionMetadata === undefined ? "" : toJsonText(filter.executionMetadata, "executionMetadata", "bigint"),
    errorCodes: [...(filter.errorCodes ?? [])],
    createTimeFrom: time(filter.createdFrom, "createdFrom"),
    createTimeBefore: time(filter.createdBefore, "createdBefore"),
    finishTimeFrom: time(filter.finishedFrom, "finishedFrom"),
    finishTimeBefore: time(filter.finishedBefore, "finishedBefore"),
  });
}

/** How a caller names a task: its id, or its key within the definition's name. */
export type TaskReferenceInput = string | { readonly id: string } | { readonly key: string };

/** The protobuf form of a reference. */
export function referenceFrom(name: string, input: TaskReferenceInput): TaskReference {
  if (typeof input === "string") return { taskId: input, name: "", key: "" };
  if ("id" in input) return { taskId: input.id, name: "", key: "" };
  return { taskId: "", name, key: input.key };
}
