// Does the benchmark run from end to end, every case once? Its figures mean nothing here: the machine is busy, and everything is short.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { environment, startProcess } from "../support/child-process.js";

const RUN = join(import.meta.dirname, "../../bench/run.mjs");
const limitMs = 240_000;

const positive = z.number().positive();
const Rows = z.array(
  z.strictObject({
    system: z.string(),
    case: z.string(),
    unit: z.string(),
    median: positive,
    min: positive,
    max: positive,
    runs: z.literal(1),
  }),
);

const SUBMITTED = ["a-64", "b", "c", "d-64", "e", "f"];
const BARE = ["insert-500", "lease-complete-500", "life-500"];
const CASES: Readonly<Record<string, readonly string[]>> = {
  limit: BARE,
  "limit-3": BARE,
  "grpc-echo": ["bidi-64", "unary-64"],
  leasehold: [...SUBMITTED, "e-two-servers", "g", "h"],
  "leasehold-sdk": [...SUBMITTED, "h"],
};
// Their packages are installed only where somebody compares.
const PEERS = ["pg-boss", "graphile-worker", "bullmq"];

describe("the benchmark", () => {
  it(
    "measures every case of every system that is installed, says which is not, and writes one row for each figure",
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "leasehold-bench-test-"));
      try {
        const run = startProcess(process.execPath, [RUN, "--quick", "--out", folder], { env: environment() });
        expect(await run.ended, run.said()).toBe(0);
        const rows = Rows.parse(JSON.parse(readFileSync(join(folder, "latest.json"), "utf8")));
        const casesOf = (system: string): string[] =>
          [...new Set(rows.filter((row) => row.system === system).map((row) => row.case))].sort();
        for (const [system, cases] of Object.entries(CASES)) expect(casesOf(system), system).toEqual([...cases].sort());
        for (const peer of PEERS) {
          if (!run.said().includes(`${peer} is absent: `)) expect(casesOf(peer), peer).toEqual(SUBMITTED);
        }
        const unitsOf = (key: string): string[] =>
          rows.filter((row) => row.system === "leasehold" && row.case === key).map(({ unit }) => unit);
        expect(unitsOf("e")).toEqual(["tasks/s", "server CPU µs/task", "server memory MB", "Postgres CPU µs/task", "WAL bytes/task"]);
        expect(unitsOf("f")).toEqual(["ms p50", "ms p99", "ms p50, 3 commits", "ms p99, 3 commits"]);
        expect(run.said()).toMatch(/\(e\) of the limit's life, batches of 500 +[\d.]+ +≥ 0.7 +(pass|miss)/);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
    limitMs,
  );

  it("refuses a system that it does not know with one sentence", async () => {
    const run = startProcess(process.execPath, [RUN, "--quick", "--systems", "limit,nobody"], { env: environment() });
    expect(await run.ended).toBe(2);
    expect(run.said()).toMatch(/^no such system: nobody\n/);
  });
});
