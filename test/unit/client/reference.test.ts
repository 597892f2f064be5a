// Is everything that a user of the SDK can name explained? That the reference is made without warnings is one of the checks of `npm test`.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";

it("every public export of the SDK and each of its members has a docstring", async () => {
  const report = await readFile(join(import.meta.dirname, "../../../client/client.api.md"), "utf8");
  expect(report).toContain("export interface TaskSnapshot");
  expect([...report.matchAll(/\(undocumented\)\n(.*)/g)].map(([, member = ""]) => member.trim())).toEqual([]);
});
