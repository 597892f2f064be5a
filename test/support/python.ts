// Where do the Python tests get an interpreter with grpcio, and the stubs? From a virtual environment in the cache of node_modules, made once
// for each state of requirements.txt and the contract. Making it needs python3 and a package index that pip reaches.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { environment } from "./child-process.js";

const ROOT = join(import.meta.dirname, "../..");
const PROTO = join(ROOT, "proto");
const CACHE = join(ROOT, "node_modules/.cache/leasehold-python");

/** The folder of the Python worker. */
export const pythonWorkerFolder = join(ROOT, "examples/raw-workers/python");

/** What is needed to run the Python worker. */
export interface Python {
  /** The interpreter of the virtual environment. */
  readonly interpreter: string;
  /** The folder of the generated stubs, for PYTHONPATH. */
  readonly stubs: string;
}

const run = promisify(execFile);
const STEP_LIMIT_MS = 300_000;

/** Makes the virtual environment and the stubs unless they are there. Throws, and says loudly what was left out, when that is not possible. */
export async function preparePython(): Promise<Python> {
  const version = await step("python3", ["-c", "import sys; print(sys.version)"], "there is no python3");
  const folder = join(CACHE, await hashOfInputs(version));
  if (!existsSync(folder)) {
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
  }
  return { interpreter: join(folder, "venv/bin/python"), stubs: join(folder, "generated") };
}

async function make(folder: string): Promise<void> {
  const interpreter = join(folder, "venv/bin/python");
  const requirements = join(pythonWorkerFolder, "requirements.txt");
  await step("python3", ["-m", "venv", join(folder, "venv")], "python3 cannot make a virtual environment");
  const install = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "-r", requirements];
  await step(interpreter, install, "pip cannot install requirements.txt");
  await step(join(pythonWorkerFolder, "generate.sh"), [join(folder, "generated")], "the stubs cannot be generated", {
    PYTHON: interpreter,
  });
}

async function step(program: string, args: readonly string[], fault: string, env: Record<string, string> = {}): Promise<string> {
  try {
    return (await run(program, args, { env: environment(env), timeout: STEP_LIMIT_MS })).stdout;
  } catch (error) {
    const said = (error as { stderr?: string }).stderr ?? "";
    throw new Error(`THE PYTHON TESTS WERE LEFT OUT: ${fault}.\n${said.trim()}`, { cause: error });
  }
}

async function hashOfInputs(version: string): Promise<string> {
  const hash = createHash("sha256").update(version);
  const protos = (await readdir(PROTO, { recursive: true })).filter((name) => name.endsWith(".proto") && !name.includes("node_modules"));
  const inputs = [
    ...["requirements.txt", "generate.sh"].map((name) => join(pythonWorkerFolder, name)),
    ...protos.sort().map((name) => join(PROTO, name)),
  ];
  for (const file of inputs) hash.update(`${file.slice(ROOT.length)}\0`).update(await readFile(file));
  return hash.digest("hex").slice(0, 16);
}
