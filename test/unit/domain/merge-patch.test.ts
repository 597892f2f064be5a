// Is a merge patch what RFC 7396 says, and does it leave every character alone that it does not change?
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mergePatch } from "@leasehold/server/domain/merge-patch";

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The algorithm of the RFC, letter by letter, for plain values. */
function plainMerge(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result = new Map(Object.entries(isObject(target) ? target : {}));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) result.delete(key);
    else result.set(key, plainMerge(result.get(key), value));
  }
  return Object.fromEntries(result);
}

describe("the examples of RFC 7396", () => {
  it.each([
    ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
    ['{"a":"b"}', '{"a":null}', "{}"],
    ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
    ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
    ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
    ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
    ['["a","b"]', '["c","d"]', '["c","d"]'],
    ['{"a":"b"}', '["c"]', '["c"]'],
    ['{"a":"foo"}', "null", "null"],
    ['{"a":"foo"}', '"bar"', '"bar"'],
    ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
    ["[1,2]", '{"a":"b","c":null}', '{"a":"b"}'],
    ["{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
    [
      '{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"This will be unchanged"}',
      '{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}',
      '{"title":"Hello!","author":{"givenName":"John"},"tags":["example"],"content":"This will be unchanged","phoneNumber":"+01-123-456-7890"}',
    ],
  ])("%s patched by %s is %s", (target, patch, result) => {
    expect(mergePatch(target, patch)).toBe(result);
  });
});

describe("a patch", () => {
  it.each([
    [
      "keeps each digit of numbers",
      '{"n":9007199254740993,"f":1.10,"e":1E400,"z":-0}',
      '{"a":1}',
      '{"n":9007199254740993,"f":1.10,"e":1E400,"z":-0,"a":1}',
    ],
    [
      "brings each digit of its own numbers",
      "{}",
      '{"n":123456789012345678901234567890.0e-1}',
      '{"n":123456789012345678901234567890.0e-1}',
    ],
    [
      "treats __proto__ as a key like any other",
      '{"__proto__":{"a":1}}',
      '{"__proto__":{"b":2},"constructor":1}',
      '{"__proto__":{"a":1,"b":2},"constructor":1}',
    ],
    ["removes __proto__ when told to", '{"__proto__":1,"a":2}', '{"__proto__":null}', '{"a":2}'],
    ["lets the last of equal keys count", '{"a":1,"a":2,"b":3}', "{}", '{"a":2,"b":3}'],
    ["removes all of equal keys", '{"a":1,"a":2,"b":3}', '{"a":null}', '{"b":3}'],
    ["lets the last of its own equal keys count", '{"a":1}', '{"a":2,"a":3}', '{"a":3}'],
    ["knows a key in any spelling, and keeps the document's", '{"\\u0061":1}', '{"a":2}', '{"\\u0061":2}'],
    ["removes a key in any spelling", '{"a\\/b":1,"é":2}', '{"a/b":null,"\\u00e9":null}', "{}"],
    ["tells keys apart that only look alike", '{"é":1}', '{"e\u0301":2}', '{"é":1,"e\u0301":2}'],
    [
      "keeps the spelling of strings that stay",
      '{"s":"\\u00fc\\n\\ud83d\\ude00"}',
      '{"t":"\\/"}',
      '{"s":"\\u00fc\\n\\ud83d\\ude00","t":"\\/"}',
    ],
    ["keeps lone surrogates", '{"s":"\\ud800","\\udfff":1}', '{"a":1}', '{"s":"\\ud800","\\udfff":1,"a":1}'],
    ["reads through any white space", ' \n{\t"a" :\r1 , "b":{ } }\n', ' { "c" : [ 1 , 2 ] } ', '{"a":1,"b":{},"c":[ 1 , 2 ]}'],
    ["keeps white space within arrays that stay", '{"a":[ 1,\n {"b" : "]}"} ]}', '{"c":true}', '{"a":[ 1,\n {"b" : "]}"} ],"c":true}'],
    ["is not misled by brackets and quotes in strings", '{"a":"}\\"],{","b":["\\\\"]}', '{"b":null}', '{"a":"}\\"],{"}'],
    ["keeps nulls within arrays", "{}", '{"a":[null,{"b":null}]}', '{"a":[null,{"b":null}]}'],
    ["turns what is no object into one", '{"a":5}', '{"a":{"b":{"c":1,"d":null}}}', '{"a":{"b":{"c":1}}}'],
    ["knows the empty key", '{"":1}', '{"":{"":2}}', '{"":{"":2}}'],
  ])("%s", (_, target, patch, result) => {
    expect(mergePatch(target, patch)).toBe(result);
  });

  it("applies to no document as to an empty one", () => {
    expect(mergePatch(null, '{"a":1,"b":null}')).toBe('{"a":1}');
    expect(mergePatch(null, "null")).toBe("null");
  });

  it("follows documents as deep as they may be", () => {
    const deep = (depth: number, inner: string): string => '{"a":'.repeat(depth) + inner + "}".repeat(depth);
    expect(mergePatch(deep(64, '{"x":1}'), deep(64, '{"y":2}'))).toBe(deep(64, '{"x":1,"y":2}'));
    const array = "[".repeat(64) + "]".repeat(64);
    expect(mergePatch(`{"a":${array}}`, "{}")).toBe(`{"a":${array}}`);
  });

  it("goes through a megabyte in no time", () => {
    const members = Array.from({ length: 20_000 }, (_, at) => `"key${String(at)}":{"value":"${"x".repeat(30)}","n":${String(at)}}`);
    const result = mergePatch(`{${members.join(",")}}`, '{"key7":null,"key8":{"n":null}}');
    expect(Object.keys(JSON.parse(result) as object)).toHaveLength(19_999);
    expect(result).toContain(`"key8":{"value":"${"x".repeat(30)}"}`);
  });
});

describe("any patch", () => {
  const key = fc.oneof(fc.constantFrom("a", "b", "", '"', "\\", "__proto__"), fc.string({ maxLength: 3 }));
  const leaf: fc.Arbitrary<Json> = fc.oneof(fc.constant(null), fc.integer(), fc.string({ unit: "binary", maxLength: 5 }), fc.boolean());
  const { document } = fc.letrec<{ document: Json }>((tie) => ({
    document: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie("document"), { maxLength: 3 }),
      fc.array(fc.tuple(key, tie("document")), { maxLength: 4 }).map((entries) => Object.fromEntries(entries)),
    ),
  }));
  const indent = fc.constantFrom(undefined, " ", "\t", "   ");

  it("has the result of the plain algorithm", () => {
    fc.assert(
      fc.property(document, document, indent, (target, patch, space) => {
        const result = mergePatch(JSON.stringify(target, null, space), JSON.stringify(patch, null, space));
        expect(JSON.parse(result)).toEqual(plainMerge(target, patch));
      }),
      { numRuns: 1000 },
    );
  });

  it("is idempotent", () => {
    fc.assert(
      fc.property(document, document, (target, patch) => {
        const text = JSON.stringify(patch);
        const once = mergePatch(JSON.stringify(target), text);
        expect(mergePatch(once, text)).toBe(once);
      }),
    );
  });
});
