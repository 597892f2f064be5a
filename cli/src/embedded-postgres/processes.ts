// What does the operating system know about a process: does it live, is it still the same one, what does it run, who are its relatives?
// Reads /proc on Linux and asks `ps` elsewhere. It ends no process.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

interface ProcessRow {
  readonly parentPid: number;
  readonly zombie: boolean;
  readonly startedAt: string;
}

const linux = process.platform === "linux";

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function linuxRow(pid: number): ProcessRow | undefined {
  const stat = attempt(() => readFileSync(`/proc/${String(pid)}/stat`, "utf8"));
  if (stat === undefined) return undefined;
  // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { parentPid: Number(fields[1]), zombie: fields[0] === "Z" || fields[0] === "X", startedAt: fields[19] ?? "" };
}

function ps(columns: string, ...selection: string[]): string | undefined {
  return attempt(() => execFileSync("ps", ["-o", columns, ...selection], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim());
}

function psRow(pid: number): ProcessRow | undefined {
  const match = /^\s*(\d+)\s+(\S+)\s+(.+)$/.exec(ps("ppid=,stat=,lstart=", "-p", String(pid)) ?? "");
  if (match === null) return undefined;
  return { parentPid: Number(match[1]), zombie: (match[2] ?? "").startsWith("Z"), startedAt: match[3] ?? "" };
}

function row(pid: number): ProcessRow | undefined {
  const found = linux ? linuxRow(pid) : psRow(pid);
  return found?.zombie === false ? found : undefined;
}

// Start times on Linux count from the boot, so the same pid and time could come back after another boot.
const bootId = linux ? (attempt(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()) ?? "") : "";

/** A string that names this very process and no later one with the same pid; undefined when no living process has the pid. */
export function processIdentity(pid: number): string | undefined {
  const found = row(pid);
  return found === undefined ? undefined : `${bootId}/${found.startedAt}`;
}

/** Whether a process with this pid lives; a zombie does not. */
export function isAlive(pid: number): boolean {
  return row(pid) !== undefined;
}

/** The pid of the parent, or undefined when the process is gone. */
export function parentOf(pid: number): number | undefined {
  return row(pid)?.parentPid;
}

/** The command line with its arguments separated by single spaces; empty when the process is gone or hides it. */
export function commandLine(pid: number): string {
  if (!linux) return ps("command=", "-p", String(pid)) ?? "";
  return (attempt(() => readFileSync(`/proc/${String(pid)}/cmdline`, "utf8")) ?? "").replace(/\0/g, " ").trim();
}

/** The folder the process works in, or undefined where that cannot be learned (another user's process, no /proc). */
export function workingFolder(pid: number): string | undefined {
  return linux ? attempt(() => readlinkSync(`/proc/${String(pid)}/cwd`)) : undefined;
}

/** The pids of all living direct children. */
export function childrenOf(pid: number): number[] {
  if (!linux) {
    const lines = (ps("pid=,ppid=", "-ax") ?? "").split("\n").map((line) => line.trim().split(/\s+/).map(Number));
    return lines.filter(([, parent]) => parent === pid).map(([child]) => child ?? 0);
  }
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((candidate) => parentOf(candidate) === pid);
}
