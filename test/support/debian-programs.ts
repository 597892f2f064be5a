// Where do tests get programs that npm does not have, as Prometheus and PgBouncer? From packages of Debian, fetched once into a cache and
// unpacked there; nothing is installed. That needs apt-get and dpkg, as any Debian or Ubuntu has them.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const CACHE = join(import.meta.dirname, "../../node_modules/.cache/leasehold-debian");
const STEP_LIMIT_MS = 100_000;
const run = promisify(execFile);

/** A program and what it needs. */
export interface DebianProgram {
  /** Packages that hold it and the libraries that it needs beyond those of any machine. */
  readonly packages: readonly string[];
  /** Where it lies in them, as `usr/bin/promtool`. */
  readonly program: string;
}

/** A program that can be started. */
export interface ReadyProgram {
  /** Where its packages were unpacked. */
  readonly folder: string;
  readonly path: string;
  /** Variables that it needs, beside those of the test. */
  readonly env: Readonly<Record<string, string>>;
}

/** Fetches a program unless it is there. Throws, and says loudly what was left out, when that is not possible. */
export async function debianProgram({ packages, program }: DebianProgram): Promise<ReadyProgram> {
  const folder = join(CACHE, packages.join("-"));
  if (!existsSync(folder)) await fetchInto(folder, packages);
  const path = join(folder, program);
  if (!existsSync(path))
    throw new Error(`${packages.join(", ")} came without ${program}: remove ${folder} and look what is in the package`);
  const libraries = (await readdir(join(folder, "usr/lib")).catch(() => [])).filter((name) => name.endsWith("-linux-gnu"));
  return { folder, path, env: { LD_LIBRARY_PATH: libraries.map((name) => join(folder, "usr/lib", name)).join(":") } };
}

// Under a name of its own until it is whole: a run that is killed leaves no half of it, two runs do not disturb each other.
async function fetchInto(folder: string, packages: readonly string[]): Promise<void> {
  const making = `${folder}-${String(process.pid)}`;
  await mkdir(making, { recursive: true });
  try {
    await download(making, packages);
    for (const file of (await readdir(making)).filter((name) => name.endsWith(".deb"))) {
      await run("dpkg", ["-x", join(making, file), making], { timeout: STEP_LIMIT_MS });
      await rm(join(making, file));
    }
    await rename(making, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
  } catch (error) {
    const said = (error as { stderr?: string }).stderr ?? "";
    throw new Error(
      `${packages.join(", ").toUpperCase()} COULD NOT BE FETCHED, so its tests were not run: they need apt-get with a mirror of Debian.\n${said.trim()}`,
      { cause: error },
    );
  } finally {
    await rm(making, { recursive: true, force: true });
  }
}

// An old list of packages names files that the mirror has no more: then it is read again, which only root may.
async function download(folder: string, packages: readonly string[]): Promise<void> {
  const get = (): Promise<unknown> => run("apt-get", ["download", "-q", ...packages], { cwd: folder, timeout: STEP_LIMIT_MS });
  try {
    await get();
  } catch {
    await run("apt-get", ["update", "-q"], { timeout: STEP_LIMIT_MS });
    await get();
  }
}
