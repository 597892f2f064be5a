// Are the snippets of docs/client.md true? Each is a file of its own beside tasks.ts, its first one, and all are type-checked under strict flags.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import ts from "typescript";

const ROOT = join(import.meta.dirname, "../../..");

describe("the guide to the SDK", { timeout: 120_000 }, () => {
  it("has snippets that type-check as they stand", async () => {
    const guide = await readFile(join(ROOT, "docs/client.md"), "utf8");
    const snippets = [...guide.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, text = ""]) => text);
    expect(snippets.length).toBeGreaterThanOrEqual(8);
    expect(snippets[0]).toMatch(/^\/\/ tasks\.ts\n/);
    const folder = join(ROOT, "node_modules/.cache/leasehold-client-guide");
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const files = snippets.map((text, index) => ({ file: join(folder, index === 0 ? "tasks.ts" : `snippet-${String(index)}.ts`), text }));
    for (const { file, text } of files) await writeFile(file, text);
    await writeFile(join(folder, "package.json"), '{ "type": "module" }');
    const program = ts.createProgram(
      files.map(({ file }) => file),
      {
        noEmit: true,
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        skipLibCheck: true,
        module: ts.ModuleKind.NodeNext,
        target: ts.ScriptTarget.ES2023,
        types: ["node"],
        paths: {
          "@leasehold/client": [join(ROOT, "client/src/index.ts")],
          "@leasehold/proto/*": [join(ROOT, "proto/src/*.ts")],
        },
      },
    );
    const said = ts
      .getPreEmitDiagnostics(program)
      .map(({ file, messageText }) => `${file?.fileName ?? ""}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
    expect(said).toEqual([]);
  });
});
