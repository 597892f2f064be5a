// Are things named by what they are? Words that say nothing are refused in the names of files, folders and exports.
import ts from "typescript";
import type { Breach, Source } from "./source.js";
import { breachAt } from "./source.js";

/** Words that may be no part of a name. */
const EMPTY_WORDS: readonly { word: RegExp; instead: string }[] = [
  { word: /^managers?$/, instead: "name what it does to what (`lease-keeper`, `dispatcher`)" },
  { word: /^helpers?$/, instead: "name what it answers, and put it beside its only caller if there is one" },
  { word: /^(?:utils?|utility|utilities)$/, instead: "name the one thing that it does" },
  { word: /^commons?$/, instead: "name what is shared, or give each part its own file" },
  { word: /^infos?$/, instead: "name the thing itself (`Worker`, not `WorkerInfo`)" },
  { word: /^v\d+$/, instead: "change the thing itself; only proto packages have numbers" },
];

/** Words that say nothing alone, though they may be part of a name. */
const EMPTY_NAMES: readonly { name: RegExp; instead: string }[] = [
  { name: /^data$/i, instead: "name what it holds (`metadata`, `result`, `payload`)" },
  { name: /^timeout$/i, instead: "name what times out and end with the unit (`leaseTtlMs`)" },
];

/** All checks on names. */
export function nameBreaches(sources: readonly Source[]): Breach[] {
  const folders = new Set<string>();
  return sources.flatMap((source) => [...pathBreaches(source, folders), ...exportBreaches(source)]);
}

/** Names of a file and of the folders that it is in; each folder is told once. */
function pathBreaches(source: Source, folders: Set<string>): Breach[] {
  const parts = source.path.split("/");
  return parts.flatMap((part, at) => {
    const path = parts.slice(0, at + 1).join("/");
    if (at < parts.length - 1 && folders.has(path)) return [];
    folders.add(path);
    const message = emptyName(part.replace(/\..*$/, ""));
    return message === undefined ? [] : [{ path, line: 1, message: `is named "${part}": ${message}.` }];
  });
}

function exportBreaches(source: Source): Breach[] {
  return exportsOf(source).flatMap(({ name, node }) => {
    const message = emptyName(name);
    return message === undefined ? [] : [breachAt(source, node, `exports "${name}": ${message}.`)];
  });
}

/** What to write instead of a name that says nothing; undefined if it says something. */
export function emptyName(name: string): string | undefined {
  const alone = EMPTY_NAMES.find((rule) => rule.name.test(name));
  if (alone !== undefined) return alone.instead;
  const words = wordsOf(name);
  // Versions of formats are no twins: uuid v7, ip v4.
  const counted = words.filter((word, at) => !(/^v\d+$/.test(word) && /^(?:uuid|ip)$/.test(words[at - 1] ?? "")));
  return EMPTY_WORDS.find((rule) => counted.some((word) => rule.word.test(word)))?.instead;
}

/** `leaseTtlMs`, `lease-ttl-ms`, `LEASE_TTL_MS` → lease, ttl, ms. */
function wordsOf(name: string): string[] {
  return (name.match(/[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+/g) ?? []).map((word) => word.toLowerCase());
}

/** What a file exports, by the names that others import. */
export function exportsOf(source: Source): { name: string; node: ts.Node }[] {
  return source.tree.statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement)) return namedIn(statement);
    if (!ts.canHaveModifiers(statement) || !ts.getModifiers(statement)?.some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword))
      return [];
    if (ts.isVariableStatement(statement))
      return statement.declarationList.declarations.flatMap((declaration) => boundIn(declaration.name));
    const name = "name" in statement ? (statement.name as ts.Node | undefined) : undefined;
    return name !== undefined && ts.isIdentifier(name) ? [{ name: name.text, node: name }] : [];
  });
}

function namedIn(statement: ts.ExportDeclaration): { name: string; node: ts.Node }[] {
  const clause = statement.exportClause;
  if (clause === undefined) return [];
  const names = ts.isNamedExports(clause) ? clause.elements.map((element) => element.name) : [clause.name];
  return names.map((name) => ({ name: name.text, node: name }));
}

function boundIn(name: ts.BindingName): { name: string; node: ts.Node }[] {
  if (ts.isIdentifier(name)) return [{ name: name.text, node: name }];
  return name.elements.flatMap((element) => (ts.isBindingElement(element) ? boundIn(element.name) : []));
}
