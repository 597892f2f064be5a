// Do the rules on imports catch what they forbid, and leave alone what is right? Each rule on a few lines in memory.
import { describe, expect, it } from "vitest";
import { arrowBreaches, barrelBreaches, cycleBreaches, hiddenBreaches, importBreaches, placeBreaches } from "../support/house/arrows.js";
import { parse } from "../support/house/source.js";

function arrow(path: string, specifier: string): string[] {
  return arrowBreaches(parse(path, `import { x } from "${specifier}";`)).map(({ message }) => message);
}

function file(path: string, ...imports: string[]) {
  return parse(path, imports.map((specifier) => `import "${specifier}";`).join("\n"));
}

describe("arrows of the server", () => {
  it.each([
    ["server/src/main.ts", "./api/task-service.js"],
    ["server/src/main.ts", "@leasehold/proto/leasehold/v1/task"],
    ["server/src/api/task-service.ts", "../dispatch/dispatcher.js"],
    ["server/src/api/task-service.ts", "../storage/storage.js"],
    ["server/src/api/convert.ts", "@leasehold/proto/leasehold/v1/task"],
    ["server/src/dispatch/dispatcher.ts", "../storage/storage.js"],
    ["server/src/upkeep/retention.ts", "../storage/storage.js"],
    ["server/src/upkeep/retention.ts", "../clock.js"],
    ["server/src/storage/lease-tasks.ts", "../domain/task.js"],
    ["server/src/storage/lease-tasks.ts", "pg"],
    ["server/src/storage/read-tasks.ts", "slonik"],
    ["server/src/domain/transition.ts", "./task.js"],
    ["server/src/telemetry/spans.ts", "../storage/storage.js"],
  ])("lets %s import %s", (path, specifier) => {
    expect(arrow(path, specifier)).toEqual([]);
  });

  it.each([
    ["server/src/storage/lease-tasks.ts", "../dispatch/dispatcher.js", "storage knows"],
    ["server/src/storage/lease-tasks.ts", "../api/convert.js", "storage knows"],
    ["server/src/dispatch/dispatcher.ts", "../api/convert.js", "dispatch knows"],
    ["server/src/dispatch/dispatcher.ts", "../upkeep/retention.js", "dispatch knows"],
    ["server/src/dispatch/dispatcher.ts", "@leasehold/proto/leasehold/v1/task", "convert in server/src/api/"],
    ["server/src/upkeep/retention.ts", "../dispatch/dispatcher.js", "upkeep knows"],
    ["server/src/api/convert.ts", "../main.js", "api knows"],
    ["server/src/api/convert.ts", "../upkeep/retention.js", "api knows"],
    ["server/src/api/convert.ts", "pg", "server/src/storage/storage.ts"],
    ["server/src/upkeep/retention.ts", "slonik", "server/src/storage/storage.ts"],
    ["server/src/dispatch/batch.ts", "@slonik/sql-tag", "server/src/storage/storage.ts"],
    ["server/src/main.ts", "pg/lib/client.js", "server/src/storage/storage.ts"],
    ["server/src/domain/transition.ts", "../telemetry/spans.js", "imports nothing outside itself"],
    ["server/src/domain/transition.ts", "../clock.js", "imports nothing outside itself"],
    ["server/src/domain/transition.ts", "node:crypto", "imports nothing outside itself"],
    ["server/src/domain/transition.ts", "lossless-json", "imports nothing outside itself"],
    ["server/src/clock.ts", "./config.js", "nothing else"],
    ["server/src/config.ts", "./storage/storage.js", "config knows"],
    ["server/src/telemetry/spans.ts", "../main.js", "telemetry knows"],
  ])("refuses that %s imports %s", (path, specifier, says) => {
    expect(arrow(path, specifier)).toEqual([expect.stringContaining(says)]);
  });

  it.each([
    `import type { X } from "../api/convert.js";`,
    `export { x } from "../api/convert.js";`,
    `export * from "../api/convert.js";`,
    `const x = await import("../api/convert.js");`,
    `const x = require("../api/convert.js");`,
    `import x = require("../api/convert.js");`,
    `type X = import("../api/convert.js").X;`,
    "const x = import(`../api/convert.js`);",
    `import "@leasehold/server/api/convert";`,
  ])("sees through %s", (text) => {
    expect(arrowBreaches(parse("server/src/storage/x.ts", text))).toHaveLength(1);
  });

  it("refuses a computed name in the server and the client, and allows it in the command", () => {
    const text = "await import(name);";
    expect(hiddenBreaches(parse("server/src/api/x.ts", text))).toHaveLength(1);
    expect(hiddenBreaches(parse("client/src/x.ts", text))).toHaveLength(1);
    expect(hiddenBreaches(parse("cli/src/x.ts", text))).toEqual([]);
  });

  it("refuses a file outside every room", () => {
    expect(placeBreaches(file("server/src/shared/x.ts"))).toHaveLength(1);
    expect(placeBreaches(file("server/src/wiring.ts"))).toHaveLength(1);
    expect(placeBreaches(file("server/src/clock.ts"))).toEqual([]);
  });
});

describe("arrows of the packages", () => {
  it.each([
    ["client/src/worker.ts", "@leasehold/proto/leasehold/v1/task"],
    ["cli/src/serve.ts", "@leasehold/server/main"],
    ["cli/src/submit.ts", "@leasehold/client"],
    ["testing/src/env.ts", "@leasehold/server/storage/storage"],
    ["examples/thumbnails/worker.ts", "@leasehold/client"],
    ["cli/src/embedded-postgres/ready.ts", "pg"],
    ["test/integration/x.test.ts", "../../server/src/api/convert.js"],
    ["test/support/x.ts", "pg"],
  ])("let %s import %s", (path, specifier) => {
    expect(arrow(path, specifier)).toEqual([]);
  });

  it.each([
    ["client/src/worker.ts", "@leasehold/server/main", "only cli/ and testing/ know both"],
    ["client/src/worker.ts", "../../server/src/main.js", "only cli/ and testing/ know both"],
    ["client/src/worker.ts", "pg", "server/src/storage/storage.ts"],
    ["server/src/main.ts", "@leasehold/client", "only cli/ and testing/ know both"],
    ["server/src/main.ts", "leasehold", "only cli/ and testing/ know both"],
    ["proto/build.mjs", "@leasehold/client", "no other package"],
    ["examples/x/worker.ts", "@leasehold/server/main", "client, testing"],
    ["cli/src/serve.ts", "../../server/src/main.js", "@leasehold/server/"],
    ["cli/src/serve.ts", "pg", "server/src/storage/storage.ts"],
    ["server/src/api/x.ts", "../../../test/support/x.js", "nothing imports test/"],
    ["cli/bin/x.mjs", "../../test/support/x.js", "nothing imports test/"],
  ])("refuse that %s imports %s", (path, specifier, says) => {
    expect(arrow(path, specifier)).toEqual([expect.stringContaining(says)]);
  });
});

describe("barrels", () => {
  it("are refused inside the server by name, by star and by content", () => {
    expect(barrelBreaches(file("server/src/storage/index.ts"))).toHaveLength(1);
    expect(barrelBreaches(parse("server/src/storage/x.ts", `export * from "./y.js";\nexport const z = 1;`))).toHaveLength(1);
    expect(barrelBreaches(parse("server/src/storage/x.ts", `export { a } from "./a.js";\nexport { b } from "./b.js";`))).toHaveLength(1);
  });

  it("are what the client shows to its users", () => {
    expect(barrelBreaches(parse("client/src/index.ts", `export { a } from "./a.js";`))).toEqual([]);
  });
});

describe("circles", () => {
  it("are told once, whole, from their first file", () => {
    const sources = [file("server/src/api/c.ts", "./a.js"), file("server/src/api/a.ts", "./b.js"), file("server/src/api/b.ts", "./c.js")];
    expect(cycleBreaches(sources).map(({ path, message }) => [path, message])).toEqual([
      [
        "server/src/api/a.ts",
        expect.stringContaining("server/src/api/a.ts → server/src/api/b.ts → server/src/api/c.ts → server/src/api/a.ts"),
      ],
    ]);
  });

  it("are found through types, behind other files, and in a file that imports itself", () => {
    const typed = [
      parse("client/src/a.ts", `import type { B } from "./b.js";`),
      parse("client/src/b.ts", `export type { A } from "./a.js";`),
    ];
    expect(cycleBreaches(typed)).toHaveLength(1);
    expect(cycleBreaches([file("client/src/0.ts", "./a.js"), ...typed])).toHaveLength(1);
    expect(cycleBreaches([file("client/src/a.ts", "./a.js")])).toHaveLength(1);
  });

  it("are no diamonds, and do not cross packages", () => {
    const diamond = [
      file("client/src/a.ts", "./b.js", "./c.js"),
      file("client/src/b.ts", "./d.js"),
      file("client/src/c.ts", "./d.js"),
      file("client/src/d.ts"),
    ];
    expect(cycleBreaches(diamond)).toEqual([]);
  });
});

it("all checks on imports run together", () => {
  const sources = [
    file("server/src/shared/a.ts"),
    file("server/src/domain/b.ts", "node:fs"),
    file("server/src/api/index.ts"),
    file("server/src/api/c.ts", "./c.js"),
    parse("server/src/api/d.ts", "await import(name);"),
  ];
  expect(importBreaches(sources).map(({ path }) => path)).toEqual(expect.arrayContaining(sources.map(({ path }) => path)));
});
