// Does the README say what is true? Its commands are typed as a new user would, its example is type-checked and run.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { environment, startProcess, type StartedProcess, typescriptArguments } from "../support/child-process.js";
import { freePort } from "../support/free-port.js";

const ROOT = path.join(import.meta.dirname, "../..");
let readme = "";
let address = "";
let started: StartedProcess;

function run(program: string, args: readonly string[]): StartedProcess {
  return startProcess(program, args, { cwd: ROOT, env: environment({ LEASEHOLD_ADDRESS: address, LEASEHOLD_LISTEN: address }) });
}

function block(language: string, containing: string): string {
  const blocks = [...readme.matchAll(/```(\w+)\n([\s\S]*?)```/g)].filter(([, name]) => name === language).map(([, , text = ""]) => text);
  return blocks.find((text) => text.includes(containing)) ?? "";
}

beforeAll(async () => {
  readme = await readFile(path.join(ROOT, "README.md"), "utf8");
  address = `127.0.0.1:${String(await freePort())}`;
  started = run("npm", ["start"]);
  await started.waitFor(/Leasehold is ready on/);
}, 60_000);

afterAll(async () => {
  started.child.kill("SIGTERM");
  await started.ended;
}, 30_000);

describe("the README", () => {
  it("names the commands that this test types", () => {
    expect(block("sh", "npm start")).toContain("npm test");
    expect(block("sh", "npx leasehold submit")).toContain("npm run demo");
  });

  it("shows a first task that goes through: submitted, running, checkpointed, completed, with its result", async () => {
    const line = /npx leasehold (submit .*)/.exec(readme)?.[1] ?? "";
    const args = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");
    const submit = run("npx", ["leasehold", ...args]);
    expect(await submit.ended).toBe(0);
    for (const step of ["submitted", "RUNNING", "checkpoint", "COMPLETED", '{"counted":10}']) expect(submit.said()).toContain(step);
  });

  it("has an example that type-checks under strict flags and does what its comments say", async () => {
    const folder = path.join(ROOT, "node_modules/.cache/leasehold-readme");
    await mkdir(folder, { recursive: true });
    const file = path.join(folder, "example.mts");
    await writeFile(file, `${block("ts", "defineTask")}\nprocess.exit(0);\n`);
    const flags = [
      "--noEmit",
      "--strict",
      "--exactOptionalPropertyTypes",
      "--noUncheckedIndexedAccess",
      "--module",
      "nodenext",
      "--target",
      "es2023",
      "--types",
      "node",
      "--skipLibCheck",
    ];
    const check = run(process.execPath, [path.join(ROOT, "node_modules/typescript/bin/tsc"), ...flags, "--ignoreConfig", file]);
    expect([await check.ended, check.said()]).toEqual([0, ""]);
    const [first = "", second = ""] = typescriptArguments("unused");
    const example = run(process.execPath, [first, second, file]);
    expect(await example.ended, example.said()).toBe(0);
    expect(example.said()).toContain("{ imported: 1000 }");
  });
});
