// Do the rules on docs catch what the docs lack and what they invent, and fail when there is nothing to read? On files in memory.
import { describe, expect, it } from "vitest";
import { metricBreaches, reasonBreaches, settingBreaches, tablesOf, whereIsBreaches } from "../support/house/docs.js";
import type { Breach } from "../support/house/source.js";
import { memoryTree, sourcesOf } from "../support/house/source.js";

function said(breaches: readonly Breach[]): string[] {
  return breaches.map(({ path, line, message }) => `${path}:${String(line)} ${message}`);
}

describe("tables of Markdown", () => {
  it("are read without marks of code and links, and not from fenced code", () => {
    const text =
      "# T\n\n| Question | File |\n|---|:-:|\n| `a` \\| b | [x.ts](../x.ts) |\n\n```\n| no | table |\n|---|---|\n| x | y |\n```\n";
    expect(tablesOf(text)).toEqual([{ header: ["question", "file"], rows: [{ cells: ["a | b", "x.ts"], line: 5 }] }]);
  });

  it("end with the first line that is none", () => {
    const text = "| a |\n|---|\n| 1 |\n\n| b |\n|---|\n| 2 |\n";
    expect(tablesOf(text).map(({ header, rows }) => [header, rows.length])).toEqual([
      [["a"], 1],
      [["b"], 1],
    ]);
  });
});

describe("the where-is table", () => {
  const files = {
    "server/src/domain/transition.ts": "export function transition() {}\nexport class Lane { flush() {} }\nfunction hidden() {}",
    "proto/leasehold/v1/task.proto": "// A Ghost is no message.\nmessage Task {}\nservice TaskService { rpc GetTask(X) returns (Task); }",
    "migrations/0001_clock.sql": "CREATE OR REPLACE FUNCTION leasehold_now() RETURNS timestamptz;",
  };
  const table = (...rows: string[]): string => `| question | file | export |\n|---|---|---|\n${rows.join("\n")}\n`;
  const found = (markdown: string): string[] => said(whereIsBreaches(memoryTree({ ...files, "docs/architecture.md": markdown })));

  it("passes when every row is true", () => {
    const rows = [
      "| What comes of an event? | `server/src/domain/transition.ts` | `transition` |",
      "| Who flushes? | server/src/domain/transition.ts | `Lane.flush`, transition() |",
      "| What is a task? | proto/leasehold/v1/task.proto | Task, GetTask |",
      "| What time is it? | migrations/0001_clock.sql | leasehold_now |",
    ];
    expect(found(table(...rows))).toEqual([]);
  });

  it.each([
    ["| x | server/src/gone.ts | transition |", "does not exist"],
    ["| x | server/src/domain/transition.ts | hidden |", "does not export"],
    ["| x | server/src/domain/transition.ts | transition, gone |", "names gone"],
    ["| x | server/src/domain/transition.ts | Lane.gone |", "names Lane.gone"],
    ["| x | server/src/domain/transition.ts | |", "no full row"],
    ["| x | server/src/domain/transition.ts |", "no full row"],
    ["| x | proto/leasehold/v1/task.proto | Ghost |", "names Ghost"],
    ["| x | migrations/0001_clock.sql | leasehold_then |", "names leasehold_then"],
  ])("refuses the row %s", (row, says) => {
    expect(found(table(row))).toEqual([expect.stringContaining(says)]);
  });

  it("fails without the file, without the table, and without rows", () => {
    expect(said(whereIsBreaches(memoryTree(files)))).toEqual([expect.stringContaining("does not exist")]);
    expect(found("# Nothing here\n")).toEqual([expect.stringContaining("has no table")]);
    expect(found("| question | file |\n|---|---|\n| x | y |\n")).toEqual([expect.stringContaining("has no table")]);
    expect(found(table())).toEqual([expect.stringContaining("has no table")]);
  });
});

describe("settings", () => {
  const config = `const SETTINGS = { LEASEHOLD_LISTEN_ADDRESS: x, url: read("LEASEHOLD_DATABASE_URL"), seen: env.LEASEHOLD_GRACE };`;
  const docs = "`LEASEHOLD_LISTEN_ADDRESS`, `LEASEHOLD_DATABASE_URL`, `LEASEHOLD_GRACE`";
  const found = (files: Record<string, string>): string[] => {
    const tree = memoryTree(files);
    return said(settingBreaches(tree, sourcesOf(tree)));
  };

  it("pass when code and docs agree", () => {
    expect(found({ "server/src/config.ts": config, "docs/configuration.md": docs })).toEqual([]);
  });

  it("are told when the docs lack them, also those of the client and the command", () => {
    expect(found({ "server/src/config.ts": config, "docs/configuration.md": "LEASEHOLD_LISTEN_ADDRESS LEASEHOLD_GRACE" })).toEqual([
      "server/src/config.ts:1 has the setting LEASEHOLD_DATABASE_URL, which docs/configuration.md does not describe: describe it there.",
    ]);
    expect(found({ "server/src/config.ts": config, "docs/configuration.md": docs, "client/src/a.ts": `env["LEASEHOLD_TOKEN"];` })).toEqual([
      expect.stringContaining("client/src/a.ts:1 has the setting LEASEHOLD_TOKEN"),
    ]);
  });

  it("are told when the docs invent them, though a longer name exists", () => {
    expect(found({ "server/src/config.ts": config, "docs/configuration.md": `${docs}\n\nLEASEHOLD_DATABASE` })).toEqual([
      expect.stringContaining("docs/configuration.md:3 describes the setting LEASEHOLD_DATABASE,"),
    ]);
  });

  it("of the server are read in config.ts alone", () => {
    const files = {
      "server/src/config.ts": config,
      "docs/configuration.md": docs,
      "server/src/api/a.ts": `process.env["LEASEHOLD_GRACE"];`,
    };
    expect(found(files)).toEqual([
      expect.stringContaining("server/src/api/a.ts:1 names the setting LEASEHOLD_GRACE: read it in server/src/config.ts"),
    ]);
  });

  it("fail without config.ts, without docs, and without names", () => {
    expect(found({ "docs/configuration.md": docs })).toEqual([expect.stringContaining("server/src/config.ts:1 does not exist")]);
    expect(found({ "server/src/config.ts": config })).toEqual([expect.stringContaining("docs/configuration.md:1 does not exist")]);
    expect(found({ "server/src/config.ts": "// LEASEHOLD_GRACE", "docs/configuration.md": "" })).toEqual([
      expect.stringContaining("names no setting"),
    ]);
  });
});

describe("reasons of errors", () => {
  const docs = (...reasons: string[]): string =>
    `| reason | code |\n|---|---|\n${reasons.map((reason) => `| \`${reason}\` | NOT_FOUND |`).join("\n")}\n\n| code | x |\n|---|---|\n| OTHER | y |\n`;
  const found = (code: string, markdown: string): string[] =>
    said(reasonBreaches(memoryTree({ "server/src/api/reasons.ts": code, "docs/errors.md": markdown })));

  it.each([
    `export const REASONS = { TASK_FINISHED: "FAILED_PRECONDITION", KEY_HELD: status.ABORTED } as const;`,
    `export const REASONS = { taskFinished: "TASK_FINISHED", keyHeld: "KEY_HELD" } as const;`,
    `export const REASONS = ["TASK_FINISHED", "KEY_HELD"] as const satisfies readonly string[];`,
    `export const REASONS = Object.freeze({ TASK_FINISHED: 1, "KEY_HELD": 2 });`,
    `export type Reason = "TASK_FINISHED" | "KEY_HELD";`,
  ])("are read from %s", (code) => {
    expect(found(code, docs("TASK_FINISHED", "KEY_HELD"))).toEqual([]);
    expect(found(code, docs("TASK_FINISHED"))).toEqual([expect.stringContaining("has the reason KEY_HELD")]);
    expect(found(code, docs("TASK_FINISHED", "KEY_HELD", "GONE"))).toEqual([
      expect.stringContaining("docs/errors.md:5 describes the reason GONE"),
    ]);
  });

  it("fail without the code, without the docs, and without reasons", () => {
    expect(said(reasonBreaches(memoryTree({ "docs/errors.md": docs("X") })))).toEqual([
      expect.stringContaining("server/src/api/reasons.ts:1 does not exist"),
    ]);
    expect(said(reasonBreaches(memoryTree({ "server/src/api/reasons.ts": "" })))).toEqual([
      expect.stringContaining("docs/errors.md:1 does not exist"),
    ]);
    expect(found("export const x = 1;", docs("X"))).toEqual([expect.stringContaining("exports no reason")]);
    expect(found(`export type Reason = "A_B";`, "# Errors\n\nA_B\n")).toEqual([expect.stringContaining("has the reason A_B")]);
  });
});

describe("metrics", () => {
  const code = `meter.createCounter("leasehold.tasks.submitted", { unit: "{task}" }); metrics.getMeter("leasehold");`;
  const found = (metrics: string, docs: string): string[] =>
    said(metricBreaches(memoryTree({ "server/src/telemetry/metrics.ts": metrics, "docs/telemetry.md": docs })));

  it("pass when code and docs agree", () => {
    expect(found(code, "| metric | unit |\n|---|---|\n| `leasehold.tasks.submitted` | tasks |\n")).toEqual([]);
  });

  it("are told when the docs lack or invent one", () => {
    expect(found(code, "| metric |\n|---|\n| `leasehold.gone` |\n")).toEqual([
      expect.stringContaining("has the metric leasehold.tasks.submitted"),
      expect.stringContaining("describes the metric leasehold.gone"),
    ]);
  });

  it("fail without anything to read", () => {
    expect(found("", "")).toEqual([expect.stringContaining("names no instrument")]);
    expect(said(metricBreaches(memoryTree({})))).toEqual([expect.stringContaining("does not exist")]);
  });
});
