// Can Postgres hold this payload as jsonb? Only then may a search parse it; anything else is kept and returned all the same.

import { isJson } from "../domain/proceeds.js";
import type { Payload } from "../domain/task.js";

const STRINGS = /"(?:[^"\\]|\\.)*"/g;
// jsonb takes exponents to 131,071, and turns nine bytes of them into as many digits: whoever needs more is not searched.
const HUGE_NUMBER = /[0-9][eE][+-]?[0-9]{4,}|[0-9]{1000,}/;
const SURROGATE_PAIR = /\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}/g;

/** Whether a payload that passed the door can be parsed by Postgres: no U+0000, no lone surrogates, no huge numbers. */
export function isSearchable(payload: Payload): boolean {
  if (!isJson(payload)) return false;
  // Only ASCII matters here, so the cheapest decoding does.
  const text = Buffer.from(payload.data.buffer, payload.data.byteOffset, payload.data.byteLength).toString("latin1");
  if (text.includes("\\u") && hasUnholdableEscape(text)) return false;
  return !HUGE_NUMBER.test(text) || !HUGE_NUMBER.test(text.replace(STRINGS, '""'));
}

function hasUnholdableEscape(text: string): boolean {
  // An escaped backslash before a `u` is no escape of a character.
  const escapes = text.replaceAll("\\\\", "");
  return escapes.includes("\\u0000") || /\\u[dD][89a-fA-F]/.test(escapes.replace(SURROGATE_PAIR, ""));
}
