// What do the rules of the house read? Every source file of the repository, parsed once; or a few lines written in a test.
// Nothing here judges.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

/** One file of TypeScript or JavaScript. */
export interface Source {
  /** Path from the repository's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

/** A rule that is broken, and what to do instead. */
export interface Breach {
  readonly path: string;
  /** Counted from 1. */
  readonly line: number;
  /** What is wrong, and its replacement. */
  readonly message: string;
}

/** A repository to read from: the one on disk, or a few files in memory. */
export interface Tree {
  /** Text of a file, or undefined if there is none. */
  read(path: string): string | undefined;
  /** Paths of all files, without what tools made or installed. */
  list(): readonly string[];
}

/** Folders that tools fill. */
const NOT_OURS = new Set(["node_modules", "dist", "coverage", ".git", ".leasehold", ".venv"]);
const GENERATED = ["proto/src", "bench/out"];
const CODE = /\.(?:ts|tsx|mts|js|mjs|cjs)$/;

/** Reads the repository below `root`. */
export function diskTree(root: string): Tree {
  return {
    list: () => walk(root, ""),
    read: (path) => {
      try {
        return readFileSync(join(root, path), "utf8");
      } catch {
        return undefined;
      }
    },
  };
}

/** A repository made of the given files. */
export function memoryTree(files: Readonly<Record<string, string>>): Tree {
  return { list: () => Object.keys(files), read: (path) => (Object.hasOwn(files, path) ? files[path] : undefined) };
}

function walk(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (NOT_OURS.has(entry.name) || GENERATED.includes(path)) return [];
    if (entry.isDirectory()) return walk(root, path);
    return entry.isFile() ? [path] : [];
  });
}

/** Parses all code of a repository. */
export function sourcesOf(tree: Tree): Source[] {
  return tree
    .list()
    .filter((path) => CODE.test(path))
    .map((path) => parse(path, tree.read(path) ?? ""));
}

/** Parses one file. */
export function parse(path: string, text: string): Source {
  return { path, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true) };
}

/** A breach at a node of a file. */
export function breachAt(source: Source, node: ts.Node, message: string): Breach {
  return { path: source.path, line: lineOf(source, node.getStart(source.tree)), message };
}

/** The line of a position, counted from 1. */
export function lineOf(source: Source, position: number): number {
  return source.tree.getLineAndCharacterOfPosition(position).line + 1;
}

/** Calls `visit` for every node of a file, parents first. */
export function eachNode(source: Source, visit: (node: ts.Node) => void): void {
  const descend = (node: ts.Node): void => {
    visit(node);
    ts.forEachChild(node, descend);
  };
  descend(source.tree);
}

/** Top folder of a path: `server`; for a file at the root its name. */
export function topFolder(path: string): string {
  return path.split("/")[0] ?? path;
}

/** Whether a file belongs to the tests rather than to what is shipped. */
export function isTest(path: string): boolean {
  return path.startsWith("test/") || /\.test\.[a-z]+$/.test(path);
}

/** How a breach is told. */
export function tell(breach: Breach): string {
  return `${breach.path}:${String(breach.line)} ${breach.message}`;
}
