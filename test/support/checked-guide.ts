// Are the snippets of a guide true? Each is a file of its own beside tasks.ts, its first one, and all are type-checked under strict flags.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import ts from "typescript";

const ROOT = join(import.meta.dirname, "../..");

/** How many snippets a guide in docs/ has, and everything that the compiler says of them. The first one must be `// tasks.ts`. */
export async function checkSnippets(guide: string): Promise<{ readonly count: number; readonly said: string[] }> {
  const page = await readFile(join(ROOT, "docs", `${guide}.md`), "utf8");
  const snippets = [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, text = ""]) => text);
  if (!(snippets[0] ?? "").startsWith("// tasks.ts\n")) return { count: snippets.length, said: ["the first snippet is not tasks.ts"] };
  const folder = join(ROOT, `node_modules/.cache/leasehold-${guide}-guide`);
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
      lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
      types: ["node"],
      paths: {
        "@leasehold/client": [join(ROOT, "client/src/index.ts")],
        "@leasehold/client/*": [join(ROOT, "client/src/*.ts")],
        "@leasehold/server/*": [join(ROOT, "server/src/*.ts")],
        "@leasehold/testing": [join(ROOT, "testing/src/index.ts")],
        "@leasehold/proto/*": [join(ROOT, "proto/src/*.ts")],
      },
    },
  );
  const said = ts
    .getPreEmitDiagnostics(program)
    .map(({ file, messageText }) => `${file?.fileName ?? ""}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
  return { count: snippets.length, said };
}
