// Do the rules on SQL, time, style and names catch what they forbid, and leave alone what is right? Each rule on a few lines in memory.
import { describe, expect, it } from "vitest";
import { emptyName, exportsOf, nameBreaches } from "../support/house/names.js";
import { impurityBreaches, looksLikeSql, sqlBreaches } from "../support/house/purity.js";
import { diskTree, memoryTree, parse, sourcesOf } from "../support/house/source.js";
import {
  commentBreaches,
  functionBreaches,
  idleTestBreaches,
  lengthBreaches,
  migrationBreaches,
  openingBreaches,
  styleBreaches,
} from "../support/house/style.js";

describe("SQL", () => {
  it.each([
    "SELECT 1",
    "select 1",
    "select id, name from tasks",
    "select leasehold_now()",
    "  \n  SELECT id\n  FROM tasks",
    "-- why\nSELECT 1",
    "/* why */ select x from y",
    "(SELECT 1)",
    "INSERT INTO tasks VALUES ($1)",
    "insert into tasks (id) values ($1)",
    "UPDATE tasks SET x = 1",
    "update live_tasks l set state = 1",
    "DELETE FROM tasks",
    "delete from tasks where id = $1",
    "WITH c AS (SELECT 1) SELECT * FROM c",
    "with c as materialized (select 1) select 1",
    "with recursive g(queue, name) as (select 1) select 1",
    "CREATE TABLE x ()",
    "create unique index x on y (z)",
    "ALTER ROLE x",
    "drop schema x cascade",
    "TRUNCATE tasks",
    "BEGIN",
    "COMMIT;",
    "begin; select 1",
    "LISTEN leasehold",
    "NOTIFY leasehold",
    "set local search_path = x",
    "LOCK TABLE tasks",
    "VACUUM tasks",
    "explain (analyze) select 1",
  ])("is seen in %j", (text) => {
    expect(looksLikeSql(text)).toBe(true);
  });

  it.each([
    "Select a queue",
    "Update the task's priority, and set its queue",
    "Delete a finished task",
    "Delete it from the table of the page. Nothing else is removed.",
    "With a key, the same task is returned",
    "with the key as given (or none)",
    "Create a schedule",
    "Drop the connection",
    "create",
    "UPDATE",
    "DELETE",
    "WITHOUT",
    "SELECTED",
    "Listen address",
    "Set priority to 5",
    "Values in milliseconds (default 5)",
    "begin",
    "Copy the file from the server",
    "Grant it more time on request",
    "",
  ])("is not seen in %j", (text) => {
    expect(looksLikeSql(text)).toBe(false);
  });

  it.each([
    `db.query("SELECT 1");`,
    "db.query(`select ${columns} from tasks`);",
    "db.query(`${hint} SELECT 1`);",
    `db.query("sel" + "ect id " + "from tasks");`,
    `db.query("select " + columns + " from tasks");`,
    `db.query(["select", columns, "from tasks"].join(" "));`,
    `db.query("insert ".concat("into tasks values ($1)"));`,
    "const q = sql.type(row)`anything`;",
    "const q = sql.unsafe`anything`;",
    `const q = ("UPDATE " as string) + table;`,
    `const q = { text: "delete from tasks" };`,
  ])("is refused away from its home, written as %s", (text) => {
    expect(sqlBreaches(parse("server/src/api/x.ts", text))).toEqual([
      expect.objectContaining({ message: expect.stringContaining("server/src/storage/storage.ts") as string }),
    ]);
    expect(sqlBreaches(parse("cli/src/x.ts", text))).toHaveLength(1);
    expect(sqlBreaches(parse("server/src/storage/x.ts", text))).toEqual([]);
  });
});

it("the embedded Postgres may make its database, and do nothing else in SQL", () => {
  const found = (text: string) => sqlBreaches(parse("cli/src/embedded-postgres/launch.ts", text));
  expect(found("send(`CREATE DATABASE ${name}`);")).toEqual([]);
  expect(found(`send("DROP DATABASE x");`)).toHaveLength(1);
  expect(found(`send("SELECT 1");`)).toHaveLength(1);
});

describe("time and chance in the domain", () => {
  it.each([
    "Date.now();",
    "new Date();",
    "new Date(ms);",
    "const clock = Date;",
    "const { now } = Date;",
    `Date["now"]();`,
    "setTimeout(f, 1);",
    "setInterval(f, 1);",
    "setImmediate(f);",
    "performance.now();",
    "process.hrtime();",
    "Math.random();",
    `Math["random"]();`,
    "const { random } = Math;",
    "const m = Math;",
    "crypto.randomUUID();",
    `import { randomUUID } from "node:crypto";`,
    "source.randomBytes(16);",
    "globalThis.Date.now();",
    "call(Date.now);",
    "const x = { Date };",
  ])("are refused as %s", (text) => {
    expect(impurityBreaches(parse("server/src/domain/x.ts", text)).length).toBeGreaterThan(0);
    expect(impurityBreaches(parse("server/src/upkeep/x.ts", text))).toEqual([]);
  });

  it.each([
    "Math.max(1, 2);",
    "Date.UTC(2026, 0, 1);",
    "interface Random { random: number; process: string }",
    "const x: Date = y;",
    "task.process;",
    "retry.random;",
    "const x = { process: 1 };",
    `const x = "Date.now()";`,
    "// Date.now() is not asked here\nexport {};",
  ])("are not seen in %s", (text) => {
    expect(impurityBreaches(parse("server/src/domain/x.ts", text))).toEqual([]);
  });

  it("are told with their replacement", () => {
    const [time] = impurityBreaches(parse("server/src/domain/x.ts", "Date.now();"));
    expect(time?.message).toContain("nowUs");
  });
});

describe("opening comments", () => {
  it.each([
    `// Which tasks are due? It writes nothing.\nimport x from "y";`,
    "#!/usr/bin/env node\n// Starts the leasehold command, and nothing else.\nx();",
    "/**\n * Decides what comes of an event.\n */\nexport {};",
    "\n// `transition` answers every event of a task.\n",
  ])("are found in %j", (text) => {
    expect(openingBreaches("server/src/x.ts", text)).toEqual([]);
  });

  it.each([
    `import x from "y";\n// Which tasks are due? It writes nothing.`,
    "",
    "// utilities\nexport {};",
    "// no sentence at all without an end\nexport {};",
    "// Short one.\nexport {};",
    "//\nexport {};",
    "export {};",
  ])("are missed in %j", (text) => {
    expect(openingBreaches("server/src/x.ts", text)).toHaveLength(1);
  });

  it("are asked of migrations too", () => {
    const tree = memoryTree({
      "migrations/0001_tasks.sql": "-- Holds what was submitted, once and for all.\nCREATE TABLE x ();",
      "migrations/0002_x.sql": "CREATE TABLE y ();",
    });
    expect(migrationBreaches(tree).map(({ path }) => path)).toEqual(["migrations/0002_x.sql"]);
  });
});

describe("length", () => {
  const lines = (count: number): string => "x();\n".repeat(count);

  it("is 400 lines of source and 600 of test, and one more is too much", () => {
    expect(lengthBreaches(parse("server/src/api/x.ts", lines(400)))).toEqual([]);
    expect(lengthBreaches(parse("server/src/api/x.ts", lines(401)))).toHaveLength(1);
    expect(lengthBreaches(parse("test/unit/x.test.ts", lines(600)))).toEqual([]);
    expect(lengthBreaches(parse("test/unit/x.test.ts", lines(601)))).toHaveLength(1);
  });

  it("of a function is 70 lines, but for switches, statements of SQL and named functions inside", () => {
    const body = (inside: string): string => `export function f() {\n${inside}}\n`;
    const found = (text: string) => functionBreaches(parse("server/src/storage/x.ts", text));
    expect(found(body(lines(68)))).toEqual([]);
    expect(found(body(lines(69)))).toHaveLength(1);
    expect(found(`const f = () => {\n${lines(69)}};`)).toHaveLength(1);
    expect(found(`class C { m() {\n${lines(69)}} }`)).toHaveLength(1);
    expect(found(body(`switch (x) {\n${"case 1: return 2;\n".repeat(100)}}\n`))).toEqual([]);
    expect(found(body(`return db.query(\`${"SELECT\n".repeat(100)}\`);\n`))).toEqual([]);
    expect(found(body(`return { a: \`${"SELECT\n".repeat(60)}\`, b: \`${"SELECT\n".repeat(60)}\` };\n`))).toEqual([]);
    expect(found(body(`const g = () => {\n${lines(60)}};\nreturn { h() {\n${lines(60)}}, i: () => {\n${lines(60)}} };\n`))).toEqual([]);
    expect(found(body(`const g = () => {\n${lines(69)}};\n`))).toHaveLength(1);
    expect(found(body(`list.map(() => {\n${lines(69)}});\n`))).toHaveLength(2);
  });
});

describe("comments", () => {
  it.each([
    "// TODO later",
    "x(); // FIXME",
    "/* XXX */",
    "// HACK around it",
    "// @ts-ignore",
    "// @ts-nocheck",
    "// @ts-expect-error",
    "// eslint-disable-next-line x",
    "/* eslint-disable */",
    "/* eslint no-console: off */",
    "// prettier-ignore",
    "f(a, /* TODO */ b);",
    "const x = [\n  // TODO\n];",
    "/** TODO: x */\nf();",
    "if (x) {\n  // TODO\n}",
  ])("that say %j are refused", (text) => {
    expect(commentBreaches(parse("server/src/x.ts", text))).toHaveLength(1);
  });

  it.each([
    `const x = "// TODO";`,
    "const x = `// TODO ${y} // FIXME`;",
    "const x = /TODO/;",
    "// Todo lists are tasks.",
    `const u = "https://x/TODO";`,
  ])("are not seen in %j", (text) => {
    expect(commentBreaches(parse("server/src/x.ts", text))).toEqual([]);
  });

  it("may expect an error in tests of types only", () => {
    expect(commentBreaches(parse("test/unit/x.test.ts", "// @ts-expect-error"))).toEqual([]);
    expect(commentBreaches(parse("test/unit/x.test.ts", "// @ts-ignore"))).toHaveLength(1);
  });
});

describe("tests that do not run", () => {
  it.each([
    `it.skip("x", f);`,
    `test.only("x", f);`,
    `describe.only("x", f);`,
    `it.todo("x");`,
    `it.fails("x", f);`,
    `it.skipIf(a)("x", f);`,
    `describe.runIf(a)("x", f);`,
    `it.concurrent.skip("x", f);`,
    `it.skip.each([1])("x", f);`,
    `it.each([1]).skip("x", f);`,
    `xit("x", f);`,
    `fdescribe("x", f);`,
    `it("x", { skip: true }, f);`,
    `it("x", { retry: 3 }, f);`,
    `it("x", (context) => { context.skip(); });`,
    `it("x", ({ skip }) => { skip(); });`,
  ])("are refused: %s", (text) => {
    expect(idleTestBreaches(parse("test/unit/x.test.ts", text)).length).toBeGreaterThan(0);
  });

  it.each([
    `it("x", f);`,
    `it.each([{ skip: 1 }])("x", f);`,
    `it("x", { timeout: 5 }, f);`,
    `const text = "it.skip()";`,
    `list({ only: true });`,
    `page.only;`,
  ])("are not seen in %s", (text) => {
    expect(idleTestBreaches(parse("test/unit/x.test.ts", text))).toEqual([]);
  });

  it("are also those where the runner does not look", () => {
    expect(idleTestBreaches(parse("server/src/domain/x.test.ts", ""))).toHaveLength(1);
    expect(idleTestBreaches(parse("test/other/x.test.ts", ""))).toHaveLength(1);
    expect(idleTestBreaches(parse("test/house.test.ts", ""))).toEqual([]);
    expect(idleTestBreaches(parse("test/support/x.ts", ""))).toEqual([]);
  });
});

it("all checks on style run together", () => {
  const sources = [
    parse("server/src/a.ts", "export {};"),
    parse("server/src/b.ts", `// Is it too long to be read?\n${"x();\n".repeat(400)}`),
    parse("server/src/c.ts", `// Is its function too long?\nfunction f() {\n${"x();\n".repeat(70)}}`),
    parse("server/src/d.ts", "// Does it put work off? TODO: see."),
    parse("test/unit/e.test.ts", `// Does it skip its only test?\nit.skip("x", f);`),
  ];
  expect(styleBreaches(sources).map(({ path }) => path)).toEqual(sources.map(({ path }) => path));
});

describe("names", () => {
  it.each([
    "TaskManager",
    "task-manager",
    "LEASE_HELPERS",
    "dateUtils",
    "util",
    "common",
    "commonTypes",
    "WorkerInfo",
    "info",
    "TaskV2",
    "taskV1Row",
    "data",
    "Data",
    "timeout",
  ])("say nothing: %s", (name) => {
    expect(emptyName(name)).toBeDefined();
  });

  it.each([
    "Dispatcher",
    "data-folder",
    "metadata",
    "payloadData",
    "information",
    "utilization",
    "uuidV7",
    "ipV4",
    "leaseTimeoutMs",
    "VERDICT",
    "commonality",
    "v",
    "SessionEpoch",
  ])("say something: %s", (name) => {
    expect(emptyName(name)).toBeUndefined();
  });

  it("are looked at in files, folders and exports", () => {
    const sources = [
      parse("server/src/utils/clock.ts", ""),
      parse("server/src/utils/task.ts", ""),
      parse("client/src/retry-helper.ts", ""),
      parse(
        "client/src/a.ts",
        "export const [{ data }] = x;\nexport class LeaseManager {}\nexport type Info = 1;\nconst b = 1;\nexport { b as common };\nconst util = 1;",
      ),
    ];
    expect(nameBreaches(sources).map(({ path, line }) => `${path}:${String(line)}`)).toEqual([
      "server/src/utils:1",
      "client/src/retry-helper.ts:1",
      "client/src/a.ts:1",
      "client/src/a.ts:2",
      "client/src/a.ts:3",
      "client/src/a.ts:5",
    ]);
  });

  it("of exports are read from every way to export", () => {
    const text =
      "export function a() {}\nexport enum B {}\nexport interface C {}\nexport const d = 1, e = 2;\nexport { f, g as h } from 'x';\nexport * as i from 'y';\nexport default class J {}\nfunction k() {}";
    expect(exportsOf(parse("x.ts", text)).map(({ name }) => name)).toEqual(["a", "B", "C", "d", "e", "f", "h", "i", "J"]);
  });
});

describe("the repository as it is read", () => {
  it("leaves out what tools made and installed, and finds this test", () => {
    const paths = sourcesOf(diskTree(`${import.meta.dirname}/../..`)).map(({ path }) => path);
    expect(paths).toContain("test/unit/house-text.test.ts");
    expect(paths).toContain("eslint.config.js");
    expect(paths.filter((path) => /node_modules|dist\/|^proto\/src/.test(path))).toEqual([]);
  });
});
