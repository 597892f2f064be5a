// How is a worker's error kept? As a whole where it fits; cut where it is too long, never refused: a failure must not be lost for its text.

import type { TaskError as TaskErrorMessage } from "@leasehold/proto/leasehold/v1/task";
import type { Violation } from "../domain/event.js";
import type { Payload, TaskError } from "../domain/task.js";
import { parsePayload } from "./validate-payload.js";
import { MAX_ERROR_CODE_BYTES } from "./validate-retry.js";
import { cleanText } from "./validate-text.js";

const MAX_TEXT_BYTES = 16 * 1024;
const MAX_CAUSES = 8;
/** What stays for every level: a code and a short message, so that the outermost error is never pushed out by its cause. */
const LEVEL_BYTES = 256;

/** The error, within `maxBytes` in all. Details that are invalid are left out and named in `leftOut`. */
export function parseError(error: TaskErrorMessage | undefined, field: string, maxBytes: number, leftOut: Violation[]): TaskError {
  return parseLevel(error, field, { left: maxBytes }, 0, leftOut);
}

function parseLevel(
  error: TaskErrorMessage | undefined,
  field: string,
  budget: { left: number },
  depth: number,
  leftOut: Violation[],
): TaskError {
  if (error === undefined) return { code: "", message: "" };
  const take = (text: string, maxBytes: number): string => {
    const cut = cleanText(text, Math.max(Math.min(maxBytes, budget.left - LEVEL_BYTES), 3));
    budget.left -= Buffer.byteLength(cut);
    return cut;
  };
  const code = take(error.code, MAX_ERROR_CODE_BYTES);
  const message = take(error.message, MAX_TEXT_BYTES);
  const details = parseDetails(error, field, budget, leftOut);
  const stack = error.stack === "" ? {} : { stack: take(error.stack, MAX_TEXT_BYTES) };
  // Eight levels in all; a deeper cause is dropped, and so is one for which nothing is left.
  const deeper = error.cause !== undefined && depth + 1 < MAX_CAUSES && budget.left > LEVEL_BYTES * 2;
  const cause = deeper ? { cause: parseLevel(error.cause, `${field}.cause`, budget, depth + 1, leftOut) } : {};
  return { code, message, ...(details === null ? {} : { details }), ...stack, ...cause };
}

function parseDetails(error: TaskErrorMessage, field: string, budget: { left: number }, leftOut: Violation[]): Payload | null {
  const details = parsePayload(error.details, `${field}.details`, Math.max(budget.left - LEVEL_BYTES, 0), leftOut);
  budget.left -= details?.data.byteLength ?? 0;
  return details;
}
