// Is everything that a user of the SDK and of the test kit can name explained? That the reference is made without warnings is one of the checks of `npm test`.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";

it.each([
  ["the SDK", "client/client.api.md", "TaskSnapshot"],
  ["the test kit", "testing/testing.api.md", "TestEnv"],
])("every public export of %s and each of its members has a docstring", async (_, file, known) => {
  const report = await readFile(join(import.meta.dirname, "../../..", file), "utf8");
  expect(report).toContain(`export interface ${known}`);
  expect([...report.matchAll(/\(undocumented\)\n(.*)/g)].map(([, member = ""]) => member.trim())).toEqual([]);
});
