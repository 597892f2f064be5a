// How does a test build a program in another language only once? Into the cache of node_modules, under a name made of all that it is built from.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { environment } from "./child-process.js";

const ROOT = join(import.meta.dirname, "../..");
const CACHE = join(ROOT, "node_modules/.cache/leasehold-raw");
const STEP_LIMIT_MS = 600_000;
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
    return (await run(program, args, { env: environment(env), cwd, ...limits })).stdout;
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
  const folder = join(CACHE, `${name}-${await hashOf(files, tools)}`);
  if (existsSync(folder)) return folder;
  // Under a name of its own until it is whole: a run that is killed leaves no half of it, two runs do not disturb each other.
  const making = `${folder}-${String(process.pid)}`;
  await mkdir(making, { recursive: true });
  try {
    await make(making);
    await rename(making, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(making, { recursive: true, force: true });
  }
  return folder;
}

async function hashOf(files: readonly string[], tools: string): Promise<string> {
  const hash = createHash("sha256").update(tools);
  const proto = join(ROOT, "proto");
  const names = (await readdir(proto, { recursive: true })).filter((name) => name.endsWith(".proto") && !name.includes("node_modules"));
  for (const file of [...files, ...names.sort().map((name) => join(proto, name))])
    hash.update(`${file.slice(ROOT.length)}\0`).update(await readFile(file));
  return hash.digest("hex").slice(0, 16);
}
