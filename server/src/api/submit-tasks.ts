// How are tasks submitted? One, all or nothing, or each by itself: checked here, stored by the dispatch room, answered as they stand.

import type {
  NewTask as NewTaskMessage,
  SubmitTaskRequest,
  SubmitTaskResponse,
  SubmitTasksRequest,
  SubmitTasksResponse,
  SubmitTasksResult,
} from "@leasehold/proto/leasehold/v1/task_service";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { Violation } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import { conflictReason, newTask } from "../domain/new-task.js";
import type { Inserted, Storage } from "../storage/storage.js";
import type { Log } from "../telemetry/log.js";
import type { CallContext, UnaryHandler } from "./call.js";
import { storedNow, toTask } from "./convert-task.js";
import { submissionNotYet } from "./not-yet.js";
import { refusalOf, refuse, RefusedCall, refuseViolations, toStatusMessage } from "./status.js";
import { parseSubmission } from "./validate-submission.js";
import { REQUIRED } from "./validate-text.js";

/** What submitting works with. */
export interface SubmitParts {
  readonly storage: Storage;
  readonly commands: TaskCommands;
  readonly clock: Clock;
  readonly config: Config;
  readonly log: Log;
}

const MAX_TASKS = 1_000;

/** SubmitTask. */
export function submitTask(parts: SubmitParts): UnaryHandler<SubmitTaskRequest, SubmitTaskResponse> {
  return async ({ task }, context) => {
    if (task === undefined) return refuse("INVALID_FIELD", { violations: [{ field: "task", description: REQUIRED }] });
    return submitOne(parts, parse(parts, task, "task", context, 0), "task");
  };
}

/** SubmitTasks. */
export function submitTasks(parts: SubmitParts): UnaryHandler<SubmitTasksRequest, SubmitTasksResponse> {
  return async ({ tasks, atomic }, context) => {
    if (tasks.length === 0 || tasks.length > MAX_TASKS)
      refuse("INVALID_FIELD", { violations: [{ field: "tasks", description: `must be 1 to ${MAX_TASKS}` }] });
    const results = atomic === false ? await submitEach(parts, tasks, context) : await submitAll(parts, tasks, context);
    return { results };
  };
}

function parse(parts: SubmitParts, task: NewTaskMessage, field: string, context: CallContext, index: number): NewTask {
  const violations: Violation[] = [];
  const nowUs = parts.clock.nowUs();
  // A microsecond apart, so that the ids of one call sort in its order.
  const submission = parseSubmission(task, field, context, parts.config, nowUs + index, violations);
  refuseViolations(violations);
  const missing = submissionNotYet(task, field);
  if (missing !== null) throw new RefusedCall(missing);
  return newTask(submission, nowUs);
}

async function submitOne(
  parts: SubmitParts,
  task: NewTask,
  field: string,
): Promise<{ task: SubmitTaskResponse["task"]; created: boolean }> {
  return answer(parts, task, field, await parts.commands.submit(task));
}

/** The answer of one stored task. What existed is read, so that the answer shows it as it is now. */
async function answer(
  { storage, config }: SubmitParts,
  task: NewTask,
  field: string,
  inserted: Inserted,
): Promise<{ task: SubmitTaskResponse["task"]; created: boolean }> {
  if (inserted.kind === "created")
    return { task: toTask(storedNow(task, inserted.createTimeUs), "BASIC", config.retentionUs), created: true };
  refuseConflict(inserted, task, field);
  const { namespace } = task.submission;
  const id = inserted.kind === "key-taken" ? inserted.id : task.submission.id;
  const existing = await storage.readTask({ namespace, id }, false);
  // Removed between the two statements: its id or key is free again, so the same call may store it.
  if (existing === null) return refuse("CONFLICT", { resource: id, retryAfterMs: 0 });
  return { task: toTask(existing, "BASIC", config.retentionUs), created: false };
}

function refuseConflict(inserted: Inserted, { submission }: NewTask, field: string): void {
  if (inserted.kind === "created") return;
  const reason = conflictReason(submission.keyConflictPolicy, inserted);
  if (reason === null) return;
  const [path, description] =
    inserted.kind === "id-exists" ? ["task_id", "names another task with other content"] : ["key", "is the key of another task"];
  refuse(reason, {
    resource: inserted.kind === "key-taken" ? inserted.id : submission.id,
    violations: [{ field: `${field}.${path}`, description }],
  });
}

// ---- all or nothing

async function submitAll(parts: SubmitParts, messages: readonly NewTaskMessage[], context: CallContext): Promise<SubmitTasksResult[]> {
  const violations: Violation[] = [];
  const nowUs = parts.clock.nowUs();
  const tasks = messages.map((message, index) =>
    newTask(parseSubmission(message, `tasks[${index}]`, context, parts.config, nowUs + index, violations), nowUs),
  );
  refuseViolations(violations);
  messages.forEach((message, index) => {
    const missing = submissionNotYet(message, `tasks[${index}]`);
    if (missing !== null) throw new RefusedCall(missing);
  });
  const firstOf = firstWithId(tasks);
  const unique = tasks.filter((_, index) => firstOf[index] === index);
  const inserted = await parts.commands.submitAtomic(unique);
  const byTask = new Map(unique.map((task, index) => [task, inserted[index]] as const));
  tasks.forEach((task, index) => refuseConflict(outcomeOf(byTask, task), task, `tasks[${index}]`));
  return Promise.all(
    tasks.map(async (task, index) => {
      const first = tasks[firstOf[index] ?? index] ?? task;
      const result = await answer(parts, first, `tasks[${index}]`, outcomeOf(byTask, first));
      return { ...result, created: result.created && first === task, error: undefined };
    }),
  );
}

function outcomeOf(outcomes: ReadonlyMap<NewTask, Inserted | undefined>, task: NewTask): Inserted {
  return outcomes.get(task) ?? { kind: "id-exists", sameContent: true };
}

/** For each task the index of the first with its id. The same id with other content within one call is refused. */
function firstWithId(tasks: readonly NewTask[]): number[] {
  const seen = new Map<string, number>();
  return tasks.map((task, index) => {
    const { submission } = task;
    const first = seen.get(submission.id);
    if (first === undefined) {
      seen.set(submission.id, index);
      return index;
    }
    const [a, b] = [tasks[first]?.submission.contentHash, submission.contentHash];
    const same = a !== undefined && a !== null && b !== null && Buffer.compare(a, b) === 0;
    refuseConflict({ kind: "id-exists", sameContent: same }, task, `tasks[${index}]`);
    return first;
  });
}

// ---- each by itself

async function submitEach(parts: SubmitParts, messages: readonly NewTaskMessage[], context: CallContext): Promise<SubmitTasksResult[]> {
  return Promise.all(
    messages.map(async (message, index) => {
      try {
        const field = `tasks[${index}]`;
        // The calls of one turn of the event loop are gathered into few statements by the dispatch room.
        return { ...(await submitOne(parts, parse(parts, message, field, context, index), field)), error: undefined };
      } catch (error) {
        return { task: undefined, created: false, error: toStatusMessage(refusalOf(error, parts.log, "SubmitTasks")) };
      }
    }),
  );
}
