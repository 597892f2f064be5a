// How do I get a real Postgres of my own, and how do I get rid of it again?
// The one door to this folder. Puts the steps in order: account, data folder, owner's note, leftovers, programs, cluster, launch.
import { join } from "node:path";
import { accountFor } from "./account.js";
import { locateBinaries } from "./binaries.js";
import { openCluster } from "./cluster.js";
import { clusterName, openDataFolder, projectDataFolder } from "./data-folder.js";
import { EmbeddedPostgresError } from "./error.js";
import type { Guard } from "./guard.js";
import { databaseName, launch, type Launched } from "./launch.js";
import { clearLeftover, postmasterPid } from "./leftover.js";
import { claim, ownerOf } from "./owner-note.js";
import { childrenOf, isAlive } from "./processes.js";

export { EmbeddedPostgresError } from "./error.js";

/** What to start and where. Everything may be left out. */
export interface EmbeddedPostgresOptions {
  /** The project whose data this is; default the current folder. Where exactly the data goes is told by `dataDir` of the result. */
  projectDir?: string;
  /** A folder for everything of this instance, instead of the project's; made when missing. The cluster is in `pgdata` below it. */
  dataDir?: string;
  /** A package like the installed one, with the programs of another version; default the installed one. */
  packageDir?: string;
  /** Postgres settings for this run, for example `{ fsync: "off" }`. Default: Postgres' own, without TCP. */
  settings?: Record<string, string>;
  /** Receives one line for each thing worth telling a person during the start. Default: nobody. */
  log?: (line: string) => void;
  /** Gives the start up; the promise then rejects with the signal's reason and nothing is left running. */
  signal?: AbortSignal;
}

/** A Postgres that answers, until it is stopped or this process ends, however it ends. */
export interface EmbeddedPostgres {
  /** A connection string for `pg` and `slonik`, over the private unix socket, to the database `leasehold` as its owner. */
  readonly url: string;
  /** The folder of the unix socket; removed when Postgres stops. */
  readonly socketDir: string;
  /** The folder that holds everything of this instance: `pgdata`, `postgres.log`, `owner.json`. */
  readonly dataDir: string;
  /** The process id of the postmaster. */
  readonly pid: number;
  /** Settles when Postgres has ended, be it asked to or not. */
  readonly ended: Promise<void>;
  /** Stops Postgres cleanly, ending open connections; resolves when it is gone. Calling it again waits for the same stop. */
  stop(): Promise<void>;
  /** SIGKILL to the postmaster and all its children, as a crash would: for fault tests. The data stays and recovers at the next start. */
  kill(): Promise<void>;
}

// Somebody who was just asked to stop is normally gone within a second: restarting at once should work.
const ownerPatienceMs = 2_000;

function dataFolderOf(options: EmbeddedPostgresOptions): string {
  return options.dataDir ?? projectDataFolder(options.projectDir ?? process.cwd(), accountFor());
}

/** The pid of the process that runs an embedded Postgres in this place at the moment, or undefined. Changes nothing. */
export function findRunningInstance(options: Pick<EmbeddedPostgresOptions, "projectDir" | "dataDir"> = {}): number | undefined {
  return ownerOf(dataFolderOf(options));
}

function kill(pid: number, signal: "SIGSTOP" | "SIGKILL"): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Already gone.
  }
}

async function crash(pid: number, guard: Guard): Promise<void> {
  // Frozen first, so that it starts no further child between the listing and the end.
  kill(pid, "SIGSTOP");
  const children = childrenOf(pid);
  for (const victim of [pid, ...children]) kill(victim, "SIGKILL");
  await guard.ended;
  while (children.some(isAlive)) await new Promise((resolve) => setTimeout(resolve, 5));
}

function running({ guard, socketDir, port }: Launched, dataDir: string, cluster: string, giveUp: () => void): EmbeddedPostgres {
  const pid = postmasterPid(cluster);
  if (pid === undefined) {
    guard.release();
    throw new EmbeddedPostgresError(`Postgres has lost ${cluster}/postmaster.pid; whatever tidies up that folder must leave it alone.`);
  }
  const ended = guard.ended.then(giveUp);
  return {
    // The socket's folder stands where a host name would: pg, slonik and libpq all take it percent-encoded. Port and sslmode are named so
    // that PGPORT and PGSSLMODE of the user's environment do not get in.
    url: `postgresql://postgres@${encodeURIComponent(socketDir)}:${String(port)}/${databaseName}?sslmode=disable`,
    socketDir,
    dataDir,
    pid,
    ended,
    stop: () => {
      guard.release();
      return ended;
    },
    kill: async () => {
      await crash(pid, guard);
      await ended;
    },
  };
}

/**
 * Starts a Postgres, making its data folder and the database `leasehold` when they are missing. It does not outlive this process: when the
 * process ends without `stop()`, kill -9 included, Postgres shuts down cleanly within about a second.
 * @throws EmbeddedPostgresError with one sentence that says what to do: another instance is running there, no programs for this platform, data
 *   of another major version, the disk is full, …. Nothing is left running then, and nothing that is not ours was touched.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const { settings = {}, log = () => undefined, signal } = options;
  const wanted = dataFolderOf(options);
  const account = accountFor(join(wanted, clusterName));
  const dataDir = openDataFolder(wanted, account);
  const giveUp = await claim(dataDir, ownerPatienceMs);
  try {
    const binaries = await locateBinaries(account, options.packageDir);
    const strangerPid = await clearLeftover(join(dataDir, clusterName), log);
    const cluster = await openCluster(binaries, account, dataDir, settings["fsync"] !== "off", signal);
    const launched = await launch({ binaries, account, dataFolder: dataDir, cluster, settings, strangerPid, signal });
    return running(launched, dataDir, cluster, giveUp);
  } catch (error) {
    giveUp();
    throw error;
  }
}
