// Does docs/guarantees.md name, for each promise, tests that exist? A promise without a test, or with one that was renamed, is a breach.
import ts from "typescript";
import { tablesOf } from "./docs.js";
import type { Breach, Tree } from "./source.js";
import { eachNode, parse } from "./source.js";

const GUARANTEES = "docs/guarantees.md";
/** The promises of the design, all of which the page has. */
const COUNT = 19;
/** Stated as not promised yet. */
const LATER: readonly string[] = ["G13"];
const NEVER_SAID = /exactly[- ]once execution|guaranteed delivery|never runs? twice/i;

/** Promises that are missing or name no test, rows that name no test that exists, and words that promise too much. */
export function guaranteeBreaches(tree: Tree): Breach[] {
  const text = tree.read(GUARANTEES);
  if (text === undefined) return [{ path: GUARANTEES, line: 1, message: "does not exist: state there each guarantee with its tests." }];
  const sections = sectionsOf(text);
  const wanted = Array.from({ length: COUNT }, (_, at) => `G${String(at + 1)}`);
  const missing = wanted.filter((name) => !sections.some((section) => section.name === name));
  return [
    ...missing.map((name) => ({ path: GUARANTEES, line: 1, message: `has no section ${name}: state what is promised.` })),
    ...sections.flatMap((section) => sectionBreaches(tree, section)),
    ...text.split("\n").flatMap((line, at) => {
      const word = NEVER_SAID.exec(line)?.[0];
      return word === undefined ? [] : [{ path: GUARANTEES, line: at + 1, message: `says "${word}": say what is promised instead.` }];
    }),
  ];
}

interface Section {
  /** `G7`, or the heading where it is no guarantee. */
  readonly name: string;
  readonly line: number;
  readonly text: string;
}

function sectionsOf(text: string): Section[] {
  const lines = text.split("\n");
  const starts = lines.flatMap((line, at) => (line.startsWith("## ") ? [at] : []));
  return starts.map((start, n) => {
    const heading = lines[start]?.slice(3) ?? "";
    return { name: /^G\d+/.exec(heading)?.[0] ?? heading, line: start + 1, text: lines.slice(start, starts[n + 1]).join("\n") };
  });
}

function sectionBreaches(tree: Tree, { name, line, text }: Section): Breach[] {
  const at = (offset: number, message: string): Breach => ({ path: GUARANTEES, line: line + offset, message });
  const rows = tablesOf(text)
    .filter(({ header }) => header.join() === "file,test")
    .flatMap((table) => table.rows);
  const guarantee = /^G\d+$/.test(name);
  const lacking = [
    ...(guarantee && !LATER.includes(name) && rows.length === 0
      ? [at(0, `${name} names no test: add a table with the columns file, test.`)]
      : []),
    ...(guarantee && !/^Not promised/m.test(text)
      ? [at(0, `${name} does not say what is not promised: begin a paragraph with "Not promised".`)]
      : []),
  ];
  const wrong = rows.flatMap((row) => {
    const [file = "", title = ""] = row.cells;
    const source = tree.read(file);
    if (source === undefined) return [at(row.line - 1, `names ${file}, which does not exist: name the file that proves it now.`)];
    if (testTitles(file, source).includes(title)) return [];
    return [at(row.line - 1, `names a test "${title}" that ${file} does not have: name it as it is called there.`)];
  });
  return [...lacking, ...wrong];
}

/** Titles of the tests of a file, as they are written: `it("…")`, `test.for(…)("…")`. */
export function testTitles(path: string, text: string): string[] {
  const titles: string[] = [];
  eachNode(parse(path, text), (node) => {
    if (!ts.isCallExpression(node) || !["it", "test"].includes(calledName(node.expression))) return;
    const [title] = node.arguments;
    if (title !== undefined && ts.isStringLiteralLike(title)) titles.push(title.text);
  });
  return titles;
}

function calledName(callee: ts.Expression): string {
  if (ts.isIdentifier(callee)) return callee.text;
  if (ts.isPropertyAccessExpression(callee) || ts.isCallExpression(callee)) return calledName(callee.expression);
  return ts.isTaggedTemplateExpression(callee) ? calledName(callee.tag) : "";
}
