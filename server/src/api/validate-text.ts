// Which text may a request carry? Names, keys, labels and ids are refused when they are odd; free text is cleaned and never refused.

import type { Violation } from "../domain/event.js";

/** Queue of a submission that names none. */
export const DEFAULT_QUEUE = "default";
/** What is wrong with a field that must be there. */
export const REQUIRED = "is required";
/** Most bytes of a key. */
export const MAX_KEY_BYTES = 256;
/** Most labels. */
export const MAX_LABELS = 16;
/** Most bytes of a label's key and of its value. */
export const MAX_LABEL_BYTES = 128;

const NAME = /^[A-Za-z0-9][A-Za-z0-9._\-:/]{0,127}$/;
const NAME_RULE = "must be 1 to 128 of the characters A-Z a-z 0-9 . _ - : / and begin with a letter or digit";
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
// U+FFFD is what a decoder makes of broken UTF-8: two different keys would become one.
const ODD = /[\0\uFFFD]|\p{Surrogate}/u;
const TO_CLEAN = /\0|\p{Surrogate}/u;
const ODD_RULE = "must not contain U+0000, U+FFFD or lone surrogates";
const CUT_MARK = "…";
const CUT_MARK_BYTES = 3;
const MAX_SHOWN_KEY = 64;

/** Checks a task name or queue. */
export function checkName(name: string, field: string, violations: Violation[]): void {
  if (!NAME.test(name)) violations.push({ field, description: NAME_RULE });
}

/** Checks text that identifies something: bounded, and the same text to everybody. */
export function checkText(text: string, field: string, minBytes: number, maxBytes: number, violations: Violation[]): void {
  const length = byteLength(text, maxBytes);
  if (length < minBytes || length > maxBytes) {
    violations.push({
      field,
      description: minBytes === 0 ? `must be at most ${maxBytes} bytes` : `must be ${minBytes} to ${maxBytes} bytes`,
    });
  } else if (ODD.test(text)) violations.push({ field, description: ODD_RULE });
}

/** Whether a text is a UUID, in either case. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** Checks a UUID and answers it in lower case. */
export function parseUuid(id: string, field: string, violations: Violation[]): string {
  if (!UUID.test(id)) violations.push({ field, description: "must be a UUID such as 0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e" });
  return id.toLowerCase();
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

/** Checks labels and answers them as a map: a key is never a property. */
export function parseLabels(labels: Readonly<Record<string, string>>, field: string, violations: Violation[]): ReadonlyMap<string, string> {
  const entries = Object.entries(labels);
  if (entries.length === 0) return NO_LABELS;
  if (entries.length > MAX_LABELS) violations.push({ field, description: `must be at most ${MAX_LABELS}` });
  for (const [key, value] of entries.slice(0, MAX_LABELS)) {
    const path = `${field}[${showKey(key)}]`;
    if (key === REFUSED_LABEL_KEY)
      violations.push({ field: `${field}["__proto__"]`, description: "must not be named __proto__: many languages lose it" });
    else if (byteLength(key, MAX_LABEL_BYTES) > MAX_LABEL_BYTES || key === "")
      violations.push({ field: path, description: `must have a key of 1 to ${MAX_LABEL_BYTES} bytes` });
    else if (ODD.test(key)) violations.push({ field: path, description: ODD_RULE });
    checkText(value, path, 0, MAX_LABEL_BYTES, violations);
  }
  return new Map(entries);
}

/** What a label key `__proto__` becomes while it is decoded (label-keys.ts): assigned as a property it would be lost in silence. */
export const REFUSED_LABEL_KEY = "__proto__\0";

/** A key as it stands in a field path: quoted, escaped, short. */
export function showKey(key: string): string {
  return JSON.stringify(key.length > MAX_SHOWN_KEY ? `${key.slice(0, MAX_SHOWN_KEY)}${CUT_MARK}` : key);
}

/** Cleans free text: U+0000 and lone surrogates become U+FFFD; what is longer than `maxBytes` is cut at a character and marked. */
export function cleanText(text: string, maxBytes: number): string {
  // Each UTF-16 unit is at least one byte, so what is beyond the limit in units never fits, and need not be cleaned: it may be megabytes.
  const head = text.slice(0, maxBytes);
  const clean = TO_CLEAN.test(head) ? head.replace(/\0|\p{Surrogate}/gu, "\uFFFD") : head;
  if (head.length === text.length && (clean.length <= maxBytes / 3 || Buffer.byteLength(clean) <= maxBytes)) return clean;
  const bytes = Buffer.from(clean);
  let end = maxBytes - CUT_MARK_BYTES;
  // Bytes 10xxxxxx continue a character: cut before its first byte.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.toString("utf8", 0, end) + CUT_MARK;
}

/** Bytes of a text; a text that is longer in characters than the limit is not measured. */
function byteLength(text: string, maxBytes: number): number {
  return text.length > maxBytes ? text.length : Buffer.byteLength(text);
}
