// Where does the embedded Postgres keep its data?
// Normally under the project, in .leasehold/postgres. One folder holds everything of one instance: the cluster, the log, the owner's note.
// Nothing here removes anything.
import { createHash } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync, readdirSync, realpathSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { canEnter, type Account } from "./account.js";
import { EmbeddedPostgresError, explainSystemError } from "./error.js";

/** The name of the cluster's folder (PGDATA) inside the data folder. */
export const clusterName = "pgdata";

/** A folder outside every project, always the same for the same key. It need not exist yet. */
export function outsideFolder(key: string): string {
  return join("/var/tmp", `leasehold-${createHash("sha256").update(key).digest("hex").slice(0, 12)}`);
}

// The real path, so that a project reached through a link has one data folder, not two.
function realProject(projectDir: string): string {
  try {
    return realpathSync(projectDir);
  } catch (error) {
    throw new EmbeddedPostgresError(`The project folder ${projectDir} cannot be opened; start again from a folder that exists.`, {
      cause: error,
    });
  }
}

/**
 * The data folder of a project, which need not exist yet: `<project>/.leasehold/postgres`, or `/var/tmp/leasehold-<hash of the project's path>`
 * when the Postgres user may not enter the project (it lies below a folder that only root may enter).
 * @throws EmbeddedPostgresError when the project cannot be opened, or already holds data that the Postgres user can no longer reach.
 */
export function projectDataFolder(projectDir: string, account: Account): string {
  const project = realProject(projectDir);
  const inProject = join(project, ".leasehold", "postgres");
  if (!account.switched || canEnter(account, project)) return inProject;
  // Starting with an empty database beside existing data would look like a loss.
  if (statSync(join(inProject, clusterName), { throwIfNoEntry: false }) !== undefined) {
    throw new EmbeddedPostgresError(
      `The data in ${inProject} cannot be reached by the Postgres user (uid ${String(account.uid)}); ` +
        `run chmod o+x on the folders above it, or move it to where that user may enter.`,
    );
  }
  return outsideFolder(project);
}

function refuseForeignFolder(path: string): void {
  const found = lstatSync(path);
  if (!found.isDirectory()) throw new EmbeddedPostgresError(`${path} is not a folder; choose another data folder.`);
  // Below /var/tmp anybody could have put a folder of this name there first.
  if (found.uid !== process.getuid?.()) {
    throw new EmbeddedPostgresError(
      `The data folder ${path} belongs to uid ${String(found.uid)}; start as that user again, or give it to yourself with: sudo chown -R "$(id -u)" ${quoted(path)}`,
    );
  }
  const entries = readdirSync(path);
  const ours = (name: string): boolean => /^(pgdata|owner\.json.*|postgres.*\.log|initializing-\d+|binaries-.*)$/.test(name);
  if (entries.length > 0 && !entries.some(ours)) {
    throw new EmbeddedPostgresError(`${path} is not empty and holds no data of Leasehold; choose an empty folder.`);
  }
}

// Not by the mode of mkdir, which the umask cuts; a folder made for a test is there already and closed as well.
function openToPass(path: string, outermost: string): void {
  for (let folder = path; folder.length >= outermost.length; folder = dirname(folder)) chmodSync(folder, 0o711);
}

function quoted(path: string): string {
  return `'${path.replaceAll("'", `'\\''`)}'`;
}

/**
 * Makes the data folder if it is missing and lets the account pass through it. The folder itself stays with the user of this process, so that
 * the note and the log in it are out of the Postgres user's reach; only the cluster inside belongs to the account.
 * @returns the absolute path.
 * @throws EmbeddedPostgresError when it cannot be made, belongs to somebody else, holds other things, or cannot be entered by the account.
 */
export function openDataFolder(dataDir: string, account: Account): string {
  const path = resolve(dataDir);
  try {
    const firstMade = mkdirSync(path, { recursive: true, mode: 0o700 });
    refuseForeignFolder(path);
    if (account.switched && !canEnter(account, path)) openToPass(path, firstMade ?? path);
  } catch (error) {
    throw explainSystemError(
      error,
      `use the data folder ${path}`,
      "choose a folder you may write to, or set LEASEHOLD_DATABASE_URL to a Postgres of yours",
    );
  }
  if (!canEnter(account, path)) {
    throw new EmbeddedPostgresError(
      `The Postgres user (uid ${String(account.uid)}) may not enter ${path}; run chmod o+x on the folders above it, or choose another data folder.`,
    );
  }
  return path;
}
