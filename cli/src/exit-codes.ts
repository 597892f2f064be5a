// With which code does the command end? A closed list that scripts may branch on; docs/cli.md shows the same table.

/** Every exit code, by what it says. */
export const exitCodes = {
  /** Done, and the answer is yes. */
  ok: 0,
  /** The task failed or was cancelled, or a check said no. */
  no: 1,
  /** The command line, a setting or a value is not valid. */
  usage: 2,
  /** There is no such task. */
  notFound: 3,
  /** The state of the task, or something that exists already, is in the way. */
  refused: 4,
  /** The server or its database cannot be reached, is overloaded, or did not answer in time: try again. */
  unavailable: 5,
  /** The credential is missing or may not do this. */
  denied: 6,
  /** A bug, here or in the server. */
  bug: 70,
  /** Ended by Ctrl-C (SIGINT). What was asked for goes on at the server. */
  interrupted: 130,
  /** Ended by SIGTERM or SIGHUP. */
  terminated: 143,
} as const;

/** One of the exit codes. */
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Error codes of the client, as the exit code that scripts see. What is not listed is a bug. */
const CODES: Readonly<Record<string, ExitCode>> = {
  INVALID_ARGUMENT: exitCodes.usage,
  NOT_FOUND: exitCodes.notFound,
  TASK_REMOVED: exitCodes.notFound,
  ALREADY_EXISTS: exitCodes.refused,
  FAILED_PRECONDITION: exitCodes.refused,
  ABORTED: exitCodes.refused,
  UNIMPLEMENTED: exitCodes.refused,
  UNAVAILABLE: exitCodes.unavailable,
  DEADLINE_EXCEEDED: exitCodes.unavailable,
  CANCELLED: exitCodes.unavailable,
  CLIENT_CLOSED: exitCodes.unavailable,
  UNAUTHENTICATED: exitCodes.denied,
  PERMISSION_DENIED: exitCodes.denied,
};

/** The exit code of a call that failed. `retryable`: whether the same call may succeed later. */
export function exitCodeOf(code: string, retryable: boolean): ExitCode {
  // Overload passes; a limit of the task itself does not.
  if (code === "RESOURCE_EXHAUSTED") return retryable ? exitCodes.unavailable : exitCodes.refused;
  return CODES[code] ?? exitCodes.bug;
}
