// Where do the Python tests get an interpreter with grpcio, and the stubs? From a virtual environment that is made once for each state of the
// requirements and the contract. Making it needs python3 and a package index that pip reaches.
import { join } from "node:path";
import { builtOnce, step } from "./built-once.js";

const ROOT = join(import.meta.dirname, "../..");
const TOOLS = join(import.meta.dirname, "python/requirements.txt");

/** The folder of the Python worker. */
export const pythonWorkerFolder = join(ROOT, "examples/raw-workers/python");

/** What is needed to run the Python worker. */
export interface Python {
  /** The interpreter of the virtual environment. It has the formatter as well. */
  readonly interpreter: string;
  /** The folder of the generated stubs, for PYTHONPATH. */
  readonly stubs: string;
}

/** Makes the virtual environment and the stubs unless they are there. Rejects, and says loudly what was left out, when that is not possible. */
export async function preparePython(): Promise<Python> {
  const version = await step("python", "python3", ["-c", "import sys; print(sys.version)"], "there is no python3");
  const inputs = [...["requirements.txt", "generate.sh"].map((name) => join(pythonWorkerFolder, name)), TOOLS];
  const folder = await builtOnce("python", inputs, version, make);
  return { interpreter: join(folder, "venv/bin/python"), stubs: join(folder, "generated") };
}

async function make(folder: string): Promise<void> {
  const interpreter = join(folder, "venv/bin/python");
  const requirements = ["-r", join(pythonWorkerFolder, "requirements.txt"), "-r", TOOLS];
  await step("python", "python3", ["-m", "venv", join(folder, "venv")], "python3 cannot make a virtual environment");
  const install = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-compile", ...requirements];
  await step("python", interpreter, install, "pip cannot install requirements.txt");
  await step("python", join(pythonWorkerFolder, "generate.sh"), [join(folder, "generated")], "the stubs cannot be generated", {
    env: { PYTHON: interpreter },
  });
}
