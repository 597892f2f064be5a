// Does everything that is promised hold while faults of every kind come at random? A run of about a minute from a fixed seed, and the proof that such
// a run is able to find something.
import { describe, expect, it } from "vitest";
import { NEMESES, runFaults } from "./run-faults.js";

const SEED = 20_260;
const LIMIT_MS = 600_000;

describe("a run with faults", () => {
  it("breaks no promise", { timeout: LIMIT_MS }, async () => {
    const { violations, report, done, summary } = await runFaults({ seed: SEED, minutes: 1.1, perSecond: 20 });
    expect(violations.length, `${report}\n\n${summary}`).toBe(0);
    // What a machine does not permit is left out by name; everything else had its turn.
    const missing = NEMESES.filter((name) => !done.has(name));
    expect(missing.filter((name) => name !== "disk-full").length, `only ${[...done.keys()].join(", ")}`).toBeLessThan(6);
  });

  it("finds what a Postgres forgot that acknowledges before it writes", { timeout: LIMIT_MS }, async () => {
    const run = { seed: SEED, minutes: 0.15, perSecond: 20, nemeses: ["kill-postgres"] };
    const { violations, summary } = await runFaults({ ...run, saboteur: "synchronous-commit-off" });
    expect(
      violations.map(({ guarantee }) => guarantee),
      summary,
    ).toContain("G1");
  });
});
