// Do the bans of eslint.config.js catch time, chance and printing where they do not belong? On lines in memory, without types.
import { join } from "node:path";
import { ESLint } from "eslint";
import tseslint from "typescript-eslint";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
const eslint = new ESLint({
  cwd: ROOT,
  overrideConfig: [tseslint.configs.disableTypeChecked, { languageOptions: { parserOptions: { projectService: false } } }],
});

async function said(path: string, text: string): Promise<string[]> {
  const [result] = await eslint.lintText(text, { filePath: join(ROOT, path) });
  return (result?.messages ?? [])
    .filter(({ ruleId }) => ruleId === "no-console" || ruleId?.startsWith("no-restricted") === true || ruleId === null)
    .map(({ message }) => message);
}

describe("in the server", () => {
  it.each([
    "Date.now();",
    "new Date();",
    "Date();",
    "setTimeout(f, 1);",
    "setInterval(f, 1);",
    "performance.now();",
    "process.hrtime();",
    "globalThis.Date.now();",
    "const { now } = Date;",
    `import { setTimeout as sleep } from "node:timers/promises";`,
    `import { performance } from "node:perf_hooks";`,
  ])("time comes from the clock alone: %s", async (text) => {
    expect(await said("server/src/upkeep/x.ts", text)).toContainEqual(expect.stringMatching(/server\/src\/clock\.ts|from the Clock/));
    expect(await said("server/src/clock.ts", text)).toEqual([]);
    expect(await said("client/src/x.ts", text)).toEqual([]);
  });

  it("chance, printing and event emitters are refused with what to do instead", async () => {
    expect(await said("server/src/upkeep/x.ts", "Math.random();")).toEqual([expect.stringContaining("as an argument")]);
    expect(await said("server/src/upkeep/x.ts", "const { random } = Math;")).toEqual([expect.stringContaining("as an argument")]);
    expect(await said("server/src/upkeep/x.ts", "console.log(1);")).toHaveLength(1);
    expect(await said("server/src/upkeep/x.ts", `import { EventEmitter } from "node:events";`)).toEqual([
      expect.stringContaining("constructor argument"),
    ]);
  });

  it("what only computes or waits for this turn's end is left alone", async () => {
    const text = `import { once } from "node:events";\nsetImmediate(f); new Date(ms); Math.max(1, 2); clearTimeout(t); once(a, "b");`;
    expect(await said("server/src/upkeep/x.ts", text)).toEqual([]);
  });
});

describe("printing", () => {
  it("is for the command alone", async () => {
    expect(await said("cli/src/x.ts", "console.log(1);")).toEqual([]);
    expect(await said("client/src/x.ts", "console.log(1);")).toHaveLength(1);
    expect(await said("test/unit/x.test.ts", "console.log(1);")).toHaveLength(1);
  });
});
