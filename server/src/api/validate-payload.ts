// Which payloads may be stored? Bounded ones; JSON only if it is JSON. Everything else is opaque and kept as it is.

import { isUtf8 } from "node:buffer";
import type { Payload as PayloadMessage } from "@leasehold/proto/leasehold/v1/task";
import type { Violation } from "../domain/event.js";
import { isJson } from "../domain/proceeds.js";
import type { Payload } from "../domain/task.js";
import { jsonFault } from "./json-text.js";
import { checkText } from "./validate-text.js";

const MAX_CONTENT_TYPE_BYTES = 128;

/** The JSON value null, for what was left out. */
export const NULL_PAYLOAD: Payload = { data: Buffer.from("null"), contentType: "" };

/** The payload; null where it is absent or invalid. */
export function parsePayload(
  payload: PayloadMessage | undefined,
  field: string,
  maxBytes: number,
  violations: Violation[],
): Payload | null {
  if (payload === undefined) return null;
  const { data, contentType } = payload;
  const before = violations.length;
  if (contentType !== "") checkText(contentType, `${field}.content_type`, 0, MAX_CONTENT_TYPE_BYTES, violations);
  if (data.length > maxBytes)
    violations.push({ field: `${field}.data`, description: `must be at most ${maxBytes} bytes, not ${data.length}` });
  else if (contentType === "" || isJson(payload)) {
    const fault = isUtf8(data) ? jsonFault(data) : "must be JSON in UTF-8";
    if (fault !== null) violations.push({ field: `${field}.data`, description: fault });
  }
  return violations.length === before ? payload : null;
}
