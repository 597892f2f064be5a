// Are these bytes one JSON value? Read once, byte by byte, without building anything: no digit changes, no key touches an object, and
// neither deep nesting nor a million keys cost more than their bytes. RFC 8259, strictly; UTF-8 is checked before.

/** Deepest nesting of arrays and objects. */
export const MAX_JSON_DEPTH = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const MINUS = 0x2d;
const PLUS = 0x2b;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const LOWER_U = 0x75;
const SPACE = 0x20;

const TRUE = [0x74, 0x72, 0x75, 0x65];
const FALSE = [0x66, 0x61, 0x6c, 0x73, 0x65];
const NULL = [0x6e, 0x75, 0x6c, 0x6c];
/** The letters that may follow a backslash, by byte; `u` is read apart. */
const ESCAPED = new Uint8Array(256);
for (const letter of '"\\/bfnrt') ESCAPED[letter.charCodeAt(0)] = 1;
/** The bytes that stand for themselves inside a string. */
const PLAIN = new Uint8Array(256).fill(1, SPACE);
PLAIN[QUOTE] = 0;
PLAIN[BACKSLASH] = 0;

/** The open containers, by their closing byte. Reading is synchronous, so one is enough for all. */
const closers = new Uint8Array(MAX_JSON_DEPTH);

/** What is wrong with the bytes as JSON, as the end of a sentence, or null. */
export function jsonFault(bytes: Uint8Array): string | null {
  const end = bytes.length;
  let at = skipSpace(bytes, 0);
  let depth = 0;
  for (;;) {
    // A value begins here.
    const first = bytes[at];
    if (first === OPEN_ARRAY || first === OPEN_OBJECT) {
      if (depth === MAX_JSON_DEPTH) return `must be JSON nested at most ${MAX_JSON_DEPTH} levels deep`;
      const closer = first + 2;
      at = skipSpace(bytes, at + 1);
      if (bytes[at] === closer) at++;
      else {
        closers[depth++] = closer;
        if (closer === CLOSE_ARRAY) continue;
        const value = skipKey(bytes, at);
        if (value < 0) return malformed(~value, end);
        at = value;
        continue;
      }
    } else {
      const after = skipScalar(bytes, at);
      if (after < 0) return malformed(~after, end);
      at = after;
    }
    // A value ended here: close what closes, then go on to the next value.
    at = skipSpace(bytes, at);
    while (depth > 0 && bytes[at] === closers[depth - 1]) {
      depth--;
      at = skipSpace(bytes, at + 1);
    }
    if (depth === 0) return at === end ? null : malformed(at, end);
    if (bytes[at] !== COMMA) return malformed(at, end);
    at = skipSpace(bytes, at + 1);
    if (closers[depth - 1] === CLOSE_OBJECT) {
      const value = skipKey(bytes, at);
      if (value < 0) return malformed(~value, end);
      at = value;
    }
  }
}

// Each of these answers where it ended, or the complement of where it went wrong.

function skipKey(bytes: Uint8Array, start: number): number {
  if (bytes[start] !== QUOTE) return ~start;
  let at = skipString(bytes, start);
  if (at < 0) return at;
  at = skipSpace(bytes, at);
  return bytes[at] === COLON ? skipSpace(bytes, at + 1) : ~at;
}

function skipScalar(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  if (first === QUOTE) return skipString(bytes, at);
  if (first === MINUS || isDigit(first)) return skipNumber(bytes, at);
  if (first === TRUE[0]) return skipWord(bytes, at, TRUE);
  if (first === FALSE[0]) return skipWord(bytes, at, FALSE);
  return skipWord(bytes, at, NULL);
}

function skipString(bytes: Uint8Array, start: number): number {
  const end = bytes.length;
  let at = start + 1;
  for (;;) {
    // Nearly every byte of nearly every payload passes here; never reading beyond the end keeps the loop fast.
    while (at < end && PLAIN[bytes[at] as number] === 1) at++;
    if (at >= end) return ~at;
    const byte = bytes[at] as number;
    if (byte === QUOTE) return at + 1;
    if (byte < SPACE) return ~at;
    const escaped = bytes[at + 1] ?? 0;
    if (escaped === LOWER_U) {
      for (let digit = at + 2; digit < at + 6; digit++) if (!isHex(bytes[digit] ?? 0)) return ~digit;
      at += 6;
    } else if (ESCAPED[escaped] === 1) at += 2;
    else return ~(at + 1);
  }
}

function skipNumber(bytes: Uint8Array, start: number): number {
  let at = bytes[start] === MINUS ? start + 1 : start;
  if (bytes[at] === ZERO) at++;
  else if ((at = skipDigits(bytes, at)) < 0) return at;
  if (bytes[at] === DOT && (at = skipDigits(bytes, at + 1)) < 0) return at;
  if (((bytes[at] ?? 0) | 0x20) !== 0x65) return at;
  const sign = bytes[at + 1];
  return skipDigits(bytes, sign === PLUS || sign === MINUS ? at + 2 : at + 1);
}

function skipDigits(bytes: Uint8Array, start: number): number {
  let at = start;
  while (isDigit(bytes[at] ?? 0)) at++;
  return at === start ? ~at : at;
}

function skipWord(bytes: Uint8Array, start: number, word: readonly number[]): number {
  for (let i = 0; i < word.length; i++) if (bytes[start + i] !== word[i]) return ~(start + i);
  return start + word.length;
}

function skipSpace(bytes: Uint8Array, start: number): number {
  let at = start;
  for (;;) {
    const byte = bytes[at];
    if (byte !== SPACE && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at++;
  }
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= NINE;
}

function isHex(byte: number): boolean {
  const lower = byte | 0x20;
  return isDigit(byte) || (lower >= 0x61 && lower <= 0x66);
}

function malformed(at: number, end: number): string {
  return at >= end ? "must be well-formed JSON: it ends too early" : `must be well-formed JSON: byte ${at} is not expected`;
}
