// Who is running Postgres in this data folder right now?
// The owner leaves a note, owner.json, with its pid and start time. A note whose owner is gone counts for nothing. Postgres has a lock of its
// own underneath (postmaster.pid); this one exists to know the owner and to cover the time before Postgres runs.
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EmbeddedPostgresError, explainSystemError, systemCode } from "./error.js";
import { processIdentity } from "./processes.js";

const pollMs = 50;

function notePath(dataFolder: string): string {
  return join(dataFolder, "owner.json");
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

function livingPid(note: string | undefined): number | undefined {
  if (note === undefined) return undefined;
  try {
    const { pid, identity } = JSON.parse(note) as { pid: number; identity?: unknown };
    return typeof identity === "string" && processIdentity(pid) === identity ? pid : undefined;
  } catch {
    // Not our writing: a half written file of a full disk, or somebody's edit.
    return undefined;
  }
}

/** The pid of the living process that owns the data folder, or undefined. */
export function ownerOf(dataFolder: string): number | undefined {
  return livingPid(read(notePath(dataFolder)));
}

function place(path: string, note: string): boolean {
  const draft = `${path}.${String(process.pid)}`;
  writeFileSync(draft, note, { mode: 0o644 });
  try {
    // A link appears at once and complete, and only one of several starts can make it.
    linkSync(draft, path);
    return true;
  } catch (error) {
    if (systemCode(error) === "EEXIST") return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

// Renaming takes exactly one note away; if meanwhile another start has put a fresh one there, it is put back.
function clearStale(path: string, stale: string): void {
  const aside = `${path}.stale-${String(process.pid)}`;
  try {
    renameSync(path, aside);
    const taken = read(aside);
    if (taken !== undefined && taken !== stale) linkSync(aside, path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT" && systemCode(error) !== "EEXIST") throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

function tryToClaim(path: string, note: string): boolean {
  for (;;) {
    if (place(path, note)) return true;
    const present = read(path);
    if (present === undefined) continue;
    if (livingPid(present) !== undefined) return false;
    clearStale(path, present);
  }
}

/**
 * Makes this process the owner of the data folder.
 * @param patienceMs how long to wait for a living owner to leave: one that was just asked to stop is usually gone within a second.
 * @returns a function that gives the folder up again.
 * @throws EmbeddedPostgresError when another process owns it.
 */
export async function claim(dataFolder: string, patienceMs: number): Promise<() => void> {
  const path = notePath(dataFolder);
  // The random part tells apart two notes of one process.
  const note = JSON.stringify({
    pid: process.pid,
    identity: processIdentity(process.pid),
    startedAt: new Date().toISOString(),
    nonce: crypto.randomUUID(),
  });
  const deadline = performance.now() + patienceMs;
  try {
    while (!tryToClaim(path, note)) {
      const pid = ownerOf(dataFolder);
      if (pid !== undefined && (pid === process.pid || performance.now() > deadline)) throw alreadyRunning(pid, dataFolder);
      await sleep(pollMs);
    }
  } catch (error) {
    throw explainSystemError(error, `write ${path}`, "give yourself the right to write there, or make room");
  }
  return () => {
    if (read(path) === note) rmSync(path, { force: true });
  };
}

/** The refusal for a second start. */
export function alreadyRunning(pid: number, dataFolder: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `Leasehold is already running on ${dataFolder} (pid ${String(pid)}); use it, or stop it first with: kill ${String(pid)}`,
  );
}
