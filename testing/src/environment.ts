// What does a test get that needs a whole Leasehold? A server, a database, a client and a worker in its own process, with a clock that it moves.

import {
  type Client,
  type ClientOptions,
  createClient,
  createWorker,
  LeaseholdError,
  type TaskHandler,
  type Worker,
  type WorkerOptions,
} from "@leasehold/client";
import { expireSessions, holderOf, leap, nextDueUs } from "@leasehold/server/storage/embedded-schema";
import { Activity } from "./activity.js";
import { seededChance } from "./chance.js";
import { SteppingClock, type TestClock } from "./clock.js";
import { FailingCalls, type Faults, faultsOf } from "./faults.js";
import { sharedDatabase } from "./pglite.js";
import { giveSchemaBack, takeSchema } from "./schemas.js";
import { type ServerSettings, startServer } from "./server.js";
import { InProcessNetwork } from "./transport.js";
import { realNowMs, VirtualTime } from "./virtual-time.js";

/** Options of a client in an environment: those that are not about the network. */
export type TestClientOptions = Omit<
  ClientOptions,
  "address" | "addresses" | "token" | "tls" | "transport" | "clock" | "random" | "namespace"
>;
/** Options of a worker in an environment. */
export type TestWorkerOptions = Omit<WorkerOptions, "client" | "health"> & { readonly client?: Client };

/** Options of `createTestEnv`. */
export interface TestEnvOptions {
  /** Run by `env.worker` from the start. Left out: no worker runs until `env.startWorker`. */
  readonly handlers?: readonly TaskHandler[];
  /** Options of `env.worker` beside its handlers: concurrency, middleware, queues, grace. */
  readonly worker?: Omit<TestWorkerOptions, "handlers">;
  /** Options of `env.client`: codecs, interceptors, bigints, logger. Nothing is logged unless there is a logger. */
  readonly client?: TestClientOptions;
  /** Settings of the server by their names in docs/configuration.md. */
  readonly settings?: ServerSettings;
  /** When the environment's time begins. Default: now. */
  readonly now?: Date;
  /** Where jitter comes from: the same seed, the same delays. Default 1. */
  readonly seed?: number;
}

/** A whole Leasehold in the test's process. */
export interface TestEnv extends AsyncDisposable {
  /** Submits tasks and finds them again. */
  readonly client: Client;
  /** Runs `handlers`; undefined without any. */
  readonly worker: Worker | undefined;
  /** The time of everything in here. */
  readonly clock: TestClock;
  /** What can be made to go wrong. */
  readonly faults: Faults;
  /**
   * Resolves when all that can happen without time passing has happened: what is due has run, what was reported has its verdict. A handler that
   * still runs then, because it waits for time, its signal or the test, is left running after nothing moved for 100 ms. Rejects when a worker failed.
   */
  settled(): Promise<void>;
  /** Starts one more worker, and resolves when it is connected. It ends with the environment. */
  startWorker(options: TestWorkerOptions): Promise<Worker>;
  /** Ends everything. What `await using` does. */
  dispose(): Promise<void>;
}

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

/**
 * Makes an environment. The first one of a process takes some seconds, because it starts the database; each further one a fraction of a second.
 * Any number of them may be used at once; none sees another's tasks or time.
 *
 * @throws LeaseholdError INVALID_ARGUMENT for options of the client or worker; the server's ConfigError for a setting.
 */
export async function createTestEnv(options: TestEnvOptions = {}): Promise<TestEnv> {
  const database = await sharedDatabase();
  const activity = new Activity();
  const seed = options.seed ?? 1;
  const time = new VirtualTime(options.now?.getTime() ?? realNowMs(), seed, activity);
  const schema = await takeSchema(database, time.nowUs);
  // Counted here, so that an environment at rest has no statement under way.
  const counted: typeof database.alone = (work) => activity.track(database.alone(work));
  const own = { alone: counted };
  const serverClock = time.forServer();
  const server = await startServer(own, schema, { server: serverClock, storage: time.forStorage(serverClock) }, options.settings ?? {});
  const calls = new FailingCalls();
  const network = new InProcessNetwork(server.services, activity, calls, (delayMs, callback) => serverClock.after(delayMs, callback));
  const client = createClient({
    logger: SILENT,
    ...options.client,
    transport: network.transport(),
    clock: time.forClient(),
    random: seededChance(seed + 1),
  });
  const workers = new RunningWorkers(client);
  const clock: SteppingClock = new SteppingClock(time, activity, {
    alive: () => network.workerStreams.map(({ sessionId }) => sessionId).filter((id) => id !== "" && !network.cutOff),
    pulses: () => network.cutOff || !workers.connected(),
    busy: () => workers.busy(),
    lookAgain: () => {
      server.lookAgain();
    },
    nextDueUs: (nowUs, alive) => nextDueUs(own, schema, nowUs, alive),
    leap: (byUs, alive) => leap(own, schema, byUs, alive),
  });
  const faults = faultsOf(
    {
      clock,
      network,
      connected: () => workers.connected(),
      expire: (sessionIds) => expireSessions(own, schema, time.nowUs, sessionIds),
      holderOf: (taskId) => holderOf(own, schema, taskId),
    },
    calls,
  );
  let disposing: Promise<void> | undefined;
  const dispose = async (): Promise<void> => {
    network.cutOff = false;
    network.verdictDelayMs = 0;
    for (const stream of network.workerStreams) stream.letGo();
    await clock.inTurn(async () => {
      await clock.drive(workers.drain());
      client.close();
      await clock.drive(server.stop());
      await activity.quiet();
    });
    time.close();
    giveSchemaBack(database, schema);
  };
  const env: Omit<TestEnv, "worker"> = {
    client,
    clock,
    faults,
    settled: () =>
      clock.inTurn(async () => {
        await clock.settle();
        workers.check();
      }),
    startWorker: (workerOptions) => clock.inTurn(() => workers.start(workerOptions)),
    dispose: () => (disposing ??= dispose()),
    [Symbol.asyncDispose]: () => env.dispose(),
  };
  const { handlers } = options;
  try {
    return Object.assign(env, { worker: handlers && (await env.startWorker({ ...options.worker, handlers })) });
  } catch (error) {
    await env.dispose();
    throw error;
  }
}

/** The workers of an environment. */
class RunningWorkers {
  readonly #workers: { readonly worker: Worker; readonly ended: Promise<void> }[] = [];
  #failure: Error | undefined;

  constructor(private readonly client: Client) {}

  async start(options: TestWorkerOptions): Promise<Worker> {
    const worker = createWorker({ client: this.client, ...options });
    const ended = worker.run().catch((error: unknown) => {
      this.#failure ??= LeaseholdError.from(error);
    });
    this.#workers.push({ worker, ended });
    await worker.ready();
    return worker;
  }

  /** Whether every worker that did not stop is connected. */
  connected(): boolean {
    return this.#workers.every(({ worker }) => !["connecting", "disconnected"].includes(worker.state.status));
  }

  /** Whether a handler runs. */
  busy(): boolean {
    return this.#workers.some(({ worker }) => worker.state.running.length > 0);
  }

  /** Throws what made a worker end. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async drain(): Promise<void> {
    await Promise.all(this.#workers.map(({ worker }) => worker.drain({ grace: 0 })));
    await Promise.all(this.#workers.map(({ ended }) => ended));
  }
}
