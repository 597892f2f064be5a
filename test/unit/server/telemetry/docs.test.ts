// Is every name of telemetry in docs/telemetry.md, and no other? The house test compares the metrics of our own; here the rest is.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ATTRIBUTES, EVENTS } from "@leasehold/server/telemetry/attributes";
import { describe, expect, it } from "vitest";
import { tablesOf } from "../../../support/house/docs.js";

const ROOT = join(import.meta.dirname, "../../../..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const tables = tablesOf(read("docs/telemetry.md"));
const METRICS = read("server/src/telemetry/metrics.ts");
/** What makes spans outside the server. */
const WORKERS = ["client/src/tracing.ts", "examples/raw-workers/python/tracing.py"].map(read).join("\n");

/** First cells of the rows of the tables with this first column. */
function described(header: string): string[] {
  return tables.filter((table) => table.header[0] === header).flatMap(({ rows }) => rows.map(({ cells }) => cells[0] ?? ""));
}

function matches(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name = ""]) => name))];
}

const sorted = (names: Iterable<string>): string[] => [...new Set(names)].sort();

describe("docs/telemetry.md", () => {
  const events = [...Object.values(EVENTS), ...matches(WORKERS, /(?:addEvent\(|"name": )"(leasehold\.[a-z_.]+)"/g)];

  it("describes every event of a span, and no other", () => {
    expect(described("event").sort()).toEqual(sorted(events));
  });

  it("describes every attribute, and no other", () => {
    const named = matches(WORKERS, /"((?:leasehold|messaging|error)\.[a-z_.]+)"/g);
    const attributes = named.filter((name) => !events.includes(name));
    expect(described("attribute").sort()).toEqual(sorted([...Object.values(ATTRIBUTES), ...attributes]));
  });

  it("describes every standard metric, and no other", () => {
    const standard = matches(METRICS, /"((?:rpc|db|nodejs)\.[a-z0-9_.]+)"/g);
    expect(described("standard metric").sort()).toEqual(sorted(standard));
  });

  it("names for every instrument the kind and unit that it has", () => {
    const made = [...METRICS.matchAll(/create(Observable)?(Gauge|Counter|Histogram)\("([a-z0-9_.]+)"/g)];
    const rows = tables.filter(({ header }) => header[0]?.endsWith("metric") === true).flatMap((table) => table.rows);
    const kinds = Object.fromEntries(rows.map(({ cells: [name = "", kind = ""] }) => [name, kind]));
    expect(kinds).toEqual(Object.fromEntries(made.map(([, , kind = "", name = ""]) => [name, kind.toLowerCase()])));
  });

  it("has a row for each span, by the first word of its name", () => {
    const server = read("server/src/telemetry/task-spans.ts");
    const made = matches(server + WORKERS, /(?:startSpan\(\s*|"name": f)[`"]([a-z]+) [{$]/g);
    const commands = matches(server, /kind: "(proceed)" \| "cancel" \| "retry"/g).flatMap(() => ["proceed", "cancel", "retry"]);
    const rows = described("span").map((name) => name.split(" ")[0] ?? "");
    expect(rows.filter((name) => !name.includes(".")).sort()).toEqual(sorted([...made, ...commands]));
  });
});
