// Where do SQL, time and chance show up? SQL lives in server/src/storage and migrations/; the domain is told the time and never asks.
import ts from "typescript";
import type { Breach, Source } from "./source.js";
import { breachAt, eachNode, isTest } from "./source.js";

const SHIPPED = /^(?:proto|client|server|cli|testing|examples)\//;
const SQL_HOME = "server/src/storage/";

/** The one statement that cannot wait for the storage: it makes the database that the storage connects to. */
const BEFORE_STORAGE = { home: "cli/src/embedded-postgres/", statement: /^CREATE DATABASE\s/ };

/** A part of a text that is only known at run time. */
const UNKNOWN = "\uE000";

/** Statements in capitals, as SQL is written here: the first word is enough. */
const LOUD_SQL =
  /^(?:(?:SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|CREATE|ALTER|DROP|TRUNCATE|GRANT|REVOKE|COPY|LOCK|VACUUM|ANALYZE|EXPLAIN|LISTEN|UNLISTEN|NOTIFY|SET|RESET|SHOW|CALL|DO|DECLARE|FETCH|SAVEPOINT|PREPARE|EXECUTE|VALUES|BEGIN|START|COMMIT|ROLLBACK|TABLE|REINDEX|REFRESH|COMMENT)[\s(*]|(?:SELECT|BEGIN|COMMIT|ROLLBACK)[\s;]*$)/;

/** Statements in any case: the first words must fit a statement's form, because sentences begin with the same words. */
const QUIET_SQL = new RegExp(
  "^(?:" +
    [
      "select\\s(?:(?!\\.\\s)[^])*\\sfrom\\s",
      "select\\s+(?:[\\w.\"]+\\(|[\\d*'$\uE000])",
      "insert\\s+into\\s",
      'update\\s+(?:only\\s+)?[\\w."\uE000]+(?:\\s+(?:as\\s+)?\\w+)?\\s+set\\s',
      "delete\\s+from\\s",
      "merge\\s+into\\s",
      'with\\s+(?:recursive\\s+)?[\\w"\uE000]+\\s*(?:\\([^)]*\\))?\\s+as\\s*(?:(?:not\\s+)?materialized\\s*)?\\(',
      "(?:create|drop|alter)\\s+(?:or\\s+replace\\s+|unique\\s+|temp(?:orary)?\\s+|unlogged\\s+|materialized\\s+)*" +
        "(?:table|index|schema|function|view|type|role|user|database|extension|sequence|trigger|publication|domain)\\s",
      'truncate\\s+(?:table\\s+)?[\\w."\uE000]+\\s*(?:,|;|$|cascade|restart)',
      "lock\\s+table\\s",
      '(?:listen|notify|unlisten)\\s+["\uE000]',
      "set\\s+(?:local|session)\\s",
      "set\\s+[\\w.]+\\s*=",
      "copy\\s+[\\w.\"\uE000]+\\s*(?:\\([^)]*\\))?\\s+(?:from|to)\\s+(?:stdin|stdout|program|')",
      "(?:grant|revoke)\\s+(?:all|select|insert|update|delete|usage|execute|create|connect)\\b[^]+\\son\\s",
      "values\\s*\\(\\s*[$'\\d\uE000]",
      "explain\\s+(?:analyze\\s+)?(?:\\([^)]*\\)\\s*)?(?:select|insert|update|delete|with)\\s",
      'vacuum\\s*(?:\\(|full\\s|analyze\\s|[\\w."]+\\s*;?$)',
      "(?:begin|commit|rollback)\\s*(?:transaction|work|;)",
    ].join("|") +
    ")",
  "i",
);

/** Whether a text is a statement, after blanks, comments, brackets and unknown parts in front of it. */
export function looksLikeSql(text: string): boolean {
  const start = text.replace(/^(?:[\s(;\uE000]|--[^\n]*(?:\n|$)|\/\*[^]*?\*\/)+/, "");
  return LOUD_SQL.test(start) || QUIET_SQL.test(start);
}

/** SQL in what is shipped, outside its home: literals, templates, and texts put together with +, join or concat. */
export function sqlBreaches(source: Source): Breach[] {
  if (!SHIPPED.test(source.path) || source.path.startsWith(SQL_HOME) || isTest(source.path)) return [];
  const found = new Map<number, Breach>();
  eachNode(source, (node) => {
    const tagged = ts.isTaggedTemplateExpression(node) && /\bsql\b/i.test(node.tag.getText(source.tree));
    const text = fold(node);
    if (!tagged && (text === undefined || !looksLikeSql(text))) return;
    if (source.path.startsWith(BEFORE_STORAGE.home) && BEFORE_STORAGE.statement.test(text ?? "")) return;
    const breach = breachAt(
      source,
      node,
      "holds SQL: add an operation to server/src/storage/storage.ts and write the statement in that folder.",
    );
    found.set(breach.line, breach);
  });
  return [...found.values()];
}

/** The text that an expression makes, with UNKNOWN for what only runs know; undefined if it makes none. */
function fold(node: ts.Node): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isTemplateExpression(node)) {
    return node.head.text + node.templateSpans.map((span) => (fold(span.expression) ?? UNKNOWN) + span.literal.text).join("");
  }
  if (ts.isParenthesizedExpression(node) || ts.isAsExpression(node) || ts.isSatisfiesExpression(node)) return fold(node.expression);
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    const [left, right] = [fold(node.left), fold(node.right)];
    return left === undefined && right === undefined ? undefined : (left ?? UNKNOWN) + (right ?? UNKNOWN);
  }
  return ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) ? foldCall(node, node.expression) : undefined;
}

function foldCall(call: ts.CallExpression, callee: ts.PropertyAccessExpression): string | undefined {
  const texts = (nodes: readonly ts.Node[]): string[] => nodes.map((node) => fold(node) ?? UNKNOWN);
  if (callee.name.text === "join" && ts.isArrayLiteralExpression(callee.expression)) {
    const between = call.arguments[0];
    return texts(callee.expression.elements).join(between === undefined ? "," : (fold(between) ?? UNKNOWN));
  }
  const start = callee.name.text === "concat" ? fold(callee.expression) : undefined;
  return start === undefined ? undefined : start + texts(call.arguments).join("");
}

const TAKE_TIME = "take the instant as an argument (`nowUs`), read by the caller from the Clock";
const TAKE_CHANCE = "take the random value as an argument, made by the caller";

/** Names that tell time, make chance or lead to either, and what the domain does instead. */
const IMPURE: Readonly<Record<string, string>> = {
  Date: TAKE_TIME,
  performance: TAKE_TIME,
  setTimeout: TAKE_TIME,
  setInterval: TAKE_TIME,
  setImmediate: TAKE_TIME,
  hrtime: TAKE_TIME,
  process: "take what you need as an argument",
  globalThis: "take what you need as an argument",
  crypto: TAKE_CHANCE,
  randomUUID: TAKE_CHANCE,
  randomBytes: TAKE_CHANCE,
  randomInt: TAKE_CHANCE,
  getRandomValues: TAKE_CHANCE,
};

/** Time and chance in server/src/domain. */
export function impurityBreaches(source: Source): Breach[] {
  if (!source.path.startsWith("server/src/domain/")) return [];
  const found: Breach[] = [];
  eachNode(source, (node) => {
    const instead = ts.isIdentifier(node) && isUse(node) ? insteadOf(node) : undefined;
    if (instead !== undefined) found.push(breachAt(source, node, `uses ${node.getText(source.tree)}: ${instead}.`));
  });
  return found;
}

function insteadOf(node: ts.Identifier): string | undefined {
  if (Object.hasOwn(IMPURE, node.text)) return isCalendar(node) ? undefined : IMPURE[node.text];
  // Math is pure but for one function, and whoever takes the whole of it may take that.
  const parent = node.parent;
  const member = ts.isPropertyAccessExpression(parent) && parent.expression === node ? parent.name.text : "?";
  return node.text === "Math" && (member === "?" || member === "random") ? TAKE_CHANCE : undefined;
}

/** `Date.UTC(…)` computes and asks nobody. */
function isCalendar(node: ts.Identifier): boolean {
  return node.text === "Date" && ts.isPropertyAccessExpression(node.parent) && node.parent.name.text === "UTC";
}

/** Whether a name stands for a value, or for something imported; not a key, a member or a type. */
function isUse(node: ts.Identifier): boolean {
  const parent = node.parent;
  if (ts.isTypeReferenceNode(parent) || ts.isPropertySignature(parent) || ts.isQualifiedName(parent)) return false;
  if (ts.isPropertyAssignment(parent) || ts.isMethodDeclaration(parent) || ts.isMethodSignature(parent)) return parent.name !== node;
  if (ts.isPropertyDeclaration(parent) || ts.isParameter(parent) || ts.isVariableDeclaration(parent)) return parent.name !== node;
  // `x.randomUUID()` is a use of it, `task.process` only of a field of that name.
  if (ts.isPropertyAccessExpression(parent) && parent.name === node)
    return /^(?:random|hrtime|getRandom)/.test(node.text) && node.text !== "random";
  return true;
}
