// Who may import whom? The arrows between the rooms of the server and between the packages, as tables; no cycles, no barrels; libraries with one home.
// Imports of types count: who needs a type of a room depends on that room.
import { posix } from "node:path";
import ts from "typescript";
import type { Breach, Source } from "./source.js";
import { breachAt, eachNode, isTest, topFolder } from "./source.js";

/** For each room of server/src the rooms that it may import besides itself. `main → api → dispatch → storage → domain`; `main → upkeep → storage`. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  clock: [],
  config: ["domain"],
  storage: ["domain", "config", "clock", "telemetry"],
  dispatch: ["storage", "domain", "config", "clock", "telemetry"],
  upkeep: ["storage", "domain", "config", "clock", "telemetry"],
  api: ["dispatch", "storage", "domain", "config", "clock", "telemetry"],
  telemetry: ["api", "dispatch", "upkeep", "storage", "domain", "config", "clock"],
  main: ["api", "dispatch", "upkeep", "storage", "domain", "config", "clock", "telemetry"],
};

/** For each package the packages that it may import. Only the command and the kit for users' tests know both sides. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  proto: [],
  client: ["proto"],
  server: ["proto"],
  cli: ["proto", "client", "server"],
  testing: ["proto", "client", "server"],
  examples: ["client", "testing"],
};

/** Folders by the name that their package is imported by. */
const FOLDERS: Readonly<Record<string, string>> = {
  "@leasehold/proto": "proto",
  "@leasehold/client": "client",
  "@leasehold/server": "server",
  "@leasehold/testing": "testing",
  leasehold: "cli",
};

/** Libraries that only some files may import, and what everybody else does. */
const HOMES: readonly { library: RegExp; homes: RegExp; instead: string }[] = [
  {
    library: /^(?:pg|pg-[a-z-]+|postgres)(?:\/|$)/,
    homes: /^(?:server\/src\/storage\/|cli\/src\/embedded-postgres)/,
    instead: "add an operation to server/src/storage/storage.ts and call that",
  },
  {
    library: /^(?:slonik|@slonik\/[a-z-]+)(?:\/|$)/,
    homes: /^server\/src\/storage\//,
    instead: "add an operation to server/src/storage/storage.ts and call that",
  },
  {
    library: /^@leasehold\/proto(?:\/|$)/,
    homes: /^(?!server\/)|^server\/src\/(?:api\/|main\.ts$)/,
    instead: "convert in server/src/api/ and pass a type of the domain",
  },
];

interface Import {
  readonly specifier: string;
  readonly node: ts.Node;
}

/** All checks on imports. */
export function importBreaches(sources: readonly Source[]): Breach[] {
  const each = sources.flatMap((source) => [
    ...placeBreaches(source),
    ...arrowBreaches(source),
    ...hiddenBreaches(source),
    ...barrelBreaches(source),
  ]);
  return [...each, ...cycleBreaches(sources)];
}

/** Files of the server outside every room: no arrow would hold for them. */
export function placeBreaches(source: Source): Breach[] {
  const room = roomOf(source.path);
  if (room === undefined || Object.hasOwn(ROOMS, room)) return [];
  const message = `lies in no room of the server: move it into one of ${Object.keys(ROOMS).join(", ")}, or add a room to test/support/house/arrows.ts.`;
  return [{ path: source.path, line: 1, message }];
}

/** Imports that go against the tables above. */
export function arrowBreaches(source: Source): Breach[] {
  return importsOf(source).flatMap(({ specifier, node }) => {
    const target = resolve(source.path, specifier);
    const message =
      packageBreach(source.path, specifier, target) ?? roomBreach(source.path, specifier, target) ?? homeBreach(source.path, specifier);
    return message === undefined ? [] : [breachAt(source, node, message)];
  });
}

function packageBreach(from: string, specifier: string, target: string | undefined): string | undefined {
  if (target === undefined || isTest(from)) return undefined;
  const [own, other] = [topFolder(from), topFolder(target)];
  if (own === other) return undefined;
  if (other === "test") return `imports ${specifier}: nothing imports test/. Move what is shared into the package that owns it.`;
  const allowed = PACKAGES[own];
  if (allowed === undefined) return undefined;
  if (!allowed.includes(other)) {
    const known = allowed.length === 0 ? "no other package" : allowed.join(", ");
    return `imports ${specifier}: ${own}/ knows ${known}. What both sides need goes through proto/; only cli/ and testing/ know both.`;
  }
  return specifier.startsWith(".")
    ? `imports ${specifier}: leave a package by the name of the other one (@leasehold/${other}/…), not by its path.`
    : undefined;
}

function roomBreach(from: string, specifier: string, target: string | undefined): string | undefined {
  const own = roomOf(from);
  const allowed = own === undefined ? undefined : ROOMS[own];
  if (own === undefined || allowed === undefined) return undefined;
  if (own === "domain" && !target?.startsWith("server/src/domain/")) {
    return `imports ${specifier}: the domain imports nothing outside itself. Take the value, or a function that makes it, as an argument.`;
  }
  const other = target === undefined ? undefined : roomOf(target);
  if (other === undefined || other === own || allowed.includes(other)) return undefined;
  const known = allowed.length === 0 ? "nothing else" : allowed.join(", ");
  return `imports ${specifier}: ${own} knows ${known}. Let main.ts pass it in, behind an interface that ${own} declares.`;
}

function homeBreach(from: string, specifier: string): string | undefined {
  if (PACKAGES[topFolder(from)] === undefined || isTest(from)) return undefined;
  const rule = HOMES.find(({ library, homes }) => library.test(specifier) && !homes.test(from));
  return rule === undefined ? undefined : `imports ${specifier} away from its home: ${rule.instead}.`;
}

/** Room of a file of the server: its folder, or the name of a file that lies beside the folders. */
function roomOf(path: string): string | undefined {
  return /^server\/src\/([^/]+?)(?:\.[a-z]+)?(?:\/|$)/.exec(path)?.[1];
}

/** Imports whose target is computed: no arrow can be checked on them. The command alone loads files that its user names. */
export function hiddenBreaches(source: Source): Breach[] {
  if (isTest(source.path) || !/^(?:server|client)\//.test(source.path)) return [];
  const found: Breach[] = [];
  eachNode(source, (node) => {
    const named = ts.isCallExpression(node) ? specifierOf(node) : undefined;
    if (named !== undefined && !ts.isStringLiteralLike(named))
      found.push(breachAt(source, node, "imports a computed name: write the module's name as a literal."));
  });
  return found;
}

/** Files that only pass on what others export hide where things are. */
export function barrelBreaches(source: Source): Breach[] {
  if (!source.path.startsWith("server/")) return [];
  const passesOn = (node: ts.Statement): boolean => ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined;
  const message = "is a barrel: import each thing from the file that holds it.";
  if (/(?:^|\/)index\.[a-z]+$/.test(source.path)) return [{ path: source.path, line: 1, message }];
  const statements = source.tree.statements;
  const star = statements.find((node) => ts.isExportDeclaration(node) && passesOn(node) && node.exportClause === undefined);
  if (star !== undefined) return [breachAt(source, star, message)];
  return statements.length > 0 && statements.every(passesOn) ? [{ path: source.path, line: 1, message }] : [];
}

/** Circles of imports, each told once, at its first file by name. */
export function cycleBreaches(sources: readonly Source[]): Breach[] {
  const paths = new Set(sources.map((source) => source.path));
  const edges = new Map(
    sources.map(
      (source) => [source.path, importsOf(source).flatMap(({ specifier }) => inOwnPackage(source.path, specifier, paths))] as const,
    ),
  );
  const found = new Map<string, Breach>();
  const finished = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start !== -1) {
      const circle = trail.slice(start);
      const first = [...circle].sort()[0] ?? path;
      const ordered = [...circle.slice(circle.indexOf(first)), ...circle.slice(0, circle.indexOf(first)), first];
      const message = `is in a circle of imports (${ordered.join(" → ")}): move what both need into a third file.`;
      found.set(ordered.join(), { path: first, line: 1, message });
      return;
    }
    if (finished.has(path)) return;
    for (const next of edges.get(path) ?? []) walk(next, [...trail, path]);
    finished.add(path);
  };
  for (const path of [...paths].sort()) walk(path, []);
  return [...found.values()];
}

function inOwnPackage(from: string, specifier: string, paths: ReadonlySet<string>): string[] {
  const target = resolve(from, specifier);
  if (target === undefined) return [];
  // The written file for the name that Node sees: `./task.js` is task.ts.
  const stem = target.replace(/\.[cm]?jsx?$/, "");
  const file = [target, `${stem}.ts`, `${stem}.tsx`, `${target}.ts`].find((path) => paths.has(path));
  return file !== undefined && topFolder(file) === topFolder(from) ? [file] : [];
}

/** Path of what is imported if it is ours: `server/src/domain/task.js`, `client/src`; undefined for libraries. */
function resolve(from: string, specifier: string): string | undefined {
  if (specifier.startsWith(".")) return posix.normalize(posix.join(posix.dirname(from), specifier));
  const name = specifier.startsWith("@") ? specifier.split("/").slice(0, 2).join("/") : topFolder(specifier);
  const folder = Object.hasOwn(FOLDERS, name) ? FOLDERS[name] : undefined;
  return folder === undefined ? undefined : posix.join(folder, "src", specifier.slice(name.length));
}

/** Everything a file imports: statements, re-exports, import(), require() and import types. */
export function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  eachNode(source, (node) => {
    const named = specifierOf(node);
    if (named !== undefined && ts.isStringLiteralLike(named)) found.push({ specifier: named.text, node });
  });
  return found;
}

function specifierOf(node: ts.Node): ts.Node | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier;
  if (ts.isExternalModuleReference(node)) return node.expression;
  if (ts.isImportTypeNode(node)) return ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined;
  if (!ts.isCallExpression(node)) return undefined;
  const imports =
    node.expression.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(node.expression) && node.expression.text === "require");
  return imports ? node.arguments[0] : undefined;
}
