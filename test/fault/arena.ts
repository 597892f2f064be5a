// Where does a run with faults take place? A durable Postgres of its own, real servers between a database proxy and a gRPC proxy each, and worker
// processes; everything can be killed and comes back, and what ends without being killed is complained about.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { environment, startProcess, typescriptArguments, type StartedProcess } from "../support/child-process.js";
import { startDatabaseProxy, type DatabaseProxy } from "../support/database-proxy.js";
import { startOwnPostgres, type OwnPostgres } from "../support/own-postgres.js";
import { preparePython, pythonWorkerFolder } from "../support/python.js";
import { startServerProcess, type ServerProcess } from "../support/server-process.js";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.js";
import { type Entry, type Journal, nowUs, openJournal, readJournal } from "./history.js";
import type { FaultWorkerProgram } from "./sdk-worker-program.js";

/** A process that can be killed, frozen and started again. */
export interface Seat {
  readonly name: string;
  /** Process id; 0 while it does not run. */
  pid(): number;
  /** SIGKILL; resolves when it is gone. It stays away until it is started. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Milliseconds that its wall clock is ahead from soon on. */
  skew(ms: number): void;
}

/** A server and what is around it. */
export interface ServerSeat extends Seat {
  /** Where clients find it, through the proxy. */
  readonly address: string;
  readonly grpc: TcpProxy;
  readonly database: DatabaseProxy;
  readonly listen: DatabaseProxy;
  /** SIGTERM; its exit code. */
  stop(): Promise<number>;
  /** Lines it has logged since it was started first. */
  logLines(): number;
}

/** The Postgres of the run. */
export interface PostgresSeat {
  pid(): number;
  url(): string;
  kill(): Promise<void>;
  /** Starts it again on its data, and aims the proxies at it; nothing if it runs. */
  start(): Promise<void>;
  /** Rows of a statement; names are looked up in Leasehold's schema. */
  rows<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>;
}

/** All of them. */
export interface Arena {
  readonly folder: string;
  readonly postgres: PostgresSeat;
  readonly servers: readonly ServerSeat[];
  readonly workers: readonly Seat[];
  /** Journal of this process. */
  readonly journal: Journal;
  /** Starts one more worker without the SDK, which misbehaves; it is not started again. */
  intruder(manner: "mute" | "unread"): Promise<Seat>;
  /** From here on it is a complaint when this process ends by itself. */
  readonly complain: (complaint: string) => void;
  readonly complaints: readonly string[];
  /** The entries of all processes, by time. */
  entries(): Entry[];
  /** Ends everything; the folder stays if asked. */
  close(keep: boolean): Promise<void>;
}

/** What an arena is made of. */
export interface ArenaOptions {
  readonly servers: number;
  readonly sdkWorkers: number;
  readonly ttlMs: number;
  /** Settings of Postgres on top. */
  readonly postgresSettings?: Readonly<Record<string, string>>;
  /** Settings of the servers on top. */
  readonly serverSettings?: Readonly<Record<string, string>>;
  /** A folder for the data of Postgres; default below the arena's. */
  readonly dataDir?: string;
}

/** Few, so that they can be used up. */
export const MAX_CONNECTIONS = 60;
const SKEW = new URL("skew.mjs", import.meta.url).href;
const RESTART_MS = 400;
/** What no server may log. */
const BUGS = /unhandled|uncaught|background work failed|failed unexpectedly|"code":"INTERNAL"|\bINTERNAL\b|TypeError|RangeError/i;

/** What no worker may say. Which calls failed it may: a broken connection has many names. */
const WORKER_BUGS = /unhandled|uncaught|TypeError|RangeError|Traceback/i;

interface Undo {
  (step: () => Promise<unknown> | undefined): void;
}

/** Opens an arena and waits until every server and worker is ready. */
export async function openArena(options: ArenaOptions): Promise<Arena> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-fault-"));
  // Postgres may run as another user than this process.
  await chmod(folder, 0o711);
  const steps: (() => Promise<unknown> | undefined)[] = [];
  const undo: Undo = (step) => void steps.push(step);
  const complaints: string[] = [];
  const complain = (complaint: string): void => void complaints.push(complaint);
  const journal = openJournal(join(folder, "owners.jsonl"));
  undo(async () => journal.close());
  const close = async (keep: boolean): Promise<void> => {
    for (const step of steps.splice(0).reverse()) await step();
    if (!keep) await rm(folder, { recursive: true, force: true });
  };
  try {
    const context: Context = { folder, journal, complain, undo, options };
    const proxies: DatabaseProxy[] = [];
    const postgres = await openPostgres(context, proxies);
    const servers: ServerSeat[] = [];
    for (let index = 0; index < options.servers; index++) servers.push(await openServer(context, postgres, proxies, `server-${index}`));
    const workers = await openWorkers(
      context,
      servers.map(({ address }) => address),
    );
    let intruders = 0;
    const intruder: Arena["intruder"] = async (manner) => {
      const addresses = servers.map(({ address }) => address);
      const seat = workerSeat(context, `${manner}-${intruders++}`, "raw-worker-program.ts", { addresses, manner, slots: 10 });
      await seat.start();
      return seat;
    };
    const entries = (): Entry[] => journals(folder).sort((a, b) => a.atUs - b.atUs);
    return { folder, postgres, servers, workers, journal, intruder, complain, complaints, entries, close };
  } catch (error) {
    await close(false);
    throw error;
  }
}

function journals(folder: string): Entry[] {
  return readdirSync(folder).flatMap((name) => (name.endsWith(".jsonl") ? readJournal(join(folder, name)) : []));
}

interface Context {
  readonly folder: string;
  readonly journal: Journal;
  readonly options: ArenaOptions;
  readonly undo: Undo;
  readonly complain: (complaint: string) => void;
}

function happened({ journal }: Context, what: "started" | "ended", who: string, note: string): void {
  journal.write({ what, atUs: nowUs(), who, note });
}

async function openPostgres(context: Context, proxies: readonly DatabaseProxy[]): Promise<PostgresSeat> {
  const { options, folder } = context;
  const dataDir = options.dataDir ?? join(folder, "postgres");
  mkdirSync(dataDir, { recursive: true });
  const settings = { max_connections: String(MAX_CONNECTIONS), ...options.postgresSettings };
  let current: OwnPostgres | undefined;
  let url = "";
  const start = async (): Promise<void> => {
    if (current !== undefined) return;
    const started = await startOwnPostgres({ durable: true, dataDir, settings });
    current = started;
    url = started.url;
    for (const proxy of proxies) proxy.moveTo(url);
    happened(context, "started", "postgres", `pid ${started.pid}`);
    void started.ended.then(() => {
      if (current !== started) return;
      current = undefined;
      happened(context, "ended", "postgres", "by itself");
    });
  };
  await start();
  context.undo(() => current?.stop());
  return {
    start,
    url: () => url,
    pid: () => current?.pid ?? 0,
    kill: async () => {
      const victim = current;
      current = undefined;
      happened(context, "ended", "postgres", "killed");
      await victim?.kill();
    },
    rows: async <Row extends object>(text: string, values: readonly unknown[] = []) => {
      const client = new pg.Client({ connectionString: url, options: "-c search_path=leasehold,public" });
      client.on("error", () => undefined);
      await client.connect();
      try {
        return (await client.query<Row>(text, [...values])).rows;
      } finally {
        await client.end();
      }
    },
  };
}

function skewedEnvironment({ folder }: Context, name: string): { env: Record<string, string>; skew: (ms: number) => void } {
  const file = join(folder, `${name}.skew`);
  return {
    env: { NODE_OPTIONS: `--import ${SKEW}`, FAULT_SKEW_FILE: file },
    skew: (ms) => writeFileSync(file, String(ms)),
  };
}

async function openServer(context: Context, postgres: PostgresSeat, proxies: DatabaseProxy[], name: string): Promise<ServerSeat> {
  const { undo, complain, options, folder } = context;
  const [database, listen] = [await startDatabaseProxy(postgres.url()), await startDatabaseProxy(postgres.url())];
  proxies.push(database, listen);
  const { env, skew } = skewedEnvironment(context, name);
  let process: ServerProcess | undefined;
  let place: string | undefined;
  let wanted = false;
  let before = "";
  const settings = {
    ...{ LEASEHOLD_DURABILITY: "checked", LEASEHOLD_DATABASE_LISTEN_URL: listen.url, LEASEHOLD_DATABASE_POOL_SIZE: "4", ...env },
    ...options.serverSettings,
  };
  const read = (): string => before + (process?.log() ?? "");
  const gone = (how: string): void => {
    before = read();
    process = undefined;
    happened(context, "ended", name, how);
  };
  const isWanted = (): boolean => wanted && process === undefined;
  let starting: Promise<void> | undefined;
  // As a supervisor would: a server that comes before its database ends, and is started again.
  const tryToStart = async (): Promise<void> => {
    for (const deadlineMs = performance.now() + 180_000; isWanted();) {
      try {
        const started = await startServerProcess({
          databaseUrl: database.url,
          env: settings,
          ...(place === undefined ? {} : { listen: place }),
        });
        process = started;
        place = started.address;
        happened(context, "started", name, `pid ${started.pid}`);
      } catch (error) {
        if (place === undefined || performance.now() > deadlineMs) throw error;
        happened(context, "ended", name, "could not start");
        await pause(RESTART_MS);
      }
    }
  };
  const start = (): Promise<void> => {
    wanted = true;
    return (starting ??= tryToStart().finally(() => (starting = undefined)));
  };
  await start();
  const { hostname, port } = new URL(`tcp://${place ?? ""}`);
  const grpc = await startTcpProxy({ host: hostname, port: Number(port) });
  const watch = setInterval(() => {
    if (!wanted || process === undefined || isAlive(process.pid)) return;
    complain(`${name} ended by itself:\n${process.log().slice(-2_000)}`);
    gone("by itself");
    void start();
  }, 500);
  const kill = async (): Promise<void> => {
    wanted = false;
    await starting;
    await process?.kill();
    if (process !== undefined) gone("killed");
  };
  undo(async () => {
    clearInterval(watch);
    await kill();
    writeFileSync(join(folder, `${name}.log`), before);
    const bug = before.split("\n").find((line) => BUGS.test(line));
    if (bug !== undefined) complain(`${name} logged ${bug}`);
    await Promise.all([grpc.close(), database.proxy.close(), listen.proxy.close()]);
  });
  return {
    ...{ name, grpc, database, listen, address: grpc.address, start, kill, skew },
    pid: () => process?.pid ?? 0,
    logLines: () => read().split("\n").length,
    stop: async () => {
      wanted = false;
      const code = (await process?.stop()) ?? 0;
      gone(`exit code ${code}`);
      return code;
    },
  };
}

async function openWorkers(context: Context, addresses: readonly string[]): Promise<Seat[]> {
  const { options } = context;
  const seats: Seat[] = [];
  for (let index = 0; index < options.sdkWorkers; index++)
    seats.push(workerSeat(context, `sdk-${index}`, "sdk-worker-program.ts", { addresses, slots: 12 }));
  seats.push(workerSeat(context, "raw-0", "raw-worker-program.ts", { addresses, slots: 12 }));
  try {
    seats.push(pythonSeat(context, addresses, await preparePython()));
  } catch (error) {
    // Said loudly, and not a fault of the product.
    process.stderr.write(`\n*** NO PYTHON WORKER IN THIS RUN: ${String(error)} ***\n\n`);
    seats.push(workerSeat(context, "raw-1", "raw-worker-program.ts", { addresses, slots: 12 }));
  }
  await Promise.all(seats.map((seat) => seat.start()));
  return seats;
}

function workerSeat(
  context: Context,
  name: string,
  file: string,
  program: Pick<FaultWorkerProgram, "addresses" | "slots"> & Partial<FaultWorkerProgram>,
): Seat {
  const { options, folder } = context;
  return processSeat(context, name, program.manner === undefined, (who, env) => {
    const told: FaultWorkerProgram = { ttlMs: options.ttlMs, who, journal: join(folder, `${who}.jsonl`), ...program };
    return startProcess(process.execPath, typescriptArguments(`../fault/${file}`, JSON.stringify(told)), { env: environment(env) });
  });
}

function pythonSeat(context: Context, addresses: readonly string[], python: { interpreter: string; stubs: string }): Seat {
  return processSeat(context, "python-0", true, (_who, _env) =>
    startProcess(python.interpreter, ["-c", PYTHON_START], {
      env: environment({ PYTHONPATH: `${python.stubs}:${pythonWorkerFolder}`, LEASEHOLD_ADDRESS: addresses.join(",") }),
    }),
  );
}

// The example as it is, but for a shorter time to live: a lost task should come back while the run lasts.
const PYTHON_START = `
import asyncio, worker
start = worker.work
def work(hello, handlers, servers):
    from google.protobuf import duration_pb2
    hello["session_ttl"] = duration_pb2.Duration(seconds=4)
    return start(hello, handlers, servers)
worker.work = work
print("ready", flush=True)
asyncio.run(worker.main())
`;

/** A seat whose process is started again when it ends by itself, as a poison task makes it. */
function processSeat(
  context: Context,
  name: string,
  stays: boolean,
  launch: (who: string, env: Record<string, string>) => StartedProcess,
): Seat {
  const { complain, undo } = context;
  const { env, skew } = skewedEnvironment(context, name);
  let starts = 0;
  let running: StartedProcess | undefined;
  let wanted = false;
  let said = "";
  const start = async (): Promise<void> => {
    wanted = true;
    if (running !== undefined) return;
    const who = `${name}.${++starts}`;
    const process = launch(who, env);
    running = process;
    happened(context, "started", who, `pid ${process.pid}`);
    const over = process.ended.then((how) => {
      said += process.said();
      happened(context, "ended", who, String(how));
      if (running === process) running = undefined;
      if (!wanted || !stays) return;
      // A poison task kills by SIGKILL; anything else is the worker's own fault.
      if (how !== "SIGKILL") complain(`${who} ended by itself (${String(how)}):\n${process.said().slice(-2_000)}`);
      setTimeout(() => {
        if (wanted) void start();
      }, RESTART_MS);
    });
    if (starts === 1 && stays) await Promise.race([process.waitFor(/^ready$/m), over]);
  };
  const kill = async (): Promise<void> => {
    wanted = false;
    const victim = running;
    victim?.child.kill("SIGKILL");
    await victim?.ended;
    running = undefined;
  };
  undo(async () => {
    await kill();
    const bug = said.split("\n").find((line) => WORKER_BUGS.test(line));
    if (bug !== undefined) complain(`${name} said ${bug}`);
  });
  return { name, start, kill, skew, pid: () => running?.pid ?? 0 };
}

/** Whether a process runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return existsSync(`/proc/${pid}`) ? !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8")) : true;
  } catch {
    return false;
  }
}
