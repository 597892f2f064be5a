// Is there a cluster (PGDATA) that these programs can open, and how does a new one come into being?
// A cluster appears in one step, complete: a start that is killed half way leaves none.
import { spawn } from "node:child_process";
import { chownSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { runAs, type Account } from "./account.js";
import type { Binaries } from "./binaries.js";
import { clusterName } from "./data-folder.js";
import { EmbeddedPostgresError, explainSystemError } from "./error.js";
import { startFailure, type Ending } from "./start-failure.js";

const draftPrefix = "initializing-";
// Docker gives 64 MB, which suffices; below it parallel queries soon find no room.
const enoughSharedMemoryBytes = 32 * 1024 * 1024;

/** The environment of Postgres' programs: nothing of the user's PG* variables, one locale everywhere. */
export function cleanEnvironment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const zone = process.env["TZ"];
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LANG: "C", LC_ALL: "C", ...(zone === undefined ? {} : { TZ: zone }), ...extra };
}

/** `posix` where /dev/shm has room, else `mmap` (files in the cluster): containers often have a tiny /dev/shm or none. */
export function sharedMemoryType(sharedMemoryFolder = "/dev/shm"): "posix" | "mmap" {
  if (process.platform !== "linux") return "posix";
  try {
    const { bavail, bsize } = statfsSync(sharedMemoryFolder);
    return bavail * bsize >= enoughSharedMemoryBytes ? "posix" : "mmap";
  } catch {
    return "mmap";
  }
}

function run(program: string, args: readonly string[], account: Account, signal?: AbortSignal): Promise<Omit<Ending, "folder">> {
  return new Promise((resolve) => {
    // Detached: a Ctrl-C on the terminal is for this process alone, which ends the child in an orderly way.
    const child = spawn(program, args, {
      ...runAs(account),
      cwd: "/",
      env: cleanEnvironment(),
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    // Not SIGINT, which initdb ignores while it waits for a child of its own.
    const abort = (): void => void child.kill("SIGTERM");
    signal?.addEventListener("abort", abort);
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (text += part));
    child.on("error", (error) => resolve({ exitCode: 127, text: `${text}\n${error.message}: not found` }));
    child.on("close", (code) => {
      signal?.removeEventListener("abort", abort);
      resolve({ exitCode: code ?? undefined, text });
    });
  });
}

function removeDrafts(dataFolder: string): void {
  for (const name of readdirSync(dataFolder).filter((entry) => entry.startsWith(draftPrefix))) {
    rmSync(join(dataFolder, name), { recursive: true, force: true });
  }
}

async function createCluster(
  binaries: Binaries,
  account: Account,
  dataFolder: string,
  durable: boolean,
  signal?: AbortSignal,
): Promise<void> {
  removeDrafts(dataFolder);
  const draft = join(dataFolder, `${draftPrefix}${String(process.pid)}`);
  mkdirSync(draft, { mode: 0o700 });
  if (account.switched) chownSync(draft, account.uid, account.gid);
  const options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"];
  const sharedMemory = ["--set", `dynamic_shared_memory_type=${sharedMemoryType()}`];
  const ending = await run(binaries.initdb, ["-D", draft, ...options, ...sharedMemory, ...(durable ? [] : ["--no-sync"])], account, signal);
  if (ending.exitCode !== 0) {
    // Before the draft goes, whose room the disk may have lacked.
    const failure = startFailure(`No database can be created in ${dataFolder}`, { ...ending, folder: dataFolder });
    rmSync(draft, { recursive: true, force: true });
    signal?.throwIfAborted();
    throw failure;
  }
  renameSync(draft, join(dataFolder, clusterName));
}

function checkCluster(cluster: string, binaries: Binaries, account: Account): void {
  const owner = statSync(cluster).uid;
  if (owner !== account.uid) {
    throw new EmbeddedPostgresError(
      `The data in ${cluster} belongs to uid ${String(owner)} (it was started as another user, such as root); start as that user again, ` +
        `or take it over with: sudo chown -R "$(id -u):$(id -g)" '${cluster}'`,
    );
  }
  let version: string;
  try {
    version = readFileSync(join(cluster, "PG_VERSION"), "utf8").trim();
  } catch (error) {
    throw new EmbeddedPostgresError(`${cluster} holds no Postgres data (PG_VERSION cannot be read); move it away to start empty.`, {
      cause: error,
    });
  }
  if (version !== String(binaries.major)) {
    throw new EmbeddedPostgresError(
      `The data in ${cluster} was written by Postgres ${version}, and this Leasehold brings Postgres ${String(binaries.major)}: ` +
        `move the folder away to start empty, or set LEASEHOLD_DATABASE_URL to a Postgres ${version} that serves it.`,
    );
  }
}

/**
 * Sees to it that the data folder has a cluster, made now when there is none.
 * @param durable false skips the final sync of a new cluster, for instances that run without fsync anyway.
 * @returns its path.
 * @throws EmbeddedPostgresError when it belongs to another user or major version, is no cluster, or cannot be made; the signal's reason when aborted.
 */
export async function openCluster(
  binaries: Binaries,
  account: Account,
  dataFolder: string,
  durable: boolean,
  signal?: AbortSignal,
): Promise<string> {
  const cluster = join(dataFolder, clusterName);
  try {
    if (statSync(cluster, { throwIfNoEntry: false }) === undefined) await createCluster(binaries, account, dataFolder, durable, signal);
    else checkCluster(cluster, binaries, account);
  } catch (error) {
    throw explainSystemError(error, `create a database in ${dataFolder}`, "free some space, or choose a folder you may write to");
  }
  return cluster;
}
