// Is everything in order? Runs each check, then the tests, and ends with one line: `N passed, N failed`. Only Node needs to be there.
//
//   npm test                                  everything
//   npm test -- --only checks                 types, lint, format, contract
//   npm test -- --only tests                  the tests alone
//   npm test -- test/unit/retry -t "jitter"   some tests, in the words of vitest
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const ROOT = join(import.meta.dirname, "..");

/** Checks that run at the same time: two cores are what the smallest machine has. */
const LANES = 2;

/** No step takes longer than this unless it hangs; then it is ended, and counts as failed. */
const STEP_LIMIT_MS = 20 * 60_000;

const PREPARE = `
  const { prepare, PrepareError } = await import("./cli/bin/prepare.mjs");
  await prepare().catch((error) => {
    console.error(error instanceof PrepareError ? error.message : error);
    process.exit(1);
  });`;

/** @type {{ name: string, run: () => Promise<Outcome> }[]} */
const CHECKS = [
  { name: "types of the tests and of all they import (tsc)", run: () => run("tsc", ["-p", "test/tsconfig.json", "--pretty", "false"]) },
  { name: "lint (eslint)", run: () => run("eslint", [".", "--max-warnings", "0"]) },
  { name: "format (prettier)", run: () => run("prettier", ["--check", ".", "--log-level", "warn"]) },
  { name: "nothing unused: files, exports, dependencies (knip)", run: () => run("knip", ["--no-config-hints"]) },
  {
    name: "public surface of SDK and test kit is what its report says (api-extractor)",
    run: () => run(process.execPath, [".ci/sdk-api.mjs"]),
  },
  { name: "reference of the SDK is made without warnings (typedoc)", run: () => run("typedoc", ["--emit", "none"]) },
  { name: "reference of the test kit, too (typedoc)", run: () => run("typedoc", ["--options", "typedoc.testing.json", "--emit", "none"]) },
  { name: "contract: lint (buf)", run: () => run("buf", ["lint"]) },
  { name: "contract: format (buf)", run: () => run("buf", ["format", "-d", "--exit-code"]) },
  { name: "contract: breaks nobody who uses the last release (buf)", run: compareWithRelease },
  { name: "contract: generated code and image are up to date", run: compareGenerated },
];

/** Process groups that this run started and that still run. */
const running = new Set();

/**
 * @typedef {{ ok: boolean, output: string, note?: string }} Outcome a note is told also when all is well
 */

/** Runs a command of the repository to its end and keeps what it said. */
function run(command, args, { show = false } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      // A group of its own, so that a step that hangs is ended with all that it started.
      detached: true,
      stdio: ["ignore", show ? "inherit" : "pipe", show ? "inherit" : "pipe"],
      env: {
        ...process.env,
        ...(show ? {} : { NO_COLOR: "1" }),
        PATH: `${join(ROOT, "node_modules/.bin")}${delimiter}${process.env.PATH ?? ""}`,
      },
    });
    let output = "";
    let limit;
    const end = (ok, note = "") => {
      clearTimeout(limit);
      running.delete(child.pid);
      resolve({ ok, output: output + note });
    };
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding("utf8").on("data", (text) => (output += text));
    if (child.pid !== undefined) running.add(child.pid);
    limit = setTimeout(() => {
      output += `\nEnded after ${STEP_LIMIT_MS / 60_000} minutes.\n`;
      endGroup(child.pid, "SIGKILL");
    }, STEP_LIMIT_MS);
    child.once("error", (error) => end(false, `${command} did not start: ${error.message}\n`));
    child.once("close", (code, signal) => end(code === 0, signal === null ? "" : `\n${command} was ended by ${signal}.\n`));
  });
}

function endGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

/** A check that had nothing to compare with is no failure, and must not look like a success either. */
async function compareWithRelease() {
  const { ok, output } = await run(process.execPath, [".ci/contract-breaking.mjs"]);
  return { ok, output, note: output.startsWith("NOT COMPARED") ? output : undefined };
}

/** Generates into a temporary folder and compares with what is committed, both ways. */
async function compareGenerated() {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-generated-"));
  try {
    const image = join(folder, "leasehold.binpb");
    for (const args of [
      ["generate", "-o", folder],
      ["build", "-o", image],
    ]) {
      const made = await run("buf", args);
      if (!made.ok) return made;
    }
    const [fresh, kept] = [join(folder, "proto/src"), join(ROOT, "proto/src")];
    const names = [...new Set([...(await filesIn(fresh)), ...(await filesIn(kept))])].sort();
    const pairs = names.map((name) => [`proto/src/${name}`, join(fresh, name), join(kept, name)]);
    pairs.push(["proto/leasehold.binpb", image, join(ROOT, "proto/leasehold.binpb")]);
    const stale = [];
    for (const [name, ...paths] of pairs) {
      const [made, committed] = await Promise.all(paths.map((path) => readFile(path).catch(() => undefined)));
      if (made === undefined) stale.push(`${name} is generated from nothing any more`);
      else if (committed === undefined) stale.push(`${name} is missing`);
      else if (!made.equals(committed)) stale.push(`${name} is not what the .proto files say`);
    }
    const output = stale.map((line) => `${line}\n`).join("");
    return { ok: stale.length === 0, output: stale.length === 0 ? "" : `${output}Run npm run generate and commit the result.\n` };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function filesIn(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

/** Runs one check and tells its name and duration at once, its output only if it failed. */
async function tellCheck({ name, run: check }) {
  const started = performance.now();
  const { ok, output, note } = await check().catch((error) => ({ ok: false, output: `${error.stack}\n` }));
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(`${ok ? "ok    " : "FAILED"} ${name} (${seconds} s)\n`);
  const told = ok ? note : output;
  if (told !== undefined) process.stdout.write(`${told.replace(/^/gm, "    ").trimEnd()}\n`);
  return ok;
}

/** Runs all checks, LANES at a time, in order of the list. */
async function runChecks() {
  const waiting = [...CHECKS];
  const results = [];
  const lane = async () => {
    for (let check = waiting.shift(); check !== undefined; check = waiting.shift()) results.push(await tellCheck(check));
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return { passed: results.filter(Boolean).length, failed: results.filter((ok) => !ok).length };
}

/** Runs vitest, which tells its own story, and counts what its report says. */
async function runTests(args) {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-tests-"));
  const file = join(folder, "report.json");
  try {
    const outcome = await run("vitest", ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, ...args], {
      show: true,
    });
    process.stdout.write(outcome.output);
    const report = await readFile(file, "utf8").then(JSON.parse, () => undefined);
    return count(report, outcome.ok, args);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What a report comes to. Nothing that went wrong outside a test is lost: a file that does not load, an error nobody caught, no test at all. */
function count(report, ok, args) {
  if (report === undefined) return { passed: 0, failed: 1 };
  const broken = report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some(({ status }) => status === "failed"),
  );
  // A filter by name leaves the other tests of a file aside; without one, a test that did not run is a hole.
  const byName = args.some((arg) => /^(?:-t|--testNamePattern)(?:=|$)/.test(arg));
  const left = byName ? 0 : report.numTotalTests - report.numPassedTests - report.numFailedTests;
  if (left > 0) process.stdout.write(`${left} tests did not run.\n`);
  const passed = report.numPassedTests;
  const failed = report.numFailedTests + broken.length + left;
  return { passed, failed: failed === 0 && (!ok || passed === 0) ? 1 : failed };
}

/** Splits what is for this script from what is for vitest; tests that are picked are run alone. */
function readArguments(args) {
  const at = args.findIndex((arg) => arg === "--only" || arg.startsWith("--only="));
  if (at === -1) return { only: args.length > 0 ? "tests" : undefined, rest: args };
  const joined = args[at].startsWith("--only=");
  const only = joined ? args[at].slice("--only=".length) : args[at + 1];
  if (only !== "checks" && only !== "tests") {
    process.stderr.write("--only takes checks or tests.\n");
    process.exit(2);
  }
  return { only, rest: args.toSpliced(at, joined ? 1 : 2) };
}

async function main() {
  const { only, rest } = readArguments(process.argv.slice(2));
  const total = { passed: 0, failed: 0 };
  const add = ({ passed, failed }) => {
    total.passed += passed;
    total.failed += failed;
  };
  const prepared = await tellCheck({
    name: "install and build",
    run: () => run(process.execPath, ["--input-type=module", "--eval", PREPARE]),
  });
  add(prepared ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 });
  // Without a build much can still be told; without packages every step would only repeat that they are missing.
  if (prepared || existsSync(join(ROOT, "node_modules/.bin/vitest"))) {
    if (only !== "tests") add(await runChecks());
    if (only !== "checks") add(await runTests(rest));
  }
  process.stdout.write(`\n${total.passed} passed, ${total.failed} failed\n`);
  process.exitCode = total.failed === 0 ? 0 : 1;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => {
    for (const pid of running) endGroup(pid, signal);
    process.exit(1);
  });
}

await main();
