// What does a person read when a command fails, and which exit code does a script get? One sentence with the remedy; field paths below it.
import { LeaseholdError } from "@leasehold/client";
import { CommandError } from "./command-error.js";
import { exitCodeOf, exitCodes, type ExitCode } from "./exit-codes.js";
import { printable } from "./output/printable.js";

/** How a command ends that cannot go on. */
export interface FailureText {
  readonly exitCode: ExitCode;
  /** The first line is a sentence. */
  readonly lines: readonly string[];
}

/** Whatever was thrown, for a person. `address` names the server in sentences about it. */
export function failureText(thrown: unknown, address: string): FailureText {
  if (thrown instanceof CommandError)
    return { exitCode: thrown.exitCode, lines: [thrown.message, ...thrown.details.map((line) => `  ${line}`)] };
  if (LeaseholdError.is(thrown)) return callFailure(thrown, address);
  const stack = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return { exitCode: exitCodes.bug, lines: ["This is a bug in Leasehold; please report it with what follows.", stack] };
}

function callFailure(error: LeaseholdError, address: string): FailureText {
  const first = sentence(error, address);
  // What the sentence says already is not said twice.
  const violations = error.violations.filter(({ message }) => !first.includes(printable(message)));
  const further = violations.map(({ path, message }) => `  ${printable(path === "" ? message : `${path}: ${message}`)}`);
  return { exitCode: exitCodeOf(error.code, error.retryable), lines: [first, ...further] };
}

function sentence(error: LeaseholdError, address: string): string {
  // The SDK puts the code before its message; here the sentence stands alone.
  const said = printable(error.message.replace(`${error.code}: `, ""));
  const reason = error.reason === undefined ? "" : ` (${error.reason})`;
  switch (error.code) {
    case "UNAVAILABLE":
      if (error.reason !== undefined) return `The server at ${address} cannot answer now: ${ended(said)}${reason} Try again in a moment.`;
      return `Cannot reach a Leasehold server at ${address} (${networkReason(said)}). Start one with \`leasehold dev\`, or name another with --address or LEASEHOLD_ADDRESS.`;
    case "DEADLINE_EXCEEDED":
      return `The server at ${address} did not answer in time. Try again, or wait longer with --timeout 1m.`;
    case "UNAUTHENTICATED":
      return `The server at ${address} does not know who you are: ${ended(said)} Set LEASEHOLD_TOKEN.`;
    case "PERMISSION_DENIED":
      return `You may not do this: ${ended(said)}${reason}`;
    case "INVALID_ARGUMENT":
      return error.violations.length > 0 ? "The request is not valid:" : `The request is not valid: ${ended(said)}${reason}`;
    case "NOT_FOUND":
    case "TASK_REMOVED":
      return error.taskId === undefined ? ended(said) : `There is no task ${printable(error.taskId)}; it may have been removed.`;
    case "INTERNAL":
    case "UNKNOWN":
      return `The server at ${address} met a bug: ${ended(said)} Its log says more.`;
    default:
      return `${ended(said)}${reason}`;
  }
}

function ended(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** What grpc-js says of a connection that does not come about, in few words. */
function networkReason(said: string): string {
  if (said.includes("ECONNREFUSED")) return "connection refused";
  if (/name resolution failed|ENOTFOUND|EAI_AGAIN/i.test(said)) return "the name cannot be resolved";
  if (said.includes("ETIMEDOUT") || said.includes("EHOSTUNREACH")) return "no answer from that machine";
  return said;
}
