// How does whatever was thrown become a TaskError that fits?
//
// A server takes so many bytes of an error in all. Texts are cut here at a character, so that a 10 MB message neither travels nor fails a report.
import type { Payload, TaskError } from "@leasehold/proto/leasehold/v1/task";
import { describeThrown } from "./errors.js";

/** Share of an error that its message, and its stack, may take: half of it is left for its data. */
const TEXT_SHARE = 1 / 8;
/** Share of an error that a message or stack of a cause may take. */
const CAUSE_TEXT_SHARE = 1 / 64;
const DEEPEST_CAUSE = 8;

/** A TaskError of something thrown, with its chain of causes. `errorBytes` is what the server takes of an error. Never throws. */
export function taskErrorFrom(code: string, thrown: unknown, errorBytes: number): TaskError {
  return errorFrom(code, thrown, errorBytes, 0);
}

/** A TaskError of known parts. */
export function taskError(code: string, message: string, errorBytes: number, details?: Payload): TaskError {
  return { code, message: cutText(message, errorBytes * TEXT_SHARE), details, stack: "", cause: undefined };
}

function errorFrom(code: string, thrown: unknown, errorBytes: number, depth: number): TaskError {
  const { message, stack, cause } = describeThrown(thrown);
  const mostBytes = errorBytes * (depth === 0 ? TEXT_SHARE : CAUSE_TEXT_SHARE);
  return {
    code,
    message: cutText(message, mostBytes),
    details: undefined,
    stack: cutText(stack, mostBytes),
    // A chain that refers back to itself ends at the depth limit.
    cause: cause === undefined || cause === null || depth >= DEEPEST_CAUSE ? undefined : errorFrom("", cause, errorBytes, depth + 1),
  };
}

/** The text, or its beginning with a mark, in at most `mostBytes` of UTF-8. */
export function cutText(text: string, mostBytes: number): string {
  // A character is at most three bytes for each UTF-16 unit: what is longer need not be encoded whole.
  const bytes = Buffer.from(text.slice(0, mostBytes + 1), "utf8");
  if (bytes.length <= mostBytes) return text;
  let end = mostBytes - 3;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return `${bytes.toString("utf8", 0, end)}…`;
}
