// In what words does a person learn that the embedded Postgres cannot do what was asked?
// One class; the message is one clear sentence that says what is wrong and what to do. The causes live where they are found.

/** Thrown by everything in this folder. `message` is a finished sentence for a person, fit to be printed without a stack trace. */
export class EmbeddedPostgresError extends Error {
  override readonly name = "EmbeddedPostgresError";
}

const systemReasons: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  ENOTDIR: "something on the way to it is not a folder",
  ENOENT: "a folder on the way to it is missing and cannot be made",
  EEXIST: "something else has this name",
};

/** The code of a Node system error (`ENOENT`, …), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/**
 * Turns a file system failure into a sentence; anything that is not one of the expected failures is returned unchanged.
 * @param doing what was attempted, as the middle of a sentence: `write /x/y`.
 * @param remedy what the reader can do, as a sentence part: `free some space`.
 */
export function explainSystemError(error: unknown, doing: string, remedy: string): unknown {
  const reason = systemReasons[systemCode(error) ?? ""];
  return reason === undefined ? error : new EmbeddedPostgresError(`Cannot ${doing}: ${reason}; ${remedy}.`, { cause: error });
}
