// Does a failed command say what is wrong and what to do, and end with the code that docs/cli.md promises?
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ERROR_CODES, LeaseholdError } from "@leasehold/client";
import { ConfigError } from "@leasehold/server/config";
import { MigrationError } from "@leasehold/server/migrate";
import { describe, expect, it } from "vitest";
import { CommandError } from "../../../cli/src/command-error.js";
import { serverEnvironment } from "../../../cli/src/environment.js";
import { exitCodeOf, exitCodes } from "../../../cli/src/exit-codes.js";
import { failureText } from "../../../cli/src/failure-text.js";
import { serverFailure } from "../../../cli/src/server-failure.js";

const address = "127.0.0.1:7410";

describe("exit codes", () => {
  it("are all in docs/cli.md, and no others", () => {
    const docs = readFileSync(join(import.meta.dirname, "../../../docs/cli.md"), "utf8");
    const section = /## Exit codes\n([^]*?)\n## /.exec(docs)?.[1] ?? "";
    const documented = [...section.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code));
    expect(documented).toEqual(Object.values(exitCodes));
  });

  it.each([
    ["INVALID_ARGUMENT", 2],
    ["NOT_FOUND", 3],
    ["TASK_REMOVED", 3],
    ["ALREADY_EXISTS", 4],
    ["FAILED_PRECONDITION", 4],
    ["ABORTED", 4],
    ["UNAVAILABLE", 5],
    ["DEADLINE_EXCEEDED", 5],
    ["UNAUTHENTICATED", 6],
    ["PERMISSION_DENIED", 6],
    ["INTERNAL", 70],
  ])("of %s is %d", (code, exitCode) => {
    expect(exitCodeOf(code, false)).toBe(exitCode);
  });

  it("tell overload, which passes, from a limit, which does not", () => {
    expect([exitCodeOf("RESOURCE_EXHAUSTED", true), exitCodeOf("RESOURCE_EXHAUSTED", false)]).toEqual([5, 4]);
  });

  it("are never 0 or 1 for an error of a call", () => {
    expect(ERROR_CODES.map((code) => exitCodeOf(code, false)).filter((exitCode) => exitCode < 2)).toEqual([]);
  });
});

describe("a failed call", () => {
  it("names the remedy when nothing listens", () => {
    const error = new LeaseholdError({
      code: "UNAVAILABLE",
      message: "No connection established. Last error: connect ECONNREFUSED 127.0.0.1:7410",
      retryable: true,
    });
    expect(failureText(error, address)).toEqual({
      exitCode: 5,
      lines: [
        "Cannot reach a Leasehold server at 127.0.0.1:7410 (connection refused). Start one with `leasehold dev`, or name another with --address or LEASEHOLD_ADDRESS.",
      ],
    });
  });

  it("shows the path of every invalid field, without control characters", () => {
    const violations = [
      { path: "task.name", message: "must be short" },
      { path: "task.labels", message: "bad\u001b" },
    ];
    expect(failureText(new LeaseholdError({ code: "INVALID_ARGUMENT", message: "x", violations }), address)).toEqual({
      exitCode: 2,
      lines: ["The request is not valid:", "  task.name: must be short", "  task.labels: bad\\u001b"],
    });
  });

  it("says a sentence once and names its reason", () => {
    const error = new LeaseholdError({
      code: "FAILED_PRECONDITION",
      message: "The task is finished.",
      reason: "TASK_FINISHED",
      violations: [{ path: "id", message: "The task is finished." }],
    });
    expect(failureText(error, address)).toEqual({ exitCode: 4, lines: ["The task is finished. (TASK_FINISHED)"] });
  });

  it("names the task that is not there", () => {
    const error = new LeaseholdError({ code: "NOT_FOUND", message: "There is no such task.", taskId: "t-1" });
    expect(failureText(error, address).lines).toEqual(["There is no task t-1; it may have been removed."]);
  });

  it("asks for patience while the server goes away", () => {
    const error = new LeaseholdError({ code: "UNAVAILABLE", message: "draining", reason: "SERVER_DRAINING", retryable: true });
    expect(failureText(error, address).lines[0]).toMatch(/cannot answer now: draining\. \(SERVER_DRAINING\) Try again/);
  });
});

describe("other failures", () => {
  it("end as they say", () => {
    expect(failureText(new CommandError(exitCodes.no, "No.", ["a"]), address)).toEqual({ exitCode: 1, lines: ["No.", "  a"] });
  });

  it("are bugs when nobody expected them, and keep their stack", () => {
    const failure = failureText(new TypeError("oops"), address);
    expect(failure.exitCode).toBe(70);
    expect(failure.lines[1]).toContain("TypeError: oops");
  });
});

describe("a server that does not start", () => {
  it("says what is wrong with settings, one sentence each", () => {
    expect(serverFailure(new ConfigError(["LEASEHOLD_X is no setting."]))).toMatchObject({
      exitCode: 2,
      message: "LEASEHOLD_X is no setting.",
      details: [],
    });
    expect(serverFailure(new ConfigError(["A.", "B."]))).toMatchObject({ exitCode: 2, details: ["A.", "B."] });
  });

  it("says what is wrong with the schema and with Postgres, and never the connection string", () => {
    expect(serverFailure(new MigrationError("newer"))).toMatchObject({ exitCode: 4, message: "newer" });
    const refused = Object.assign(new Error("connect ECONNREFUSED 10.0.0.1:5432"), { code: "ECONNREFUSED" });
    expect(serverFailure(new AggregateError([refused]))).toMatchObject({
      exitCode: 5,
      message: "Cannot use the database of LEASEHOLD_DATABASE_URL: nothing listens there.",
    });
    const wrong = Object.assign(new Error('database "x" does not exist'), { code: "3D000" });
    expect(serverFailure(wrong)).toMatchObject({ exitCode: 5, message: expect.stringContaining("(3D000)") as string });
  });

  it("leaves what nobody expected as it is", () => {
    const bug = new TypeError("oops");
    expect(serverFailure(bug)).toBe(bug);
  });
});

describe("the environment of a server", () => {
  it("is without what is meant for the client, which the server would refuse", () => {
    expect(
      serverEnvironment({ LEASEHOLD_ADDRESS: "a", LEASEHOLD_NAMESPACE: "n", LEASEHOLD_TOKEN: "t", LEASEHOLD_LISTEN: "l", PATH: "p" }),
    ).toEqual({ LEASEHOLD_LISTEN: "l", PATH: "p" });
  });
});
