// How does a value become JSON and come back without changing in silence?
//
// `JSON.stringify` turns NaN into null and a Map into {}; `JSON.parse` rounds 64-bit integers. Here such a value is refused with its
// path instead. Keys named `__proto__` are ordinary keys both ways and touch no prototype.
import { randomUUID } from "node:crypto";
import { isDate } from "./duration.js";
import { LeaseholdError, invalid } from "./errors.js";

/** What JSON can hold. A property that is undefined is left out. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/** How integers beyond 2^53 travel: `'refuse'` them (the default), or as `'bigint'`. */
export type Bigints = "refuse" | "bigint";

/** The deepest nesting of arrays and objects that the server takes. */
export const DEEPEST_JSON = 64;

/**
 * JSON text of a value.
 *
 * @throws LeaseholdError INVALID_ARGUMENT with the path of the first thing that JSON cannot hold: a function, symbol or BigInt, NaN,
 *   Infinity, an integer beyond 2^53, undefined in an array, an invalid Date, a Map, Set or any other class instance, a circle, more
 *   than 64 levels, or a getter that throws.
 */
export function toJsonText(value: unknown, path: string, bigints: Bigints = "refuse"): string {
  return write(value, path, bigints, []);
}

/**
 * JSON text that is equal for values that mean the same: members are sorted by name. `undefined` gives the empty text.
 *
 * @throws LeaseholdError as `toJsonText`.
 */
export function canonicalJsonText(value: unknown): string {
  return value === undefined ? "" : toJsonText(sorted(value), "", "bigint");
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null || isDate(value)) return value;
  const members = Object.entries(value).map(([key, member]): [string, unknown] => [key, sorted(member)]);
  return Object.fromEntries(members.toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

function write(value: unknown, path: string, bigints: Bigints, parents: readonly object[]): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "boolean":
      return value ? "true" : "false";
    case "number":
      return writeNumber(value, path);
    case "bigint":
      if (bigints === "bigint") return value.toString();
      throw refuse(path, "is a BigInt, which JSON readers round; send it as a string, or set bigints: 'bigint' on the client");
    case "undefined":
      throw refuse(path, "is undefined, which JSON cannot hold");
    case "function":
    case "symbol":
      throw refuse(path, `is a ${typeof value}, which JSON cannot hold`);
    case "object":
      return value === null ? "null" : writeObject(value, path, bigints, parents);
  }
}

function writeNumber(value: number, path: string): string {
  if (!Number.isFinite(value)) throw refuse(path, `is ${String(value)}, which JSON cannot hold`);
  const text = JSON.stringify(value);
  // From 1e21 on the text has an exponent and says itself that it is a double.
  if (Number.isInteger(value) && !Number.isSafeInteger(value) && !text.includes("e")) {
    throw refuse(path, `is ${text}, an integer beyond 2^53 whose last digits are not exact; send it as a string or a BigInt`);
  }
  return text;
}

function writeObject(value: object, path: string, bigints: Bigints, parents: readonly object[]): string {
  if (parents.includes(value)) throw refuse(path, "refers back to itself");
  if (parents.length >= DEEPEST_JSON) throw refuse(path, `is nested deeper than ${String(DEEPEST_JSON)} levels`);
  const lineage = [...parents, value];
  if (Array.isArray(value)) {
    // By index: `map` would skip holes, and a hole is undefined in an array.
    const items: string[] = [];
    for (let index = 0; index < value.length; index += 1) items.push(write(value[index], `${path}[${String(index)}]`, bigints, lineage));
    return `[${items.join(",")}]`;
  }
  if (isDate(value)) {
    if (Number.isNaN(value.getTime())) throw refuse(path, "is an invalid Date");
    return JSON.stringify(value.toISOString());
  }
  requirePlain(value, path);
  const members: string[] = [];
  for (const key of Object.keys(value)) {
    const member = readMember(value, key, path);
    if (member !== undefined) members.push(`${JSON.stringify(key)}:${write(member, joinPath(path, key), bigints, lineage)}`);
  }
  return `{${members.join(",")}}`;
}

function requirePlain(value: object, path: string): void {
  const prototype: unknown = Object.getPrototypeOf(value);
  // An object literal of another realm has a prototype of its own, which again has none.
  const plain = prototype === null || Object.getPrototypeOf(prototype) === null;
  if (!plain || Object.prototype.toString.call(value) !== "[object Object]") {
    throw refuse(path, `is a ${className(value)}, which JSON would change in silence; convert it to plain values`);
  }
  if (Object.getOwnPropertySymbols(value).length > 0) throw refuse(path, "has a symbol as key, which JSON cannot hold");
}

function className(value: object): string {
  const named = Object.prototype.toString.call(value).slice(8, -1);
  if (named !== "Object") return named;
  const constructor: unknown = (value as { constructor?: unknown }).constructor;
  return typeof constructor === "function" && constructor.name !== "" ? constructor.name : "class instance";
}

function readMember(value: object, key: string, path: string): unknown {
  try {
    return (value as Record<string, unknown>)[key];
  } catch (error) {
    throw invalid([{ path: joinPath(path, key), message: "has a getter that throws" }], { cause: error });
  }
}

/** `path.key`, or `path["key"]` when the key is no identifier. */
export function joinPath(path: string, key: string): string {
  if (!/^[A-Za-z_$][\w$]*$/.test(key)) return `${path}[${JSON.stringify(key)}]`;
  return path === "" ? key : `${path}.${key}`;
}

function refuse(path: string, message: string): LeaseholdError {
  return invalid([{ path, message }]);
}

/**
 * The value of JSON text.
 *
 * @throws LeaseholdError PAYLOAD_UNREADABLE if the text is not JSON; UNSAFE_INTEGER with the path of an integer beyond 2^53 or of a
 *   number beyond the range of a double, unless `bigints` is `'bigint'`: then such integers are BigInt.
 */
export function fromJsonText(text: string, path: string, bigints: Bigints = "refuse"): unknown {
  const parse = (source: string): unknown => {
    try {
      return JSON.parse(source) as unknown;
    } catch (error) {
      throw new LeaseholdError({
        code: "PAYLOAD_UNREADABLE",
        message: `${path} is not JSON`,
        violations: [{ path, message: "is not JSON" }],
        cause: error,
      });
    }
  };
  // Only 16 digits in a row or an exponent of three digits can lose something; both are rare.
  if (!/\d{16}|[eE]\+?\d{3}/.test(text)) return parse(text);
  parse(text);
  const mark = `${randomUUID()}:`;
  return restore({ "": parse(markUnsafeNumbers(text, mark)) }, "", path, mark, bigints);
}

/** Replaces every number that a double cannot hold by a string that begins with `mark`. The text is known to be JSON. */
function markUnsafeNumbers(text: string, mark: string): string {
  let result = "";
  let copied = 0;
  let at = 0;
  while (at < text.length) {
    const character = text.charAt(at);
    if (character === '"') {
      at = endOfString(text, at);
    } else if (character === "-" || (character >= "0" && character <= "9")) {
      const end = endOfNumber(text, at);
      const number = text.slice(at, end);
      if (isUnsafe(number)) {
        result += `${text.slice(copied, at)}"${mark}${number}"`;
        copied = end;
      }
      at = end;
    } else {
      at += 1;
    }
  }
  return result + text.slice(copied);
}

function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text.charAt(at) !== '"') at += text.charAt(at) === "\\" ? 2 : 1;
  return at + 1;
}

function endOfNumber(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && /[\d.eE+-]/.test(text.charAt(at))) at += 1;
  return at;
}

function isUnsafe(number: string): boolean {
  const value = Number(number);
  if (!Number.isFinite(value)) return true;
  return /^-?\d+$/.test(number) && !Number.isSafeInteger(value);
}

/** Turns marked strings below `holder[key]` back into what they were, or refuses them with their path. */
function restore(holder: object, key: string, path: string, mark: string, bigints: Bigints): unknown {
  const value = (holder as Record<string, unknown>)[key];
  if (typeof value === "string" && value.startsWith(mark)) return unsafeNumber(value.slice(mark.length), path, bigints);
  if (typeof value !== "object" || value === null) return value;
  for (const name of Object.keys(value)) {
    const memberPath = Array.isArray(value) ? `${path}[${name}]` : joinPath(path, name);
    const restored = restore(value, name, memberPath, mark, bigints);
    // `name` is a key of its own, so this is safe for `__proto__` too: the own key is found before the prototype's setter.
    (value as Record<string, unknown>)[name] = restored;
  }
  return value;
}

function unsafeNumber(number: string, path: string, bigints: Bigints): bigint {
  if (bigints === "bigint" && /^-?\d+$/.test(number)) return BigInt(number);
  const shown = number.length > 40 ? `${number.slice(0, 40)}…` : number;
  const message = `is ${shown}, which a JavaScript number cannot hold exactly; set bigints: 'bigint' on the client or send it as a string`;
  throw new LeaseholdError({ code: "UNSAFE_INTEGER", message: `${path} ${message}`, violations: [{ path, message }] });
}
