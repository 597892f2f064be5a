// Do the types hold: what compiles, what must not, in which compilers, and how much work it is?
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import ts from "typescript";
import ts55 from "typescript-5.5";
import ts59 from "typescript-5.9";
import { beforeAll, describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const BUILT = join(ROOT, "node_modules/.cache/leasehold/types");
const SURFACES = ["surface.ts", "surface-machine.ts", "surface-schemas.ts", "surface-literals.ts"].map((file) =>
  join(import.meta.dirname, file),
);
/** The package as its users get it: declarations alone. */
const PACKAGE = { "@leasehold/client": [join(BUILT, "client/src/index.d.ts")], "@leasehold/proto/*": [join(BUILT, "proto/src/*.d.ts")] };

/** Options of a strict user. */
const STRICT: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  types: ["node"],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noPropertyAccessFromIndexSignature: true,
  noImplicitOverride: true,
  verbatimModuleSyntax: true,
  isolatedModules: true,
  declaration: true,
  outDir: join(BUILT, "out"),
  rootDir: ROOT,
  skipLibCheck: true,
  paths: PACKAGE,
};

/** A file that exists only here. */
interface Written {
  readonly file: string;
  readonly text: string;
}

function programOf(compiler: typeof ts, files: readonly string[], options: ts.CompilerOptions, written?: Written): ts.Program {
  const host = compiler.createCompilerHost(options);
  if (written !== undefined) {
    const readFile = host.readFile.bind(host);
    const fileExists = host.fileExists.bind(host);
    const getSourceFile = host.getSourceFile.bind(host);
    host.readFile = (path) => (path === written.file ? written.text : readFile(path));
    host.fileExists = (path) => path === written.file || fileExists(path);
    host.getSourceFile = (path, target, ...rest) =>
      path === written.file ? compiler.createSourceFile(path, written.text, target) : getSourceFile(path, target, ...rest);
  }
  return compiler.createProgram([...files], options, host);
}

function told(diagnostics: readonly ts.Diagnostic[]): string[] {
  return diagnostics.map(({ file, start, messageText }) => {
    const line = file === undefined ? "" : String(file.getLineAndCharacterOfPosition(start ?? 0).line);
    return `${file?.fileName.slice(ROOT.length) ?? ""} ${line}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
  });
}

/** Errors of user code, and of the declarations that would be made of it (TS2742, TS7056). */
function errorsOf(program: ts.Program, files: readonly string[]): string[] {
  return files.flatMap((file) => {
    const source = program.getSourceFile(file);
    return told([
      ...program.getSyntacticDiagnostics(source),
      ...program.getSemanticDiagnostics(source),
      ...program.getDeclarationDiagnostics(source),
    ]);
  });
}

/** Errors within the declarations of the package itself, which `skipLibCheck: false` shows to its users. */
function declarationErrors(program: ts.Program): string[] {
  const own = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(BUILT));
  expect(own.length).toBeGreaterThan(30);
  return own.flatMap((file) => told(program.getSemanticDiagnostics(file)));
}

beforeAll(async () => {
  await rm(BUILT, { recursive: true, force: true });
  await mkdir(BUILT, { recursive: true });
  const options: ts.CompilerOptions = {
    ...STRICT,
    outDir: BUILT,
    target: ts.ScriptTarget.ES2023,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    emitDeclarationOnly: true,
    noCheck: true,
    paths: { "@leasehold/proto/*": [join(ROOT, "proto/src/*.ts")] },
  };
  const { diagnostics } = programOf(ts, [join(ROOT, "client/src/index.ts")], options).emit();
  expect(told(diagnostics)).toEqual([]);
});

describe("the types", { timeout: 120_000 }, () => {
  it("compile as the design wrote them, with every schema library, and refuse what they must", () => {
    expect(errorsOf(programOf(ts, SURFACES, STRICT), SURFACES)).toEqual([]);
  });

  it("of exported definitions may be written down, as isolatedDeclarations wants, and are held against the schemas", () => {
    const file = join(import.meta.dirname, "surface-isolated.ts");
    expect(errorsOf(programOf(ts, [file], { ...STRICT, isolatedDeclarations: true }), [file])).toEqual([]);
  });

  it("refuse more than forty mistakes, each at the user's line", async () => {
    const texts = SURFACES.map((file) => ts.sys.readFile(file) ?? "");
    const mistakes = texts.join("\n").match(/@ts-expect-error/g) ?? [];
    expect(mistakes.length).toBeGreaterThan(40);
  });

  it("hold in TypeScript 5.5, with the package's own declarations checked as well", () => {
    const options = { ...STRICT, skipLibCheck: false } as ts.CompilerOptions;
    const program = programOf(ts55 as unknown as typeof ts, SURFACES, options);
    expect(errorsOf(program, SURFACES)).toEqual([]);
    expect(declarationErrors(program)).toEqual([]);
  });

  it("hold in TypeScript 5.9 as a bundler resolves, with the package's own declarations checked as well", () => {
    const options: ts.CompilerOptions = {
      ...STRICT,
      skipLibCheck: false,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
    };
    const program = programOf(ts59 as unknown as typeof ts, SURFACES, options);
    expect(errorsOf(program, SURFACES)).toEqual([]);
    expect(declarationErrors(program)).toEqual([]);
  });

  it("tell the user at the user's line why a schema is refused", () => {
    const text = `import { defineTask } from "@leasehold/client";\nimport { z } from "zod";\nexport const a = defineTask({ name: "a", metadata: z.object({ at: z.date() }) });`;
    const file = join(import.meta.dirname, "refused.ts");
    const [error] = errorsOf(programOf(ts, [file], STRICT, { file, text }), [file]);
    expect(error).toMatch(/refused\.ts 2: /);
    expect(error).toContain("the input of this schema is not JSON");
  });

  it("check three hundred definitions with their handlers within seconds and a budget of instantiations", () => {
    const definitions = Array.from({ length: 300 }, (_, index) => {
      const n = String(index);
      return `export const task${n} = defineTask({ name: "task-${n}", metadata: z.object({ id: z.string(), n${n}: z.number().optional(), tags: z.array(z.string()) }),
        executionMetadata: z.object({ step: z.number().default(0) }), result: z.object({ r${n}: z.string() }), errors: { e${n}: z.object({ why: z.string() }) } });
      export const handler${n} = handle(task${n}, (ctx) => (ctx.attempt > 3 ? ctx.fail("e${n}", { why: ctx.metadata.id }) : { r${n}: ctx.metadata.tags.join() }));`;
    });
    const head = `import { defineTask, handle } from "@leasehold/client";\nimport { z } from "zod";\n`;
    const file = join(import.meta.dirname, "many.ts");
    // Time of this process, which others on the machine do not use up.
    const began = process.cpuUsage();
    const counts = [definitions.slice(0, 1), definitions].map((some) => {
      const program = programOf(ts, [file], STRICT, { file, text: head + some.join("\n") });
      expect(errorsOf(program, [file])).toEqual([]);
      return program.getInstantiationCount();
    });
    const [one = 0, all = 0] = counts;
    expect((all - one) / 299).toBeLessThan(INSTANTIATIONS);
    const { user, system } = process.cpuUsage(began);
    expect((user + system) / 1_000).toBeLessThan(20_000);
  });
});

/** What the compiler may instantiate for one definition with its handler, zod's part included. A budget, because time depends on the machine. */
const INSTANTIATIONS = 2_500;
