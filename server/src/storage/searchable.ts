// Can Postgres hold this payload as jsonb? Only then may a search parse it; anything else is kept and returned all the same.
// Read once, byte by byte: a pattern that looks for long numbers would look at every digit a thousand times.

import { isJson } from "../domain/proceeds.js";
import type { Payload } from "../domain/task.js";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LOWER_U = 0x75;
const LOWER_E = 0x65;
const PLUS = 0x2b;
const MINUS = 0x2d;
// jsonb takes exponents to 131,071, and turns nine bytes of them into as many digits: whoever needs more is not searched.
const MOST_EXPONENT_DIGITS = 3;
const MOST_DIGITS = 999;

/** Whether a payload that passed the door can be parsed by Postgres: no U+0000, no lone surrogates, no huge numbers. */
export function isSearchable(payload: Payload): boolean {
  if (!isJson(payload)) return false;
  const { data } = payload;
  for (let at = 0; at < data.length;) {
    const byte = data[at] as number;
    const after = byte === QUOTE ? afterString(data, at + 1) : isDigit(byte) ? afterDigits(data, at) : at + 1;
    if (after < 0) return false;
    at = after;
  }
  return true;
}

// Both answer where they ended, or -1 for what jsonb cannot hold.

function afterString(data: Uint8Array, start: number): number {
  let at = start;
  while (at < data.length && data[at] !== QUOTE) {
    if (data[at] !== BACKSLASH) at++;
    else if (data[at + 1] !== LOWER_U) at += 2;
    else {
      const length = escapeLength(unitAt(data, at), unitAt(data, at + 6));
      if (length < 0) return -1;
      at += length;
    }
  }
  return at + 1;
}

function afterDigits(data: Uint8Array, start: number): number {
  const end = skipDigits(data, start);
  if (end - start > MOST_DIGITS) return -1;
  if (((data[end] ?? 0) | 0x20) !== LOWER_E) return end;
  const sign = data[end + 1];
  const exponent = sign === PLUS || sign === MINUS ? end + 2 : end + 1;
  const last = skipDigits(data, exponent);
  return last - exponent > MOST_EXPONENT_DIGITS ? -1 : last;
}

function skipDigits(data: Uint8Array, start: number): number {
  let at = start;
  while (isDigit(data[at] ?? 0)) at++;
  return at;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

/** The UTF-16 unit that is escaped here; NaN where none is. */
function unitAt(data: Uint8Array, at: number): number {
  if (data[at] !== BACKSLASH || data[at + 1] !== LOWER_U) return Number.NaN;
  return Number.parseInt(String.fromCharCode(...data.subarray(at + 2, at + 6)), 16);
}

/** Bytes of an escaped character with the other half of a pair; -1 for U+0000 and half a pair. */
function escapeLength(unit: number, next: number): number {
  if (unit >= 0xd800 && unit <= 0xdbff) return next >= 0xdc00 && next <= 0xdfff ? 12 : -1;
  return unit === 0 || (unit >= 0xdc00 && unit <= 0xdfff) ? -1 : 6;
}
