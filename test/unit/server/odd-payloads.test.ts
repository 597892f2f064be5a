// Does any payload keep the event loop from everybody else? What the server does with each byte, in processor time, over the whole corpus.
import { jsonFault } from "@leasehold/server/api/json-text";
import { parsePayload } from "@leasehold/server/api/validate-payload";
import { mergePatch } from "@leasehold/server/domain/merge-patch";
import { isJson } from "@leasehold/server/domain/proceeds";
import { sameJson } from "@leasehold/server/domain/same-json";
import { isSearchable } from "@leasehold/server/storage/searchable";
import { describe, expect, it } from "vitest";
import { type OddPayload, REFUSED, TAKEN } from "../../support/odd-json.js";

const MIB = 1_048_576;
const LONGEST_TURN_MS = 150;

/** Processor time that the quickest of three runs took: the others may have compiled, or collected garbage of somebody else. */
function quickestMs(work: () => unknown): number {
  const runs = [0, 1, 2].map(() => {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  });
  return Math.min(...runs);
}

const asPayload = ({ data, contentType = "" }: OddPayload): { data: Buffer; contentType: string } => ({ data, contentType });

describe("a payload of a mebibyte", () => {
  it.each([...TAKEN, ...REFUSED].map((one) => [one.name, one] as const))("is checked in a moment: %s", (_, odd) => {
    expect(quickestMs(() => jsonFault(odd.data))).toBeLessThan(LONGEST_TURN_MS);
    expect(quickestMs(() => parsePayload(asPayload(odd), "metadata", MIB, []))).toBeLessThan(LONGEST_TURN_MS);
  });

  it.each(TAKEN.map((one) => [one.name, one] as const))("is looked through, patched and compared in a moment: %s", (_, odd) => {
    const payload = asPayload(odd);
    expect(
      quickestMs(() => isSearchable(payload)),
      "search",
    ).toBeLessThan(LONGEST_TURN_MS);
    if (!isJson(payload)) return;
    const text = odd.data.toString();
    expect(
      quickestMs(() => mergePatch(text, '{"a":null}')),
      "patched",
    ).toBeLessThan(LONGEST_TURN_MS);
    expect(
      quickestMs(() => mergePatch("{}", text)),
      "patch",
    ).toBeLessThan(LONGEST_TURN_MS);
    expect(
      quickestMs(() => sameJson(odd.data, Buffer.from(`${text} `))),
      "compared",
    ).toBeLessThan(2 * LONGEST_TURN_MS);
    expect(sameJson(odd.data, Buffer.from(` ${text}`))).toBe(true);
  });
});

describe("what Postgres can hold as jsonb", () => {
  const searchable = (text: string): boolean => isSearchable({ data: Buffer.from(text), contentType: "" });

  it.each(TAKEN.filter(({ foundBy }) => foundBy !== undefined).map((one) => [one.name, one] as const))("is searched: %s", (_, odd) => {
    expect(isSearchable(asPayload(odd))).toBe(true);
  });

  it("is neither U+0000 nor half a pair, however they are spelled", () => {
    for (const escape of [
      "\\u0000",
      "\\ud800",
      "\\uDFFF",
      "\\ud800\\ud800",
      "\\ud800x\\udc00",
      "\\udc00\\ud800",
      "\\uD83D\\n",
      "\\\\\\u0000",
    ])
      for (const text of [`"${escape}"`, `{"${escape}":1}`, `["a","${escape}"]`]) expect([text, searchable(text)]).toEqual([text, false]);
    for (const escape of ["\\\\u0000", "\\\\ud800", "\\ud83d\\ude00", "\\u0001", '\\"\\\\', "\\\\\\\\ud800"])
      for (const text of [`"${escape}"`, `{"${escape}":1}`]) expect([text, searchable(text)]).toEqual([text, true]);
  });

  it("is no number of a thousand digits or with an exponent of four, unless it is text", () => {
    const long = "9".repeat(1000);
    for (const text of [long, `[-${long}]`, `0.${long}`, "1e1000", "[1E+1000]", "1e-9999", `{"a":${long}}`]) {
      expect([text.slice(0, 9), searchable(text)]).toEqual([text.slice(0, 9), false]);
      expect(searchable(JSON.stringify(text))).toBe(true);
    }
    for (const text of ["9".repeat(999), "1e999", "1E-999", `0.${"1".repeat(999)}e999`]) expect(searchable(text)).toBe(true);
  });

  it("is found out of sixteen mebibytes of one string as well", () => {
    expect(searchable(`["${"1e9999 ".repeat(2_300_000)}"]`)).toBe(true);
  });
});
