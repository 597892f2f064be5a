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
import { newTask } from "../domain/new-task.js";
import type { Inserted, Storage } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";
import type { Log } from "../telemetry/log.js";
import type { CallContext, UnaryHandler } from "./call.js";
import { toTask } from "./convert-task.js";
import { refusalOf, refuse, RefusedCall, refuseViolations, toItemStatus } from "./status.js";
import { created, idOf, mostAnswerBytes, oneOfMany, readTasks, refusalOfConflict } from "./submit-answers.js";
import type { Submitted } from "./submit-answers.js";
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
/** The task that has an id or key may be removed before it is read; then the submission is tried again, at most so often. */
const MOST_TRIES = 5;

/** SubmitTask. */
export function submitTask(parts: SubmitParts): UnaryHandler<SubmitTaskRequest, SubmitTaskResponse> {
  return async ({ task }, context) => {
    if (task === undefined) return refuse("INVALID_FIELD", { violations: [{ field: "task", description: REQUIRED }] });
    const violations: Violation[] = [];
    const parsed = parse(parts, task, "task", context, 0, violations);
    refuseViolations(violations);
    return submitOne(parts, parsed, "task", await parts.commands.submit(parsed, context), context);
  };
}

/** SubmitTasks. */
export function submitTasks(parts: SubmitParts): UnaryHandler<SubmitTasksRequest, SubmitTasksResponse> {
  return async ({ tasks, atomic }, context) => {
    if (tasks.length === 0 || tasks.length > MAX_TASKS)
      refuse("INVALID_FIELD", { violations: [{ field: "tasks", description: `must be 1 to ${MAX_TASKS}` }] });
    const checked = tasks.map((task, index) => check(parts, task, index, context));
    const each = atomic === false;
    refuseTooLarge(checked, each, parts.config.limits.messageBytes);
    return { results: each ? await submitEach(parts, checked, context) : await submitAll(parts, checked, context) };
  };
}

// A microsecond apart, so that the ids of one call sort in its order.
function parse(
  { clock, config }: SubmitParts,
  task: NewTaskMessage,
  field: string,
  context: CallContext,
  index: number,
  violations: Violation[],
): NewTask {
  const nowUs = clock.nowUs();
  return newTask(parseSubmission(task, field, context, config, nowUs + index, violations), nowUs);
}

/** The answer of one submission. What existed is read, so that the answer shows it as it is now. */
async function submitOne(parts: SubmitParts, task: NewTask, field: string, first: Inserted, caller: Caller): Promise<Submitted> {
  let inserted = first;
  for (let turn = 1; ; turn++) {
    if (inserted.kind === "created") return created(parts, task, inserted);
    const refusal = refusalOfConflict(inserted, task, field);
    if (refusal !== null) throw new RefusedCall(refusal);
    const { namespace } = task.submission;
    const id = idOf(task.submission.id, inserted);
    const existing = await parts.storage.readTask({ namespace, id }, false);
    if (existing !== null) return { task: toTask(existing, "BASIC", parts.config.retentionUs), created: false };
    if (turn === MOST_TRIES) return refuse("CONFLICT", { resource: id, retryAfterMs: 0 });
    // Removed between the two statements: its id or key is free again.
    inserted = await parts.commands.submit(task, caller);
  }
}

// ---- many

/** One task of a call with its place, and what is wrong with it. */
interface Checked {
  readonly task: NewTask;
  readonly field: string;
  readonly violations: readonly Violation[];
}

/** One task of a call with what became of it. */
interface Settled extends Checked {
  readonly inserted: Inserted;
}

function check(parts: SubmitParts, message: NewTaskMessage, index: number, context: CallContext): Checked {
  const violations: Violation[] = [];
  const field = `tasks[${index}]`;
  return { task: parse(parts, message, field, context, index, violations), field, violations };
}

/** Refuses what could be stored but not answered: nobody would learn which of the tasks were. */
function refuseTooLarge(checked: readonly Checked[], each: boolean, messageBytes: number): void {
  const bytes = checked.reduce((sum, { task }) => sum + mostAnswerBytes(task, each), 0);
  if (bytes <= messageBytes) return;
  const description = `must be fewer at once: their answers may take ${bytes} bytes, more than a message of ${messageBytes} bytes holds`;
  refuse("INVALID_FIELD", { violations: [{ field: "tasks", description }] });
}

async function submitAll(parts: SubmitParts, checked: readonly Checked[], caller: Caller): Promise<SubmitTasksResult[]> {
  refuseViolations(checked.flatMap(({ violations }) => violations));
  const inserted = await parts.commands.submitAtomic(
    checked.map(({ task }) => task),
    caller,
  );
  const settled = checked.map((one, index) => ({ ...one, inserted: inserted[index] ?? UNKNOWN }));
  refuseConflicts(settled);
  const answers = await answerAll(parts, settled, caller);
  return answers.map((answer) => {
    // Everything is stored by now: only what was removed meanwhile can still be refused.
    if (answer instanceof RefusedCall) throw answer;
    return { ...answer, error: undefined };
  });
}

/** A storage that forgot to answer would be a bug; its task is then refused rather than taken for stored. */
const UNKNOWN: Inserted = { kind: "id-exists", sameContent: false };

/** Names the first task that stands against its call. What it met may be in the same call, and then was not stored either. */
function refuseConflicts(settled: readonly Settled[]): void {
  for (const { inserted, task, field } of settled) {
    const refusal = refusalOfConflict(inserted, task, field);
    if (refusal === null) continue;
    const own = settled.find((other) => other.task !== task && other.task.submission.id === refusal.resource);
    if (own === undefined) throw new RefusedCall(refusal);
    const path = inserted.kind === "key-taken" ? "key" : "task_id";
    refuse(refusal.reason, { violations: [{ field: `${field}.${path}`, description: `is that of ${own.field} in the same call` }] });
  }
}

async function submitEach(parts: SubmitParts, checked: readonly Checked[], caller: Caller): Promise<SubmitTasksResult[]> {
  const settled = await Promise.all(
    checked.map(async (one): Promise<Settled | RefusedCall> => {
      if (one.violations.length > 0) return new RefusedCall({ reason: "INVALID_FIELD", violations: one.violations });
      try {
        // The calls of one turn of the event loop are gathered into few statements by the dispatch room.
        const inserted = await parts.commands.submit(one.task, caller);
        const refusal = refusalOfConflict(inserted, one.task, one.field);
        return refusal === null ? { ...one, inserted } : new RefusedCall(refusal);
      } catch (error) {
        return new RefusedCall(refusalOf(error, parts.log, "SubmitTasks"));
      }
    }),
  );
  const answers = await answerAll(parts, settled, caller);
  return answers.map((answer) =>
    answer instanceof RefusedCall
      ? { task: undefined, created: false, error: toItemStatus(answer.refusal) }
      : { ...answer, error: undefined },
  );
}

/** Answers each by its task. What existed, or was replaced by a later one of the call, is read in few statements. */
async function answerAll(
  parts: SubmitParts,
  settled: readonly (Settled | RefusedCall)[],
  caller: Caller,
): Promise<(Submitted | RefusedCall)[]> {
  const stored = settled.filter((one): one is Settled => !(one instanceof RefusedCall));
  const replaced = new Set(stored.map(({ inserted }) => (inserted.kind === "created" ? inserted.replaced?.before.identity.id : undefined)));
  const isRead = ({ task, inserted }: Settled): boolean => inserted.kind !== "created" || replaced.has(task.submission.id);
  const toRead = stored.filter(isRead).map(({ task, inserted }) => idOf(task.submission.id, inserted));
  const [first] = stored;
  const found = first === undefined ? new Map<string, never>() : await readTasks(parts, first.task.submission.namespace, toRead);
  return Promise.all(
    settled.map(async (one) => {
      if (one instanceof RefusedCall) return one;
      const { task, inserted, field } = one;
      const existing = found.get(idOf(task.submission.id, inserted));
      if (existing !== undefined) return oneOfMany(parts, existing, inserted.kind === "created");
      return submitOne(parts, task, field, inserted, caller).catch(
        (error: unknown) => new RefusedCall(refusalOf(error, parts.log, "SubmitTasks")),
      );
    }),
  );
}
