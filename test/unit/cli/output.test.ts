// Does the command print what came, so that people can read it and programs can parse it?
import { Payload, Task, TaskState, PendingReason } from "@leasehold/proto/leasehold/v1/task";
import { describe, expect, it } from "vitest";
import { jsonLine, jsonText, RawJson } from "../../../cli/src/output/json.js";
import { payloadText, payloadValue } from "../../../cli/src/output/payload-text.js";
import { printable, printableLines, shortened } from "../../../cli/src/output/printable.js";
import { createScreen } from "../../../cli/src/output/screen.js";
import { pairLines, tableLines } from "../../../cli/src/output/table.js";
import { changesOf } from "../../../cli/src/output/task-changes.js";
import { taskDetails } from "../../../cli/src/output/task-details.js";
import { taskRecord } from "../../../cli/src/output/task-record.js";
import { taskTable } from "../../../cli/src/output/task-rows.js";
import { duration, isoSecond, isoTime } from "../../../cli/src/output/time.js";

const seconds = (iso: string): { seconds: bigint; nanos: number } => ({ seconds: BigInt(Date.parse(iso) / 1000), nanos: 0 });
const plain = (_colour: string, text: string): string => text;
const silent = createScreen({ write: () => true }, { write: () => true }, {});
const json = (text: string): Payload => Payload.create({ data: Buffer.from(text) });

describe("durations and times", () => {
  it.each([
    [0, "0ms"],
    [850, "850ms"],
    [999.6, "1s"],
    [3_240, "3.2s"],
    [59_960, "1m"],
    [250_000, "4m 10s"],
    [3_599_900, "1h"],
    [7_500_000, "2h 5m"],
    [277_200_000, "3d 5h"],
    [-1_500, "-1.5s"],
  ])("writes %d ms as %s", (ms, text) => {
    expect(duration(ms)).toBe(text);
  });

  it("writes instants in ISO with Z, microseconds only where there are some", () => {
    expect(isoTime({ seconds: 0n, nanos: 250_000_000 })).toBe("1970-01-01T00:00:00.250Z");
    expect(isoTime({ seconds: 0n, nanos: 250_001_000 })).toBe("1970-01-01T00:00:00.250001Z");
    expect(isoSecond({ seconds: 0n, nanos: 250_000_000 })).toBe("1970-01-01T00:00:00Z");
  });
});

describe("JSON", () => {
  it("lets payloads in as they came, over several lines or on one", () => {
    const value = { id: "a", payload: new RawJson('{"n": 1.0,\n "n": 2}'), none: undefined, list: [], nested: { yes: true } };
    expect(jsonText(value)).toBe(
      '{\n  "id": "a",\n  "payload": {"n": 1.0,\n "n": 2},\n  "list": [],\n  "nested": {\n    "yes": true\n  }\n}',
    );
    expect(jsonLine(value)).toBe('{"id":"a","payload":{"n": 1.0, "n": 2},"list":[],"nested":{"yes":true}}');
  });

  it("shows bytes that are no JSON by their kind and size, and in base64 to programs", () => {
    const opaque = Payload.create({ data: Buffer.from([1, 2]), contentType: "application/x-sealed" });
    expect(payloadText(opaque)).toBe("(2 bytes of application/x-sealed)");
    expect(payloadValue(opaque)).toEqual({ contentType: "application/x-sealed", base64: "AQI=" });
    // A byte order mark, broken UTF-8 and broken JSON must not make our own output invalid.
    for (const text of [Buffer.from("\ufeff1"), Buffer.from([0x22, 0xff, 0x22]), Buffer.from("{")]) {
      expect(payloadValue(Payload.create({ data: text }))).toHaveProperty("base64");
    }
  });

  it("keeps every digit of numbers and all 64 bits of counters", () => {
    const task = Task.create({ taskId: "t", fencingToken: 2n ** 63n - 1n, metadata: json('{"n":12345678901234567890.10}') });
    const text = jsonLine(taskRecord(task));
    expect(text).toContain('"fencingToken":"9223372036854775807"');
    expect(text).toContain('"metadata":{"n":12345678901234567890.10}');
    expect(() => JSON.parse(text) as unknown).not.toThrow();
  });
});

describe("text of others", () => {
  it("cannot command the terminal", () => {
    expect(printable("a\u001b[31mred\u0007\u202e\n")).toBe("a\\u001b[31mred\\u0007\\u202e\\n");
    expect(printableLines("a\r\nb\u001b\n")).toEqual(["a", "b\\u001b"]);
  });

  it("is cut by characters, not by halves of them", () => {
    expect(shortened("😀😀😀", 2)).toBe("😀…");
    expect(shortened("ab", 2)).toBe("ab");
  });
});

describe("tables and colours", () => {
  it("align their columns, colours or not", () => {
    expect(
      tableLines(
        ["A", "B"],
        [
          ["\u001b[32mlong\u001b[0m", "x"],
          ["s", ""],
        ],
      ),
    ).toEqual(["A     B", "\u001b[32mlong\u001b[0m  x", "s"]);
    expect(
      pairLines([
        ["a", "1"],
        ["long", "2"],
        ["none", undefined],
        ["empty", ""],
      ]),
    ).toEqual(["a     1", "long  2"]);
  });

  it("are there for eyes only", () => {
    const paint = (isTTY: boolean, env: Record<string, string>): string =>
      createScreen({ write: () => true, isTTY }, { write: () => true }, env).paint("good", "ok");
    expect(paint(true, {})).toBe("\u001b[32mok\u001b[0m");
    expect(paint(true, { NO_COLOR: "" })).toBe("\u001b[32mok\u001b[0m");
    expect([paint(true, { NO_COLOR: "1" }), paint(true, { TERM: "dumb" }), paint(false, {})]).toEqual(["ok", "ok", "ok"]);
  });
});

describe("tasks", () => {
  const task = Task.create({
    taskId: "id-1",
    name: "report.render",
    queue: "reports",
    state: TaskState.PENDING,
    pendingReason: PendingReason.RETRY,
    attempt: 2,
    maxAttempts: 5,
    createTime: seconds("2026-01-31T12:00:00Z"),
    runTime: seconds("2026-01-31T12:01:00Z"),
    lastError: { code: "quota", message: "used up\u001b" },
    labels: { tenant: "acme" },
  });

  it("are listed on one line each, with what a person wants to know next", () => {
    const [, row] = taskTable([task], silent);
    expect(row).toBe("id-1  report.render  reports  PENDING (RETRY)  2/5      2026-01-31T12:00:00Z          until 2026-01-31T12:01:00Z");
  });

  it("are shown with their payloads and errors", () => {
    const lines = taskDetails({ ...task, metadata: json('{"a": 1}') }, silent);
    expect(lines).toEqual(
      expect.arrayContaining([
        "labels    tenant=acme",
        "attempt   2 of 5",
        "due       2026-01-31T12:01:00.000Z",
        "metadata",
        '{"a": 1}',
        "quota: used up\\u001b",
      ]),
    );
  });
});

describe("changes of a task", () => {
  const fresh = Task.create({ taskId: "t", state: TaskState.PENDING, pendingReason: PendingReason.NEW, attempt: 1, maxAttempts: 5 });
  const running: Task = {
    ...fresh,
    state: TaskState.RUNNING,
    pendingReason: PendingReason.UNSPECIFIED,
    workerName: "w-1",
    fencingToken: 1n,
  };

  it("are told from the first look to the end", () => {
    const saved: Task = {
      ...running,
      checkpointCount: 3n,
      executionMetadataVersion: 3n,
      executionMetadataBytes: 14,
      progress: { done: 40, total: 100, message: "rows", updateTime: undefined },
    };
    const done: Task = {
      ...saved,
      state: TaskState.COMPLETED,
      progress: undefined,
      createTime: seconds("2026-01-31T12:00:00Z"),
      finishTime: seconds("2026-01-31T12:00:04Z"),
    };
    expect(changesOf(undefined, fresh, plain)).toEqual(["PENDING (NEW)"]);
    expect(changesOf(fresh, running, plain)).toEqual(["RUNNING attempt 1 of 5 on w-1"]);
    expect(changesOf(running, saved, plain)).toEqual([
      "checkpoints 1 to 3 (execution metadata version 3, 14 bytes)",
      "progress 40 of 100 (40%): rows",
    ]);
    expect(changesOf(saved, done, plain)).toEqual(["COMPLETED after 4s"]);
  });

  it("are silent when nothing is worth a line", () => {
    expect(changesOf(running, { ...running, etag: "9" }, plain)).toEqual([]);
  });

  it("name another lease of the same state, a suspension, a failure and a cancellation", () => {
    expect(changesOf(running, { ...running, fencingToken: 2n, workerName: "w-2" }, plain)).toEqual(["RUNNING attempt 1 of 5 on w-2"]);
    expect(changesOf(running, { ...running, state: TaskState.SUSPENDED }, plain)).toEqual(["SUSPENDED until somebody proceeds it"]);
    const failed: Task = {
      ...running,
      state: TaskState.PENDING,
      pendingReason: PendingReason.RETRY,
      attempt: 2,
      runTime: seconds("2026-01-31T12:01:00Z"),
      lastError: { code: "quota", message: "used up", details: undefined, stack: "", cause: undefined },
    };
    expect(changesOf(running, failed, plain)).toEqual([
      "PENDING (RETRY) due 2026-01-31T12:01:00.000Z, attempt 2 of 5 is next: quota: used up",
    ]);
    const asked: Task = { ...running, cancelRequest: { reason: "old", deadlineTime: undefined, requestTime: undefined } };
    expect(changesOf(running, asked, plain)).toEqual(["cancel requested: old"]);
  });
});
