// Are the snippets of docs/testing.md true?
import { describe, expect, it } from "vitest";
import { checkSnippets } from "../../support/checked-guide.js";

describe("the guide to the test kit", { timeout: 120_000 }, () => {
  it("has snippets that type-check as they stand", async () => {
    const { count, said } = await checkSnippets("testing");
    expect(count).toBeGreaterThanOrEqual(4);
    expect(said).toEqual([]);
  });
});
