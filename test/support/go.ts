// Where do the Go tests get the worker and the client? Built from the example and its stubs in a copy of its module, once for each state of them.
// That needs go and a module proxy that it reaches.
import { copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { builtOnce, step } from "./built-once.js";

const ROOT = join(import.meta.dirname, "../..");
const CLIENT = join(import.meta.dirname, "go/task_client.go");
const OWNERS_HALF = ["task", "task_service", "worker_service"].map((name) => join(ROOT, `proto/leasehold/v1/${name}.proto`));

/** The folder of the Go worker. */
export const goWorkerFolder = join(ROOT, "examples/raw-workers/go");

/** Its files of Go, those between the markers first. */
export const goSources = ["worker.go", "handlers.go", "conform.go"];

/** Built programs. */
export interface GoPrograms {
  readonly worker: string;
  /** Submits, waits and reads typed errors. */
  readonly client: string;
}

/** Builds both programs unless they are there. Rejects, and says loudly what was left out, when that is not possible. */
export async function prepareGo(): Promise<GoPrograms> {
  const version = await step("go", "go", ["version"], "there is no go");
  const names = [...goSources, "go.mod", "go.sum", "generate.sh", "buf.gen.yaml"];
  const inputs = [...names.map((name) => join(goWorkerFolder, name)), CLIENT];
  const folder = await builtOnce("go", inputs, version, make);
  return { worker: join(folder, "worker"), client: join(folder, "client") };
}

async function make(folder: string): Promise<void> {
  const module = join(folder, "module");
  await mkdir(join(module, "client"), { recursive: true });
  for (const name of [...goSources, "go.mod", "go.sum"]) await copyFile(join(goWorkerFolder, name), join(module, name));
  await copyFile(CLIENT, join(module, "client/main.go"));
  const stubs = join(module, "generated");
  await step("go", join(goWorkerFolder, "generate.sh"), [stubs], "the stubs cannot be generated");
  const files = OWNERS_HALF.flatMap((path) => ["--path", path]);
  const generate = ["generate", ROOT, "--template", "buf.gen.yaml", "--output", stubs, ...files];
  await step("go", join(ROOT, "node_modules/.bin/buf"), generate, "the stubs cannot be generated", { cwd: goWorkerFolder });
  for (const [program, from] of [
    ["worker", "."],
    ["client", "./client"],
  ] as const)
    await step("go", "go", ["build", "-o", join(folder, program), from], `the ${program} cannot be built`, { cwd: module });
}
