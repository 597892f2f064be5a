// What stands on the stage of an end-to-end test? A database of its own, real servers and workers, proxies and clients; all of it goes with the
// test. At its end every server and worker that was not ended on purpose must still run, and no log may hold a bug.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type Client } from "@leasehold/client";
import pg from "pg";
import { expect, test as base } from "vitest";
import type { WorkerProgram } from "../e2e/programs/worker.js";
import { environment, startProcess, typescriptArguments, type StartedProcess } from "./child-process.js";
import { createTestDatabase } from "./postgres.js";
import { openRawWorker, type RawWorker } from "./raw-worker.js";
import { startServerProcess, type ServerProcess, type ServerProcessOptions } from "./server-process.js";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.js";

/** A worker of test/e2e/programs in a process of its own. */
export interface WorkerProcess extends StartedProcess {
  readonly name: string;
  /** Waits for a line that says this of a task, as `began`, `ended` or `signal`; answers the rest of the line. */
  hears(word: string, taskId: string): Promise<string>;
  /** How often it said this of a task. */
  times(word: string, taskId: string): number;
  signal(signal: NodeJS.Signals): void;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

/** The stage of one test. */
export interface Scene {
  /** Connection string of the test's database. */
  readonly databaseUrl: string;
  /** A folder for marks and gates. */
  readonly folder: string;
  /** Starts a server and waits until it is ready. */
  server(options?: Partial<ServerProcessOptions>): Promise<ServerProcess>;
  /** Starts a worker and waits until it is connected. */
  worker(program: Partial<WorkerProgram> & Pick<WorkerProgram, "addresses">): Promise<WorkerProcess>;
  /** A worker that does only what the test says. */
  raw(...parameters: Parameters<typeof openRawWorker>): RawWorker;
  /** A client of these servers. */
  client(...addresses: readonly string[]): Client;
  /** A proxy in front of an address. */
  proxy(address: string): Promise<TcpProxy>;
  /** Types of the entries in a task's timeline, oldest first. */
  timeline(taskId: string): Promise<string[]>;
  /** Rows of a query in the test's database. */
  rows(query: string, parameters?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** Something to undo at the end, last added first. */
  undo(step: () => Promise<unknown> | undefined): void;
}

/** What a log must never hold. */
const BUGS = /unhandled|uncaught|background work failed|failed unexpectedly|\bINTERNAL\b|\bUNKNOWN\b/i;

/** A test with a scene of its own: `test("does this", async ({ scene }) => …)`. Tests of a `describe.concurrent` do not meet. */
export const test = base.extend<{ scene: Scene }>({
  scene: async ({ task }, use) => {
    const leave = await enter();
    try {
      const scene = await openScene(task.name);
      try {
        await use(scene);
        scene.check();
      } finally {
        await scene.close();
      }
    } finally {
      leave();
    }
  },
});

// More scenes at once only make each other's processes start late.
const MOST_SCENES = 3;
let open = 0;
const waiting: (() => void)[] = [];

/** Waits until there is room for one more scene; answers what makes room again. */
async function enter(): Promise<() => void> {
  if (open < MOST_SCENES) open += 1;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  return () => {
    const next = waiting.shift();
    if (next === undefined) open -= 1;
    else next();
  };
}

/** A scene that several tests share; who opens it checks and closes it. */
export async function openScene(title: string): Promise<Scene & { check(): void; close(): Promise<void> }> {
  const steps: (() => Promise<unknown> | undefined)[] = [];
  const checks: (() => void)[] = [];
  const undo = (step: () => Promise<unknown> | undefined): void => void steps.push(step);
  const watched = (process: Watched): Watched => {
    checks.push(() => expectSound(process, title));
    return process;
  };

  const folder = await mkdtemp(join(tmpdir(), "leasehold-e2e-"));
  undo(() => rm(folder, { recursive: true, force: true }));
  const database = await createTestDatabase();
  undo(() => database.drop());

  const rows: Scene["rows"] = (query, parameters = []) => rowsOf(database.url, query, parameters);
  return {
    databaseUrl: database.url,
    folder,
    undo,
    rows,
    timeline: async (taskId) => {
      const found = await rows("SELECT type FROM leasehold.task_events WHERE id = $1 ORDER BY revision, place", [taskId]);
      return found.map(({ type }) => String(type));
    },
    server: async (options) => {
      const server = await startServerProcess({ databaseUrl: database.url, ...options });
      undo(() => server.kill());
      const watch = watched({ what: "the server", pid: server.pid, said: () => server.log(), expected: false });
      const expecting = <T>(end: () => Promise<T>): Promise<T> => {
        watch.expected = true;
        return end();
      };
      return { ...server, stop: () => expecting(() => server.stop()), kill: () => expecting(() => server.kill()) };
    },
    worker: async (program) => {
      const name = program.name ?? `worker-${steps.length}`;
      const args = typescriptArguments("../e2e/programs/worker.ts", JSON.stringify({ ...program, name }));
      const started = startProcess(process.execPath, args, { env: environment() });
      const watch = watched({ what: `worker ${name}`, pid: started.pid, said: started.said, expected: false });
      const worker = workerProcess(started, name, () => (watch.expected = true));
      undo(() => worker.kill());
      await worker.waitFor(/^ready$/m);
      return worker;
    },
    raw: (...parameters) => {
      const raw = openRawWorker(...parameters);
      undo(async () => raw.close());
      return raw;
    },
    client: (...addresses) => {
      const client = createClient({ addresses });
      undo(async () => client.close());
      return client;
    },
    proxy: async (address) => {
      const { hostname, port } = new URL(`tcp://${address}`);
      const proxy = await startTcpProxy({ host: hostname, port: Number(port) });
      undo(() => proxy.close());
      return proxy;
    },
    check: () => {
      for (const check of checks) check();
    },
    close: async () => {
      for (const step of steps.splice(0).reverse()) await step();
    },
  };
}

/** A process that must not end by itself. */
interface Watched {
  readonly what: string;
  readonly pid: number;
  readonly said: () => string;
  /** Whether the test has ended it. */
  expected: boolean;
}

function expectSound({ what, pid, said, expected }: Watched, title: string): void {
  if (!expected) expect(isAlive(pid), `${what} ended by itself in "${title}":\n${said()}`).toBe(true);
  expect(said()).not.toMatch(BUGS);
}

function workerProcess(started: StartedProcess, name: string, expectEnd: () => void): WorkerProcess {
  let ended = false;
  void started.ended.then(() => (ended = true));
  // More patient than `startProcess`: a worker waits for others, and a machine may be busy.
  const waitFor: WorkerProcess["waitFor"] = async (pattern) => {
    const look = (): { match: RegExpExecArray | null; ended: boolean } => ({ ended, match: pattern.exec(started.said()) });
    const { match } = await eventually(look, (seen) => seen.match !== null || seen.ended, `worker ${name} said ${String(pattern)}`).catch(
      (error: unknown) => Promise.reject(new Error(`${String(error)}; it said:\n${started.said()}`)),
    );
    if (match === null) throw new Error(`worker ${name} ended before it said ${String(pattern)}; it said:\n${started.said()}`);
    return match;
  };
  return {
    ...started,
    name,
    waitFor,
    hears: async (word, taskId) => (await waitFor(new RegExp(`^${word} ${taskId}(.*)$`, "m")))[1]?.trim() ?? "",
    times: (word, taskId) => started.said().match(new RegExp(`^${word} ${taskId}`, "gm"))?.length ?? 0,
    signal: (signal) => {
      if (signal === "SIGTERM" || signal === "SIGINT") expectEnd();
      started.child.kill(signal);
    },
    kill: async () => {
      expectEnd();
      started.child.kill("SIGKILL");
      await started.ended;
    },
  };
}

async function rowsOf(url: string, query: string, parameters: readonly unknown[]): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(query, [...parameters])).rows;
  } finally {
    await client.end();
  }
}

/** Whether a process runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Reads until what was read fits, and answers it; for what nobody tells. Rejects with the last value after the patience. */
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
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

function shown(value: unknown): string {
  return JSON.stringify([value], (_key, part: unknown) => (typeof part === "bigint" ? part.toString() : part));
}
