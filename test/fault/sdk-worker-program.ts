// A worker of the SDK in a process of its own, whose stream is written down message by message. Its argument is JSON: see `FaultWorkerProgram`.
import { setTimeout as pause } from "node:timers/promises";
import { ServerMessage, WorkerMessage, WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import { createGrpcTransport } from "../../client/src/grpc-transport.js";
import {
  createClient,
  createWorker,
  defineTask,
  handle,
  type HandlerContext,
  type HandlerOutcome,
  type TaskHandler,
  type Transport,
  type,
} from "../../client/src/index.js";
import { type Journal, openJournal } from "./history.js";
import { type Ending, type Kind, KINDS, nameOf, play, type Saved, type Work } from "./kinds.js";
import { noteStream } from "./wire.js";

/** What a worker program of a run with faults is told. */
export interface FaultWorkerProgram {
  readonly addresses: readonly string[];
  readonly who: string;
  readonly journal: string;
  readonly ttlMs: number;
  readonly slots: number;
  /** How a worker without the SDK behaves. */
  readonly manner?: "good" | "mute" | "unread";
}

/** The same transport, with an entry for each message of a worker's stream. */
function noted(transport: Transport, journal: Journal, who: string): Transport {
  return {
    ...transport,
    stream: (method, events) => {
      if (method.path !== WorkerServiceService.executeTasks.path) return transport.stream(method, events);
      const notes = noteStream(journal, who);
      const reading = {
        ...method,
        requestSerialize: (message: Parameters<typeof method.requestSerialize>[0]) => {
          const bytes = method.requestSerialize(message);
          notes.sending(WorkerMessage.decode(bytes));
          return bytes;
        },
        responseDeserialize: (bytes: Buffer) => {
          notes.received(ServerMessage.decode(bytes));
          return method.responseDeserialize(bytes);
        },
      };
      return transport.stream(reading, {
        ...events,
        closed: (error) => {
          notes.closed(error === undefined ? "OK" : `${error.code} ${error.reason ?? ""}`);
          events.closed(error);
        },
      });
    },
  };
}

interface Done {
  n: number;
  worker: string;
  fencing: number;
  saved: Saved;
}

function definitionOf(kind: Kind) {
  return defineTask({
    name: nameOf(kind),
    metadata: type<Work>(),
    executionMetadata: type<Saved>(),
    result: type<Done>(),
    errors: { flaky: type<{ attempt: number }>(), hopeless: type<{ attempt: number }>() },
  });
}

type FaultTask = ReturnType<typeof definitionOf>;

function handlerOf(kind: Kind, worker: string): TaskHandler {
  return handle(definitionOf(kind), async (ctx) => {
    const steps = play(ctx.metadata, ctx.executionMetadata.current, ctx.attempt);
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return ending(ctx, worker, value);
      if (value.step === "die") process.kill(process.pid, "SIGKILL");
      else if (value.step === "save") await ctx.executionMetadata.checkpoint(value.saved);
      else await pause(value.ms, undefined, ctx.metadata.deaf === true ? {} : { signal: ctx.signal });
    }
  });
}

function ending(ctx: HandlerContext<FaultTask>, worker: string, how: Ending): Done | HandlerOutcome {
  const { attempt, metadata, executionMetadata, fencingToken } = ctx;
  switch (how.end) {
    case "complete":
      return { n: metadata.n, worker, fencing: Number(fencingToken), saved: executionMetadata.current };
    case "fail":
      return how.retryable ? ctx.fail("flaky", { attempt }) : ctx.fail("hopeless", { attempt }, { retry: false });
    case "suspend":
      return how.afterMs === undefined
        ? ctx.suspend({ untilProceeded: true, executionMetadata: how.saved })
        : ctx.suspend({ until: { in: `${how.afterMs}ms` }, executionMetadata: how.saved });
  }
}

const program = JSON.parse(process.argv[2] ?? "{}") as FaultWorkerProgram;
const { addresses, who, ttlMs, slots } = program;
const journal = openJournal(program.journal);
const client = createClient({ transport: noted(createGrpcTransport({ addresses }), journal, who) });
const worker = createWorker({
  ...{ client, concurrency: slots, sessionTtl: `${ttlMs}ms`, grace: "1s", name: who },
  handlers: KINDS.map((kind) => handlerOf(kind, who)),
});
const run = worker.run();
worker.ready().then(
  () => process.stdout.write("ready\n"),
  () => undefined,
);
await run;
process.stdout.write("stopped\n");
client.close();
