// Is the code about tests in the documents true? The guide, the recipe and the package's README, run by Node's own test runner on what was built.
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { environment, startProcess } from "../support/child-process.js";
import { snippetsOf } from "../support/snippets.js";

const ROOT = join(import.meta.dirname, "../..");
const RECIPE = join(ROOT, "examples/recipes/tests-and-time.ts");
const TSX = join(ROOT, "node_modules/tsx/dist/cli.mjs");

let folder = "";
beforeAll(async () => {
  const cache = join(ROOT, "node_modules/.cache");
  await mkdir(cache, { recursive: true });
  folder = await mkdtemp(join(cache, "leasehold-tested-"));
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
});
afterAll(async () => rm(folder, { recursive: true, force: true }));

/** Writes the blocks of a document as files of their own and answers their paths. */
async function writtenOut(document: string, prefix: string): Promise<string[]> {
  const snippets = snippetsOf(await readFile(join(ROOT, document), "utf8"));
  return Promise.all(
    snippets.map(async ({ name, text }) => {
      const file = join(folder, name === "tasks.ts" ? name : `${prefix}-${name}`);
      await writeFile(file, text);
      return file;
    }),
  );
}

it("all tests of the guide and of the recipe pass, the README's program says what it shows, and the process ends by itself", async () => {
  const files = [...(await writtenOut("docs/testing.md", "guide")), RECIPE, ...(await writtenOut("testing/README.md", "readme"))];
  const whole = join(folder, "all.ts");
  await writeFile(whole, files.map((file) => `import ${JSON.stringify(file.replace(/\.ts$/, ".js"))};\n`).join(""));
  const { ended, said } = startProcess(process.execPath, [TSX, whole], { cwd: folder, env: environment() });
  expect(await ended, said()).toBe(0);
  // Three of the guide, two of the recipe.
  expect(said()).toMatch(/^. pass 5$/m);
  expect(said()).toContain("hello world\n{ kind: 'completed', result: 'hello you' }");
  expect(said()).not.toContain("Warning");
}, 120_000);
