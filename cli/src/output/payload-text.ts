// How is a payload shown? JSON as the text that came; anything else by its kind and size, because bytes are no text.
import type { Payload } from "@leasehold/proto/leasehold/v1/task";
import { RawJson, type Writable } from "./json.js";
import { printableLines } from "./printable.js";

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of a JSON payload; undefined for any other. */
export function jsonOf(payload: Payload): string | undefined {
  if (payload.contentType !== "" && payload.contentType !== "application/json") return undefined;
  try {
    const text = strictUtf8.decode(payload.data);
    // The server has checked it; an answer from something else must not make our own output invalid.
    JSON.parse(text);
    return text;
  } catch {
    return undefined;
  }
}

/** The payload for a person, on as many lines as it came. */
export function payloadText(payload: Payload): string {
  const json = jsonOf(payload);
  return json === undefined
    ? `(${payload.data.length} bytes of ${payload.contentType || "something that is not JSON"})`
    : printableLines(json).join("\n");
}

/** The payload for `-o json`: JSON as it came, else its content type and its bytes in base64. */
export function payloadValue(payload: Payload | undefined): Writable | undefined {
  if (payload === undefined) return undefined;
  const json = jsonOf(payload);
  return json === undefined ? { contentType: payload.contentType, base64: payload.data.toString("base64") } : new RawJson(json);
}
