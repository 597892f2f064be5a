// What does a measurement stand on? A database, real servers and workers, and proxies between them; all of it goes at the end. Works within a
// test, which brings its database, and from the command line, where Postgres is the measurement's own.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import type { WorkerProgram } from "../../e2e/programs/worker.js";
import { environment, startProcess, typescriptArguments, type StartedProcess } from "../../support/child-process.js";
import { startDatabaseProxy, type DatabaseProxy } from "../../support/database-proxy.js";
import { startOwnPostgres, type OwnPostgres, type OwnPostgresOptions } from "../../support/own-postgres.js";
import { startServerProcess, type ServerProcess, type ServerProcessOptions } from "../../support/server-process.js";

/** A worker of test/e2e/programs in a process of its own. */
export interface StageWorker extends StartedProcess {
  readonly name: string;
  /** How often it said this of a task. */
  times(word: string, taskId: string): number;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

/** Where a measurement takes place. */
export interface Stage {
  /** A folder for marks and gates. */
  readonly folder: string;
  /** The database without anything in between. */
  url(): string;
  /** Starts a server and waits until it is ready. */
  server(options?: Partial<ServerProcessOptions>): Promise<ServerProcess>;
  /** Starts a worker and waits until it is connected. TTL 2 s unless it says otherwise. */
  worker(program: Partial<WorkerProgram> & Pick<WorkerProgram, "addresses">): Promise<StageWorker>;
  /** A proxy in front of the database; it follows a Postgres that is started again. */
  database(): Promise<DatabaseProxy>;
  /** Rows of a query; names are looked up in Leasehold's schema. */
  rows<Row extends object>(query: string, parameters?: readonly unknown[]): Promise<Row[]>;
  /** Kills Postgres as a crash would. Only where it is the stage's own. */
  killPostgres(): Promise<void>;
  /** Starts it again on its data, and aims the proxies at it. */
  restartPostgres(): Promise<void>;
  /** Something to undo at the end, last added first. */
  undo(step: () => Promise<unknown> | undefined): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a stage is built on. */
export interface StageOptions {
  /** A migrated database that is somebody else's; default a Postgres of its own. */
  readonly databaseUrl?: string;
  /** How the own Postgres differs from the usual. */
  readonly postgres?: OwnPostgresOptions;
}

/** Builds a stage. */
export async function openStage({ databaseUrl, postgres: wanted = {} }: StageOptions = {}): Promise<Stage> {
  const steps: (() => Promise<unknown> | undefined)[] = [];
  const undo = (step: () => Promise<unknown> | undefined): void => void steps.push(step);
  const proxies: DatabaseProxy[] = [];
  const folder = await mkdtemp(join(tmpdir(), "leasehold-measure-"));
  undo(() => rm(folder, { recursive: true, force: true }));
  let own: OwnPostgres | undefined = databaseUrl === undefined ? await startOwnPostgres(wanted) : undefined;
  undo(() => own?.remove());
  const theOwn = (): OwnPostgres => {
    if (own === undefined) throw new Error("the Postgres is not the stage's own");
    return own;
  };
  const url = (): string => databaseUrl ?? theOwn().url;
  let workers = 0;

  return {
    folder,
    url,
    undo,
    server: async (options) => {
      const server = await startServerProcess({ databaseUrl: url(), ...options });
      undo(() => server.kill());
      return server;
    },
    worker: async (program) => {
      workers += 1;
      const worker = startWorker({ name: `worker-${workers}`, ...program });
      undo(() => worker.kill());
      await worker.waitFor(/^ready$/m);
      return worker;
    },
    database: async () => {
      const proxy = await startDatabaseProxy(url());
      proxies.push(proxy);
      undo(() => proxy.proxy.close());
      return proxy;
    },
    rows: async <Row extends object>(query: string, parameters: readonly unknown[] = []) => {
      const client = new pg.Client({ connectionString: url(), options: "-c search_path=leasehold" });
      await client.connect();
      try {
        return (await client.query<Row>(query, [...parameters])).rows;
      } finally {
        await client.end();
      }
    },
    killPostgres: () => theOwn().kill(),
    restartPostgres: async () => {
      own = await startOwnPostgres({ ...wanted, dataDir: theOwn().dataDir });
      for (const proxy of proxies) proxy.moveTo(own.url);
    },
    [Symbol.asyncDispose]: async () => {
      for (const step of steps.splice(0).reverse()) await step();
    },
  };
}

function startWorker(program: Partial<WorkerProgram> & Pick<WorkerProgram, "addresses" | "name">): StageWorker {
  const args = typescriptArguments("../e2e/programs/worker.ts", JSON.stringify(program));
  const started = startProcess(process.execPath, args, { env: environment() });
  return {
    ...started,
    name: program.name,
    times: (word, taskId) => started.said().match(new RegExp(`^${word} ${taskId}`, "gm"))?.length ?? 0,
    kill: async () => {
      started.child.kill("SIGKILL");
      await started.ended;
    },
  };
}

/** Looks again and again until what it reads fits, and answers it. Rejects with the last value after the patience. */
export async function eventually<T>(
  read: () => Promise<T> | T,
  fits: (value: T) => boolean,
  what: string,
  patienceMs = 45_000,
): Promise<T> {
  const deadlineMs = performance.now() + patienceMs;
  for (;;) {
    const value = await read();
    if (fits(value)) return value;
    if (performance.now() > deadlineMs) throw new Error(`waited ${patienceMs} ms in vain until ${what}; last: ${shown(value)}`);
    await pause(25);
  }
}

function shown(value: unknown): string {
  return JSON.stringify([value], (_key, part: unknown) => (typeof part === "bigint" ? part.toString() : part));
}
