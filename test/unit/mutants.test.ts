// Can every mutant still be put in? A sabotage of a line that is gone would survive unseen.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MUTANTS } from "../mutants/mutants.js";

const ROOT = join(import.meta.dirname, "../..");

describe("a mutant", () => {
  it.each(MUTANTS)("finds the text that it replaces exactly once: $name", ({ changes, suites, onlyBy }) => {
    for (const { file, find, replace } of changes) {
      expect(readFileSync(join(ROOT, file), "utf8").split(find).length - 1, `${file}: ${find}`).toBe(1);
      expect(replace).not.toBe(find);
    }
    expect(changes.length > 0 && suites.length > 0).toBe(onlyBy === undefined);
  });

  it("has a name of its own", () => {
    expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
  });
});
