// Are the snippets of docs/client.md true?
import { describe, expect, it } from "vitest";
import { checkSnippets } from "../../support/snippets.js";

describe("the guide to the SDK", { timeout: 120_000 }, () => {
  it("has snippets that type-check as they stand", async () => {
    const { count, said } = await checkSnippets("client");
    expect(count).toBeGreaterThanOrEqual(8);
    expect(said).toEqual([]);
  });
});
