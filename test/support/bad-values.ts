// What may a client send that no field should take? Bad values by the kind of field, put into a request that is good otherwise.
import { Buffer } from "node:buffer";

/** What a field holds, and so which values are bad for it. */
export type FieldKind =
  | "name"
  | "optional name"
  | "key"
  | "optional key"
  | "optional 128"
  | "required 128"
  | "uuid"
  | "optional uuid"
  | "labels"
  | "payload"
  | "time"
  | "duration"
  | "deadline"
  | "enum"
  | "enums"
  | "names"
  | "uuids"
  | "small count"
  | "page size"
  | "page token"
  | "factor"
  | "share"
  | "json"
  | "free text";

/** Bytes that are no UTF-8 stand in for this text when the request is on the wire. */
export const NO_UTF8 = "@@not-utf8@@";

const LONG = "x".repeat(70_000);
const UUID = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";
/** Texts that are no identity: two of them could be taken for one. */
const ODD = ["a\0b", "a\uFFFDb", "a\uD800b", "\uDC00", NO_UTF8];
const BAD_NAMES = ["envoyé", "a b", "x".repeat(129), "a\n", ".a", "\u0430", ...ODD, LONG];
const ENDS = { maxInt64: 9_223_372_036_854_775_807n, minInt64: -9_223_372_036_854_775_808n };
const BAD_TIMES = [
  { seconds: 0n, nanos: -1 },
  { seconds: 0n, nanos: 1_000_000_000 },
  { seconds: 253_402_300_800n, nanos: 0 },
  { seconds: -62_135_596_801n, nanos: 0 },
  { seconds: ENDS.maxInt64, nanos: 2_147_483_647 },
  { seconds: ENDS.minInt64, nanos: -2_147_483_648 },
];
const BAD_DURATIONS = [
  { seconds: -1n, nanos: 0 },
  { seconds: 0n, nanos: -1_000 },
  { seconds: 1n, nanos: -1 },
  { seconds: -1n, nanos: 1 },
  { seconds: 0n, nanos: 1_000_000_000 },
  { seconds: 315_576_000_001n, nanos: 0 },
  { seconds: 315_360_000_000n, nanos: 0 },
  { seconds: ENDS.maxInt64, nanos: 0 },
  { seconds: ENDS.minInt64, nanos: 0 },
];
const json = (text: string | Uint8Array, contentType = ""): object => ({ data: Buffer.from(text as string), contentType });
const BAD_PAYLOADS = [
  json(""),
  json("{"),
  json("{'a':1}"),
  json("NaN"),
  json("1 2"),
  json(Buffer.from([0x22, 0xff, 0x22])),
  json("[".repeat(65) + "]".repeat(65)),
  json("[".repeat(400_000)),
  json(`"${"x".repeat(1_048_576)}"`),
  json(Buffer.alloc(1_048_577), "application/octet-stream"),
  json("{", "application/problem+json; charset=utf-8"),
  json("1", "x".repeat(129)),
  ...ODD.map((text) => json("1", text)),
];

/** Values that a field of this kind must not take. */
export function badValues(kind: FieldKind): readonly unknown[] {
  switch (kind) {
    case "name":
      return ["", ...BAD_NAMES];
    case "optional name":
      return BAD_NAMES;
    case "key":
      return ["", "x".repeat(257), LONG, ...ODD];
    case "optional key":
      return ["x".repeat(257), LONG, ...ODD];
    case "optional 128":
      return ["x".repeat(129), LONG, ...ODD];
    case "required 128":
      return ["", "x".repeat(129), LONG, ...ODD];
    case "uuid":
      return ["", "x", `${UUID}0`, UUID.replaceAll("-", ""), `${UUID}\n`, LONG, ...ODD];
    case "optional uuid":
      return ["x", `${UUID}0`, UUID.replaceAll("-", ""), `${UUID}\n`, LONG, ...ODD];
    case "labels":
      return [
        Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, "v"])),
        { "": "v" },
        { ["x".repeat(129)]: "v" },
        { k: "x".repeat(129) },
        ...ODD.flatMap((text) => [{ [text]: "v" }, { k: text }]),
      ];
    case "payload":
      return BAD_PAYLOADS;
    case "time":
      return BAD_TIMES;
    case "duration":
      return BAD_DURATIONS;
    case "deadline":
      return [...BAD_DURATIONS, { seconds: 0n, nanos: 0 }];
    case "enum":
      return [99, -1, 2_147_483_647];
    case "enums":
      return [[99], [-1], [1, 0]];
    case "names":
      return [[""], ["a b"], ["a", "x".repeat(129)], Array<string>(101).fill("a"), [NO_UTF8]];
    case "uuids":
      return [["x"], [UUID, ""], Array<string>(1001).fill(UUID), [NO_UTF8]];
    case "small count":
      return [-1, -2_147_483_648, 2_147_483_647];
    case "page size":
      return [-1, 1001, 2_147_483_647];
    case "page token":
      return ["x", "AAAA", LONG, Buffer.alloc(41, 1).toString("base64url"), ...ODD];
    case "factor":
      return [NaN, Infinity, -Infinity, 0.5, -1, 1e300];
    case "share":
      return [NaN, Infinity, -Infinity, 1.5, -0.1];
    case "json":
      return ["{", "1 2", LONG, NO_UTF8, '"\\u0000"', "1e400000", "[".repeat(100)];
    case "free text":
      return [];
  }
}

/** Free text that is odd: cleaned and taken, never refused. */
export const ODD_TEXTS = [...ODD, LONG];

/** A copy of a request with a value at a path such as `task.retry_policy.delays[0]`; what is missing on the way is made. */
export function withValue(request: object, path: string, value: unknown): Record<string, unknown> {
  const steps = path
    .replaceAll(/\[(\d+)\]/g, ".$1")
    .split(".")
    .map(camel);
  const copy = copyOf(request) as Record<string, unknown>;
  let at = copy;
  steps.forEach((step, index) => {
    if (index === steps.length - 1) at[step] = value;
    else at = (at[step] ??= /^\d+$/.test(steps[index + 1] ?? "") ? [] : {}) as Record<string, unknown>;
  });
  return copy;
}

/** The bytes of a request with every stand-in replaced by bytes that are no UTF-8. */
export function spoil(bytes: Uint8Array): Buffer {
  const spoiled = Buffer.from(bytes);
  for (let at = spoiled.indexOf(NO_UTF8); at >= 0; at = spoiled.indexOf(NO_UTF8, at)) spoiled.fill(0xff, at, at + NO_UTF8.length);
  return spoiled;
}

/** A value as the name of a test case shows it. */
export function showValue(value: unknown): string {
  const text = JSON.stringify(value, (_, part: unknown) =>
    typeof part === "bigint" || (typeof part === "number" && !Number.isFinite(part)) ? String(part) : part,
  );
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function camel(step: string): string {
  return step.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (value === null || typeof value !== "object" || Buffer.isBuffer(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, copyOf(member)]));
}
