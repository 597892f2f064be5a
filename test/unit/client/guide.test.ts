// Is the code in the documents true? Every block is type-checked as it stands, and those of the recipes and examples are files that other tests run.
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { evasionsIn, shownText, type Snippet, snippetsOf, typeErrors } from "../../support/snippets.js";

const ROOT = join(import.meta.dirname, "../../..");
const EXAMPLES = ["quickstart", "checkpointed-import", "approval", "order-machine", "encrypted-payloads"].map((name) => `examples/${name}`);
/** Documents with code, and how many blocks there are at the least. */
const DOCUMENTS: Readonly<Record<string, number>> = {
  "README.md": 3,
  "client/README.md": 1,
  "testing/README.md": 1,
  "docs/client.md": 14,
  "docs/testing.md": 4,
  "docs/recipes.md": 9,
  ...Object.fromEntries(EXAMPLES.map((folder) => [`${folder}/README.md`, 1])),
};

const snippets = new Map<string, Snippet[]>();
beforeAll(async () => {
  for (const document of Object.keys(DOCUMENTS)) snippets.set(document, snippetsOf(await readFile(join(ROOT, document), "utf8")));
});

describe("the code in the documents", { timeout: 120_000 }, () => {
  it("is there", () => {
    for (const [document, least] of Object.entries(DOCUMENTS))
      expect(snippets.get(document)?.length, document).toBeGreaterThanOrEqual(least);
    for (const guide of ["docs/client.md", "docs/testing.md"]) expect(snippets.get(guide)?.[0]?.name).toBe("tasks.ts");
    expect(snippets.get("README.md")?.map(({ name }) => name)).toEqual(["import-csv.ts", "main.ts", "import-csv.test.ts"]);
  });

  it("type-checks under strict flags as it stands", async () => {
    const folders = Object.fromEntries([...snippets].map(([document, all]) => [document.replaceAll("/", "-").replace(/\.md$/, ""), all]));
    expect(await typeErrors(folders)).toEqual([]);
  });

  it("needs no cast, no any and no silenced compiler", () => {
    expect([...snippets.values()].flat().flatMap(evasionsIn)).toEqual([]);
    const evasive = { name: "a.ts", text: "const a = b as C; const d: any = e!; const f = [1] as const; // @ts-expect-error\n" };
    expect(evasionsIn(evasive)).toHaveLength(4);
  });

  it("of the recipes and examples is that of the files that are run, word for word", async () => {
    const all = [...snippets].filter(([document]) => document === "docs/recipes.md" || document.startsWith("examples/"));
    for (const [document, shown] of all)
      for (const { source, text, name } of shown) {
        expect(source, `${document}, ${name}: a block without a source`).toBeDefined();
        expect(text, `${document} differs: npm run generate:snippets`).toBe(shownText(await readFile(join(ROOT, source!), "utf8")));
      }
  });

  it("leaves no recipe out", async () => {
    const shown = snippets.get("docs/recipes.md")?.map(({ name }) => name);
    expect(shown?.toSorted()).toEqual((await readdir(join(ROOT, "examples/recipes"))).filter((file) => file.endsWith(".ts")).toSorted());
  });
});
