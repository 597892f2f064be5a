// How does a test build a program in another language only once? Into a cache of this user's that all clones share, under a name made of all
// that it is built from. Test files that need the same one at the same time wait for the one that builds it.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { lstat, mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { setPriority, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { environment } from "./child-process.js";

const ROOT = join(import.meta.dirname, "../..");
const STEP_LIMIT_MS = 600_000;
const LOOK_AGAIN_MS = 250;
/** Builds step aside for tests that run beside them. */
const NICENESS = 10;
/** What nobody has used for so long is removed, in milliseconds. */
const KEPT_MS = 7 * 24 * 3_600_000;
const run = promisify(execFile);

/** How a step of a build is run. */
export interface StepOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program to its end and answers its output. Rejects, and says loudly what was left out, when it fails. */
export async function step(
  who: string,
  program: string,
  args: readonly string[],
  fault: string,
  options: StepOptions = {},
): Promise<string> {
  try {
    const { cwd, env } = options;
    const limits = { timeout: STEP_LIMIT_MS, maxBuffer: 1 << 26 };
    const running = run(program, args, { env: environment(env), cwd, ...limits });
    const { pid } = running.child;
    if (pid !== undefined) setPriority(pid, NICENESS);
    return (await running).stdout;
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`THE ${who.toUpperCase()} TESTS WERE LEFT OUT: ${fault}.\n${stdout.trim()}\n${stderr.trim()}`, { cause: error });
  }
}

/**
 * Answers the folder that `make` filled: an earlier one, if nothing that it is built from has changed, else a new one.
 * It is built from the .proto files, from the files named and from whatever else `tools` tells of.
 */
export async function builtOnce(
  name: string,
  files: readonly string[],
  tools: string,
  make: (folder: string) => Promise<void>,
): Promise<string> {
  const cache = await cacheFolder();
  const folder = join(cache, `${name}-${await hashOf(files, tools)}`);
  const lock = `${folder}.lock`;
  while (!existsSync(folder)) {
    if (!(await take(lock))) {
      await sleep(LOOK_AGAIN_MS);
      continue;
    }
    // Under a name of its own until it is whole: a run that is killed leaves no half of it.
    const making = `${folder}-${String(process.pid)}`;
    try {
      await removeUnused(cache);
      await mkdir(making);
      await make(making);
      await rename(making, folder);
    } finally {
      await rm(making, { recursive: true, force: true });
      await rm(lock, { force: true });
    }
  }
  const now = new Date();
  await utimes(folder, now, now);
  return folder;
}

/** A folder that only this user can write to; what others could have put there is not trusted. */
async function cacheFolder(): Promise<string> {
  const { uid } = userInfo();
  const folder = join(tmpdir(), `leasehold-raw-${uid}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const found = await lstat(folder);
  const own = found.isDirectory() && (uid === -1 || (found.uid === uid && (found.mode & 0o022) === 0));
  if (own) return folder;
  const instead = join(ROOT, "node_modules/.cache/leasehold-raw");
  await mkdir(instead, { recursive: true });
  return instead;
}

/** Whether the lock is this process's now. That of a process that is gone is taken away, for whoever asks next. */
async function take(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, String(process.pid), { flag: "wx" });
    return true;
  } catch {
    const owner = Number(await readFile(lock, "utf8").catch(() => process.pid));
    if (!isAlive(owner)) await rm(lock, { force: true });
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function removeUnused(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    const path = join(cache, name);
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && Date.now() - found.mtimeMs > KEPT_MS) await rm(path, { recursive: true, force: true });
  }
}

async function hashOf(files: readonly string[], tools: string): Promise<string> {
  const hash = createHash("sha256").update(tools);
  const proto = join(ROOT, "proto");
  const names = (await readdir(proto, { recursive: true })).filter((name) => name.endsWith(".proto") && !name.includes("node_modules"));
  for (const file of [...files, ...names.sort().map((name) => join(proto, name))])
    hash.update(`${file.slice(ROOT.length)}\0`).update(await readFile(file));
  return hash.digest("hex").slice(0, 16);
}
