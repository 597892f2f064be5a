// Would the demo notice if what it claims were not true? Its generator, its chunks and its checks, one by one.
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { falsehoods, rowFalsehoods, type Evidence } from "../../../cli/src/demo/checks.js";
import { readChunk, rowsOf, writeChunk, writtenRows } from "../../../cli/src/demo/chunks.js";
import { demoRows, generateCsv } from "../../../cli/src/demo/generate-csv.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "leasehold-demo-test-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("the file", () => {
  it("has at least 20,000 rows, no two alike, and is the same every time", () => {
    const rows = rowsOf(generateCsv()).slice(1);
    expect(rows.length).toBe(demoRows);
    expect(demoRows).toBeGreaterThanOrEqual(20_000);
    expect(new Set(rows).size).toBe(rows.length);
    const digest = (): string => createHash("sha256").update(generateCsv()).digest("hex");
    expect(digest()).toBe(digest());
  });
});

describe("chunks", () => {
  it("read from offset to offset carry every row once, without the header", async () => {
    const csv = generateCsv(2_000);
    const path = join(folder, "read.csv");
    writeFileSync(path, csv);
    let text = "";
    let chunks = 0;
    for (let offset = 0; ; chunks += 1) {
      const chunk = await readChunk(path, offset);
      if (chunk.rows === 0) break;
      expect(rowsOf(chunk.text).length).toBe(chunk.rows);
      text += chunk.text;
      offset = chunk.nextOffset;
    }
    expect(chunks).toBeGreaterThan(3);
    expect(rowsOf(text)).toEqual(rowsOf(csv).slice(1));
  });

  it("that are written twice count once", async () => {
    const output = join(folder, "twice");
    expect(await writeChunk(output, 20, "c\n")).toBe(true);
    expect(await writeChunk(output, 0, "a\nb\n")).toBe(true);
    expect(await writeChunk(output, 0, "a\nb\n")).toBe(false);
    expect(await writtenRows(output)).toEqual(["a", "b", "c"]);
  });

  it("that differ at the same offset are refused, and the first stands", async () => {
    const output = join(folder, "differ");
    await writeChunk(output, 0, "a\n");
    await expect(writeChunk(output, 0, "b\n")).rejects.toThrow(/another chunk/);
    expect(await writtenRows(output)).toEqual(["a"]);
  });
});

describe("the checks", () => {
  const csv = generateCsv(100);
  const seen: Evidence = {
    csv,
    arrived: rowsOf(csv).slice(1),
    killedBy: "SIGKILL",
    resumedFromRow: 50,
    resumedBy: "lease_lost",
    suspended: true,
    outcomes: {
      import: { state: "completed", result: { rows: 100 } },
      approval: { state: "completed", result: { decision: "approve" } },
      mail: { state: "completed", result: { attempts: 3 } },
    },
    mailFailures: 2,
  };

  it("pass when all was as claimed", () => {
    expect(falsehoods(seen)).toEqual([]);
  });

  it.each([
    [{ killedBy: "SIGTERM" }, /die of SIGKILL/],
    [{ resumedBy: "new" }, /lease was lost/],
    [{ resumedFromRow: 0 }, /checkpoint half way/],
    [{ resumedFromRow: undefined }, /checkpoint half way/],
    [{ suspended: false }, /never was/],
    [{ mailFailures: 1 }, /failed 1 times/],
    [{ arrived: seen.arrived.slice(1) }, /1 of 100 rows are missing/],
    [{ outcomes: { ...seen.outcomes, import: { state: "failed" } } }, /import was to complete/],
    [{ outcomes: { ...seen.outcomes, approval: { state: "completed", result: { decision: "no" } } } }, /approval was to complete/],
    [{ outcomes: { ...seen.outcomes, mail: { state: "completed", result: { attempts: 1 } } } }, /third attempt/],
  ])("fail on %j", (change, sentence) => {
    const problems = falsehoods({ ...seen, ...(change as Partial<Evidence>) });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(sentence);
  });

  it("count each row exactly once and in order", () => {
    expect(rowFalsehoods(["a", "b"], ["a", "b", "b"])).toEqual(["1 rows arrived more than once"]);
    expect(rowFalsehoods(["a", "b"], ["a", "b", "c"])).toEqual(["1 rows arrived that nobody sent"]);
    expect(rowFalsehoods(["a", "b"], ["b", "a"])).toEqual(["the rows arrived in another order"]);
  });
});
