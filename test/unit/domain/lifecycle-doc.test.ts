// Does docs/lifecycle.md say what happens? Its table is compared with what `transition` answers, its mapping with the origin's states.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { cellOf, columns, rows } from "../../support/lifecycle-table.js";
import { tablesOf } from "../../support/house/docs.js";

const TABLES = tablesOf(readFileSync(join(import.meta.dirname, "../../../docs/lifecycle.md"), "utf8"));
const named = (header: string): readonly (readonly string[])[] => {
  const table = TABLES.find((one) => one.header[0] === header);
  if (table === undefined) throw new Error(`docs/lifecycle.md has no table whose first column is ${header}`);
  return table.rows.map(({ cells }) => cells);
};
const COLUMNS = Object.keys(columns) as (keyof typeof columns)[];

describe("the table of what happens", () => {
  it("has every standing and every event, once", () => {
    expect(TABLES.find(({ header }) => header[0] === "what happens")?.header.slice(1)).toEqual(
      COLUMNS.map((column) => column.toLowerCase()),
    );
    expect(named("what happens").map(([event]) => event)).toEqual(Object.keys(rows));
  });

  it.each(Object.keys(rows))("says what comes of: %s", (row) => {
    const [, ...cells] = named("what happens").find(([event]) => event === row) ?? [];
    expect(cells).toEqual(COLUMNS.map((column) => cellOf(row, column)));
  });
});

it("every state of the origin has exactly one image", () => {
  const origin = ["Pending", "Enqueued", "Retrying", "Failed", "Cancelled", "Completed", "Proceeded", "Suspended"];
  const images = named("origin's state");
  expect(images.map(([state]) => state)).toEqual(origin);
  for (const [, image] of images) expect(image).toMatch(/^(PENDING [A-Z]+|RUNNING|SUSPENDED|COMPLETED|FAILED|CANCELLED)$/);
  expect(new Set(images.map(([, image]) => image)).size).toBe(origin.length);
});
