// What does `npm start` run? Everything on one machine: a Postgres of its own, the server, a demo worker, and a banner that says what to type next.
// It only puts the parts in order and takes them down in reverse; each part is somewhere else.
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { loadConfig, type Config } from "@leasehold/server/config";
import { EmbeddedPostgresError, findRunningInstance, startEmbeddedPostgres, type EmbeddedPostgres } from "./embedded-postgres/start.js";
import { onStopRequested } from "./stop-signals.js";

/** What `leasehold dev` starts. Everything may be left out. */
export interface DevOptions {
  /** The folder whose `.leasehold/` holds the data; default the current one. */
  projectDir?: string;
  /** Environment with the LEASEHOLD_* settings; default that of this process. LEASEHOLD_DATABASE_URL there replaces the embedded Postgres. */
  env?: Readonly<Record<string, string | undefined>>;
  /** Receives each line of the banner and of what happens; default stdout. */
  print?: (line: string) => void;
}

/** A reason not to start, in one sentence for a person. */
export class DevError extends Error {
  override readonly name = "DevError";
}

// A port or folder that an instance is just leaving (restart by a file watcher, Ctrl-C through npm) is free a moment later.
const portPatienceMs = 2_000;
const portPollMs = 100;
// How long a start that is being given up may take to notice.
const startPatienceMs = 3_000;
// Nobody has chosen the database when settings are checked; they are checked first, so that a typing error starts nothing.
const undecidedUrl = "postgresql://embedded";

// Where the client verbs look without being told.
const defaultAddress = "127.0.0.1:7410";

type Undo = () => Promise<void>;

function bindFailure(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve(undefined)));
  });
}

function portRefusal(code: string, where: string, runningPid: number | undefined): DevError {
  const other = where.replace(/\d+$/, (port) => String(Number(port) + 1));
  if (runningPid !== undefined) {
    return new DevError(
      `Leasehold is already running in this project (pid ${runningPid}); use it, or stop it first with: kill ${runningPid}`,
    );
  }
  if (code === "EADDRINUSE")
    return new DevError(
      `${where} is already in use by another program; stop that one, or choose another port: LEASEHOLD_LISTEN=${other} npm start`,
    );
  return new DevError(`Cannot listen on ${where} (${code}); choose another address with LEASEHOLD_LISTEN.`);
}

/** Refuses a taken port before anything is started. */
async function requireFreePort({ listen }: Config, projectDir: string, signal: AbortSignal): Promise<void> {
  if (listen.kind !== "tcp" || listen.port === 0) return;
  const deadline = performance.now() + portPatienceMs;
  let code = await bindFailure(listen.host, listen.port);
  while (code === "EADDRINUSE" && performance.now() < deadline && !signal.aborted) {
    await sleep(portPollMs);
    code = await bindFailure(listen.host, listen.port);
  }
  if (code === undefined) return;
  const where = listen.host.includes(":") ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`;
  throw portRefusal(code, where, findRunningInstance({ projectDir }));
}

function banner(address: string, postgres: EmbeddedPostgres | undefined, taskNames: readonly string[]): string[] {
  const moved =
    postgres !== undefined && !postgres.dataDir.endsWith(join(".leasehold", "postgres"))
      ? " (outside the project, which only root may enter)"
      : "";
  const database =
    postgres === undefined ? "yours, from LEASEHOLD_DATABASE_URL" : `embedded (pid ${postgres.pid}), data in ${postgres.dataDir}${moved}`;
  const elsewhere = address === defaultAddress ? "" : ` --address ${address}`;
  return [
    "",
    `Leasehold is ready on ${address}`,
    "",
    `  Postgres   ${database}`,
    ...(postgres === undefined ? [] : [`             psql '${postgres.url}'`]),
    `  Worker     ${taskNames.join(", ")}`,
    "",
    `  Try        npx leasehold submit demo.count --metadata '{"to":10}' --watch${elsewhere}`,
    `             npx leasehold list${elsewhere}`,
    "",
    "  Ctrl-C stops everything.",
    "",
  ];
}

/** Starts the parts in order; what each part needs to be stopped is pushed as soon as it runs. */
async function start(options: Required<DevOptions>, signal: AbortSignal, undo: Undo[]): Promise<EmbeddedPostgres | undefined> {
  const { env, projectDir, print } = options;
  const given = env["LEASEHOLD_DATABASE_URL"] ?? "";
  const readable = { LEASEHOLD_LOG_FORMAT: "text", LEASEHOLD_LOG_LEVEL: "warn" };
  const configFor = (url: string): Config => loadConfig({ ...readable, ...env, LEASEHOLD_DATABASE_URL: url });
  await requireFreePort(configFor(given === "" ? undecidedUrl : given), projectDir, signal);

  // Loading them takes this process as long as Postgres takes others to start: both at once.
  const loading = Promise.all([import("@leasehold/server/main"), import("./demo-worker.js")]);
  loading.catch(() => undefined);
  let postgres: EmbeddedPostgres | undefined;
  if (given === "") {
    postgres = await startEmbeddedPostgres({ projectDir, log: print, signal });
    undo.push(() => postgres?.stop() ?? Promise.resolve());
  }
  signal.throwIfAborted();
  const [{ startServer }, { demoTaskNames, startDemoWorker }] = await loading;
  const server = await startServer(configFor(postgres?.url ?? given));
  undo.push(() => server.stop());
  signal.throwIfAborted();
  const worker = await startDemoWorker(server.address);
  undo.push(() => worker.stop());
  signal.throwIfAborted();
  for (const line of banner(server.address, postgres, demoTaskNames)) print(line);
  return postgres;
}

/** Takes down what runs, last started first; one part that fails does not keep the others up. */
async function stopAll(undo: Undo[]): Promise<void> {
  const failures: unknown[] = [];
  for (const stop of undo.splice(0).reverse()) await stop().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

/**
 * Runs Leasehold for development until the process is asked to stop (see stop-signals.ts), then takes everything down and exits with code 0.
 * Resolves when all is ready, or when the stop was asked for before that.
 * @throws DevError, EmbeddedPostgresError or the server's ConfigError with sentences for a person, when something is in the way: the port is
 *   taken, an instance is running here already. Nothing is left running then.
 */
export async function dev(options: DevOptions = {}): Promise<void> {
  const print = options.print ?? ((line: string) => console.log(line));
  const all = { projectDir: options.projectDir ?? process.cwd(), env: options.env ?? process.env, print };
  const undo: Undo[] = [];
  let starting: Promise<unknown> = Promise.resolve();
  const signal = onStopRequested(
    async () => {
      // A migration may wait for another one's lock; stopping Postgres ends that wait.
      await Promise.race([starting, sleep(startPatienceMs)]).catch(() => undefined);
      await stopAll(undo);
    },
    { log: print },
  );
  const started = start(all, signal, undo);
  starting = started;
  try {
    const postgres = await started;
    // Without its database nothing here can go on; leases expire and nothing is lost.
    void postgres?.ended.then(async () => {
      if (signal.aborted) return;
      print(
        new EmbeddedPostgresError(
          `Postgres has ended by itself; its last words are in ${postgres.dataDir}/postgres.log. Start again with: npm start`,
        ).message,
      );
      await stopAll(undo).catch(() => undefined);
      process.exit(1);
    });
  } catch (error) {
    if (signal.aborted) return;
    await stopAll(undo);
    throw error;
  }
}
