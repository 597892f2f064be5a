// Where do the code blocks of the recipes come from? From files that tests run: `npm run generate:snippets` writes each block that is introduced
// by `<!-- path -->` anew from that file, without the comment that opens it.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const DOCUMENTS = [
  "docs/recipes.md",
  ...["quickstart", "checkpointed-import", "approval", "order-machine", "encrypted-payloads"].map((name) => `examples/${name}/README.md`),
];

for (const document of DOCUMENTS) {
  const path = join(ROOT, document);
  const text = await readFile(path, "utf8");
  const parts = text.split(/(<!-- \S+ -->\n```ts\n[\s\S]*?```)/);
  const written = await Promise.all(
    parts.map(async (part) => {
      const [, file] = /^<!-- (\S+) -->\n```ts\n/.exec(part) ?? [];
      if (file === undefined) return part;
      const source = await readFile(join(ROOT, file), "utf8");
      return `<!-- ${file} -->\n\`\`\`ts\n${source.replace(/^(?:\/\/.*\n)+\n?/, "")}\`\`\``;
    }),
  );
  await writeFile(path, written.join(""));
}
