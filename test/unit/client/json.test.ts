// Is JSON honest both ways: nothing changed in silence, every refusal with its path?
import { toJsonText, fromJsonText } from "../../../client/src/json.js";
import { createPayloads } from "../../../client/src/payload.js";
import fc from "fast-check";
import vm from "node:vm";
import { describe, expect, it } from "vitest";

function refusal(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe("writing JSON", () => {
  it("keeps every JSON value", () => {
    fc.assert(
      fc.property(fc.jsonValue({ depthSize: "medium" }), (value) => {
        const refused = refusal(() => toJsonText(value, "v"));
        // Only integers beyond 2^53 are refused of what JSON can hold.
        if (refused !== undefined) return JSON.stringify(refused).includes("beyond 2^53");
        expect(JSON.parse(toJsonText(value, "v"))).toEqual(JSON.parse(JSON.stringify(value)));
        return true;
      }),
    );
  });

  it("refuses what JSON would change in silence, with the path", () => {
    class Money {
      amount = 1;
    }
    const cases: [unknown, string][] = [
      [{ a: { b: [1, 2n] } }, "v.a.b[1]"],
      [{ "odd key": Number.NaN }, 'v["odd key"]'],
      [{ a: -Infinity }, "v.a"],
      [[undefined], "v[0]"],
      [Array(2), "v[0]"],
      [undefined, "v"],
      [{ at: new Date(Number.NaN) }, "v.at"],
      [{ m: new Map() }, "v.m"],
      [{ s: new Set() }, "v.s"],
      [{ m: new Money() }, "v.m"],
      [Buffer.from("x"), "v"],
      [{ f: () => 1 }, "v.f"],
      [{ s: Symbol("x") }, "v.s"],
      [{ [Symbol("x")]: 1 }, "v"],
      [{ n: new Number(1) }, "v.n"],
      [{ n: 2 ** 53 }, "v.n"],
      [{ e: new Error("x") }, "v.e"],
      [Promise.resolve(1), "v"],
      [{ toJSON: () => 1 }, "v.toJSON"],
    ];
    for (const [value, path] of cases) {
      expect(
        refusal(() => toJsonText(value, "v")),
        path,
      ).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ path }] });
    }
  });

  it("refuses a circle and more than 64 levels, and takes 64", () => {
    const circle: unknown[] = [];
    circle.push({ again: circle });
    expect(refusal(() => toJsonText(circle, "v"))).toMatchObject({ violations: [{ path: "v[0].again" }] });
    const nested = (levels: number): unknown => (levels === 0 ? 1 : [nested(levels - 1)]);
    expect(toJsonText(nested(64), "v")).toHaveLength(129);
    expect(refusal(() => toJsonText(nested(65), "v"))).toMatchObject({ code: "INVALID_ARGUMENT" });
    const twice = { a: 1 };
    expect(toJsonText([twice, twice], "v")).toBe('[{"a":1},{"a":1}]');
  });

  it("takes plain objects of another realm, and dates as their text", () => {
    const foreign: unknown = vm.runInNewContext("({ a: [1, { b: 2 }] })");
    expect(toJsonText(foreign, "v")).toBe('{"a":[1,{"b":2}]}');
    expect(toJsonText({ at: new Date(0), left: undefined, bare: Object.create(null) as object }, "v")).toBe(
      '{"at":"1970-01-01T00:00:00.000Z","bare":{}}',
    );
  });

  it("writes BigInt as an integer when the client was told so", () => {
    expect(toJsonText({ n: 2n ** 63n - 1n }, "v", "bigint")).toBe('{"n":9223372036854775807}');
  });
});

describe("reading JSON", () => {
  it("refuses what a number cannot hold, with the path", () => {
    const cases: [string, string][] = [
      ['{"a":[1,9007199254740993]}', "v.a[1]"],
      ['{"n":9007199254740992}', "v.n"],
      ["-9223372036854775808", "v"],
      ['[{"x":1E400}]', "v[0].x"],
      [`[${"1".repeat(400)}]`, "v[0]"],
    ];
    for (const [text, path] of cases)
      expect(
        refusal(() => fromJsonText(text, "v")),
        text,
      ).toMatchObject({ code: "UNSAFE_INTEGER", violations: [{ path }] });
  });

  it("gives BigInt for them when the client was told so", () => {
    expect(fromJsonText('{"a":[9007199254740993,1,1.0,1e2],"s":"9007199254740993"}', "v", "bigint")).toEqual({
      a: [9007199254740993n, 1, 1, 100],
      s: "9007199254740993",
    });
    const exact = 123456789012345678901234567890n;
    expect(fromJsonText(`[${String(exact)}]`, "v", "bigint")).toEqual([exact]);
  });

  it("leaves digits in texts and keys alone", () => {
    const value = { "12345678901234567890": 'say "9007199254740993", \\ or 1E999', list: ["12345678901234567890"] };
    expect(fromJsonText(JSON.stringify(value), "v")).toEqual(value);
  });

  it("keeps __proto__ an ordinary key, on both ways through", () => {
    for (const text of ['{"__proto__":{"polluted":1}}', '{"__proto__":{"polluted":1},"id":9007199254740993}']) {
      const value = fromJsonText(text, "v", "bigint") as Record<string, unknown>;
      expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
      expect(Object.keys(value)).toContain("__proto__");
      expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
      expect(toJsonText(value, "v", "bigint")).toBe(text);
    }
  });

  it("is the inverse of writing, BigInt included", () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: "small" },
        fc.string({ unit: "binary" }),
        fc.integer(),
        fc.bigInt({ min: 2n ** 53n }),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie("any")),
        fc.dictionary(fc.string(), tie("any")),
      ),
    })).any;
    fc.assert(
      fc.property(value, (given) => {
        const text = toJsonText(given, "v", "bigint");
        expect(toJsonText(fromJsonText(text, "v", "bigint"), "v", "bigint")).toBe(text);
      }),
    );
  });
});

describe("payloads", () => {
  it("that are not JSON, not UTF-8 or of a foreign type are unreadable, with the path", async () => {
    const payloads = createPayloads();
    const bad: [Buffer, string][] = [
      [Buffer.from("{,}"), ""],
      [Buffer.from([0x22, 0xff, 0x22]), "application/json"],
      [Buffer.from("\ufeff{}"), ""],
      [Buffer.from("{}"), "application/protobuf"],
    ];
    for (const [data, contentType] of bad) {
      await expect(payloads.decode({ data, contentType }, "metadata")).rejects.toMatchObject({
        code: "PAYLOAD_UNREADABLE",
        violations: [{ path: "metadata" }],
      });
    }
    expect(await payloads.decode(undefined, "metadata")).toBeUndefined();
  });

  it("pass codecs in order on the way out and in reverse on the way in", async () => {
    const codec = (letter: string) => ({
      name: letter,
      encode: (payload: { data: Buffer; contentType: string }) => ({
        data: Buffer.concat([Buffer.from(letter), payload.data]),
        contentType: `x/${letter}`,
      }),
      decode: (payload: { data: Buffer; contentType: string }) => ({
        data: payload.data.subarray(1),
        contentType: letter === "a" ? "" : "x/a",
      }),
    });
    const payloads = createPayloads({ codecs: [codec("a"), codec("b")] });
    const payload = await payloads.encode(payloads.write({ n: 1 }, "metadata"));
    expect(Buffer.from(payload.data).toString()).toBe('ba{"n":1}');
    expect(await payloads.decode(payload, "metadata")).toEqual({ n: 1 });
  });

  it("beyond a mebibyte are refused before they leave", () => {
    expect(refusal(() => createPayloads().write("x".repeat(1_048_576), "metadata"))).toMatchObject({
      code: "INVALID_ARGUMENT",
      violations: [{ path: "metadata" }],
    });
  });
});
