// A worker as a user would write it, in a process of its own that tests may kill, freeze and stop. Its first argument is JSON: see `WorkerProgram`.
// SIGUSR2 makes it say its state.
import { createClient, createWorker } from "@leasehold/client";
import { handlersFor, say } from "./handlers.js";

/** What the program is told. */
export interface WorkerProgram {
  readonly addresses: readonly string[];
  readonly name: string;
  /** Default 2 s, the shortest there is. */
  readonly sessionTtl?: `${number}s`;
  /** Default 10. */
  readonly concurrency?: number;
  /** Default 2 s. */
  readonly grace?: `${number}s` | 0;
  /** Task names; default all of tasks.ts. */
  readonly tasks?: readonly string[];
}

const program = JSON.parse(process.argv[2] ?? "{}") as WorkerProgram;
const { name, addresses, sessionTtl = "2s", concurrency = 10, grace = "2s", tasks } = program;
const client = createClient({ addresses });
const worker = createWorker({ client, handlers: handlersFor(name, tasks), concurrency, sessionTtl, grace, name });

process.on("SIGUSR2", () => say(`state ${JSON.stringify(worker.state)}`));
const run = worker.run();
worker.ready().then(
  () => say("ready"),
  () => undefined,
);
await run;
say("stopped");
client.close();
