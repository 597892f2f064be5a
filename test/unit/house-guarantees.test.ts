// Does the rule on guarantees catch a promise without a test, a test that is gone, and a word that promises too much? On files in memory.
import { describe, expect, it } from "vitest";
import { guaranteeBreaches, testTitles } from "../support/house/guarantees.js";
import { memoryTree, tell } from "../support/house/source.js";

const TESTS = `describe("d", () => { it("one", f); test.for([1])("of %s", f); it.each\`a\`("three", f); it(\`four\`, f); say("five"); });`;

function page(change: (name: string, section: string) => string = (_, section) => section): string {
  const sections = Array.from({ length: 19 }, (_, at) => {
    const name = `G${String(at + 1)}`;
    return change(name, `## ${name} · T\n\nText.\n\nNot promised: more.\n\n| file | test |\n|---|---|\n| \`a.test.ts\` | of %s |\n`);
  });
  return `# Guarantees\n\n${sections.join("\n")}`;
}

const found = (text: string): string[] => guaranteeBreaches(memoryTree({ "docs/guarantees.md": text, "a.test.ts": TESTS })).map(tell);

describe("the page of guarantees", () => {
  it("passes when each names a test that exists", () => {
    expect(found(page())).toEqual([]);
  });

  it.each([
    ["has no section G4", (name: string, section: string) => (name === "G4" ? "" : section)],
    ["G4 names no test", (name: string, section: string) => (name === "G4" ? section.split("|")[0]! : section)],
    [
      "does not say what is not promised",
      (name: string, section: string) => (name === "G4" ? section.replace("Not promised", "So") : section),
    ],
    ["which does not exist", (name: string, section: string) => (name === "G4" ? section.replace("a.test.ts", "b.test.ts") : section)],
    ['a test "of all"', (name: string, section: string) => (name === "G4" ? section.replace("of %s", "of all") : section)],
    ['says "never runs twice"', (name: string, section: string) => (name === "G4" ? `${section}It never runs twice.\n` : section)],
  ])("fails when it %s", (says, change) => {
    expect(found(page(change))).toEqual([expect.stringContaining(says)]);
  });

  it("may leave one for later, if it says so", () => {
    expect(found(page((name, section) => (name === "G13" ? section.split("|")[0]! : section)))).toEqual([]);
  });

  it("fails when it is missing", () => {
    expect(guaranteeBreaches(memoryTree({})).map(tell)).toEqual([expect.stringContaining("does not exist")]);
  });
});

describe("titles of tests", () => {
  it("are read from every form of a test, and from nothing else", () => {
    expect(testTitles("a.test.ts", TESTS)).toEqual(["one", "of %s", "three", "four"]);
  });
});
