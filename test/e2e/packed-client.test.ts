// Does the SDK work as it is published: packed, installed in an empty project, imported and required, bundled, on every supported Node?
import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { complaints, createPackedProject, nodeOfLine, type PackedProject, type Tarball } from "../support/packed-client.js";
import { test } from "../support/scene.js";

const ROOT = join(import.meta.dirname, "../..");
/** Lines of Node beside the one that runs the tests. */
const LINES = [22, 24, 26];

let project: PackedProject;
beforeAll(async () => {
  project = await createPackedProject(["proto", "client"], ["zod@4.6.7", "@types/node@20.19.43", "webpack@5.112.2"]);
}, 300_000);
afterAll(() => project.remove());

function tarball(name: string): Tarball {
  return project.tarballs[name]!;
}

/** A program that submits a task, runs it in the same process and says how it went. */
const PROGRAM = `
const task = defineTask({ name: "packed", metadata: type(), result: type(), errors: { odd: type() } });
const handler = handle(task, (ctx) => (ctx.metadata.n % 2 === 0 ? { half: ctx.metadata.n / 2 } : ctx.fail("odd", { n: ctx.metadata.n }, { retry: false })));
const client = createClient({ address: process.argv[2], codecs: [gzipCodec({ fromBytes: 0 })] });
const worker = createWorker({ client, handlers: [handler], grace: 0 });
const running = worker.run();
(async () => {
  const { half } = await (await client.submit(task, { n: 42 })).result({ timeout: "30s" });
  const error = await (await client.submit(task, { n: 3 })).result({ timeout: "30s" }).catch((thrown) => thrown);
  if (!isTaskFailed(error, task)) throw error;
  await worker.drain();
  await running;
  client.close();
  console.log("half", half, error.failure.code, error.failure.data.n, process.version);
})();
`;
/** Bundles the program for servers, as a module that everything is in. */
const WEBPACK = `
import webpack from "webpack";
const output = { path: import.meta.dirname, filename: "packed.cjs" };
webpack({ mode: "production", target: "node20", entry: "./run.mjs", output }, (error, stats) => {
  const said = error?.message ?? stats.toString({ all: false, errors: true, warnings: true });
  if (said !== "") throw new Error(said);
});
`;
const NAMES = "createClient, createWorker, defineTask, gzipCodec, handle, isTaskFailed, type";

describe("the packed SDK", () => {
  it("has what is built, its sources for the source maps, and nothing else", async () => {
    for (const { files } of Object.values(project.tarballs)) {
      const odd = files.filter(
        (file) => !/^(?:dist|src|leasehold|third_party)\/|^(?:package\.json|README\.md|LICENSE|leasehold\.binpb)$/.test(file),
      );
      expect(odd).toEqual([]);
      expect(files.filter((file) => /test|tsbuildinfo|\.env|node_modules/.test(file))).toEqual([]);
      expect(files).toContain("LICENSE");
    }
    expect(tarball("client").files).toEqual(expect.arrayContaining(["README.md", "dist/index.js", "dist/index.d.ts", "src/index.ts"]));
    expect(tarball("proto").files).toEqual(
      expect.arrayContaining(["leasehold/v1/worker_service.proto", "third_party/google/rpc/status.proto"]),
    );
    const manifest = JSON.parse(await readFile(join(ROOT, "client/package.json"), "utf8")) as { dependencies: object };
    const allowed = ["@grpc/grpc-js", "@leasehold/proto", "@opentelemetry/api", "@standard-schema/spec"];
    expect(Object.keys(manifest.dependencies).sort()).toEqual(allowed);
  });

  it("has source maps that lead to sources in the package", async () => {
    for (const [name, { files }] of Object.entries(project.tarballs)) {
      const maps = files.filter((file) => file.endsWith(".map"));
      expect(maps.length).toBeGreaterThan(10);
      for (const map of maps) {
        const { sources } = JSON.parse(await readFile(join(project.folder, "node_modules/@leasehold", name, map), "utf8")) as {
          sources: string[];
        };
        for (const source of sources) expect(files, map).toContain(join(map, "..", source));
      }
    }
  });

  it("pleases publint and are-the-types-wrong", async () => {
    expect(await complaints(tarball("client"))).toEqual([]);
    // What it exports are patterns, of which are-the-types-wrong knows no example.
    expect((await complaints(tarball("proto"))).filter((complaint) => !complaint.startsWith("NoResolution "))).toEqual([]);
  });

  it(
    "type-checks in a strict project, its declarations included, and exported definitions have declarations of their own",
    { timeout: 120_000 },
    async () => {
      await project.write(
        "tasks.ts",
        `import { aesGcmCodec, createClient, createWorker, defineMachine, defineTask, handle, handleMachine } from "@leasehold/client";
import { z } from "zod";
export const greet = defineTask({ name: "greet", metadata: z.object({ who: z.string() }), result: z.object({ text: z.string() }), errors: { rude: z.null() } });
export const machine = defineMachine({ name: "m", states: { a: z.object({ n: z.number() }) }, initial: { state: "a", data: { n: 1 } } });
export const handlers = [handle(greet, (ctx) => ({ text: ctx.metadata.who })), handleMachine(machine, { a: (d, ctx) => ctx.finish(d.n > 1 ? null : undefined) })];
export const client = createClient({ codecs: [aesGcmCodec({ keys: { k: "" }, current: "k", fingerprintKey: "" })] });
export const worker = createWorker({ client, handlers });
export const text = async (): Promise<string> => (await (await client.submit(greet, { who: "you" })).result()).text;
`,
      );
      const strict = {
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        verbatimModuleSyntax: true,
        skipLibCheck: false,
      };
      const options = { ...strict, module: "nodenext", target: "es2023", types: ["node"], declaration: true, outDir: "out" };
      await project.write("tsconfig.json", JSON.stringify({ compilerOptions: options, files: ["tasks.ts"] }));
      const said = await project
        .run(process.execPath, join(ROOT, "node_modules/typescript/bin/tsc"), "-p", ".")
        .catch((error: unknown) => error);
      expect(said).toBe("");
      expect(await readFile(join(project.folder, "out/tasks.d.ts"), "utf8")).toContain("who: string;");
    },
  );

  it("is one and the same when it is imported and required in one process, and knows the values of another copy", async () => {
    const other = join(project.folder, "node_modules/other/node_modules/@leasehold");
    await cp(join(project.folder, "node_modules/@leasehold/client"), join(other, "client"), { recursive: true });
    await project.write(
      "copies.mjs",
      `import { createRequire } from "node:module";
import * as imported from "@leasehold/client";
import * as other from "./node_modules/other/node_modules/@leasehold/client/dist/index.js";
const required = createRequire(import.meta.url)("@leasehold/client");
const task = other.defineTask({ name: "t", errors: { no: other.type() } });
const error = new other.LeaseholdError({ code: "TASK_FAILED", message: "m", taskName: "t", failure: { code: "no", message: "m" } });
const handler = imported.handle(task, () => undefined);
const machine = other.defineMachine({ name: "m", states: { a: other.type() }, initial: { state: "a", data: 1 } });
console.log(
  required.defineTask === imported.defineTask, other.defineTask === imported.defineTask, imported.LeaseholdError.is(error), imported.isTaskFailed(error, task),
  imported.createWorker({ client: imported.createClient({ address: "127.0.0.1:1" }), handlers: [handler, imported.handleMachine(machine, { a: (d, ctx) => ctx.finish() })] }).state.status,
);`,
    );
    expect(
      (await project.run(process.execPath, "copies.mjs")).replace(/^.*ExperimentalWarning[^]*?\n.*trace-warnings.*\n/m, "").trim(),
    ).toBe("true false true true idle");
  });
});

describe("a worker of the packed SDK", () => {
  test("runs as a module, by require, and bundled by esbuild and by webpack", { timeout: 120_000 }, async ({ scene }) => {
    const { address } = await scene.server();
    await project.write("run.mjs", `import { ${NAMES} } from "@leasehold/client";${PROGRAM}`);
    await project.write("run.cjs", `const { ${NAMES} } = require("@leasehold/client");${PROGRAM}`);
    const esbuild = join(ROOT, "node_modules/esbuild/bin/esbuild");
    await project.run(esbuild, "run.mjs", "--bundle", "--platform=node", "--format=cjs", "--outfile=bundled.cjs", "--log-level=error");
    await project.write("webpack.mjs", WEBPACK);
    await project.run(process.execPath, "webpack.mjs");
    for (const file of ["run.mjs", "run.cjs", "bundled.cjs", "packed.cjs"])
      expect(await project.run(process.execPath, file, address), file).toContain("half 21 odd 3");
  });

  test(
    "runs in a context whose Object, Error and Date are not those of Node, as test runners make them",
    { timeout: 120_000 },
    async ({ scene }) => {
      const { address } = await scene.server();
      const program = PROGRAM.replace("process.argv[2]", JSON.stringify(address)).replace("(async () => {", 'it("works", async () => {');
      const asTest = program
        .replace("console.log(", "expect([")
        .replace(/, process\.version\);\s*\}\)\(\);/, ']).toEqual(["half", 21, "odd", 3]);\n});');
      const foreign = 'it("is another realm", () => expect(process.versions).not.toBeInstanceOf(Object));';
      await project.write("realm.test.mjs", `import { ${NAMES} } from "@leasehold/client";${asTest}\n${foreign}`);
      const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
      const said = await project.run(process.execPath, vitest, "run", "--globals", "--pool", "vmForks", "realm.test.mjs");
      expect(said).toMatch(/Tests .*2 passed/);
    },
  );

  test("runs on every supported line of Node", { timeout: 900_000 }, async ({ scene }) => {
    const { address } = await scene.server();
    await project.write("run.mjs", `import { ${NAMES} } from "@leasehold/client";${PROGRAM}`);
    await project.write("run.cjs", `const { ${NAMES} } = require("@leasehold/client");${PROGRAM}`);
    // As it is written: Node takes the types out by itself from 22.18 on.
    const typed = PROGRAM.replaceAll("type()", "type<Body>()");
    await project.write("run.ts", `import { ${NAMES} } from "@leasehold/client";\ninterface Body { n: number; half: number }${typed}`);
    const missing: number[] = [];
    for (const line of LINES) {
      const node = await nodeOfLine(line);
      if (node === undefined) missing.push(line);
      else
        for (const file of ["run.mjs", "run.cjs", "run.ts"])
          expect(await project.run(node, file, address), file).toContain(`half 21 odd 3 v${String(line)}.`);
    }
    if (missing.length > 0) process.stderr.write(`\nNO REGISTRY ANSWERED: the packed SDK was NOT run on Node ${missing.join(", ")}.\n\n`);
  });
});
