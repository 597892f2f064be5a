// Is what a person types read as meant, and refused with a word on what it should look like?
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseDuration, parseDurationMs, parseLabel, parseList, parseTime, readPayload, wholeNumber } from "../../../cli/src/arguments.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "leasehold-arguments-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("durations", () => {
  it.each([
    ["250ms", 250],
    ["30s", 30_000],
    ["1.5h", 5_400_000],
    ["1h30m", 5_400_000],
    ["7d", 604_800_000],
    ["0s", 0],
  ])("reads %s", (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });

  it.each(["30", "s", "-5s", "5 s", "5w", "1e3s", "", "5s5"])("refuses %j and says what one looks like", (text) => {
    expect(() => parseDurationMs(text)).toThrow(/number with its unit/);
  });

  it("refuses more than ten years", () => {
    expect(() => parseDurationMs("3651d")).toThrow(/at most 3650d/);
  });

  it("keeps milliseconds in messages", () => {
    expect(parseDuration("1500ms")).toEqual({ seconds: 1n, nanos: 500_000_000 });
  });
});

describe("times", () => {
  const noon = { seconds: BigInt(Date.UTC(2026, 0, 31, 12) / 1000), nanos: 0 };

  it.each(["2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "2026-01-31 12:00Z", "2026-01-31T12:00:00.000z"])(
    "reads %s as the same instant",
    (text) => {
      expect(parseTime(text)).toEqual(noon);
    },
  );

  it("keeps fractions to the nanosecond", () => {
    expect(parseTime("2026-01-31T12:00:00.123456789Z")).toEqual({ ...noon, nanos: 123_456_789 });
  });

  it("counts +5m from now", () => {
    expect(parseTime("+5m", 1_000_250)).toEqual({ seconds: 1_300n, nanos: 250_000_000 });
  });

  it.each(["2026-01-31T12:00:00", "2026-01-31", "tomorrow", "2026-13-01T00:00:00Z", "5m"])("refuses %s, which is no instant", (text) => {
    expect(() => parseTime(text)).toThrow(/time with its zone/);
  });
});

describe("labels, lists and numbers", () => {
  it("gathers labels, and a value may hold further equals signs", () => {
    expect(parseLabel("b=x=y", parseLabel("a=1"))).toEqual({ a: "1", b: "x=y" });
  });

  it.each(["tenant", "=acme"])("refuses the label %s", (text) => {
    expect(() => parseLabel(text)).toThrow(/key=value/);
  });

  it("gathers lists with commas and by repetition", () => {
    expect(parseList("c", parseList("a, b"))).toEqual(["a", "b", "c"]);
    expect(() => parseList("a,,b")).toThrow(/name/);
  });

  it("refuses numbers out of bounds and what is no number", () => {
    expect(wholeNumber(0, 9)("9")).toBe(9);
    for (const text of ["10", "-1", "1.5", "x", ""]) expect(() => wholeNumber(0, 9)(text)).toThrow(/from 0 to 9/);
  });
});

describe("payloads", () => {
  const json = '{ "n": 12345678901234567890.10, "n": 1e2,\t"x": "\u00fc" }\n';

  it("passes the text on byte for byte, from the argument, a file and standard input", async () => {
    const path = join(folder, "metadata.json");
    writeFileSync(path, json);
    for (const source of [json, `@${path}`, "-"]) {
      const payload = await readPayload(source, Readable.from([Buffer.from(json)]));
      expect(payload).toEqual({ data: Buffer.from(json), contentType: "" });
    }
  });

  it("says which file is not there", async () => {
    await expect(readPayload(`@${folder}/none.json`)).rejects.toThrow(/none\.json: there is no such file\./);
  });
});
