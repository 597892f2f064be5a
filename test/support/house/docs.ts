// Do the docs say what the code has, and nothing else? Settings, reasons of errors, and the table that says where things are.
// A file that a rule reads and that is missing is a breach itself: a rule never passes for want of something to check.
import ts from "typescript";
import { exportsOf } from "./names.js";
import type { Breach, Source, Tree } from "./source.js";
import { breachAt, eachNode, isTest, lineOf, parse } from "./source.js";

const SETTING = /^LEASEHOLD_[A-Z0-9]+(?:_[A-Z0-9]+)*$/;
const CONSTANT = /^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*$/;
const ARCHITECTURE = "docs/architecture.md";
const CONFIGURATION = "docs/configuration.md";
const ERRORS = "docs/errors.md";
const CONFIG = "server/src/config.ts";
const METRICS = "server/src/telemetry/metrics.ts";
const TELEMETRY = "docs/telemetry.md";
const METRIC = /^leasehold(?:\.[a-z_]+)+$/;
const REASONS = "server/src/api/reasons.ts";

/** A name with the place where it stands. */
interface Mention {
  readonly name: string;
  readonly path: string;
  readonly line: number;
}

/** A table of a Markdown file; cells without the marks of code and links. */
export interface Table {
  readonly header: readonly string[];
  readonly rows: readonly { readonly cells: readonly string[]; readonly line: number }[];
}

/** Every table of a Markdown text, in order; fenced code is skipped. */
export function tablesOf(markdown: string): Table[] {
  const tables: { header: string[]; rows: { cells: string[]; line: number }[] }[] = [];
  let fenced = false;
  let open = false;
  const lines = markdown.split("\n");
  lines.forEach((line, at) => {
    if (/^\s*(?:```|~~~)/.test(line)) fenced = !fenced;
    if (fenced || !line.trimStart().startsWith("|")) {
      open = false;
      return;
    }
    const cells = cellsOf(line);
    if (!open && isRule(lines[at + 1])) tables.push({ header: cells.map((cell) => cell.toLowerCase()), rows: [] });
    else if (open && !isRule(line)) tables.at(-1)?.rows.push({ cells, line: at + 1 });
    open = true;
  });
  return tables;
}

function isRule(line: string | undefined): boolean {
  return line !== undefined && /^\s*\|(?:\s*:?-+:?\s*\|)+\s*$/.test(line);
}

function cellsOf(line: string): string[] {
  const inner = line.trim().replace(/^\||(?<!\\)\|$/g, "");
  return inner.split(/(?<!\\)\|/).map((cell) =>
    cell
      .replaceAll("\\|", "|")
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .replaceAll("`", "")
      .trim(),
  );
}

/** Rows of the where-is table whose file or export does not exist. Its columns are question, file, export. */
export function whereIsBreaches(tree: Tree): Breach[] {
  const text = tree.read(ARCHITECTURE);
  if (text === undefined) return [missing(ARCHITECTURE, "a table with the columns question, file, export")];
  const table = tablesOf(text).find(({ header }) => header.join() === "question,file,export");
  const rows = table?.rows ?? [];
  if (rows.length === 0)
    return [{ path: ARCHITECTURE, line: 1, message: "has no table with the columns question, file, export: say there where things are." }];
  return rows.flatMap(({ cells, line }) => {
    const message = rowBreach(tree, cells);
    return message === undefined ? [] : [{ path: ARCHITECTURE, line, message }];
  });
}

function rowBreach(tree: Tree, cells: readonly string[]): string | undefined {
  const [question = "", file = "", exported = ""] = cells;
  const names = exported.split(/[,\s]+/).filter((name) => name !== "");
  if (cells.length !== 3 || question === "" || file === "" || names.length === 0) return "is no full row: fill question, file and export.";
  const text = tree.read(file);
  if (text === undefined) return `names ${file}, which does not exist: name the file as it is now, from the root of the repository.`;
  const gone = names.filter((name) => !isDeclared(file, text, name.replace(/\(.*$/, "")));
  return gone.length === 0 ? undefined : `names ${gone.join(", ")}, which ${file} does not export: name what answers the question now.`;
}

/** Whether a file exports a name; a .proto or .sql file has it as a declaration. `Class.method` is found by its class. */
function isDeclared(file: string, text: string, name: string): boolean {
  const [first = "", member] = name.split(".");
  if (/\.(?:ts|tsx|js|mjs)$/.test(file)) {
    const found = exportsOf(parse(file, text)).some((exported) => exported.name === first);
    return found && (member === undefined || new RegExp(`\\b${member}\\b`).test(text));
  }
  if (!/^\w+$/.test(first)) return false;
  const declaration = file.endsWith(".proto") ? `\\b(?:message|enum|service|rpc)\\s+${first}\\b` : `\\bcreate\\b[^;]*?\\b${first}\\b`;
  return new RegExp(declaration, "i").test(text);
}

/**
 * Settings that are in the code and not in docs/configuration.md, or the other way round.
 * A setting is a literal, or a key of an object, in the form LEASEHOLD_X: in config.ts, and in what the client and the command read for themselves.
 */
export function settingBreaches(tree: Tree, sources: readonly Source[]): Breach[] {
  const [config, docs] = [tree.read(CONFIG), tree.read(CONFIGURATION)];
  if (config === undefined) return [missing(CONFIG, "every setting of the server")];
  if (docs === undefined) return [missing(CONFIGURATION, "every setting, with its default and its reason")];
  const read = sources
    .filter(({ path }) => /^(?:client|cli|testing|server)\/src\//.test(path) && !isTest(path))
    .flatMap((source) => namesIn(source, SETTING));
  if (!read.some(({ path }) => path === CONFIG))
    return [{ path: CONFIG, line: 1, message: "names no setting: write each name out, as LEASEHOLD_LISTEN_ADDRESS." }];
  const astray = read.filter(({ path }) => path.startsWith("server/") && !/^server\/src\/config(?:\.ts$|\/)/.test(path));
  return [
    ...astray.map(({ name, path, line }) => ({
      path,
      line,
      message: `names the setting ${name}: read it in ${CONFIG} and pass its value on.`,
    })),
    ...differences(read, wordsIn(CONFIGURATION, docs, /\bLEASEHOLD_[A-Z0-9_]*[A-Z0-9]\b/g), `setting`, CONFIGURATION),
  ];
}

/** Reasons that are in reasons.ts and not in a table of docs/errors.md whose first column is `reason`, or the other way round. */
export function reasonBreaches(tree: Tree): Breach[] {
  const [code, docs] = [tree.read(REASONS), tree.read(ERRORS)];
  if (code === undefined) return [missing(REASONS, "every reason of an ErrorInfo, as an exported object, list or union")];
  if (docs === undefined) return [missing(ERRORS, "a table whose first column is `reason`")];
  const declared = reasonsIn(parse(REASONS, code));
  if (declared.length === 0)
    return [{ path: REASONS, line: 1, message: "exports no reason: export them as one object, list or union of constants." }];
  const rows = tablesOf(docs)
    .filter(({ header }) => header[0] === "reason")
    .flatMap((table) => table.rows);
  const described = rows.map(({ cells, line }) => ({ name: cells[0] ?? "", path: ERRORS, line }));
  return differences(declared, described, "reason", ERRORS);
}

/** Instruments of telemetry/metrics.ts that are not in a table of docs/telemetry.md whose first column is `metric`, or the other way round. */
export function metricBreaches(tree: Tree): Breach[] {
  const [code, docs] = [tree.read(METRICS), tree.read(TELEMETRY)];
  if (code === undefined) return [missing(METRICS, "every instrument")];
  if (docs === undefined) return [missing(TELEMETRY, "a table whose first column is `metric`")];
  const declared = namesIn(parse(METRICS, code), METRIC);
  if (declared.length === 0)
    return [{ path: METRICS, line: 1, message: "names no instrument: write each name out, as leasehold.tasks.submitted." }];
  const rows = tablesOf(docs)
    .filter(({ header }) => header[0] === "metric")
    .flatMap((table) => table.rows);
  return differences(
    declared,
    rows.map(({ cells, line }) => ({ name: cells[0] ?? "", path: TELEMETRY, line })),
    "metric",
    TELEMETRY,
  );
}

/** Reasons of a file: keys of its exported objects, else their values; elements of its lists; members of its unions. */
function reasonsIn(source: Source): Mention[] {
  return source.tree.statements.flatMap((statement) => {
    if (ts.isTypeAliasDeclaration(statement)) return namesIn(source, CONSTANT, statement);
    if (!ts.isVariableStatement(statement)) return [];
    return statement.declarationList.declarations.flatMap(({ initializer }) => {
      const value = initializer === undefined ? undefined : plain(initializer);
      if (value === undefined || !ts.isObjectLiteralExpression(value)) return value === undefined ? [] : namesIn(source, CONSTANT, value);
      const keys = value.properties.flatMap(({ name }) =>
        name !== undefined && (ts.isIdentifier(name) || ts.isStringLiteral(name)) ? [name] : [],
      );
      const named = keys
        .filter(({ text }) => CONSTANT.test(text))
        .map((key) => ({ name: key.text, path: source.path, line: lineOf(source, key.getStart()) }));
      return named.length > 0 ? named : namesIn(source, CONSTANT, value);
    });
  });
}

function plain(node: ts.Expression): ts.Expression {
  const wrapped = ts.isAsExpression(node) || ts.isSatisfiesExpression(node) || ts.isParenthesizedExpression(node);
  if (wrapped) return plain(node.expression);
  const frozen = ts.isCallExpression(node) && node.expression.getText() === "Object.freeze" ? node.arguments[0] : undefined;
  return frozen === undefined ? node : plain(frozen);
}

/** Literals and keys of a certain form, in a file or below one of its nodes. */
function namesIn(source: Source, form: RegExp, below: ts.Node = source.tree): Mention[] {
  const found: Mention[] = [];
  eachNode(source, (node) => {
    const member =
      ts.isIdentifier(node) &&
      (ts.isPropertyAssignment(node.parent) || ts.isPropertyAccessExpression(node.parent)) &&
      node.parent.name === node;
    if (!(ts.isStringLiteralLike(node) || member) || !form.test(node.text) || node.pos < below.pos || node.end > below.end) return;
    found.push({ name: node.text, path: source.path, line: breachAt(source, node, "").line });
  });
  return found;
}

function wordsIn(path: string, text: string, word: RegExp): Mention[] {
  return text.split("\n").flatMap((content, at) => [...content.matchAll(word)].map(([name]) => ({ name, path, line: at + 1 })));
}

/** Names of the code that the docs lack, and names of the docs that the code lacks, each told once. */
function differences(code: readonly Mention[], docs: readonly Mention[], kind: string, file: string): Breach[] {
  const lacking = (from: readonly Mention[], names: ReadonlySet<string>): Mention[] =>
    from.filter(({ name }, at) => !names.has(name) && from.findIndex((other) => other.name === name) === at);
  return [
    ...lacking(code, new Set(docs.map(({ name }) => name))).map(({ name, path, line }) => ({
      path,
      line,
      message: `has the ${kind} ${name}, which ${file} does not describe: describe it there.`,
    })),
    ...lacking(docs, new Set(code.map(({ name }) => name))).map(({ name, path, line }) => ({
      path,
      line,
      message: `describes the ${kind} ${name}, which no code has: remove it, or name the one that took its place.`,
    })),
  ];
}

function missing(path: string, holds: string): Breach {
  return { path, line: 1, message: `does not exist: write it, with ${holds}.` };
}
