// Is the conformance kit whole: are its scenarios readable, told in the docs, and are typos refused? Do its outputs parse, whatever a worker says?
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { BROKEN } from "../../../cli/src/conform/fixtures/broken.js";
import { LeaseBook } from "../../../cli/src/conform/lease-book.js";
import { junitText, scoreLine, tapText } from "../../../cli/src/conform/outputs.js";
import type { Result } from "../../../cli/src/conform/run.js";
import { parseScenario, readScenarios, type Scenario } from "../../../cli/src/conform/scenario.js";
import { CheckpointReport, CompleteReport, Report, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { parseTap, parseXml } from "../../support/test-reports.js";

const ROOT = join(import.meta.dirname, "../../..");
const SUBJECTS = [
  "handshake delivery slots heartbeats silence stale verdict resent reconnect checkpoint cancel suspend deadline drain revoked unknown large",
].flatMap((line) => line.split(" "));

let scenarios: Scenario[];
beforeAll(async () => {
  scenarios = await readScenarios();
});

describe("the scenarios", () => {
  it("are at least thirty, about every part of the contract", () => {
    expect(scenarios.length).toBeGreaterThanOrEqual(30);
    const subjects = new Set(scenarios.map(({ name }) => name.replace(/-.*/, "")));
    expect([...subjects].sort()).toEqual([...SUBJECTS].sort());
  });

  it("are those that docs/workers.md lists, with their titles", () => {
    expect(tableOf("### Scenarios")).toEqual(scenarios.map(({ name, title }) => [name, title]));
  });

  it("are named in the traps of docs/workers.md only if they exist", () => {
    const [traps = ""] = section("## Traps");
    const named = [...traps.matchAll(/`([a-z]+-[a-z-]*\*?)`/g)].map(([, name = ""]) => name);
    expect(named.length).toBeGreaterThan(10);
    const exists = (name: string): boolean =>
      scenarios.some((one) => one.name === name || (name.endsWith("*") && one.name.startsWith(name.slice(0, -1))));
    expect(named.filter((name) => !exists(name))).toEqual([]);
  });

  it.each([
    [{ title: "t", rule: "r", steps: [] }, /steps must be a list that is not empty/],
    [{ title: "t", rule: "r", steps: [{ do: "conect" }] }, /steps\[0\]: there is no verb "conect"/],
    [{ title: "t", rule: "r", steps: [{ do: "report", lease: "a", kid: "fail" }] }, /"report" has no field "kid"/],
    [{ title: "t", rule: "r", steps: [{ do: "stays", forMs: "1s" }] }, /forMs is "1s"/],
    [{ title: "t", rule: "r", steps: [{ do: "hello", holds: "a" }] }, /holds is "a"/],
    [{ title: "t", rule: "r", steps: [{ do: "silence", on: 1 }] }, /on is 1/],
    [{ title: "t", rule: "r", steps: [{ do: "verdict", lease: "a", code: "RECRODED" }] }, /code is "RECRODED"/],
    [{ title: "t", rule: "r", steps: [{ do: "report", lease: "a", kinds: ["finish"] }] }, /kinds is \["finish"\]/],
    [{ title: "t", rule: "r", steps: [{ do: "exit" }] }, /"exit" needs the field "code"/],
    [{ title: "t", why: "r", steps: [{ do: "cut" }] }, /there is no field "why"/],
    [{ title: 1, rule: "r", steps: [{ do: "cut" }] }, /title and rule must be texts/],
    [[], /must be an object/],
  ])("refuse what is not understood: %j", (value, message) => {
    expect(() => parseScenario("x", value)).toThrow(message);
  });
});

describe("the broken workers", () => {
  it("are those that docs/workers.md lists, and each fails scenarios that exist", () => {
    expect(tableOf("### Workers that are wrong")).toEqual(Object.entries(BROKEN).map(([name, { does }]) => [name, does]));
    const names = scenarios.map(({ name }) => name);
    expect(Object.values(BROKEN).flatMap(({ fails }) => fails.filter((name) => !names.includes(name)))).toEqual([]);
  });
});

describe("the book of leases", () => {
  const checkpoint = { checkpoint: CheckpointReport.create() };

  it("finds what no conforming worker sends", () => {
    const book = new LeaseBook();
    const leaseToken = book.give("a");
    const read = (parts: Partial<Report>, stream = 1): string | undefined =>
      book.read(Report.create({ leaseToken, reportSeq: 1, ...parts }), stream).fault;
    expect(read({ leaseToken: "x", ...checkpoint })).toBe("a report about a lease that was never given");
    expect(read({})).toBe("report 1 of a has 0 kinds instead of one");
    expect(read({ reportSeq: 3, ...checkpoint })).toBe("report 3 of a came where number 2 was due");
  });

  it("bears what is sent again, and finds another content, a report after the outcome and a wrong order on a new stream", () => {
    const book = new LeaseBook();
    const leaseToken = book.give("a");
    const read = (reportSeq: number, parts: Partial<Report>, stream: number): string | undefined =>
      book.read(Report.create({ leaseToken, reportSeq, ...parts }), stream).fault;
    expect([read(1, checkpoint, 1), read(2, checkpoint, 1), read(1, checkpoint, 2), read(2, checkpoint, 2)]).toEqual(
      Array(4).fill(undefined),
    );
    expect(read(2, checkpoint, 3)).toBe("report 2 of a came on a new stream before report 1, which has no verdict");
    expect(read(1, { complete: CompleteReport.create() }, 3)).toBe("report 1 of a was sent again with another content");
    expect(read(3, { complete: CompleteReport.create() }, 2)).toBe(
      "report 3 of a came on a new stream before report 1, which has no verdict",
    );
    expect(read(4, checkpoint, 2)).toBe("report 4 of a came after its outcome");
  });

  it("answers as a server does", () => {
    const book = new LeaseBook();
    const leaseToken = book.give("a");
    for (const reportSeq of [1, 2]) book.read(Report.create({ leaseToken, reportSeq, ...checkpoint }), 1);
    const code = (reportSeq: number): string => VerdictCode[book.answer({ leaseToken, reportSeq }).code];
    expect([code(2), code(1), code(1), code(2)]).toEqual(["RETRY_LATER", "RECORDED", "ALREADY_RECORDED", "RECORDED"]);
    expect(VerdictCode[book.answer({ leaseToken: "x", reportSeq: 1 }).code]).toBe("LEASE_LOST");
  });
});

describe("the outputs", () => {
  const odd = 'it said "<no>" & \u0000\u001b[31m # ]]> \\ \ud800 日本';
  const scenario = { name: "odd-one", title: "bears # and <marks>", rule: "a rule & more", steps: [{ do: "cut" as const }] };
  const results: Result[] = [
    { scenario: { ...scenario, name: "good-one" }, durationMs: 1_234 },
    { scenario, durationMs: 10, failure: { step: 1, expected: "a\nb", saw: odd, transcript: ["0.1 ← hello", odd], said: odd } },
  ];

  it("say the score", () => {
    expect(scoreLine(results)).toBe("1 of 2 scenarios passed");
    expect(scoreLine(results.slice(0, 1))).toBe("1 of 1 scenarios passed, full marks");
  });

  it("are TAP that a reader of TAP understands", () => {
    const tests = parseTap(tapText(results));
    expect(tests.map(({ ok, number, title }) => [ok, number, title])).toEqual([
      [true, 1, "good-one: bears # and <marks>"],
      [false, 2, "odd-one: bears # and <marks>"],
    ]);
    expect(tests[0]?.diagnostics).toEqual({ duration_ms: 1_234 });
    expect(tests[1]?.diagnostics).toMatchObject({ expected: "a\nb", step: 1, rule: "a rule & more", transcript: ["0.1 ← hello", odd] });
  });

  it("are JUnit XML that is well formed, without characters that XML cannot hold", () => {
    const root = parseXml(junitText(results));
    expect([root.name, root.attributes["tests"], root.attributes["failures"]]).toEqual(["testsuites", "2", "1"]);
    const cases = root.children[0]?.children ?? [];
    expect(cases.map(({ attributes }) => attributes["name"])).toEqual(["good-one: bears # and <marks>", "odd-one: bears # and <marks>"]);
    const [failure] = cases[1]?.children ?? [];
    expect(failure?.attributes["message"]).toBe('expected a\nb, saw it said "<no>" & [31m # ]]> \\  日本');
    expect(failure?.text).toContain("the rule:  a rule & more");
  });
});

function section(heading: string): string[] {
  const text = readFileSync(join(ROOT, "docs/workers.md"), "utf8");
  const [, rest = ""] = text.split(`${heading}\n`);
  return rest.split(/\n#{2,3} /);
}

/** Rows of the first table below a heading: the name in the first cell without its marks, and the second cell. */
function tableOf(heading: string): string[][] {
  const [text = ""] = section(heading);
  return [...text.matchAll(/^\| `([^`=]+)` \| (.*) \|$/gm)].map(([, name = "", cell = ""]) => [name, cell]);
}
