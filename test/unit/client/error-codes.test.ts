// Is every code of the SDK explained? The page that its help links lead to names each of them.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { ERROR_CODES, LeaseholdError } from "../../../client/src/errors.js";
import { SYSTEM_FAILURE_CODES } from "../../../client/src/task-failure.js";

it("docs/errors.md has a place for the help link of every code", async () => {
  const page = await readFile(path.join(import.meta.dirname, "../../../docs/errors.md"), "utf8");
  const anchors = ERROR_CODES.map((code) => new URL(new LeaseholdError({ code, message: "" }).help).hash.slice(1));
  expect(anchors.filter((anchor) => page.split(`<a id="${anchor}"></a>`).length !== 2)).toEqual([]);
});

it("docs/errors.md explains every code that is the SDK's own", async () => {
  const page = await readFile(path.join(import.meta.dirname, "../../../docs/errors.md"), "utf8");
  const own = [...ERROR_CODES.slice(ERROR_CODES.indexOf("TASK_FAILED")), ...SYSTEM_FAILURE_CODES];
  expect(own.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
});
