// Under which user does Postgres run, and what may that user reach?
// Postgres refuses to run as root, so root lends its processes another user; everybody else runs it as themselves. No user is created.
import { spawnSync } from "node:child_process";
import { accessSync, constants, readFileSync, statSync } from "node:fs";

/** The user that Postgres runs as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
  /** True when this is another user than the one of this process, which is then root. */
  readonly switched: boolean;
}

// The conventional `nobody` of Linux. Any unprivileged user with a name does: initdb asks the system for the name.
const nobody = { uid: 65534, gid: 65534 };

function namedUnprivilegedUser(): { uid: number; gid: number } {
  let rows: string[][];
  try {
    rows = readFileSync("/etc/passwd", "utf8")
      .split("\n")
      .map((line) => line.split(":"));
  } catch {
    return nobody;
  }
  if (rows.some((row) => Number(row[2]) === nobody.uid)) return nobody;
  const row = rows.find(([name]) => name === "nobody" || name === "postgres");
  const [uid, gid] = [Number(row?.[2]), Number(row?.[3])];
  return uid > 0 && gid > 0 ? { uid, gid } : nobody;
}

function ownerOf(folder: string): { uid: number; gid: number } | undefined {
  try {
    return statSync(folder);
  } catch {
    // Not there, or no path at all: whoever makes it will say so.
    return undefined;
  }
}

/**
 * The account for a cluster.
 * @param clusterFolder when it exists and this process is root, its owner goes on owning it, so that a project started once with and once
 *   without sudo keeps working.
 */
export function accountFor(clusterFolder?: string): Account {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  if (uid !== 0) return { uid, gid, switched: false };
  const owner = clusterFolder === undefined ? undefined : ownerOf(clusterFolder);
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid, switched: true };
  return { ...namedUnprivilegedUser(), switched: true };
}

/** The part of `spawn`'s options that makes the child run as the account. */
export function runAs(account: Account): { uid?: number; gid?: number } {
  return account.switched ? { uid: account.uid, gid: account.gid } : {};
}

/** Whether the account may enter all these folders and execute all these files. Asks the kernel as that user, so access lists count too. */
export function canEnter(account: Account, ...paths: readonly string[]): boolean {
  if (account.switched) {
    const script = 'for path; do [ -x "$path" ] || exit 1; done';
    return spawnSync("/bin/sh", ["-c", script, "sh", ...paths], { ...runAs(account), cwd: "/", stdio: "ignore" }).status === 0;
  }
  try {
    for (const path of paths) accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
