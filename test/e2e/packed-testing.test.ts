// Does the test kit work as it is published: packed with all it needs, installed in an empty project, type-checked and run there?
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { complaints, createPackedProject, nodeOfLine, type PackedProject, type Tarball } from "../support/packed-client.js";

const ROOT = join(import.meta.dirname, "../..");
/** The newest line of Node; the oldest runs the tests. What is between them is tried with the SDK alone. */
const NEWEST = 26;

let project: PackedProject;
beforeAll(async () => {
  project = await createPackedProject(["proto", "client", "server", "testing"], ["zod@4.6.7", "@types/node@20.19.43"]);
}, 300_000);
afterAll(() => project.remove());

function tarball(name: string): Tarball {
  return project.tarballs[name]!;
}

const TASKS = `
import { defineTask, handle } from "@leasehold/client";
import { z } from "zod";
export const half = defineTask({ name: "half", metadata: z.object({ n: z.number() }), result: z.object({ half: z.number() }), errors: { odd: z.object({ n: z.number() }) } });
export const halfHandler = handle(half, (ctx) => {
  const { n } = ctx.metadata;
  if (ctx.attempt < 3) throw new Error("not yet");
  return n % 2 === 0 ? { half: n / 2 } : ctx.fail("odd", { n }, { retry: false });
});
`;
/** A test of a user, as Node itself runs it. Node 20 has no `await using`. */
const TEST = `
import assert from "node:assert/strict";
import { test } from "node:test";
import { createTestEnv, runHandler } from "@leasehold/testing";
import { half, halfHandler } from "./tasks.js";
test("a task and its hours", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "setImmediate", "Date"] });
  const env = await createTestEnv({ handlers: [halfHandler], now: new Date("2030-01-01T00:00:00Z") });
  try {
    const task = await env.client.submit(half, { n: 42 }, { scheduleTime: { in: "1h" } });
    t.mock.timers.tick(7_200_000);
    await env.settled();
    assert.equal((await task.snapshot()).state, "pending");
    await env.clock.advance("2h");
    await env.faults.dropStream();
    assert.deepEqual(await task.result(), { half: 21 });
  } finally {
    await env.dispose();
  }
});
test("a handler alone", async () => {
  const { outcome } = await runHandler(half, halfHandler, { metadata: { n: 3 }, attempt: 3 });
  assert.equal(outcome.kind === "failed" && outcome.error.code, "odd");
});
`;

describe("the packed test kit", () => {
  it("has what is built and its sources, the server has its migrations, and nothing else is packed", async () => {
    for (const name of ["server", "testing"]) {
      const { files } = tarball(name);
      const odd = files.filter((file) => !/^(?:dist|src|migrations)\/|^(?:package\.json|README\.md|LICENSE)$/.test(file));
      expect(odd).toEqual([]);
      expect(files.filter((file) => /tsbuildinfo|\.env|node_modules|\.test\./.test(file))).toEqual([]);
      expect(files).toEqual(expect.arrayContaining(["LICENSE", "README.md"]));
    }
    expect(tarball("testing").files).toEqual(expect.arrayContaining(["dist/index.js", "dist/index.d.ts", "src/index.ts"]));
    expect(tarball("server").files.filter((file) => /^migrations\/\d{4}-[a-z0-9-]+\.sql$/.test(file)).length).toBeGreaterThanOrEqual(3);
  });

  it("has source maps that lead to sources in the package", async () => {
    const maps = tarball("testing").files.filter((file) => file.endsWith(".map"));
    expect(maps.length).toBeGreaterThan(10);
    for (const map of maps) {
      const { sources } = JSON.parse(await readFile(join(project.folder, "node_modules/@leasehold/testing", map), "utf8")) as {
        sources: string[];
      };
      for (const source of sources) expect(tarball("testing").files, map).toContain(join(map, "..", source));
    }
  });

  it("pleases publint and are-the-types-wrong, and so does the server that comes with it", async () => {
    expect(await complaints(tarball("testing"))).toEqual([]);
    expect(await complaints(tarball("server"))).toEqual([]);
  });

  it("type-checks in a strict project, its declarations included", { timeout: 120_000 }, async () => {
    await project.write("tasks.ts", TASKS);
    await project.write("half.test.ts", TEST);
    const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false };
    const options = { ...strict, module: "nodenext", target: "es2023", types: ["node"], outDir: "out" };
    await project.write("tsconfig.json", JSON.stringify({ compilerOptions: options, files: ["half.test.ts"] }));
    const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
    expect(await project.run(process.execPath, tsc, "-p", ".").catch((error: unknown) => error)).toBe("");
  });
});

describe("a test with the packed kit", () => {
  it(
    "runs a task through an environment on the oldest and the newest Node, and its process ends by itself",
    { timeout: 600_000 },
    async () => {
      await project.write("tasks.js", TASKS);
      await project.write("half.test.js", TEST);
      // Not by `--test`, which would end the process of a file itself.
      expect(await project.run(process.execPath, "half.test.js")).toMatch(/^. pass 2\n. fail 0$/m);
      const newest = await nodeOfLine(NEWEST);
      if (newest === undefined) process.stderr.write(`\nNO REGISTRY ANSWERED: the packed kit was NOT run on Node ${String(NEWEST)}.\n\n`);
      else expect(await project.run(newest, "half.test.js")).toMatch(/^. pass 2\n. fail 0$/m);
    },
  );
});
