// Does the README say what is true? Its commands are typed as a new user would, its three files are type-checked and run.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { environment, startProcess, type StartedProcess } from "../support/child-process.js";
import { freePort } from "../support/free-port.js";
import { snippetsOf } from "../support/snippets.js";

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

  it("has a task, a worker and a test that type-check under strict flags and do what their comments say", async () => {
    const folder = path.join(ROOT, "node_modules/.cache/leasehold-readme");
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await writeFile(path.join(folder, "package.json"), '{ "type": "module" }');
    const files = snippetsOf(readme).map(({ name, text }) => ({ file: path.join(folder, name), text }));
    for (const { file, text } of files) await writeFile(file, text);
    const flags = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--module", "nodenext"];
    const more = ["--target", "es2023", "--types", "node", "--skipLibCheck", "--ignoreConfig"];
    const tsc = path.join(ROOT, "node_modules/typescript/bin/tsc");
    const check = run(process.execPath, [tsc, ...flags, ...more, ...files.map(({ file }) => file)]);
    expect([await check.ended, check.said()]).toEqual([0, ""]);

    const [, main = ""] = /`npx tsx hello\/(\S+)`/.exec(readme) ?? [];
    const example = run("npx", ["tsx", path.join(folder, main)]);
    expect(await example.ended, example.said()).toBe(0);
    expect(example.said()).toContain("{ imported: 1000 }");

    const [, ownTest = ""] = /`npx tsx --test hello\/(\S+)`/.exec(readme) ?? [];
    const tested = run("npx", ["tsx", "--test", path.join(folder, ownTest)]);
    expect(await tested.ended, tested.said()).toBe(0);
    expect(tested.said()).toMatch(/^. pass 1$/m);
  });

  it("of the SDK's package has a program that runs as it stands", async () => {
    const [snippet] = snippetsOf(await readFile(path.join(ROOT, "client/README.md"), "utf8"));
    const folder = path.join(ROOT, "node_modules/.cache/leasehold-readme");
    const file = path.join(folder, "client.ts");
    await mkdir(folder, { recursive: true });
    await writeFile(path.join(folder, "package.json"), '{ "type": "module" }');
    await writeFile(file, (snippet?.text ?? "").replace('"127.0.0.1:7410"', JSON.stringify(address)));
    const program = run("npx", ["tsx", file]);
    expect(await program.ended, program.said()).toBe(0);
    expect(program.said()).toContain("hello world");
  });
});
