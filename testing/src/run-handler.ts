// How is one handler tested with no server at all? A worker of the SDK runs it, as it would run any: payloads are encoded, schemas asked, what it
// returns becomes a report. Only the other side is a script, which answers every report and keeps them all.

import {
  createClient,
  createWorker,
  type ExecutionMetadataOf,
  type HandlerContext,
  type ProgressInput,
  type StopReason,
  type TaskDefinition,
  type TaskHandler,
  type Worker,
} from "@leasehold/client";
import { captured } from "@leasehold/client/kit";
import { RevocationReason } from "@leasehold/proto/leasehold/v1/worker_service";
import { leaseFrom } from "./lease-from.js";
import { LoneServer } from "./lone-server.js";
import type { RunOptions } from "./run-options.js";
import { outcomeReader, type RunOutcome } from "./run-outcome.js";

/** What a run did. */
export interface HandlerRun<Task extends TaskDefinition> {
  /** How it ended. */
  readonly outcome: RunOutcome<Task>;
  /** What it saved, in order, as the next run would read it. */
  readonly checkpoints: readonly ExecutionMetadataOf<Task>[];
  /** What it said about how far it is, all of it. */
  readonly progress: readonly ProgressInput[];
  /** Why it was told to stop, if it was. */
  readonly stops: readonly StopReason[];
}

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const REVOCATIONS = { lease_lost: RevocationReason.LEASE_LOST, attempt_deadline: RevocationReason.ATTEMPT_DEADLINE } as const;

/**
 * Runs a handler once, without a server, and says what it did. It never rejects for what the handler does: a throw is the outcome `failed`.
 *
 * @throws LeaseholdError INVALID_ARGUMENT for what is given, with paths: metadata that JSON or its schema refuses is what no submitter could send.
 */
export async function runHandler<Task extends TaskDefinition>(
  task: Task,
  handler: TaskHandler,
  options: RunOptions<Task>,
): Promise<HandlerRun<Task>> {
  if (handler.task.name !== task.name) throw new TypeError(`the handler is for ${handler.task.name}, not for ${task.name}`);
  const progress: ProgressInput[] = [];
  let context: HandlerContext | undefined;
  let ended: () => void = () => undefined;
  const end = new Promise<void>((resolve) => (ended = resolve));
  const watched: TaskHandler = {
    ...handler,
    run: async (given: HandlerContext) => {
      context = given;
      const tell = (said: ProgressInput): void => {
        given.progress(said);
        progress.push(said);
      };
      try {
        // A copy with its getters. The handler takes the context of its own definition, which this one is.
        const watching = { ...Object.getOwnPropertyDescriptors(given), progress: { value: tell, enumerable: true } };
        return await handler.run(Object.create(null, watching) as never);
      } finally {
        ended();
      }
    },
  };
  const reader = outcomeReader(task, options.checkpointed);
  const server = new LoneServer((report) => reader.read(report));
  const client = createClient({
    logger: options.logger ?? SILENT,
    transport: server.transport(),
    ...(options.codecs === undefined ? {} : { codecs: options.codecs }),
  });
  reader.use(client["~connection"].payloads);
  const lease = await leaseFrom(task, options, client["~connection"].payloads);
  const worker = createWorker({ client, handlers: [watched], middleware: options.middleware ?? [] });
  const running = worker.run();
  await worker.ready();
  const { when, why = "cancelled" } = options.stop ?? {};
  const stop = (): void => {
    if (why === "cancelled") server.cancel(String(when?.reason ?? ""));
    else if (why === "shutdown") void worker.drain({ grace: 0 });
    else server.revoke(REVOCATIONS[why]);
  };
  when?.addEventListener("abort", stop, { once: true });
  try {
    server.lease(lease);
    if (when?.aborted === true) stop();
    // A handler whose lease is gone ends without a report; what it cannot read is reported without it.
    await Promise.race([reader.reported, end.then(() => afterLastReport(worker))]);
    const outcome = await reader.outcome();
    return { outcome, checkpoints: await reader.checkpoints(), progress, stops: context?.stops ?? [] };
  } finally {
    when?.removeEventListener("abort", stop);
    await worker.drain({ grace: 0 });
    await running;
    client.close();
  }
}

/** So many turns of the event loop take a report from the end of a run to the server. */
const REPORT_TURNS = 10;

/** Resolves when no report can come any more of a handler that has ended. */
async function afterLastReport(worker: Worker): Promise<void> {
  const turn = (): Promise<void> => new Promise((resolve) => captured.setImmediate(() => resolve()));
  while (worker.state.running.length > 0) await turn();
  for (let turns = 0; turns < REPORT_TURNS; turns += 1) await turn();
}
