// What do users of the SDK install? The packed packages, in an empty project of their own, under each Node that is supported.
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { publint } from "publint";

const ROOT = join(import.meta.dirname, "../..");
const CACHE = join(ROOT, "node_modules/.cache/leasehold-nodes");
const FETCH_LIMIT_MS = 240_000;
const QUIET = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];

const run = promisify(execFile);

/** A packed package. */
export interface Tarball {
  readonly path: string;
  /** Paths within the package. */
  readonly files: readonly string[];
}

/** An empty project that installed the packed packages. */
export interface PackedProject {
  readonly folder: string;
  /** What was installed, by the packages' folders: `client`, `proto`. */
  readonly tarballs: Readonly<Record<string, Tarball>>;
  /** Writes a file of the project. */
  write(name: string, text: string): Promise<void>;
  /** Runs a program in it and answers what it wrote. Rejects with all it wrote if it fails. */
  run(program: string, ...args: readonly string[]): Promise<string>;
  remove(): Promise<void>;
}

/** What the server takes along is copied by its own scripts; no other package has any. */
async function pack(name: string, folder: string): Promise<Tarball> {
  if (!existsSync(join(ROOT, name, "dist"))) throw new Error(`${name}/dist is not built: run npm run build first`);
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: join(ROOT, name) });
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf("["))) as { filename: string; files: { path: string }[] }[];
  if (packed === undefined) throw new Error(`npm packed nothing of ${name}`);
  return { path: join(folder, packed.filename), files: packed.files.map(({ path }) => path).sort() };
}

/** Packs these packages as they were built last, and installs them with others from the registry. */
export async function createPackedProject(names: readonly string[], others: readonly string[]): Promise<PackedProject> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-packed-"));
  try {
    const tarballs: Record<string, Tarball> = {};
    for (const name of names) tarballs[name] = await pack(name, folder);
    const paths = Object.values(tarballs).map(({ path }) => path);
    await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
    await run("npm", ["install", ...QUIET, ...paths, ...others], { cwd: folder, timeout: FETCH_LIMIT_MS });
    return {
      folder,
      tarballs,
      write: async (name, text) => writeFile(join(folder, name), text),
      run: async (program, ...args) => {
        const { stdout, stderr } = await run(program, args, { cwd: folder, timeout: 60_000, env: { ...process.env, NODE_OPTIONS: "" } });
        return stdout + stderr;
      },
      remove: async () => rm(folder, { recursive: true, force: true }),
    };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** What publint and are-the-types-wrong have against a package, each in a few words. */
export async function complaints({ path }: Tarball): Promise<string[]> {
  const tarball = await readFile(path);
  const bytes = tarball.buffer.slice(tarball.byteOffset, tarball.byteOffset + tarball.length);
  const { messages } = await publint({ pack: { tarball: bytes }, strict: true, level: "suggestion" });
  const { problems = [] } = (await checkPackage(createPackageFromTarballData(new Uint8Array(bytes)))) as {
    problems?: { kind: string; resolutionKind?: string; entrypoint?: string }[];
  };
  // ES modules only: `require` gets the module itself (CJSResolvesToESM), and a resolution from before `exports` finds nothing.
  const told = problems.filter(
    ({ kind, resolutionKind }) => kind !== "CJSResolvesToESM" && !(kind === "NoResolution" && resolutionKind === "node10"),
  );
  return [
    ...messages.map(({ code, path: at }) => `${code} ${at.join(".")}`),
    ...told.map(({ kind, resolutionKind = "", entrypoint = "" }) => `${kind} ${resolutionKind} ${entrypoint}`),
  ];
}

/** The program of a Node of another line, fetched by npm if it is not there yet; undefined if no registry answers. */
export async function nodeOfLine(major: number): Promise<string | undefined> {
  const home = join(CACHE, String(major));
  const name = `node-${process.platform}-${process.arch}`;
  const program = join(home, "node_modules", name, "bin/node");
  if (existsSync(program)) return program;
  await mkdir(home, { recursive: true });
  await writeFile(join(home, "package.json"), '{ "private": true }\n');
  const limit = { timeout: FETCH_LIMIT_MS };
  const done = await run(
    "npm",
    ["install", "--prefix", home, ...QUIET, "--no-save", "--no-package-lock", `${name}@${String(major)}`],
    limit,
  ).then(
    () => true,
    () => false,
  );
  return done && existsSync(program) ? program : undefined;
}
