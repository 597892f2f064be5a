// Which code do the documents show, and does a strict compiler take it as it stands?
import { mkdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import ts from "typescript";

const ROOT = join(import.meta.dirname, "../..");

/** A block of TypeScript in a document. */
export interface Snippet {
  /** The file that it says it is; else a name made of its place. */
  readonly name: string;
  /** The file of the repository that it was taken from, if it says so. */
  readonly source: string | undefined;
  readonly text: string;
}

/** The blocks of TypeScript of a document, in order. Its own name stands in `// name.ts` at its top, its source in `<!-- path -->` above it. */
export function snippetsOf(document: string): Snippet[] {
  return [...document.matchAll(/(?:<!-- (\S+) -->\n)?```ts\n([\s\S]*?)```/g)].map(([, source, text = ""], index) => {
    const said = /^\/\/ (\S+\.ts)\n/.exec(text)?.[1];
    return { name: said ?? (source === undefined ? `snippet-${String(index)}.ts` : basename(source)), source, text };
  });
}

/** A file's text as documents show it: without the comment that opens it. */
export function shownText(text: string): string {
  return text.replace(/^(?:\/\/.*\n)+\n?/, "");
}

/** What a strict user's compiler says of snippets, each a file beside the others of its folder. Sources of the SDK, not what was built. */
export async function typeErrors(folders: Readonly<Record<string, readonly Snippet[]>>, flags: ts.CompilerOptions = {}): Promise<string[]> {
  const home = join(ROOT, "node_modules/.cache/leasehold-snippets");
  await rm(home, { recursive: true, force: true });
  const files: string[] = [];
  for (const [folder, snippets] of Object.entries(folders)) {
    await mkdir(join(home, folder), { recursive: true });
    for (const { name, text } of snippets) {
      const file = join(home, folder, name);
      await writeFile(file, text);
      files.push(file);
    }
  }
  await writeFile(join(home, "package.json"), '{ "type": "module" }');
  const program = ts.createProgram(files, {
    noEmit: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noPropertyAccessFromIndexSignature: true,
    noImplicitOverride: true,
    noImplicitReturns: true,
    verbatimModuleSyntax: true,
    isolatedModules: true,
    skipLibCheck: true,
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    types: ["node"],
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    paths: {
      "@leasehold/client": [join(ROOT, "client/src/index.ts")],
      "@leasehold/client/*": [join(ROOT, "client/src/*.ts")],
      "@leasehold/testing": [join(ROOT, "testing/src/index.ts")],
      "@leasehold/server/*": [join(ROOT, "server/src/*.ts")],
      "@leasehold/proto/*": [join(ROOT, "proto/src/*.ts")],
    },
    ...flags,
  });
  // Of these files alone: the sources of the SDK have a check of their own.
  return files
    .map((file) => program.getSourceFile(file))
    .flatMap((file) => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)])
    .map(
      ({ file, messageText }) => `${file?.fileName.slice(home.length + 1) ?? ""}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`,
    );
}

/** What a text does to get past the compiler: `as`, `any`, `!`, a comment that silences it. `as const` narrows and is none of it. */
export function evasionsIn({ name, text }: Pick<Snippet, "name" | "text">): string[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const cast = ts.isAsExpression(node) && !ts.isConstTypeReference(node.type);
    if (cast || node.kind === ts.SyntaxKind.AnyKeyword || ts.isNonNullExpression(node) || ts.isTypeAssertionExpression(node))
      found.push(`${name}: ${node.parent.getText(source)}`);
    ts.forEachChild(node, visit);
  };
  visit(source);
  if (/@ts-|eslint-disable/.test(text)) found.push(`${name}: a comment silences the compiler`);
  return found;
}
