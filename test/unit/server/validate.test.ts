// Which requests are let in, which are refused, and with which path? Parsers are pure, so they are abused here in tables.
import fc from "fast-check";
import { RetryAction, RetryPolicy, TaskError, TaskReference, TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import { KeyConflictPolicy, NewTask, TaskFilter } from "@leasehold/proto/leasehold/v1/task_service";
import { Hello, Report, WorkerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect, it } from "vitest";
import type { CallContext } from "@leasehold/server/api/call";
import { jsonFault } from "@leasehold/server/api/json-text";
import { parseError } from "@leasehold/server/api/validate-error";
import { parseHello, parseSlots } from "@leasehold/server/api/validate-hello";
import { parsePayload } from "@leasehold/server/api/validate-payload";
import { parseFilter, parseReference, parseView } from "@leasehold/server/api/validate-query";
import { parseReport, parseWorkerMessage } from "@leasehold/server/api/validate-report";
import { parseRetryPolicy } from "@leasehold/server/api/validate-retry";
import { parseSubmission } from "@leasehold/server/api/validate-submission";
import { cleanText } from "@leasehold/server/api/validate-text";
import { parseDuration, parseTimestamp } from "@leasehold/server/api/validate-time";
import { parseTraceContext } from "@leasehold/server/api/validate-trace";
import type { Violation } from "@leasehold/server/domain/event";
import type { Submission } from "@leasehold/server/domain/new-task";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import { testConfig } from "../../support/api-fakes.js";

const CONFIG = testConfig();
const CONTEXT: CallContext = { namespace: "default", traceContext: null, gone: () => false, leftMs: () => Infinity, onGone: () => {} };
const ID = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";

function fields(check: (violations: Violation[]) => unknown): string[] {
  const violations: Violation[] = [];
  check(violations);
  return violations.map(({ field }) => field);
}

function submit(task: Parameters<typeof NewTask.create>[0]): Submission {
  const violations: Violation[] = [];
  const submission = parseSubmission(NewTask.create({ name: "a", ...task }), "task", CONTEXT, CONFIG, 1_700_000_000_000_000, violations);
  expect(violations).toEqual([]);
  return submission;
}

function refused(task: Parameters<typeof NewTask.create>[0]): string[] {
  return fields((violations) => parseSubmission(NewTask.create({ name: "a", ...task }), "task", CONTEXT, CONFIG, 0, violations));
}

function json(text: string): { data: Buffer; contentType: string } {
  return { data: Buffer.from(text), contentType: "" };
}

describe("JSON", () => {
  const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels);
  it.each([
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "12345678901234567890",
    "1234567890123456789012345678901234567890",
    "1.0",
    "1e2",
    "1E400",
    "-0",
    "0.100000000000000000000000000001",
    '{"a":1,"a":2}',
    '{"__proto__":{"x":1}}',
    '{"constructor":{"prototype":{}}}',
    '{"":0}',
    '{"\u00e9":1,"e\u0301":2}',
    '"\\ud800"',
    '"\u2028"',
    nested(60),
    nested(64),
    " [ ] ",
    '{"a":{}}',
    "[[],{},[1]]",
    '"\\u00e9\\n"',
    "true",
    "null",
  ])("lets in %o", (text) => expect(jsonFault(Buffer.from(text))).toBeNull());

  it.each([
    "",
    " ",
    "\ufeff1",
    "[1,]",
    '{"a":1,}',
    "{,}",
    "NaN",
    "Infinity",
    "-",
    "01",
    "1.",
    ".5",
    "1e",
    "+1",
    "'a'",
    '"a',
    '"\\x"',
    '"\\u12g4"',
    '"\n"',
    "[1 2]",
    '{"a" 1}',
    "{1:2}",
    "[",
    "]",
    "[}",
    "nul",
    "nulll",
    "1 2",
    "tru",
    "[1]]",
    '{"a":}',
    '"\u0000"',
    "undefined",
    "{]",
    nested(65),
    '{"a":'.repeat(65) + "1" + "}".repeat(65),
  ])("refuses %o", (text) => expect(jsonFault(Buffer.from(text))).toMatch(/^must be/));

  it("agrees with JSON.parse about any text", () => {
    const piece = fc.constantFrom(
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      '"a"',
      '"',
      "\\",
      "1",
      "-",
      "0",
      ".",
      "e",
      "true",
      "null",
      " ",
      "\n",
      "\\u12ab",
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join("")),
        ),
        (text) => {
          const parses = ((): boolean => {
            try {
              JSON.parse(text);
              return true;
            } catch {
              return false;
            }
          })();
          expect(jsonFault(Buffer.from(text)) === null).toBe(parses);
        },
      ),
      { numRuns: 5_000 },
    );
  });

  it("takes the largest and oddest payloads within the time of a few turns", () => {
    const keys = `{${Array.from({ length: 100_000 }, (_, index) => `"${index}":1`).join()}}`;
    for (const text of [
      "[".repeat(1_048_576),
      " ".repeat(1_048_575),
      `"${"\\u0041".repeat(170_000)}"`,
      keys,
      "[".repeat(10_000) + "]".repeat(10_000),
    ]) {
      // The best of five: what it takes by itself, whatever else the machine does.
      const tookMs = Array.from({ length: 5 }, () => {
        const began = performance.now();
        jsonFault(Buffer.from(text));
        return performance.now() - began;
      });
      expect(Math.min(...tookMs)).toBeLessThan(50);
    }
  });
});

describe("payloads", () => {
  it.each([
    [json("[1,]"), "p.data"],
    [{ data: Buffer.from([0x22, 0xff, 0x22]), contentType: "" }, "p.data"],
    [{ data: Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), contentType: "application/json" }, "p.data"],
    [{ data: Buffer.from("x"), contentType: "application/merge-patch+json" }, "p.data"],
    [{ data: Buffer.from("x"), contentType: "Application/JSON; charset=utf-8" }, "p.data"],
    [{ data: Buffer.alloc(0), contentType: "" }, "p.data"],
    [json(" ".repeat(1025)), "p.data"],
    [{ data: Buffer.from("x"), contentType: "x".repeat(129) }, "p.content_type"],
    [{ data: Buffer.from("x"), contentType: "a\0b" }, "p.content_type"],
  ])("that are wrong are refused with their path", (payload, field) => {
    expect(fields((violations) => parsePayload(payload, "p", 1024, violations))).toEqual([field]);
  });

  it("that are opaque are not looked into, and none are changed", () => {
    const opaque = { data: Buffer.from([0, 255]), contentType: "application/octet-stream" };
    expect(parsePayload(opaque, "p", 1024, [])).toBe(opaque);
    const spaced = json(' { "a" : 1.0e2 } ');
    expect(parsePayload(spaced, "p", 1024, [])?.data.toString()).toBe(' { "a" : 1.0e2 } ');
    expect(parsePayload(undefined, "p", 1024, [])).toBeNull();
  });
});

describe("times and durations", () => {
  it.each([
    [{ seconds: 0n, nanos: -1 }, "t.nanos"],
    [{ seconds: 0n, nanos: 1_000_000_000 }, "t.nanos"],
    [{ seconds: 253_402_300_800n, nanos: 0 }, "t.seconds"],
    [{ seconds: -62_135_596_801n, nanos: 0 }, "t.seconds"],
    [{ seconds: 253_402_300_799n, nanos: 0 }, "t"],
    [{ seconds: 2n ** 62n, nanos: 0 }, "t.seconds"],
  ])("refuses the time %o", (time, field) => {
    expect(fields((violations) => parseTimestamp(time, "t", violations))).toEqual([field]);
  });

  it.each([
    [{ seconds: 1n, nanos: -1 }, "d.nanos"],
    [{ seconds: -1n, nanos: 1 }, "d.nanos"],
    [{ seconds: 315_576_000_001n, nanos: 0 }, "d.seconds"],
    [{ seconds: -315_576_000_001n, nanos: 0 }, "d.seconds"],
    [{ seconds: 0n, nanos: 1_000_000_000 }, "d.nanos"],
    [{ seconds: -1n, nanos: 0 }, "d"],
    [{ seconds: 0n, nanos: -1_000 }, "d"],
    [{ seconds: 315_576_001n, nanos: 0 }, "d"],
  ])("refuses the duration %o", (duration, field) => {
    expect(fields((violations) => parseDuration(duration, "d", 0, 315_576_000_000_000, violations))).toEqual([field]);
  });

  it("keeps microseconds and is never early", () => {
    expect(parseTimestamp({ seconds: 1_700_000_000n, nanos: 123_456_789 }, "t", [])).toBe(1_700_000_000_123_457);
    expect(parseTimestamp({ seconds: -1n, nanos: 999_999_000 }, "t", [])).toBe(-1);
    expect(parseDuration({ seconds: 315_576_000n, nanos: 0 }, "d", 0, 315_576_000_000_000, [])).toBe(315_576_000_000_000);
  });
});

describe("submissions", () => {
  it("get every default", () => {
    const { id, contentHash, metadata, ...rest } = submit({});
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect([contentHash, Buffer.from(metadata.data).toString()]).toEqual([null, "null"]);
    expect(rest).toMatchObject({
      name: "a",
      queue: "default",
      executionMetadata: null,
      priority: 0,
      scheduleUs: null,
      retryPolicy: DEFAULT_RETRY_POLICY,
      key: null,
      keyHoldUs: 0,
      keyConflictPolicy: "RETURN_EXISTING",
    });
  });

  it.each(["webapp/user.created", "SendEmail", "a", "9-x_y:z/1.2", "x".repeat(128)])("take the name %o", (name) => {
    expect(submit({ name, queue: name })).toMatchObject({ name, queue: name });
  });

  it.each(["envoyé", "a b", "", "x".repeat(129), "a\n", ".a", "-a", "а", "a\0", "a\ufffd"])("refuse the name %o", (name) => {
    expect(refused({ name })).toEqual(["task.name"]);
    if (name !== "") expect(refused({ queue: name })).toEqual(["task.queue"]);
  });

  it.each<[Parameters<typeof NewTask.create>[0], string]>([
    [{ priority: 10 }, "task.priority"],
    [{ priority: -1 }, "task.priority"],
    [{ taskId: "x" }, "task.task_id"],
    [{ taskId: `{${ID}}` }, "task.task_id"],
    [{ metadata: json("{") }, "task.metadata.data"],
    [{ executionMetadata: json("{") }, "task.execution_metadata.data"],
    [{ scheduleTime: { seconds: 0n, nanos: -1 } }, "task.schedule_time.nanos"],
    [{ deadlines: { queue: { seconds: 0n, nanos: 1 } } }, "task.deadlines.queue"],
    [{ deadlines: { total: { seconds: 1n, nanos: -5 } } }, "task.deadlines.total.nanos"],
    [{ retryPolicy: { backoff: { factor: Number.NaN } } }, "task.retry_policy.backoff.factor"],
    [{ retryPolicy: { backoff: { jitter: Number.POSITIVE_INFINITY } } }, "task.retry_policy.backoff.jitter"],
    [{ retryPolicy: { backoff: { initial: { seconds: -1n, nanos: 0 } } } }, "task.retry_policy.backoff.initial"],
    [{ retryPolicy: { maxAttempts: 0 } }, "task.retry_policy.max_attempts"],
    [{ retryPolicy: { maxLostLeases: -1 } }, "task.retry_policy.max_lost_leases"],
    [{ retryPolicy: { delays: Array.from({ length: 101 }, () => ({ seconds: 1n, nanos: 0 })) } }, "task.retry_policy.delays"],
    [{ retryPolicy: { rules: [{ errorCodes: [], action: RetryAction.RETRY }] } }, "task.retry_policy.rules[0].error_codes"],
    [{ retryPolicy: { rules: [{ errorCodes: ["x"], action: RetryAction.UNRECOGNIZED }] } }, "task.retry_policy.rules[0].action"],
    [{ key: "k".repeat(257) }, "task.key"],
    [{ key: "a\ufffd" }, "task.key"],
    [{ key: "a\ud800" }, "task.key"],
    [{ keyConflictPolicy: KeyConflictPolicy.UNRECOGNIZED }, "task.key_conflict_policy"],
    [{ keyHold: { seconds: 1n, nanos: 0 } }, "task.key_hold"],
    [{ key: "k", keyHold: { seconds: 2_592_001n, nanos: 0 } }, "task.key_hold"],
    [{ metadataFingerprint: Buffer.alloc(65) }, "task.metadata_fingerprint"],
    [{ labels: { "": "x" } }, 'task.labels[""]'],
    [{ labels: { x: "y".repeat(129) } }, 'task.labels["x"]'],
    [{ labels: { "a\0": "x" } }, 'task.labels["a\\u0000"]'],
    [{ labels: { [`k${"x".repeat(200)}`]: "x" } }, `task.labels["k${"x".repeat(63)}…"]`],
    [{ labels: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [String(index), ""])) }, "task.labels"],
  ])("refuse %o", (task, field) => {
    expect(refused(task)).toEqual([field]);
  });

  it("name every fault at once", () => {
    expect(refused({ name: "", priority: 10, taskId: "x" })).toEqual(["task.task_id", "task.name", "task.priority"]);
  });

  it("fill a retry policy in from the server's defaults", () => {
    const policy = RetryPolicy.create({ maxAttempts: 2, backoff: { factor: 3 }, rules: [{ errorCodes: ["x"], action: RetryAction.FAIL }] });
    expect(parseRetryPolicy(policy, DEFAULT_RETRY_POLICY, "p", [])).toEqual({
      ...DEFAULT_RETRY_POLICY,
      maxAttempts: 2,
      factor: 3,
      rules: [{ errorCodes: ["x"], action: "FAIL", delaysUs: [] }],
    });
  });

  it("hash to the same whatever the order of labels and the trace context, and to another for other content", () => {
    const hash = (task: Parameters<typeof NewTask.create>[0]): string =>
      Buffer.from(submit({ taskId: ID, ...task }).contentHash!).toString("hex");
    const one = hash({ labels: { a: "1", b: "2" }, queue: "default" });
    expect(hash({ taskId: ID.toUpperCase(), labels: { b: "2", a: "1" }, traceContext: { traceparent: "x" } })).toBe(one);
    for (const other of [
      { labels: { a: "2", b: "1" } },
      { labels: { a: "1", b: "2" }, priority: 1 },
      { labels: { a: "1", b: "2" }, metadata: json("{}") },
    ])
      expect(hash(other)).not.toBe(one);
  });

  it("make ids that sort by the time they were made", () => {
    const ids = [1_000, 1_001, 2_000, 3_000_000].map(
      (us) => parseSubmission(NewTask.create({ name: "a" }), "task", CONTEXT, CONFIG, 1_700_000_000_000_000 + us, []).id,
    );
    expect([...ids].sort()).toEqual(ids);
  });
});

describe("references, views and filters", () => {
  it("name a task by id, or by name and key", () => {
    expect(parseReference(TaskReference.create({ taskId: ID.toUpperCase() }), "task", "n", [])).toEqual({ namespace: "n", id: ID });
    expect(parseReference(TaskReference.create({ name: "a", key: "k" }), "task", "n", [])).toEqual({ namespace: "n", name: "a", key: "k" });
  });

  it.each([
    [undefined, ["task"]],
    [{}, ["task"]],
    [{ taskId: "x" }, ["task.task_id"]],
    [{ taskId: ID, key: "k" }, ["task"]],
    [{ name: "a" }, ["task.key"]],
    [{ key: "k" }, ["task.name"]],
  ])("refuse %o", (reference, expected) => {
    expect(fields((violations) => parseReference(reference && TaskReference.create(reference), "task", "n", violations))).toEqual(expected);
  });

  it.each([
    [{ states: [TaskState.UNSPECIFIED] }, "filter.states[0]"],
    [{ states: [TaskState.PENDING, TaskState.UNRECOGNIZED] }, "filter.states[1]"],
    [{ names: Array.from({ length: 101 }, () => "a") }, "filter.names"],
    [{ names: ["a", "b c"] }, "filter.names[1]"],
    [{ taskIds: ["x"] }, "filter.task_ids[0]"],
    [{ createTimeFrom: { seconds: 0n, nanos: -1 } }, "filter.create_time_from.nanos"],
  ])("refuse the filter %o", (filter, field) => {
    expect(fields((violations) => parseFilter(TaskFilter.create(filter), "filter", violations))).toEqual([field]);
    expect(fields((violations) => parseView(TaskView.UNRECOGNIZED, "FULL", violations))).toEqual(["view"]);
  });
});

describe("hello", () => {
  const hello = (more: Parameters<typeof Hello.create>[0]): Hello =>
    Hello.create({ workerName: "w", slots: 1, connection: 1, handlers: [{ taskName: "a" }], ...more });

  it("keeps what it says", () => {
    expect(
      parseHello(
        hello({ sessionTtl: { seconds: 5n, nanos: 0 }, labels: { zone: "a" }, handlers: [{ taskName: "a", slots: 0 }, { taskName: "b" }] }),
        [],
      ),
    ).toMatchObject({
      ttlUs: 5_000_000,
      handlers: [
        { taskName: "a", slots: 0 },
        { taskName: "b", slots: null },
      ],
      sessionId: null,
    });
  });

  it.each([
    [{ workerName: "" }, "hello.worker_name"],
    [{ slots: -1 }, "hello.slots"],
    [{ slots: 10_001 }, "hello.slots"],
    [{ connection: 0 }, "hello.connection"],
    [{ handlers: [] }, "hello.handlers"],
    [{ handlers: Array.from({ length: 501 }, (_, index) => ({ taskName: `a${index}` })) }, "hello.handlers"],
    [{ handlers: [{ taskName: "a" }, { taskName: "a" }] }, "hello.handlers[1].task_name"],
    [{ handlers: [{ taskName: "a b" }] }, "hello.handlers[0].task_name"],
    [{ handlers: [{ taskName: "a", slots: -1 }] }, "hello.handlers[0].slots"],
    [{ queues: Array.from({ length: 101 }, () => "q") }, "hello.queues"],
    [{ queues: [""] }, "hello.queues[0]"],
    [{ sessionTtl: { seconds: 1n, nanos: 0 } }, "hello.session_ttl"],
    [{ sessionTtl: { seconds: 3601n, nanos: 0 } }, "hello.session_ttl"],
    [{ sessionId: "x" }, "hello.session_id"],
    [{ heldLeaseTokens: ["x"] }, "hello.held_lease_tokens"],
    [{ labels: { "a\ufffd": "" } }, 'hello.labels["a\ufffd"]'],
  ])("refuses %o", (more, field) => {
    expect(fields((violations) => parseHello(hello(more), violations))).toEqual([field]);
  });

  it("later slots are bounded and never refused", () => {
    expect(parseSlots({ total: -5, handlers: [{ taskName: "a", slots: 99_999 }] })).toEqual({
      total: 0,
      handlers: [{ taskName: "a", slots: 10_000 }],
    });
  });
});

describe("reports", () => {
  const LIMITS = { payloadBytes: 1024, errorBytes: 4096 };
  const body = (report: Parameters<typeof Report.create>[0]) =>
    parseReport(Report.create({ leaseToken: "t", reportSeq: 1, ...report }), LIMITS).body;
  const bad = json("{");

  it("keep the trace context of their attempt where it is valid, and are never refused for it", () => {
    const traceContext = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "", baggage: "" };
    const report = (traceparent: string) =>
      parseReport(Report.create({ leaseToken: "t", reportSeq: 1, complete: {}, traceContext: { traceparent } }), LIMITS);
    expect(report(traceContext.traceparent)).toMatchObject({ body: { kind: "complete" }, traceContext });
    expect(report("00-zz")).toMatchObject({ body: { kind: "complete" } });
    expect(report("00-zz")).not.toHaveProperty("traceContext");
  });

  it("must have exactly one kind, and an empty one counts", () => {
    expect(body({})).toMatchObject({ kind: "invalid", ends: false, violations: [{ field: "report" }] });
    expect(body({ complete: {}, release: {} })).toMatchObject({ kind: "invalid", ends: false });
    expect(body({ release: {} })).toMatchObject({ kind: "release", retryAfterUs: null, leftOut: [] });
    expect(body({ complete: {} })).toMatchObject({ kind: "complete", result: { contentType: "" } });
    expect(body({ cancel: {} })).toMatchObject({ kind: "cancel", error: { code: "", message: "" } });
    expect(body({ complete: {}, reportSeq: 0 })).toMatchObject({ kind: "invalid", violations: [{ field: "report_seq" }] });
  });

  it.each([
    [{ checkpoint: {} }, false, "checkpoint.execution_metadata"],
    [{ checkpoint: { executionMetadata: bad } }, false, "checkpoint.execution_metadata.data"],
    [{ complete: { result: bad } }, true, "complete.result.data"],
    [{ complete: { result: json(" ".repeat(1025)) } }, true, "complete.result.data"],
    [{ complete: { executionMetadata: bad } }, true, "complete.execution_metadata.data"],
    [{ suspend: {} }, true, "suspend"],
    [{ suspend: { untilTime: { seconds: 0n, nanos: 0 }, untilAfter: { seconds: 0n, nanos: 0 } } }, true, "suspend.until_after"],
    [{ suspend: { untilAfter: { seconds: -1n, nanos: 0 } } }, true, "suspend.until_after"],
    [{ suspend: { untilProceeded: true, executionMetadata: bad } }, true, "suspend.execution_metadata.data"],
  ])("with %o are invalid; ends the attempt: %s", (report, ends, field) => {
    expect(body(report)).toMatchObject({ kind: "invalid", ends, violations: [{ field }] });
  });

  it.each([
    [{ fail: { error: { code: "x" }, executionMetadata: bad } }, "fail", "fail.execution_metadata.data"],
    [{ fail: { retryAfter: { seconds: -1n, nanos: 0 } } }, "fail", "fail.retry_after"],
    [{ fail: { error: { details: bad } } }, "fail", "fail.error.details.data"],
    [{ cancel: { executionMetadata: bad } }, "cancel", "cancel.execution_metadata.data"],
    [{ release: { executionMetadata: bad } }, "release", "release.execution_metadata.data"],
  ])("with %o are applied without what is wrong", (report, kind, field) => {
    expect(body(report)).toMatchObject({ kind, executionMetadata: null, leftOut: [{ field }] });
  });

  it("fail retryably unless they say otherwise", () => {
    expect(body({ fail: {} })).toMatchObject({ retryable: true });
    expect(body({ fail: { retryable: false } })).toMatchObject({ retryable: false });
  });

  it("come with whatever else a message carries, and odd progress is nothing", () => {
    const message = WorkerMessage.create({
      heartbeat: { number: 3, leasesReceived: 2 },
      progress: [
        { leaseToken: "t", progress: { done: Number.NaN } },
        { leaseToken: "t", progress: { done: 1, total: Number.POSITIVE_INFINITY, message: "a\0" } },
        { leaseToken: "t" },
      ],
      drain: {},
    });
    expect(parseWorkerMessage(message, LIMITS)).toEqual({
      heartbeat: { number: 3, leasesReceived: 2 },
      slots: null,
      reports: [],
      progress: [{ leaseToken: "t", done: 1, total: null, message: "a\ufffd" }],
      drain: true,
    });
  });
});

describe("free text", () => {
  it("is cleaned, cut at a character and marked", () => {
    expect(cleanText("a\0b\ud800", 100)).toBe("a\ufffdb\ufffd");
    expect(cleanText("ü".repeat(10), 10)).toBe("üüü…");
    expect(cleanText("😀".repeat(4), 14)).toBe("😀😀…");
    expect(cleanText("x".repeat(10), 10)).toBe("x".repeat(10));
  });

  it("never grows beyond its limit, whatever it is", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), fc.integer({ min: 3, max: 100 }), (text, max) => {
        const clean = cleanText(text, max);
        expect(Buffer.byteLength(clean)).toBeLessThanOrEqual(max);
        expect(Buffer.from(clean).toString()).toBe(clean);
      }),
    );
  });

  it("of an error is kept within the error's limit, eight levels deep", () => {
    const level = { code: "C".repeat(200), message: "m".repeat(20_000), stack: "s".repeat(20_000) };
    let error: Parameters<typeof TaskError.create>[0] = level;
    for (let depth = 0; depth < 20; depth++) error = { ...level, cause: error };
    const leftOut: Violation[] = [];
    const kept = parseError(TaskError.create(error), "error", 65_536, leftOut);
    expect(Buffer.byteLength(JSON.stringify(kept))).toBeLessThan(66_500);
    expect(leftOut).toEqual([]);
    expect(kept).toMatchObject({ message: expect.stringMatching(/^m+…$/) as string, stack: expect.stringMatching(/…$/) as string });
    const details = { data: Buffer.alloc(70_000, "1"), contentType: "" };
    expect(parseError(TaskError.create({ code: "x", details }), "error", 65_536, leftOut)).toEqual({ code: "x", message: "" });
    expect(leftOut).toMatchObject([{ field: "error.details.data" }]);
  });
});

describe("trace contexts", () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  it("are kept if they are valid and ignored if not", () => {
    expect(parseTraceContext({ traceparent, tracestate: "a=b", baggage: "x".repeat(5000) })).toEqual({
      traceparent,
      tracestate: "a=b",
      baggage: "",
    });
    for (const odd of [
      "",
      "x",
      `${traceparent}-x`,
      traceparent.replace("00-", "ff-"),
      traceparent.replace("0af7651916cd43dd8448eb211c80319c", "0".repeat(32)),
      traceparent.toUpperCase(),
    ]) {
      expect(parseTraceContext({ traceparent: odd, tracestate: "", baggage: "" })).toBeNull();
    }
  });
});
