// How does a file read? Its first comment, its length, the length of its functions, comments that put work off, tests that do not run.
import ts from "typescript";
import type { Breach, Source, Tree } from "./source.js";
import { breachAt, eachNode, isTest, lineOf } from "./source.js";

const SOURCE_LINES = 400;
const TEST_LINES = 600;
const FUNCTION_LINES = 70;

/** Folders of test/ that vitest.config.ts looks into. */
const TEST_HOMES = /^test\/(?:house\.test\.ts$|(?:unit|integration|model|conformance|fault|abuse|e2e)\/)/;

/** All checks on how files are written. */
export function styleBreaches(sources: readonly Source[]): Breach[] {
  return sources.flatMap((source) => [
    ...openingBreaches(source.path, source.text),
    ...lengthBreaches(source),
    ...functionBreaches(source),
    ...commentBreaches(source),
    ...idleTestBreaches(source),
  ]);
}

/** Migrations open with their reason, like every other file. */
export function migrationBreaches(tree: Tree): Breach[] {
  const paths = tree.list().filter((path) => path.startsWith("migrations/") && path.endsWith(".sql"));
  return paths.flatMap((path) => openingBreaches(path, tree.read(path) ?? ""));
}

/** A file opens with a comment of at least one full sentence. */
export function openingBreaches(path: string, text: string): Breach[] {
  const opening = openingComment(text, path.endsWith(".sql") ? "--" : "//");
  // A capital letter or a name in code, four words or more, and an end.
  if (/(?:^|[.?!:]\s)[A-Z`'"@][^.?!]*(?:\s+\S+){3,}[.?!](?:\s|$)/.test(opening)) return [];
  return [{ path, line: 1, message: "opens without a comment: begin with one full sentence that says which question the file answers." }];
}

function openingComment(text: string, mark: "//" | "--"): string {
  const body = text.replace(/^\uFEFF?(?:#![^\n]*\n)?\s*/, "");
  const block = /^\/\*\*?([^]*?)\*\//.exec(body)?.[1];
  if (block !== undefined)
    return block
      .replace(/^\s*\*+/gm, " ")
      .replace(/\s+/g, " ")
      .trim();
  const lines = body.split("\n");
  const end = lines.findIndex((line) => !line.startsWith(mark));
  const comment = end === -1 ? lines : lines.slice(0, end);
  return comment
    .map((line) => line.slice(mark.length).trim())
    .join(" ")
    .trim();
}

/** Files stay short enough to be read whole. */
export function lengthBreaches(source: Source): Breach[] {
  const most = isTest(source.path) ? TEST_LINES : SOURCE_LINES;
  const lines = source.text.replace(/\n$/, "").split("\n").length;
  if (lines <= most) return [];
  return [
    {
      path: source.path,
      line: most,
      message: `has ${String(lines)} lines, ${String(most)} at most: give one of its ideas a file of its own.`,
    },
  ];
}

/** Functions stay short too. What is read as one thing does not count: a switch, a statement of SQL, a named function inside, which is judged itself. */
export function functionBreaches(source: Source): Breach[] {
  if (isTest(source.path)) return [];
  const found: Breach[] = [];
  eachNode(source, (node) => {
    if (!ts.isFunctionLike(node) || !("body" in node) || node.body === undefined) return;
    const lines = linesOf(source, node) - linesOfWholes(source, node);
    if (lines <= FUNCTION_LINES) return;
    const message = `is a function of ${String(lines)} lines, ${String(FUNCTION_LINES)} at most: name its steps and make them functions.`;
    found.push(breachAt(source, node, message));
  });
  return found;
}

function linesOf(source: Source, node: ts.Node): number {
  return lineOf(source, node.getEnd()) - lineOf(source, node.getStart(source.tree)) + 1;
}

/** Lines of a function that are read as one thing each, but for the line that they begin on. */
function linesOfWholes(source: Source, node: ts.Node): number {
  let lines = 0;
  ts.forEachChild(node, function descend(child): void {
    const text = ts.isTemplateExpression(child) || ts.isNoSubstitutionTemplateLiteral(child);
    if (text || ts.isSwitchStatement(child) || isNamedFunction(child)) lines += linesOf(source, child) - 1;
    else ts.forEachChild(child, descend);
  });
  return lines;
}

/** A method, a declared function, or one that is the value of a name; not what is merely passed to a call. */
function isNamedFunction(node: ts.Node): boolean {
  if (!ts.isFunctionLike(node)) return false;
  const bound = ts.isVariableDeclaration(node.parent) || ts.isPropertyAssignment(node.parent) || ts.isPropertyDeclaration(node.parent);
  return bound || !(ts.isArrowFunction(node) || ts.isFunctionExpression(node));
}

/** What a comment must not say, and what to do instead. */
const PUT_OFF: readonly { words: RegExp; instead: string }[] = [
  { words: /\b(?:TODO|FIXME|XXX|HACK)\b/, instead: "do it now, or write an issue and leave the code as it is meant to be read" },
  { words: /@ts-(?:ignore|nocheck)\b/, instead: "give the value its right type, or narrow it with a check" },
  {
    words: /\b(?:eslint|prettier|biome|knip)-(?:disable|ignore)|\beslint-env\b|^\/\*\s*eslint\s|\bv8 ignore\b|\bc8 ignore\b/,
    instead: "write it so that the rule is content, or change the rule for everybody",
  },
];
const EXPECTED_ERROR = { words: /@ts-expect-error\b/, instead: "give the value its right type; only tests of types expect errors" };

/** Comments that put work off or silence a check. */
export function commentBreaches(source: Source): Breach[] {
  const rules = isTest(source.path) ? PUT_OFF : [...PUT_OFF, EXPECTED_ERROR];
  return commentsOf(source).flatMap(({ text, position }) => {
    const rule = rules.find(({ words }) => words.test(text));
    const said = rule?.words.exec(text)?.[0].trim();
    return rule === undefined
      ? []
      : [{ path: source.path, line: lineOf(source, position), message: `says ${String(said)} in a comment: ${rule.instead}.` }];
  });
}

function commentsOf(source: Source): { text: string; position: number }[] {
  const found = new Map<number, string>();
  const note = (ranges: readonly ts.CommentRange[] | undefined): void =>
    ranges?.forEach((range) => found.set(range.pos, source.text.slice(range.pos, range.end)));
  const descend = (node: ts.Node): void => {
    if (ts.isJSDoc(node)) return;
    // Comments hang between tokens, where the parser keeps nothing: both ends of every node and token are looked at.
    note(ts.getLeadingCommentRanges(source.text, node.getFullStart()));
    note(ts.getTrailingCommentRanges(source.text, node.getEnd()));
    node.getChildren(source.tree).forEach(descend);
  };
  descend(source.tree);
  return [...found].map(([position, text]) => ({ text, position }));
}

const IDLE = new Set(["skip", "only", "todo", "fails", "skipIf", "runIf", "retry", "repeats"]);
const TELLS_TESTS = new Set(["it", "test", "describe", "suite", "bench"]);
const RUN_IT = "let it run, or delete it; a test that cannot run here has no claim to make";

/** Tests that are skipped, focused, expected to fail or tried again; and tests where the runner does not look. */
export function idleTestBreaches(source: Source): Breach[] {
  if (!isTest(source.path)) return [];
  const found: Breach[] = [];
  if (/\.test\.[a-z]+$/.test(source.path) && !TEST_HOMES.test(source.path)) {
    found.push({
      path: source.path,
      line: 1,
      message: "is run by no project of vitest.config.ts: move it to test/unit, integration, model, conformance, fault, abuse or e2e.",
    });
  }
  eachNode(source, (node) => {
    const word = idleWord(node);
    if (word !== undefined) found.push(breachAt(source, node, `says ${word}: ${RUN_IT}.`));
  });
  return found;
}

function idleWord(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node) && IDLE.has(node.name.text) && isTold(node.expression)) return node.name.text;
  if (!ts.isCallExpression(node)) return undefined;
  const callee = node.expression;
  if (ts.isIdentifier(callee) && /^(?:xit|xtest|xdescribe|fit|fdescribe|skip)$/.test(callee.text)) return callee.text;
  // The context of a test can skip it while it runs.
  if (
    ts.isPropertyAccessExpression(callee) &&
    callee.name.text === "skip" &&
    ts.isIdentifier(callee.expression) &&
    !isTold(callee.expression)
  )
    return "skip";
  const options = isTold(callee) ? node.arguments.find(ts.isObjectLiteralExpression) : undefined;
  return options?.properties.map((property) => property.name?.getText()).find((name) => name !== undefined && IDLE.has(name));
}

/** Whether an expression is `it`, `describe.concurrent`, `test.each(…)` and so on. */
function isTold(node: ts.Expression): boolean {
  if (ts.isIdentifier(node)) return TELLS_TESTS.has(node.text);
  return (
    (ts.isPropertyAccessExpression(node) || ts.isCallExpression(node) || ts.isTaggedTemplateExpression(node)) &&
    isTold("tag" in node ? node.tag : node.expression)
  );
}
