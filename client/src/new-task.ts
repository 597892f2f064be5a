// How does a submission become a NewTask, and what is refused before it leaves?
//
// Every violation is found and named by its path in the options, not only the first. The id is made here, once, so that all tries of one
// submission are the same submission.
import { KeyConflictPolicy, NewTask } from "@leasehold/proto/leasehold/v1/task_service";
import type { Clock } from "./clock.js";
import type { ExecutionMetadataInput, MetadataInput, TaskDefinition } from "./define-task.js";
import { durationFromMs, durationMs, timeFrom, type TimeInput } from "./duration.js";
import { invalid, LeaseholdError, type Violation } from "./errors.js";
import { startingExecutionMetadata } from "./execution-metadata.js";
import type { Payloads, Written } from "./payload.js";
import { parseWithSchema, type Schema } from "./schema.js";
import { isUuid, newTaskId } from "./task-id.js";
import { checkTaskOptions, deadlinesFrom, mergeTaskOptions, retryPolicyFrom, type TaskOptions } from "./task-options.js";

/** Options of one submission; those of `TaskOptions` override the definition's. */
export interface NewTaskOptions<Task extends TaskDefinition = TaskDefinition> extends TaskOptions {
  /** A UUID of one's own: submitting it again is the same task. Default: made by the SDK. */
  readonly id?: string;
  /** Unique in namespace and name while its task is unfinished (and for `keyHold` after). At most 256 bytes. */
  readonly key?: string;
  /** What happens when the key is taken. Default `return_existing`. */
  readonly onConflict?: "return_existing" | "reject" | "replace_pending";
  /** Not before this time. `{ in }` is counted by this process's clock. Default: at once. */
  readonly scheduleTime?: TimeInput;
  /** At most 16; keys and values at most 128 bytes. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Execution metadata that the first attempt starts from. */
  readonly executionMetadata?: ExecutionMetadataInput<Task>;
}

/** One of many submissions. */
export interface SubmitItem<Task extends TaskDefinition> extends NewTaskOptions<Task> {
  /** What the handler gets. */
  readonly metadata: MetadataInput<Task>;
}

const CONFLICT_POLICIES = {
  return_existing: KeyConflictPolicy.RETURN_EXISTING,
  reject: KeyConflictPolicy.REJECT,
  replace_pending: KeyConflictPolicy.REPLACE_PENDING,
} as const;

/**
 * A NewTask with an id.
 *
 * @throws LeaseholdError INVALID_ARGUMENT with all violations; paths begin with `path` (for one of many: `[3].`).
 */
export async function newTaskFrom<Task extends TaskDefinition>(
  task: Task,
  metadata: MetadataInput<Task>,
  options: NewTaskOptions<Task>,
  using: { readonly clock: Clock; readonly payloads: Payloads; readonly path?: string },
): Promise<NewTask> {
  const prefix = using.path ?? "";
  const violations: Violation[] = [];
  const merged = mergeTaskOptions(task.options, options);
  checkTaskOptions(merged, prefix.replace(/\.$/, ""), violations);
  checkOwnOptions(options, prefix, violations);
  const scheduleTime =
    options.scheduleTime === undefined ? undefined : timeFrom(options.scheduleTime, `${prefix}scheduleTime`, violations, using.clock);
  const given = options.executionMetadata;
  const { payloads } = using;
  // With an id of the user's own the whole submission may be made again, and must then be the same.
  const seed = options.id;
  const writtenMetadata =
    metadata === undefined && task.metadata === undefined
      ? undefined
      : await writtenFrom(payloads, task.metadata, metadata, `${prefix}metadata`, violations);
  const writtenExecutionMetadata =
    given === undefined ? undefined : await writtenFrom(payloads, task.executionMetadata, given, `${prefix}executionMetadata`, violations);
  if (given === undefined) violations.push(...(await startViolations(task, prefix)));
  if (violations.length > 0) throw invalid(violations, { taskName: task.name });
  return NewTask.create({
    taskId: options.id ?? newTaskId(using.clock.now(), options.key),
    name: task.name,
    queue: merged.queue ?? "",
    metadata: writtenMetadata && (await payloads.encode(writtenMetadata, seed)),
    executionMetadata: writtenExecutionMetadata && (await payloads.encode(writtenExecutionMetadata, seed)),
    // Compared when the key is taken, for nothing else.
    metadataFingerprint: (options.key !== undefined && writtenMetadata && (await payloads.fingerprint(writtenMetadata))) || Buffer.alloc(0),
    labels: options.labels ?? {},
    priority: merged.priority ?? 0,
    scheduleTime,
    deadlines: merged.deadlines && deadlinesFrom(merged.deadlines, "", []),
    retryPolicy: merged.retry && retryPolicyFrom(merged.retry, "", []),
    key: options.key ?? "",
    // What is left out stays out: the server's default is the contract's.
    keyConflictPolicy: options.onConflict === undefined ? KeyConflictPolicy.UNSPECIFIED : CONFLICT_POLICIES[options.onConflict],
    keyHold: merged.keyHold === undefined ? undefined : durationFromMs(durationMs(merged.keyHold, "", [])),
  });
}

function checkOwnOptions(options: NewTaskOptions, prefix: string, violations: Violation[]): void {
  if (options.id !== undefined && !isUuid(options.id)) violations.push({ path: `${prefix}id`, message: "must be a UUID" });
  if (options.key !== undefined) checkText(options.key, `${prefix}key`, 256, violations);
  if (options.onConflict !== undefined && !(options.onConflict in CONFLICT_POLICIES)) {
    violations.push({ path: `${prefix}onConflict`, message: `must be one of ${Object.keys(CONFLICT_POLICIES).join(", ")}` });
  }
  const labels = Object.entries(options.labels ?? {});
  if (labels.length > 16) violations.push({ path: `${prefix}labels`, message: "must be at most 16" });
  for (const [name, value] of labels) {
    // The protobuf encoder would drop it in silence.
    if (name === "__proto__") violations.push({ path: `${prefix}labels.__proto__`, message: "is not a possible name" });
    checkText(name, `${prefix}labels (name ${JSON.stringify(name)})`, 128, violations);
    checkText(value, `${prefix}labels.${name}`, 128, violations);
  }
}

/** Refuses what the server refuses in names, keys and labels: empty or too long, U+0000, U+FFFD, lone surrogates. */
function checkText(value: unknown, path: string, mostBytes: number, violations: Violation[]): void {
  if (typeof value !== "string") violations.push({ path, message: "must be a string" });
  else if (value === "") violations.push({ path, message: "must not be empty" });
  else if (Buffer.byteLength(value, "utf8") > mostBytes) violations.push({ path, message: `must be at most ${String(mostBytes)} bytes` });
  else if (/\ufffd|\p{Surrogate}/u.test(value) || value.includes("\0"))
    violations.push({ path, message: "must not contain U+0000, U+FFFD or a lone surrogate" });
}

async function startViolations(task: TaskDefinition, prefix: string): Promise<readonly Violation[]> {
  const start = await startingExecutionMetadata(task);
  if (start.violations === undefined) return [];
  return [{ path: `${prefix}executionMetadata`, message: "must be given: its schema accepts neither {} nor undefined to begin with" }];
}

/** A value that JSON and the schema accept; else the violations are added. */
async function writtenFrom(
  payloads: Payloads,
  schema: Schema | undefined,
  value: unknown,
  path: string,
  violations: Violation[],
): Promise<Written | undefined> {
  let written: Written;
  try {
    written = payloads.write(value, path);
  } catch (error) {
    violations.push(...LeaseholdError.from(error).violations);
    return undefined;
  }
  const refused = schema && (await parseWithSchema(schema, written.value, path)).violations;
  if (refused === undefined) return written;
  violations.push(...refused);
  return undefined;
}
