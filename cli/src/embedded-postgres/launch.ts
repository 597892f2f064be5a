// How does a cluster become a Postgres that answers?
// Starts the guarded postmaster on a private unix socket and waits until a connection to our database succeeds, or says why it cannot.
import { chownSync, closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Account } from "./account.js";
import { canEnter } from "./account.js";
import type { Binaries } from "./binaries.js";
import { sharedMemoryType } from "./cluster.js";
import { PostgresRefusal, speakTo } from "./contact.js";
import { EmbeddedPostgresError, systemCode } from "./error.js";
import { startGuarded, type Guard } from "./guard.js";
import { ourMark } from "./leftover.js";
import { isPassing, startFailure, type Ending } from "./start-failure.js";

/** The database that is there from the first start on. */
export const databaseName = "leasehold";

const pollMs = 20;
// Recovery after a crash may replay up to max_wal_size (1 GB): tens of seconds on a slow disk.
const readyTimeoutMs = 60_000;
const passingPatienceMs = 10_000;
const keptLogBytes = 8_000;
const sqlState = { startingUp: "57P03", noSuchDatabase: "3D000", alreadyExists: "42P04" } as const;

/** What is needed to start Postgres on a cluster that exists. */
export interface LaunchOptions {
  readonly binaries: Binaries;
  readonly account: Account;
  readonly dataFolder: string;
  readonly cluster: string;
  readonly settings: Readonly<Record<string, string>>;
  /** A living process that is no Postgres and whose pid stands in postmaster.pid by chance. */
  readonly strangerPid: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** A Postgres that answers. */
export interface Launched {
  readonly guard: Guard;
  readonly socketDir: string;
  readonly port: number;
}

// Not below the data folder: a socket's path may have 107 bytes (103 on macOS), and project paths are longer. TMPDIR may be closed to the account.
function privateSocketFolder(account: Account): string {
  for (const parent of ["/tmp", tmpdir(), "/var/tmp"]) {
    if (!canEnter(account, parent)) continue;
    try {
      const folder = mkdtempSync(join(parent, "leasehold-"));
      if (account.switched) chownSync(folder, account.uid, account.gid);
      return folder;
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
    }
  }
  throw new EmbeddedPostgresError(
    "No folder for the socket of Postgres can be made in /tmp; make it writable, or set LEASEHOLD_DATABASE_URL.",
  );
}

function openLog(path: string): number {
  try {
    renameSync(path, path.replace(/\.log$/, ".previous.log"));
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
  return openSync(path, "a", 0o600);
}

function commandFor({ binaries, cluster, settings }: LaunchOptions, socketDir: string): string[] {
  const all = {
    listen_addresses: "",
    dynamic_shared_memory_type: sharedMemoryType(),
    ...settings,
    unix_socket_directories: socketDir,
    unix_socket_permissions: "0700",
  };
  const flags = Object.entries(all).map(([name, value]) => `${name}=${value}`);
  return [binaries.postgres, "-D", cluster, ...[...flags, ourMark].flatMap((flag) => ["-c", flag])];
}

/** One try to connect. @returns whether our database is there and answers. */
async function answers(socketPath: string): Promise<boolean> {
  try {
    await speakTo(socketPath, databaseName);
    return true;
  } catch (error) {
    if (error instanceof PostgresRefusal && error.code === sqlState.noSuchDatabase) {
      await createDatabase(socketPath);
      return true;
    }
    if (error instanceof PostgresRefusal && error.code !== sqlState.startingUp) throw error;
    return false;
  }
}

async function createDatabase(socketPath: string): Promise<void> {
  try {
    await speakTo(socketPath, "postgres", `CREATE DATABASE ${databaseName}`);
  } catch (error) {
    if (!(error instanceof PostgresRefusal && error.code === sqlState.alreadyExists)) throw error;
  }
}

async function untilReady(guard: Guard, socketPath: string, signal: AbortSignal | undefined): Promise<"ready" | "ended"> {
  const deadline = performance.now() + readyTimeoutMs;
  while (guard.running()) {
    signal?.throwIfAborted();
    if (await answers(socketPath)) return "ready";
    if (performance.now() > deadline)
      throw new EmbeddedPostgresError(`Postgres does not answer after ${String(readyTimeoutMs / 1000)} s; look into its log.`);
    await sleep(pollMs);
  }
  return "ended";
}

async function launchOnce(options: LaunchOptions, logPath: string): Promise<Launched | Ending> {
  const socketDir = privateSocketFolder(options.account);
  const port = Number(options.settings["port"] ?? 5432);
  const logFile = openLog(logPath);
  // Postgres disregards the pid of a grandparent in postmaster.pid but still looks for processes that use the old shared memory.
  const environment: Record<string, string> = options.strangerPid === undefined ? {} : { PG_GRANDPARENT_PID: String(options.strangerPid) };
  const guard = startGuarded({ account: options.account, socketDir, command: commandFor(options, socketDir), environment, logFile });
  closeSync(logFile);
  try {
    if ((await untilReady(guard, join(socketDir, `.s.PGSQL.${String(port)}`), options.signal)) === "ready")
      return { guard, socketDir, port };
    rmSync(socketDir, { recursive: true, force: true });
    return { exitCode: await guard.ended, text: readFileSync(logPath, "utf8").slice(-keptLogBytes), folder: options.dataFolder };
  } catch (error) {
    guard.release();
    await guard.ended;
    throw error;
  }
}

/**
 * Starts Postgres and returns when it answers.
 * @throws EmbeddedPostgresError with the cause when it ends instead or does not answer within 60 s; the signal's reason when aborted.
 */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const logPath = join(options.dataFolder, "postgres.log");
  const deadline = performance.now() + passingPatienceMs;
  for (;;) {
    const outcome = await launchOnce(options, logPath);
    if ("guard" in outcome) return outcome;
    if (!isPassing(outcome) || performance.now() > deadline)
      throw startFailure(`Postgres cannot start on ${options.dataFolder}`, outcome, logPath);
    await sleep(pollMs * 10);
  }
}
