// Where do the Rust tests get the worker? Cargo builds the example once for each state of it. That needs cargo and a registry that it reaches.
import { copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { builtOnce, step } from "./built-once.js";

const ROOT = join(import.meta.dirname, "../..");

/** The folder of the Rust worker. */
export const rustWorkerFolder = join(ROOT, "examples/raw-workers/rust");

/** Its source files, the one with the markers first. */
export const rustSources = ["main", "handlers", "conform"].map((name) => join(rustWorkerFolder, `src/${name}.rs`));

/** Builds the worker unless it is there, and answers its program. Rejects, and says loudly what was left out, when that is not possible. */
export async function prepareRust(): Promise<string> {
  const version = await step("rust", "cargo", ["--version"], "there is no cargo");
  const inputs = [...rustSources, ...["Cargo.toml", "Cargo.lock", "build.rs", "generate.sh"].map((name) => join(rustWorkerFolder, name))];
  const folder = await builtOnce("rust", inputs, version, make);
  return join(folder, "worker");
}

async function make(folder: string): Promise<void> {
  const contract = join(folder, "contract.binpb");
  await step("rust", join(rustWorkerFolder, "generate.sh"), [contract], "the stubs cannot be generated");
  const target = join(folder, "target");
  await mkdir(target);
  const env = { CONTRACT: contract, CARGO_TARGET_DIR: target, CARGO_INCREMENTAL: "0" };
  await step("rust", "cargo", ["build", "--quiet", "--locked"], "the worker cannot be built", { cwd: rustWorkerFolder, env });
  await copyFile(join(target, "debug/raw-worker"), join(folder, "worker"));
  // Hundreds of megabytes that nobody builds on.
  await rm(target, { recursive: true });
}
