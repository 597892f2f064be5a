// What does docs/operations.md tell an operator to type? Its blocks of code and its sections, for the tests that hold it to them.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const PAGE = readFileSync(join(import.meta.dirname, "../../docs/operations.md"), "utf8");

/** Blocks of one language, in order. */
export function operationsBlocks(language: string): string[] {
  return [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, block = ""]) => block);
}

/** The one block that contains this; fails unless there is exactly one. */
export function operationsBlock(language: string, content: string): string {
  const found = operationsBlocks(language).filter((block) => block.includes(content));
  if (found.length !== 1 || found[0] === undefined)
    throw new Error(`docs/operations.md has ${String(found.length)} blocks with ${content}`);
  return found[0];
}

/** The text under each heading of the third level, by what Markdown makes of it as an anchor. */
export function alertSections(): Map<string, string> {
  const sections = PAGE.split(/^### /m).slice(1);
  return new Map(sections.map((section) => [section.slice(0, section.indexOf("\n")).trim().toLowerCase(), section]));
}

/** By what the page knows the statements of the hot path: the texts that all stand in one of them, a list for each row of its table. */
export function hotStatements(): string[][] {
  const [, table = ""] = PAGE.split("how to know it in `pg_stat_statements` |\n");
  const rows = table.slice(0, table.indexOf("\n\n")).split("\n").slice(1);
  return rows.map((row) => [...(row.split("|")[3] ?? "").matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text));
}
