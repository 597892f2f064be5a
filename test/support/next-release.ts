// How does a test meet a release that does not exist yet? As a copy of this one in a folder of its own, with more migrations and another version.
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A release on disk. */
export interface Release {
  /** Its `leasehold` command. */
  readonly command: string;
  remove(): Promise<void>;
}

const ROOT = join(import.meta.dirname, "../..");
const PACKAGES = ["proto", "client", "server"];

/** Copies what was built last; `migrations`: further files by name. */
export async function makeRelease(version: string, migrations: Readonly<Record<string, string>>): Promise<Release> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-release-"));
  for (const name of [...PACKAGES, "cli"]) {
    await cp(join(ROOT, name), join(folder, name), {
      recursive: true,
      filter: (path) => !/\/(?:node_modules|src|third_party)$/.test(path),
    });
    const own = join(ROOT, name, "node_modules");
    await symlink(own, join(folder, name, "node_modules")).catch(() => undefined);
  }
  await cp(join(ROOT, "migrations"), join(folder, "migrations"), { recursive: true });
  for (const [name, text] of Object.entries(migrations)) await writeFile(join(folder, "migrations", name), text);
  const main = join(folder, "server/dist/main.js");
  await writeFile(main, (await readFile(main, "utf8")).replace(/(SERVER_VERSION = )"[^"]*"/, `$1"${version}"`));
  await linkLibraries(folder);
  return { command: join(folder, "cli/bin/leasehold.js"), remove: () => rm(folder, { recursive: true, force: true }) };
}

// Libraries are shared; our own packages are those of the copy.
async function linkLibraries(folder: string): Promise<void> {
  const [from, to] = [join(ROOT, "node_modules"), join(folder, "node_modules")];
  await mkdir(join(to, "@leasehold"), { recursive: true });
  const names = (await readdir(from)).filter((name) => !name.startsWith(".") && name !== "@leasehold" && name !== "leasehold");
  for (const name of names) await symlink(join(from, name), join(to, name));
  for (const name of PACKAGES) await symlink(join(folder, name), join(to, "@leasehold", name));
}
