// When do two JSON texts mean the same, and when are they only alike?
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sameJson } from "@leasehold/server/domain/same-json";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const same = (one: string, other: string): boolean => sameJson(bytes(one), bytes(other));

describe("the same value", () => {
  it.each([
    ["null", " \n\tnull\r "],
    ['{"a":1,"b":2}', '{ "b" : 2,\n"a":1 }'],
    ['{"a":{"x":[1,2],"y":{}}}', '{"a":{"y":{ },"x":[ 1 , 2 ]}}'],
    ['"\\u0041\\n\\/"', '"A\\u000a/"'],
    ['{"\\u0061":1}', '{"a":1}'],
    ['{"a":1,"a":2}', '{"a":2}'],
    ['{"__proto__":{"x":1},"constructor":2}', '{"constructor":2,"__proto__":{"x":1}}'],
    ["[]", "[ ]"],
    ['"\\ud83d\\ude00"', '"😀"'],
    ["9007199254740993", " 9007199254740993"],
    ["[true,false,null]", "[ true ,false, null]"],
  ])("is seen in %s and %s", (one, other) => {
    expect(same(one, other)).toBe(true);
    expect(same(other, one)).toBe(true);
  });
});

describe("another value", () => {
  it.each([
    ["1", "1.0"],
    ["1", "1e0"],
    ["9007199254740993", "9007199254740992"],
    ["0", "-0"],
    ["1", '"1"'],
    ["null", '"null"'],
    ["null", "{}"],
    ["[]", "{}"],
    ["[1,2]", "[2,1]"],
    ["[1]", "[1,1]"],
    ['{"a":1}', '{"a":1,"b":null}'],
    ['{"a":null}', '{"b":null}'],
    ['{"a":1,"a":2}', '{"a":1}'],
    ["{}", '{"__proto__":{}}'],
    ['{"toString":1}', "{}"],
    ['"a"', '"A"'],
    ['"\\ud800"', '"\\udc00"'],
    ["true", "false"],
    ['"\\""', '"\\\\"'],
  ])("is seen in %s and %s", (one, other) => {
    expect(same(one, other)).toBe(false);
    expect(same(other, one)).toBe(false);
  });
});

describe("any value", () => {
  it("is itself, however its members are ordered and spaced", () => {
    const shuffled = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(shuffled);
      if (value === null || typeof value !== "object") return value;
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, member]) => [key, shuffled(member)]),
      );
    };
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        expect(same(JSON.stringify(value), JSON.stringify(shuffled(value), null, 2))).toBe(true);
      }),
    );
  });

  it("is told apart from another as their canonical texts are", () => {
    const small = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        fc.constantFrom(null, true, 0, 1, "", "a"),
        fc.array(tie("value"), { maxLength: 2 }),
        fc.dictionary(fc.constantFrom("a", "b"), tie("value"), { maxKeys: 2 }),
      ),
    })).value;
    const sorted = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(sorted);
      if (value === null || typeof value !== "object") return value;
      return Object.fromEntries(
        Object.entries(value)
          .sort(([one], [other]) => (one < other ? -1 : 1))
          .map(([key, member]) => [key, sorted(member)]),
      );
    };
    fc.assert(
      fc.property(small, small, (one, other) => {
        const equal = JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
        expect(same(JSON.stringify(one), JSON.stringify(other))).toBe(equal);
      }),
    );
  });

  it("may be nested as deep as the door lets it", () => {
    const deep = (inside: string): string => "[".repeat(64) + inside + "]".repeat(64);
    expect(same(deep("1"), deep(" 1 "))).toBe(true);
    expect(same(deep("1"), deep("2"))).toBe(false);
  });
});
