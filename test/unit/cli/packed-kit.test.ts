// Is the conformance kit whole as it is published: scenarios, workers that are wrong, and all they import? The command from its tarball plays one.
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const run = promisify(execFile);

let folder: string;
let files: string[];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "leasehold-packed-kit-"));
  const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  const [packed] = JSON.parse(execFileSync("npm", pack, { cwd: join(ROOT, "cli"), encoding: "utf8" })) as {
    filename: string;
    files: { path: string }[];
  }[];
  files = packed!.files.map(({ path }) => path);
  execFileSync("tar", ["-xzf", join(folder, packed!.filename), "-C", folder]);
  // What npm would install beside it, by its names.
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("has every scenario and every worker that is wrong", () => {
  const scenarios = readdirSync(join(ROOT, "cli/scenarios")).map((name) => `scenarios/${name}`);
  expect(files).toEqual(expect.arrayContaining([...scenarios, "dist/conform/fixtures/raw-worker.js", "dist/conform/fixtures/broken.js"]));
});

it("depends on every package that it imports", () => {
  const manifest = JSON.parse(readFileSync(join(folder, "package/package.json"), "utf8")) as { dependencies: Record<string, string> };
  const sources = files
    .filter((path) => /^dist\/conform\/.*\.js$/.test(path))
    .map((path) => readFileSync(join(folder, "package", path), "utf8"));
  const imported = sources.flatMap((text) => [...text.matchAll(/from "((?:@[^/"]+\/)?[^./"][^/"]*)/g)].map(([, name = ""]) => name));
  const foreign = new Set(imported.filter((name) => !name.startsWith("node:")));
  expect([...foreign].filter((name) => manifest.dependencies[name] === undefined)).toEqual([]);
});

it("plays a scenario with a worker of its own, from the tarball", async () => {
  const conform = ["worker", "conform", "--only", "^delivery-echo$", "--"];
  const worker = ["node", join(folder, "package/dist/conform/fixtures/raw-worker.js")];
  const { stdout } = await run(process.execPath, [join(folder, "package/bin/leasehold.js"), ...conform, ...worker]);
  expect(stdout).toContain("1 of 1 scenarios passed, full marks");
}, 60_000);
