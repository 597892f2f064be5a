// How do submissions made at the same time travel together?
//
// All that are made in one turn of the event loop leave in one SubmitTasks with `atomic` = false, cut below 1,000 tasks and below the
// message limit; a lone one goes as SubmitTask. Nobody waits for a timer. Each gets its own answer, and what may be tried again is tried
// again for the whole batch at once, so that a burst stays a burst.
import type { Status } from "@leasehold/proto/google/rpc/status";
import {
  type NewTask,
  NewTask as NewTaskMessage,
  type SubmitTaskResponse,
  type SubmitTasksResult,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import { type Caller, type CallScope, callWithin, mayRetry, retryDelayMs } from "./call.js";
import { atEndOfTurn, sleep } from "./clock.js";
import { LeaseholdError } from "./errors.js";
import type { ServerLimits } from "./server-limits.js";
import { errorFromStatus } from "./status.js";

/** Most tasks of one SubmitTasks. */
const MOST_TASKS = 1_000;
/** Share of the largest message that one SubmitTasks may fill: above the largest single task, with room for what travels around it. */
const MESSAGE_SHARE = 3 / 4;

/** A stored task, and whether this submission stored it. */
export type Submitted = Required<Pick<SubmitTaskResponse, "created">> & { readonly task: NonNullable<SubmitTaskResponse["task"]> };

interface Waiting {
  readonly task: NewTask;
  readonly bytes: number;
  readonly scope: CallScope;
  settled: boolean;
  resolve(submitted: Submitted): void;
  reject(error: LeaseholdError): void;
}

/** Gathers submissions. */
export interface SubmissionBatch {
  /** Stores a task within the scope. Rejects with the answer for this task alone. */
  submit(task: NewTask, scope: CallScope): Promise<Submitted>;
}

/** Makes the gatherer of a client. */
export function createSubmissionBatch(caller: Caller, limits: ServerLimits): SubmissionBatch {
  let waiting: Waiting[] = [];
  const leave = (): void => {
    const gathered = waiting;
    waiting = [];
    const [first] = gathered;
    if (first === undefined) return;
    if (gathered.length === 1) void sendAlone(caller, first);
    else for (const batch of cut(gathered, limits.messageBytes * MESSAGE_SHARE)) void sendTogether(caller, batch);
  };
  return {
    submit(task, scope) {
      if (waiting.length === 0) atEndOfTurn(leave);
      return new Promise((resolve, reject) => {
        const one: Waiting = {
          task,
          bytes: NewTaskMessage.encode(task).finish().length + 8,
          scope,
          settled: false,
          resolve(submitted) {
            one.settled = true;
            resolve(submitted);
          },
          reject(error) {
            one.settled = true;
            reject(error);
          },
        };
        scope.signal.addEventListener("abort", () => one.reject(LeaseholdError.from(scope.signal.reason)), { once: true });
        waiting.push(one);
      });
    },
  };
}

function cut(gathered: readonly Waiting[], mostBytes: number): Waiting[][] {
  const batches: Waiting[][] = [];
  let batch: Waiting[] = [];
  let bytes = 0;
  for (const one of gathered) {
    if (batch.length > 0 && (batch.length === MOST_TASKS || bytes + one.bytes > mostBytes)) {
      batches.push(batch);
      batch = [];
      bytes = 0;
    }
    batch.push(one);
    bytes += one.bytes;
  }
  return [...batches, batch];
}

async function sendAlone(caller: Caller, one: Waiting): Promise<void> {
  if (one.settled) return;
  try {
    const response = await callWithin(caller, one.scope, TaskServiceService.submitTask, { task: one.task });
    answer(one, { task: response.task, created: response.created, error: undefined });
  } catch (error) {
    one.reject(LeaseholdError.from(error));
  }
}

async function sendTogether(caller: Caller, batch: readonly Waiting[]): Promise<void> {
  let open = batch;
  for (let attempt = 0; ; attempt += 1) {
    open = open.filter((one) => !one.settled);
    if (open.length === 0) return;
    const again = await tryTogether(caller, open, attempt + 1);
    open = again.map(({ one }) => one);
    // The longest delay that any of them was given: apart they would no longer be one burst.
    const delayMs = Math.max(0, ...again.map(({ error }) => retryDelayMs(attempt, error, caller.random)));
    for (const { one, error } of again) if (delayMs >= (one.scope.remainingMs() ?? Infinity)) one.reject(error);
    if (open.every((one) => one.settled)) return;
    await sleep(caller.clock, delayMs);
  }
}

/** Sends once; settles what is final and returns what may be sent again. */
async function tryTogether(
  caller: Caller,
  open: readonly Waiting[],
  attempt: number,
): Promise<readonly { one: Waiting; error: LeaseholdError }[]> {
  let results: readonly SubmitTasksResult[];
  try {
    const deadlineMs = Math.max(...open.map((one) => one.scope.remainingMs() ?? Infinity));
    const request = { tasks: open.map((one) => one.task), atomic: false };
    const options = { deadlineMs: Number.isFinite(deadlineMs) ? deadlineMs : undefined, attempt };
    ({ results } = await caller.transport.unary(TaskServiceService.submitTasks, request, options));
  } catch (thrown) {
    const error = LeaseholdError.from(thrown);
    if (mayRetry(error)) return open.map((one) => ({ one, error }));
    for (const one of open) one.reject(error);
    return [];
  }
  const again: { one: Waiting; error: LeaseholdError }[] = [];
  for (const [index, one] of open.entries()) {
    const result = results[index];
    const error = result?.error && refusal(one, result.error);
    if (error !== undefined && mayRetry(error)) again.push({ one, error });
    else answer(one, result);
  }
  return again;
}

function answer(one: Waiting, result: SubmitTasksResult | undefined): void {
  if (result?.error !== undefined) one.reject(refusal(one, result.error));
  else if (result?.task === undefined)
    one.reject(new LeaseholdError({ code: "INTERNAL", message: "the server gave no answer for this task" }));
  else one.resolve({ task: result.task, created: result.created });
}

/** The refusal of one submission, in words that know nothing of the others that it travelled with. */
function refusal({ task }: Waiting, status: Status): LeaseholdError {
  const alone = (text: string): string => text.replaceAll(/\btasks\[\d+\]/g, "task");
  const about = { taskId: task.taskId, taskName: task.name };
  const { violations } = errorFromStatus(status, about);
  return errorFromStatus(status, {
    ...about,
    ...(status.message === "" ? {} : { message: alone(status.message) }),
    violations: violations.map(({ path, message }) => ({ path: alone(path), message })),
  });
}
