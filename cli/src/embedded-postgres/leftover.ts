// What did an earlier start leave behind in this cluster, and may it go?
// A Postgres of ours whose owner is gone is stopped. A Postgres somebody else started, and any other process, is never touched.
import { readdirSync, readFileSync, realpathSync, rmdirSync, unlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EmbeddedPostgresError } from "./error.js";
import { commandLine, isAlive, workingFolder } from "./processes.js";

/** The setting that marks a Postgres as started by this folder's code; also what `ps` shows of it. */
export const ourMark = "cluster_name=leasehold";

const pollMs = 25;
// A fast shutdown writes a checkpoint: milliseconds normally, seconds on a slow disk.
const fastShutdownMs = 15_000;
const immediateShutdownMs = 5_000;
// The guard of a foreign or half-started Postgres may be stopping it at this moment.
const foreignPatienceMs = 3_000;

interface PostmasterNote {
  readonly pid: number;
  readonly socketDir: string;
}

/** What postmaster.pid says: the pid in its first line, the socket's folder in its fifth. Undefined when there is none. */
function postmasterNote(cluster: string): PostmasterNote | undefined {
  try {
    const lines = readFileSync(join(cluster, "postmaster.pid"), "utf8").split("\n");
    const pid = Math.abs(Number(lines[0]));
    return pid > 0 ? { pid, socketDir: lines[4] ?? "" } : undefined;
  } catch {
    return undefined;
  }
}

/** The pid of the Postgres that runs, or ran and crashed, on the cluster; undefined when none does. */
export function postmasterPid(cluster: string): number | undefined {
  return postmasterNote(cluster)?.pid;
}

// Normally the guard removes it. Only a folder named by us, and only if nothing but sockets is in it.
function removeSocketFolder(socketDir: string): void {
  if (!/^leasehold-\w{6}$/.test(basename(socketDir))) return;
  try {
    for (const name of readdirSync(socketDir).filter((entry) => entry.startsWith(".s.PGSQL."))) unlinkSync(join(socketDir, name));
    rmdirSync(socketDir);
  } catch {
    // Gone, or not ours to remove; it does no harm.
  }
}

function servesCluster(pid: number, cluster: string): boolean {
  // A postmaster works in its data folder, however that was named when it was started.
  return workingFolder(pid) === realpathSync(cluster) || commandLine(pid).includes(`-D ${cluster} `);
}

async function gone(pid: number, patienceMs: number): Promise<boolean> {
  const deadline = performance.now() + patienceMs;
  while (isAlive(pid)) {
    if (performance.now() > deadline) return false;
    await sleep(pollMs);
  }
  return true;
}

function signal(pid: number, name: "SIGINT" | "SIGQUIT"): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended by itself in between.
  }
}

async function stopOurs(pid: number): Promise<boolean> {
  signal(pid, "SIGINT");
  if (await gone(pid, fastShutdownMs)) return true;
  signal(pid, "SIGQUIT");
  return gone(pid, immediateShutdownMs);
}

/**
 * Frees the cluster of a Postgres that an earlier start left running.
 * @returns the pid of a living stranger whose number happens to stand in postmaster.pid, for Postgres to disregard; else undefined.
 * @throws EmbeddedPostgresError when a Postgres that is not ours runs there, or ours does not end within 20 s.
 */
export async function clearLeftover(cluster: string, log: (line: string) => void): Promise<number | undefined> {
  const note = postmasterNote(cluster);
  if (note === undefined) return undefined;
  const { pid, socketDir } = note;
  if (!isAlive(pid) || !servesCluster(pid, cluster)) {
    removeSocketFolder(socketDir);
    return isAlive(pid) ? pid : undefined;
  }
  if (commandLine(pid).includes(ourMark)) {
    log(`stopping the Postgres that an earlier start left running (pid ${String(pid)})`);
    if (await stopOurs(pid)) {
      removeSocketFolder(socketDir);
      return undefined;
    }
    throw new EmbeddedPostgresError(
      `The Postgres left by an earlier start (pid ${String(pid)}) does not stop; look at it, then end it with: kill -QUIT ${String(pid)}`,
    );
  }
  if (await gone(pid, foreignPatienceMs)) return undefined;
  throw new EmbeddedPostgresError(
    `Another Postgres (pid ${String(pid)}), not started by Leasehold, runs on ${cluster}; stop it where it was started, or choose another data folder.`,
  );
}
