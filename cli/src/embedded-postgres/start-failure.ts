// Postgres did not start: what is the one sentence that helps?
// Reads what its programs wrote and recognizes the causes people meet; anything else is quoted with the place of the whole text.
import { statfsSync } from "node:fs";
import { EmbeddedPostgresError } from "./error.js";

/** How one of Postgres' programs ended. */
export interface Ending {
  /** Exit code, or undefined when it ended by a signal or could not be started. */
  readonly exitCode: number | undefined;
  /** What it wrote, or the end of it. */
  readonly text: string;
  /** The folder it worked in. */
  readonly folder: string;
}

interface Cause {
  readonly pattern: RegExp;
  readonly sentence: (match: RegExpExecArray) => string;
}

const instead = "or set LEASEHOLD_DATABASE_URL to a Postgres of yours";

const diskFull = "the disk is full; free some space and start again";
// Postgres makes WAL in files of this size; with less room it does not start.
const leastFreeBytes = 16 * 1024 * 1024;

const causes: readonly Cause[] = [
  { pattern: /No space left on device|Check free disk space/, sentence: () => diskFull },
  { pattern: /[Dd]isk quota exceeded/, sentence: () => "the disk quota is used up; free some space and start again" },
  {
    pattern: /error while loading shared libraries: ([^:\s]+)/,
    sentence: ([, library]) => `the system library ${library ?? ""} is missing; install it, ${instead}`,
  },
  {
    pattern: /could not look up effective user ID (\d+)/,
    sentence: ([, uid]) => `the user id ${uid ?? ""} has no name in /etc/passwd, and Postgres wants one; add a line for it, ${instead}`,
  },
  {
    pattern: /lock file "postmaster\.pid" already exists[\s\S]*?\(PID (\d+)\)/,
    sentence: ([, pid]) => `another Postgres (pid ${pid ?? ""}) already runs on this data; stop it first`,
  },
  {
    pattern: /pre-existing shared memory block[\s\S]*is still in use/,
    sentence: () => "processes of a Postgres that was killed still work on this data; wait until they have ended, then start again",
  },
  { pattern: /FATAL: {2}(.*permissions.*)/, sentence: ([, text]) => `${text ?? ""}; make the folder private again with chmod 0700` },
];

// On a full disk Postgres may find no room even for saying so.
function diskIsFull({ folder }: Ending): boolean {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize < leastFreeBytes;
  } catch {
    return false;
  }
}

// What the shell says about a program whose dynamic loader does not exist: the libc is another one.
function otherLibc({ exitCode, text }: Ending): boolean {
  return exitCode === 127 && /not found|No such file/.test(text);
}

/** Whether starting again a moment later may help: the last processes of a killed Postgres are still ending. */
export function isPassing(ending: Ending): boolean {
  return /pre-existing shared memory block/.test(ending.text);
}

/**
 * The error for a failed start.
 * @param action what failed, as the beginning of a sentence: `Postgres cannot start on /x`.
 * @param place where the whole text can be read; left out, it is not mentioned.
 */
export function startFailure(action: string, ending: Ending, place?: string): EmbeddedPostgresError {
  if (otherLibc(ending)) {
    return new EmbeddedPostgresError(
      `${action}: its programs need glibc, which this system (Alpine?) does not have; use a glibc image, ${instead}.`,
    );
  }
  for (const { pattern, sentence } of causes) {
    const match = pattern.exec(ending.text);
    if (match !== null) return new EmbeddedPostgresError(`${action}: ${sentence(match)}.`);
  }
  if (diskIsFull(ending)) return new EmbeddedPostgresError(`${action}: ${diskFull}.`);
  const lines = ending.text.split("\n").filter((line) => line.trim() !== "");
  const telling = lines.findLast((line) => /FATAL|PANIC|error:|ERROR/.test(line)) ?? lines.at(-1) ?? "it said nothing";
  const cause = telling.replace(/^.*?(?:FATAL|PANIC|ERROR|error):\s*/, "").trim();
  const code = ending.exitCode === undefined ? "" : ` (exit code ${String(ending.exitCode)})`;
  return new EmbeddedPostgresError(`${action}${code}: ${cause}${place === undefined ? "" : `; all of it is in ${place}`}.`);
}
