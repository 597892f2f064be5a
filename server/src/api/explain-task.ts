// Why does a task not run? The facts are read from the database, the counting of slots is the dispatcher's, the answer is the domain's.

import { ExplanationCode as CodeMessage } from "@leasehold/proto/leasehold/v1/task_service";
import type { ExplainTaskRequest, ExplainTaskResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { freeSlotsFor } from "../dispatch/backpressure.js";
import type { Violation } from "../domain/event.js";
import type { Candidate, Circumstances, Explanation, ExplanationCode } from "../domain/explain.js";
import { explain } from "../domain/explain.js";
import type { LiveTask } from "../domain/task.js";
import type { WorkerRoom } from "../storage/queries.js";
import type { Storage } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";
import type { UnaryHandler } from "./call.js";
import { toTask } from "./convert-task.js";
import { toTimestamp } from "./convert-time.js";
import type { ReadParts } from "./read-tasks.js";
import { refuse, refuseViolations } from "./status.js";
import { parseReference, showReference } from "./validate-query.js";

const CODES = {
  RUNNING: CodeMessage.RUNNING,
  FINISHED: CodeMessage.FINISHED,
  NOT_DUE: CodeMessage.NOT_DUE,
  WAITING_FOR_TIME: CodeMessage.WAITING_FOR_TIME,
  WAITING_FOR_PROCEED: CodeMessage.WAITING_FOR_PROCEED,
  NO_WORKER_FOR_NAME: CodeMessage.NO_WORKER_FOR_NAME,
  NO_WORKER_FOR_QUEUE: CodeMessage.NO_WORKER_FOR_QUEUE,
  ALL_SLOTS_BUSY: CodeMessage.ALL_SLOTS_BUSY,
  QUEUE_PAUSED: CodeMessage.QUEUE_PAUSED,
  ISOLATED: CodeMessage.ISOLATED,
  ABOUT_TO_RUN: CodeMessage.ABOUT_TO_RUN,
} as const satisfies Record<ExplanationCode, CodeMessage>;

/** ExplainTask. */
export function explainTask({ storage, config }: ReadParts): UnaryHandler<ExplainTaskRequest, ExplainTaskResponse> {
  return async (request, context) => {
    const violations: Violation[] = [];
    const reference = parseReference(request.task, "task", context.namespace, violations);
    refuseViolations(violations);
    const task = await storage.readTask(reference, false, context);
    if (task === null) return refuse("TASK_NOT_FOUND", { resource: showReference(reference) });
    const around = task.state === "PENDING" ? await circumstancesOf(storage, task.live, context) : NOWHERE;
    const explanations = explain({ ...around, task: task.live, finish: task.finish });
    return { task: toTask(task, "BASIC", config.retentionUs), explanations: explanations.map(toExplanation) };
  };
}

type Around = Pick<Circumstances, "nowUs" | "candidates" | "tasksAhead" | "pausedSinceUs">;

// Nobody can pause a queue yet.
const NOWHERE: Around = { nowUs: 0, candidates: [], tasksAhead: 0, pausedSinceUs: null };

async function circumstancesOf(storage: Storage, task: LiveTask, caller: Caller): Promise<Around> {
  const { nowUs, workers } = await storage.surroundings(task, caller);
  const takers = workers.filter((worker) => takesFrom(worker, task.queue));
  const due = task.runAtUs === null || task.runAtUs <= nowUs;
  const names = [...new Set(takers.flatMap(({ handlers }) => handlers))];
  const tasksAhead = due && names.length > 0 ? await storage.tasksAhead(task, names, caller) : 0;
  return { nowUs, candidates: workers.map((worker) => candidateOf(worker, task)), tasksAhead, pausedSinceUs: null };
}

function takesFrom({ queues }: WorkerRoom, queue: string): boolean {
  return queues.length === 0 || queues.includes(queue);
}

function candidateOf(worker: WorkerRoom, { queue, identity: { name } }: LiveTask): Candidate {
  const { slots, ownSlots, held, heldOfName, holdsSuspect } = worker;
  const free = freeSlotsFor(
    {
      total: slots,
      byName: new Map(ownSlots === null ? [] : [[name, ownSlots]]),
      held,
      heldByName: new Map([[name, heldOfName]]),
      // A call of LeaseTasks takes tasks once.
      paused: worker.unary && held > 0,
    },
    name,
  );
  return { takesFromQueue: takesFrom(worker, queue), free, holdsSuspect };
}

function toExplanation({ code, message, sinceUs, untilUs, tasksAhead }: Explanation): ExplainTaskResponse["explanations"][number] {
  return { code: CODES[code], message, sinceTime: toTimestamp(sinceUs), untilTime: toTimestamp(untilUs), tasksAhead };
}
