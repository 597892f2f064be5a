// Do the tests notice when somebody breaks the code? Puts each mutant into a copy of the working tree and runs the suites that must go red.
//
//   npm run mutants                       all of them, two at a time
//   npm run mutants -- rowCount epoch     those whose name contains one of the words
//
// Ends with 1 if one survives, with 2 if the suites are red without any.
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type Mutant, MUTANTS } from "./mutants.js";

const ROOT = join(import.meta.dirname, "../..");
const LANES = 2;
/** A mutant that makes a suite hang is as dead as one that makes it fail. */
const LIMIT_MS = 240_000;
/** What a copy does without, by name at any depth. */
const LEFT_OUT = new Set(["node_modules", "dist", ".git", ".leasehold", "coverage", ".venv", "bench", "dashboard"]);
const WORKSPACES = ["proto", "client", "server", "cli"];

interface Outcome {
  readonly mutant: string;
  readonly killedBy: string | null;
  readonly seconds: number;
}

/** A copy of the working tree whose packages find each other, and everything else in the original's node_modules. */
function copyTree(): string {
  const folder = mkdtempSync(join(tmpdir(), "leasehold-mutant-"));
  cpSync(ROOT, folder, { recursive: true, filter: (source) => source === ROOT || !LEFT_OUT.has(basename(source)) });
  const modules = join(folder, "node_modules");
  mkdirSync(join(modules, "@leasehold"), { recursive: true });
  mkdirSync(join(modules, ".cache"));
  const link = (from: string, to: string): void => {
    symlinkSync(from, join(modules, to));
  };
  for (const name of readdirSync(join(ROOT, "node_modules"))) {
    if (![".cache", ".vite", "@leasehold", "leasehold"].includes(name)) link(join(ROOT, "node_modules", name), name);
  }
  for (const name of WORKSPACES) {
    link(join(folder, name), name === "cli" ? "leasehold" : `@leasehold/${name}`);
    // What npm could not hoist.
    const own = join(ROOT, name, "node_modules");
    if (existsSync(own)) symlinkSync(own, join(folder, name, "node_modules"));
  }
  // Fetched once, not once a mutant.
  link(join(ROOT, "node_modules/.cache/leasehold-postgres-17"), ".cache/leasehold-postgres-17");
  return folder;
}

const folders = new Set<string>();
const running = new Map<number, () => void>();

function stopAll(): void {
  for (const stop of running.values()) stop();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    stopAll();
    process.exit(130);
  });
}

/** Runs vitest in a folder to its end or its limit; answers the first test that failed, or null where all passed. */
function firstFailure(folder: string, suites: readonly string[], project: string | undefined): Promise<string | null> {
  const report = join(folder, "mutant-report.json");
  const projects = project === undefined ? ["--project", "unit", "--project", "postgres"] : ["--project", project];
  const args = ["run", ...projects, "--bail", "1", "--reporter", "json", "--outputFile", report, ...suites];
  return new Promise((resolve) => {
    // A group of its own, so that a run that hangs is ended with its workers; the Postgres that it owns stops by itself.
    const child = spawn(process.execPath, [join(ROOT, "node_modules/vitest/vitest.mjs"), ...args], {
      ...{ cwd: folder, detached: true, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LEASEHOLD_MODEL_RUNS: "120" } },
    });
    const pid = child.pid ?? 0;
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (said += part));
    const stop = (): void => {
      try {
        process.kill(-pid, "SIGKILL");
      } catch {
        // It is gone.
      }
    };
    running.set(pid, stop);
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      stop();
    }, LIMIT_MS);
    child.once("close", (code) => {
      clearTimeout(limit);
      running.delete(pid);
      if (late) resolve(`nothing ended within ${LIMIT_MS / 1000} s`);
      else resolve(code === 0 ? null : failureOf(report, said));
    });
  });
}

interface JsonReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

function failureOf(report: string, said: string): string {
  try {
    const { testResults } = JSON.parse(readFileSync(report, "utf8")) as JsonReport;
    for (const { assertionResults } of testResults) {
      const failed = assertionResults.find(({ status }) => status === "failed");
      if (failed !== undefined) return failed.fullName;
    }
    const broken = testResults.find(({ message }) => message !== "");
    if (broken !== undefined) return `${basename(broken.name)}: ${broken.message.split("\n")[0] ?? ""}`;
  } catch {
    // Without a report what it said has to do.
  }
  return `vitest itself: ${said.trim().split("\n").at(-1) ?? ""}`;
}

function sabotage(folder: string, { changes }: Mutant): void {
  for (const { file, find, replace } of changes) {
    const path = join(folder, file);
    const text = readFileSync(path, "utf8");
    if (text.split(find).length !== 2) throw new Error(`${file} does not hold exactly once: ${find}`);
    writeFileSync(
      path,
      text.replace(find, () => replace),
    );
  }
}

async function inCopy<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = copyTree();
  folders.add(folder);
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    folders.delete(folder);
  }
}

async function tryOne(mutant: Mutant): Promise<Outcome> {
  const beganMs = performance.now();
  const killedBy = await inCopy((folder) => {
    sabotage(folder, mutant);
    return firstFailure(folder, mutant.suites, mutant.project);
  });
  return { mutant: mutant.name, killedBy, seconds: (performance.now() - beganMs) / 1000 };
}

function tell({ mutant, killedBy, seconds }: Outcome): void {
  process.stdout.write(
    `${killedBy === null ? "SURVIVED" : "killed  "}  ${mutant}\n          ${killedBy ?? "-"} (${seconds.toFixed(0)} s)\n`,
  );
}

/** All suites of these mutants without any sabotage: red suites prove nothing. */
async function expectGreen(mutants: readonly Mutant[]): Promise<void> {
  for (const project of new Set(mutants.map((mutant) => mutant.project))) {
    const suites = new Set(mutants.filter((mutant) => mutant.project === project).flatMap((mutant) => mutant.suites));
    const failure = await inCopy((folder) => firstFailure(folder, [...suites], project));
    if (failure === null) continue;
    process.stdout.write(`red without any mutant: ${failure}\n`);
    process.exit(2);
  }
}

const words = process.argv.slice(2).map((word) => word.toLowerCase());
const chosen = MUTANTS.filter(({ name }) => words.length === 0 || words.some((word) => name.toLowerCase().includes(word)));
const queue = chosen.filter(({ onlyBy }) => onlyBy === undefined);
await expectGreen(queue);
const outcomes: Outcome[] = [];
await Promise.all(
  Array.from({ length: LANES }, async () => {
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const outcome = await tryOne(mutant);
      outcomes.push(outcome);
      tell(outcome);
    }
  }),
);
for (const { name, onlyBy } of chosen)
  if (onlyBy !== undefined) process.stdout.write(`not run   ${name}\n          seen only by ${onlyBy}\n`);
const survivors = outcomes.filter(({ killedBy }) => killedBy === null);
process.stdout.write(`\n${outcomes.length - survivors.length} killed, ${survivors.length} survived\n`);
process.exitCode = survivors.length === 0 ? 0 : 1;
