// Do the types hold: what compiles, what must not, and how long it takes?
import ts from "typescript";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");

/** Errors of one file, compiled as a strict user would, with declarations. */
function errorsOf(fileName: string, text?: string): string[] {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    types: ["node"],
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    declaration: true,
    skipLibCheck: true,
    outDir: join(ROOT, "node_modules/.cache/leasehold/types"),
    rootDir: ROOT,
    paths: {
      "@leasehold/client": [join(ROOT, "client/src/index.ts")],
      "@leasehold/proto/*": [join(ROOT, "proto/src/*.ts")],
    },
  };
  const host = ts.createCompilerHost(options);
  const readFile = host.readFile.bind(host);
  const fileExists = host.fileExists.bind(host);
  host.readFile = (path) => (path === fileName && text !== undefined ? text : readFile(path));
  host.fileExists = (path) => (path === fileName && text !== undefined) || fileExists(path);
  const source = host.getSourceFile.bind(host);
  host.getSourceFile = (path, ...rest) =>
    path === fileName && text !== undefined ? ts.createSourceFile(path, text, ts.ScriptTarget.ES2023) : source(path, ...rest);
  const program = ts.createProgram([fileName], options, host);
  const file = program.getSourceFile(fileName);
  const found = [
    ...program.getSyntacticDiagnostics(file),
    ...program.getSemanticDiagnostics(file),
    ...program.getDeclarationDiagnostics(file),
  ];
  return found.map(
    (one) =>
      `${String(file?.getLineAndCharacterOfPosition(one.start ?? 0).line)}: ${ts.flattenDiagnosticMessageText(one.messageText, "\n")}`,
  );
}

describe("the types", () => {
  it("compile as the design wrote them, and refuse what they must", () => {
    expect(errorsOf(join(import.meta.dirname, "surface.ts"))).toEqual([]);
  });

  it("tell the user at the user's line why a schema is refused", () => {
    const text = `import { defineTask } from "@leasehold/client";\nimport { z } from "zod";\nexport const a = defineTask({ name: "a", metadata: z.object({ at: z.date() }) });`;
    const [error] = errorsOf(join(import.meta.dirname, "refused.ts"), text);
    expect(error).toMatch(/^2: /);
    expect(error).toContain("the input of this schema is not JSON");
  });

  it("check three hundred definitions within seconds", () => {
    const definitions = Array.from({ length: 300 }, (_, index) => {
      const n = String(index);
      return `export const task${n} = defineTask({ name: "task-${n}", metadata: z.object({ id: z.string(), n${n}: z.number().optional(), tags: z.array(z.string()) }),
        executionMetadata: z.object({ step: z.number().default(0) }), result: z.object({ r${n}: z.string() }), errors: { e${n}: z.object({ why: z.string() }) } });
      export const handler${n} = handle(task${n}, (ctx) => (ctx.attempt > 3 ? ctx.fail("e${n}", { why: ctx.metadata.id }) : { r${n}: ctx.metadata.tags.join() }));`;
    });
    const text = `import { defineTask, handle } from "@leasehold/client";\nimport { z } from "zod";\n${definitions.join("\n")}`;
    // Time of this process, which others on the machine do not use up.
    const began = process.cpuUsage();
    expect(errorsOf(join(import.meta.dirname, "many.ts"), text)).toEqual([]);
    const { user, system } = process.cpuUsage(began);
    expect((user + system) / 1000).toBeLessThan(20_000);
  }, 120_000);
});
