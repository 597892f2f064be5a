// Which JSON do others stumble over? Texts that must come back as the bytes that they are, and texts that are none.
import { Buffer } from "node:buffer";

/** One payload of the corpus. */
export interface OddPayload {
  readonly name: string;
  readonly data: Buffer;
  /** Empty for JSON. */
  readonly contentType?: string;
  /** A part of it that a search finds it by; absent where Postgres cannot hold it, or a search could not say it. */
  readonly foundBy?: string;
}

const MIB = 1_048_576;

function json(name: string, text: string, foundBy?: string): OddPayload {
  return { name, data: Buffer.from(text), ...(foundBy === undefined ? {} : { foundBy }) };
}

/** A number alone and as a member, which is how it is searched. */
function numbers(...texts: readonly string[]): OddPayload[] {
  return texts.flatMap((text) => [
    json(text.slice(0, 24), text),
    json(`${text.slice(0, 24)} as a member`, `{"n": ${text}}`, `{"n":${text}}`),
  ]);
}

function nested(levels: number): string {
  return `${"[".repeat(levels)}${"]".repeat(levels)}`;
}

/** Taken, and given back as they came. */
export const TAKEN: readonly OddPayload[] = [
  ...numbers("9007199254740991", "9007199254740993", "9223372036854775807", "-9223372036854775808", "18446744073709551615"),
  ...numbers("12345678901234567890", "1234567890123456789012345678901234567890", "1.0", "1e2", "-0", "-0.0", "1E+2"),
  ...numbers(`0.${"123456789".repeat(4)}`, "1E400", "-1e-400", "5e-324", "1.7976931348623157e308"),
  json("an exponent beyond jsonb", "1e131073"),
  json("9 kB of huge exponents", `[${Array<string>(1000).fill("1e131000").join()}]`),
  json("an exponent of twenty digits", "1e99999999999999999999"),
  json("999 digits, many times", `[${Array<string>(500).fill("9".repeat(999)).join()}]`),
  json("a number of 900,000 digits", "7".repeat(900_000)),
  json("a fraction of 20,000 digits", `0.${"3".repeat(20_000)}`),
  json("a string of digits and exponents", `"${"1e9999 ".repeat(100_000)}"`),
  json("duplicate keys", '{"a":1,"a":{"b":2},"a":3}', '{"a":3}'),
  json("__proto__", '{"__proto__":{"polluted":true},"a":1}', '{"__proto__":{"polluted":true}}'),
  json("constructor", '{"constructor":{"prototype":{"polluted":true}}}', '{"constructor":{"prototype":{"polluted":true}}}'),
  json("toString and hasOwnProperty", '{"toString":1,"hasOwnProperty":null,"valueOf":[]}', '{"toString":1}'),
  json("an empty key", '{"":{"":[]}}', '{"":{"":[]}}'),
  json("keys that differ by normalization", '{"\u00e9":1,"e\u0301":2}', '{"\u00e9":1}'),
  json("a lone high surrogate, escaped", '{"a":"\\ud800"}'),
  json("a lone low surrogate, escaped", '{"\\udc00":1}'),
  json("surrogates the wrong way round", '"\\udc00\\ud800"'),
  json("a pair, escaped", '{"a":"\\ud83d\\ude00"}', '{"a":"\u{1f600}"}'),
  json("U+0000, escaped", '{"a":"\\u0000"}'),
  json("U+0000, escaped, as a key", '{"\\u0000":1}'),
  json("an escaped backslash before u0000", '{"a":"\\\\u0000"}', '{"a":"\\\\u0000"}'),
  json("raw U+2028 and U+2029", '{"a":"\u2028\u2029"}', '{"a":"\u2028\u2029"}'),
  json("U+FFFD and U+FFFF", '{"a":"\ufffd\uffff"}', '{"a":"\ufffd\uffff"}'),
  json("DEL and C1 controls", '{"a":"\u007f\u0085"}', '{"a":"\u007f\u0085"}'),
  json("every escape", '{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t"}', '{"a":"\\"\\\\/\\b\\f\\n\\r\\t"}'),
  json("60 levels", nested(60)),
  json("64 levels", nested(64)),
  json("64 levels of objects", `${'{"a":'.repeat(63)}{}${"}".repeat(63)}`, '{"a":{"a":{"a":{}}}}'),
  json("100,000 keys", `{${Array.from({ length: 100_000 }, (_, n) => `"${n.toString(36)}":0`).join()}}`, '{"255r":0}'),
  json("300,000 empty arrays", `[${Array<string>(300_000).fill("[]").join()}]`),
  json("half a million zeros", `[${Array<string>(500_000).fill("0").join()}]`),
  json("a key of 500,000 bytes", `{"${"k".repeat(500_000)}":1}`),
  json("a string of one mebibyte", `"${"\u00e9".repeat(MIB / 2 - 1)}"`),
  json("half a mebibyte of escapes", `"${"\\u0041".repeat(87_000)}"`),
  json("half a mebibyte of backslashes", `"${"\\\\".repeat(260_000)}"`),
  json("one byte and 1 MiB - 1 of spaces", ` ${" ".repeat(MIB - 2)}1`),
  json("every white space", ' \t\r\n{ "a" : [ 1 , 2 ] } \n', '{"a":[1]}'),
  json("null", "null"),
  { ...json("JSON of another name", '{"a":"problem"}', '{"a":"problem"}'), contentType: "application/problem+json; charset=utf-8" },
  { name: "no bytes at all", data: Buffer.alloc(0), contentType: "application/octet-stream" },
  { name: "every byte", data: Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)), contentType: "application/x-protobuf" },
  { name: "what looks like JSON", data: Buffer.from("{"), contentType: "text/plain" },
  { name: "one mebibyte of zeros", data: Buffer.alloc(MIB), contentType: "application/octet-stream" },
  { name: "a content type of another alphabet", data: Buffer.from("x"), contentType: "Ünïcode/\u{1f600}" },
];

/** Refused, each for one fault. */
export const REFUSED: readonly OddPayload[] = [
  json("no bytes", ""),
  json("spaces alone", " ".repeat(MIB - 1)),
  json("a byte order mark", "\ufeff{}"),
  { name: "UTF-16", data: Buffer.from('\ufeff{"a":1}', "utf16le") },
  { name: "a broken byte", data: Buffer.from([0x22, 0xff, 0x22]) },
  { name: "an overlong slash", data: Buffer.from([0x22, 0xc0, 0xaf, 0x22]) },
  { name: "a surrogate in UTF-8", data: Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]) },
  { name: "a character cut in two", data: Buffer.from([0x22, 0xe2, 0x82]) },
  json("a trailing comma", '{"a":1,}'),
  json("a trailing comma in an array", "[1,]"),
  json("NaN", "NaN"),
  json("-Infinity", "[-Infinity]"),
  json("undefined", "undefined"),
  json("a comment", '{"a":1/**/}'),
  json("single quotes", "{'a':1}"),
  json("a bare key", "{a:1}"),
  json("a leading zero", "01"),
  json("a leading plus", "+1"),
  json("a bare fraction", ".5"),
  json("an unfinished fraction", "1."),
  json("an unfinished exponent", "1e"),
  json("a hexadecimal number", "0x10"),
  json("an unknown escape", '"\\x41"'),
  json("half an escape", '"\\u12"'),
  json("a raw line break in a string", '"a\nb"'),
  json("a raw U+0000 in a string", '"a\0b"'),
  json("a raw U+0000 behind it", "1\0"),
  json("two values", "1 2"),
  json("an unfinished string", `"${"x".repeat(1000)}`),
  json("closed too often", "[]]"),
  json("closed by the other", "[}"),
  json("no value", '{"a":}'),
  json("no colon", '{"a" 1}'),
  json("no-break space", "\u00a01"),
  json("65 levels", nested(65)),
  json("10,000 levels", nested(10_000)),
  json("half a million open levels", "[".repeat(MIB / 2)),
  json("too long by one byte", `"${"x".repeat(MIB - 1)}"`),
  { name: "opaque and too long", data: Buffer.alloc(MIB + 1), contentType: "application/octet-stream" },
];
