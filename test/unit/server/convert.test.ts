// Is a task shown as it is stored: times to the microsecond, no payload in BASIC view, no more than a message holds?
import { FinishReason, PendingReason, Task, TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import { ListTasksRequest, TaskOrder } from "@leasehold/proto/leasehold/v1/task_service";
import { DurabilityClass, RevocationReason, ServerMessage, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fromEtag, storedNow, toEtag, toTask } from "@leasehold/server/api/convert-task";
import { toDuration, toTimestamp } from "@leasehold/server/api/convert-time";
import { toServerMessages, toVerdict } from "@leasehold/server/api/convert-worker";
import {
  decodeEventToken,
  decodePageToken,
  encodeEventToken,
  encodePageToken,
  eventBinding,
  listBinding,
} from "@leasehold/server/api/page-token";
import { parseDuration, parseTimestamp } from "@leasehold/server/api/validate-time";
import { newTask } from "@leasehold/server/domain/new-task";
import type { Verdict } from "@leasehold/server/dispatch/messages";
import { storedTask, testConfig } from "../../support/api-fakes.js";

const CONFIG = testConfig();
const RETENTION = CONFIG.retentionUs;
const NOW_US = 1_700_000_000_123_456;
const PAYLOAD = { data: Buffer.from("{}"), contentType: "" };

describe("times", () => {
  it("keep every microsecond there and back", () => {
    fc.assert(
      fc.property(fc.integer({ min: -9_007_199_254_740_991, max: 9_007_199_254_740_991 }), (us) => {
        const time = toTimestamp(us)!;
        expect(time.nanos).toBeGreaterThanOrEqual(0);
        expect(parseTimestamp(time, "t", [])).toBe(us);
      }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 315_576_000_000_000 }), (us) => {
        expect(parseDuration(toDuration(us), "d", 0, 315_576_000_000_000, [])).toBe(us);
      }),
    );
  });

  it("that are over are nothing left", () => {
    expect(toDuration(-5)).toEqual({ seconds: 0n, nanos: 0 });
    expect(toTimestamp(null)).toBeUndefined();
  });
});

describe("tasks", () => {
  const running = storedTask(
    {
      state: "RUNNING",
      labels: new Map([["a", "1"]]),
      metadata: PAYLOAD,
      executionMetadata: PAYLOAD,
      progress: { done: 1, total: null, message: "m", updateUs: NOW_US },
    },
    {
      state: "RUNNING",
      pendingReason: "RETRY",
      failures: 2,
      attemptDeadlineUs: NOW_US + 5,
      totalDeadlineUs: NOW_US + 9,
      cancel: { reason: "r", requestUs: NOW_US, deadlineUs: NOW_US + 1 },
      lastError: { code: "X", message: "m", stack: "s", details: PAYLOAD, cause: { code: "Y", message: "", stack: "t" } },
      revision: 36,
    },
  );

  it("in BASIC view have sizes instead of payloads, and no stacks", () => {
    const task = toTask(running, "BASIC", RETENTION);
    expect(task).toMatchObject({
      metadata: undefined,
      executionMetadata: undefined,
      result: undefined,
      retryPolicy: undefined,
      traceContext: undefined,
      metadataBytes: 4,
      etag: "10",
      attempt: 3,
    });
    expect(task.lastError).toEqual({
      code: "X",
      message: "m",
      details: undefined,
      stack: "",
      cause: { code: "Y", message: "", details: undefined, stack: "", cause: undefined },
    });
  });

  it("in FULL view have everything", () => {
    const task = toTask(running, "FULL", RETENTION);
    expect(task).toMatchObject({
      state: TaskState.RUNNING,
      pendingReason: PendingReason.UNSPECIFIED,
      metadata: PAYLOAD,
      executionMetadata: PAYLOAD,
      labels: { a: "1" },
      lastError: { stack: "s", cause: { stack: "t" } },
    });
    expect(task.retryPolicy).toMatchObject({
      maxAttempts: 5,
      backoff: { factor: 2, jitter: 0.5 },
      lostLeaseDelays: [{ seconds: 0n }, { seconds: 10n }, { seconds: 60n }],
    });
    expect(task).toMatchObject({
      deadlineTime: toTimestamp(NOW_US + 5),
      cancelRequest: { reason: "r", deadlineTime: toTimestamp(NOW_US + 1) },
      progress: { done: 1, total: undefined },
    });
    expect(() => Task.decode(Task.encode(task).finish())).not.toThrow();
  });

  it.each([
    ["MAX_ATTEMPTS", 5, 5],
    ["NOT_RETRYABLE", 1, 1],
    ["POISONED", 2, 3],
  ] as const)("that failed with %s after %i failures show attempt %i", (reason, failures, attempt) => {
    const finish = {
      state: "FAILED",
      reason,
      finishTimeUs: NOW_US,
      keyHoldUntilUs: null,
      resultBytes: 0,
      result: null,
      error: { code: "X", message: "" },
    } as const;
    const task = toTask(storedTask({ state: "FAILED", finish }, { failures, lastError: finish.error }), "BASIC", RETENTION);
    expect(task).toMatchObject({
      attempt,
      finishReason: FinishReason[reason],
      error: { code: "X" },
      lastError: undefined,
      runTime: undefined,
      deleteTime: toTimestamp(NOW_US + RETENTION.FAILED),
    });
  });

  it("are kept at least as long as they hold their key", () => {
    const finish = {
      state: "COMPLETED",
      reason: null,
      finishTimeUs: NOW_US,
      keyHoldUntilUs: NOW_US + 2 * RETENTION.COMPLETED,
      resultBytes: 2,
      result: PAYLOAD,
      error: null,
    } as const;
    const task = toTask(storedTask({ state: "COMPLETED", finish }), "FULL", RETENTION);
    expect(task).toMatchObject({ finishReason: FinishReason.UNSPECIFIED, result: PAYLOAD, keyHoldUntilTime: task.deleteTime });
  });

  it("that were just stored are due by the clock of the statement that stored them", () => {
    const { live, ...stored } = storedTask();
    const submission = {
      ...live.identity,
      ...stored,
      queue: "q",
      metadata: PAYLOAD,
      priority: 1,
      keyConflictPolicy: "REJECT",
      metadataFingerprint: null,
      contentHash: null,
      keyHoldUs: 0,
    } as const;
    const due = toTask(storedNow(newTask(submission, NOW_US), NOW_US + 7), "BASIC", RETENTION);
    expect(due).toMatchObject({
      createTime: toTimestamp(NOW_US + 7),
      runTime: toTimestamp(NOW_US + 7),
      metadataBytes: 2,
      etag: "1",
      pendingReason: PendingReason.NEW,
    });
    const later = toTask(storedNow(newTask({ ...submission, scheduleUs: NOW_US + 99 }, NOW_US), NOW_US + 7), "BASIC", RETENTION);
    expect(later).toMatchObject({ runTime: toTimestamp(NOW_US + 99), pendingReason: PendingReason.SCHEDULED });
  });
});

describe("etags", () => {
  it("come back as the revision, and nothing else does", () => {
    for (const revision of [1, 35, 36, 999_999_999]) expect(fromEtag(toEtag(revision))).toBe(revision);
    for (const odd of ["", "01", "A", "-1", " 1", "zzzzzzzzzzzz", "1.5"]) expect(fromEtag(odd)).toBe(-1);
  });
});

describe("page tokens", () => {
  const request = ListTasksRequest.create({ filter: { names: ["a"], labels: { a: "1", b: "2" } }, pageSize: 7 });
  const start = { timeUs: NOW_US, id: storedTask().id };
  const binding = listBinding(request, "default");
  const token = encodePageToken(start, binding);
  const refusal = expect.objectContaining({ refusal: expect.objectContaining({ reason: "INVALID_PAGE_TOKEN" }) as unknown }) as unknown;
  const refusalOf = (decode: () => unknown): unknown => {
    try {
      return decode();
    } catch (error) {
      return error;
    }
  };

  it("work with the same query, whatever its page size, view and order of labels", () => {
    expect(decodePageToken(token, binding)).toEqual(start);
    const same = { ...request, pageSize: 50, view: TaskView.FULL, filter: { ...request.filter!, labels: { b: "2", a: "1" } } };
    expect(decodePageToken(token, listBinding(same, "default"))).toEqual(start);
    expect(decodePageToken("", binding)).toBeNull();
  });

  it("do not work with another query or namespace, cut, or with any bit changed", () => {
    for (const other of [
      listBinding({ ...request, order: TaskOrder.OLDEST_FIRST }, "default"),
      listBinding({ ...request, filter: undefined }, "default"),
      listBinding({ ...request, filter: { ...request.filter!, metadataContains: "1" } }, "default"),
      listBinding(request, "other"),
    ])
      expect(refusalOf(() => decodePageToken(token, other))).toEqual(refusal);
    const bytes = Buffer.from(token, "base64url");
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(refusalOf(() => decodePageToken(changed.toString("base64url"), binding))).toEqual(refusal);
    }
    for (const odd of [token.slice(0, -1), `${token}A`, "x".repeat(10_000), "%"])
      expect(refusalOf(() => decodePageToken(odd, binding))).toEqual(refusal);
  });

  it("of a timeline keep every digit of their place, and are of one task", () => {
    const at = { timeUs: NOW_US + 1, fencingToken: 2 ** 40 + 3, revision: 4, place: 32_767 };
    const events = eventBinding("default", start.id);
    const sealed = encodeEventToken(at, events);
    expect(decodeEventToken(sealed, events)).toEqual(at);
    expect(decodeEventToken("", events)).toBeNull();
    for (const other of [eventBinding("default", "0190b6f2-3c1e-7b7a-9d3e-000000000000"), eventBinding("other", start.id), binding])
      expect(refusalOf(() => decodeEventToken(sealed, other))).toEqual(refusal);
    expect(refusalOf(() => decodePageToken(sealed, events))).toEqual(refusal);
  });
});

describe("messages to workers", () => {
  const verdict = (fields: Partial<Verdict> = {}): Verdict => ({
    leaseToken: "t".repeat(43),
    seq: 1,
    code: "RECORDED",
    violations: [],
    retryAfterUs: null,
    executionMetadataVersion: null,
    state: null,
    ...fields,
  });

  it("say why a report was invalid, or what was left out of it", () => {
    expect(
      toVerdict(verdict({ code: "INVALID", violations: [{ field: "complete.result.data", description: "must be JSON" }] })),
    ).toMatchObject({ code: VerdictCode.INVALID, status: { code: 3, message: "complete.result.data: must be JSON" } });
    expect(toVerdict(verdict({ code: "INVALID" })).status).toMatchObject({ code: 3 });
    expect(toVerdict(verdict({ violations: [{ field: "fail.retry_after", description: "x" }] })).status).toBeDefined();
    expect(toVerdict(verdict({ state: "PENDING", executionMetadataVersion: 4 }))).toMatchObject({
      status: undefined,
      state: TaskState.PENDING,
      executionMetadataVersion: 4n,
    });
    expect(toVerdict(verdict({ code: "RETRY_LATER", retryAfterUs: 250_000 })).retryAfter).toEqual({ seconds: 0n, nanos: 250_000_000 });
  });

  it("stay small however many verdicts there are, and lose none", () => {
    const messages = toServerMessages({ verdicts: Array.from({ length: 5_000 }, (_, index) => verdict({ seq: index + 1 })) }, CONFIG, "1");
    expect(messages.flatMap(({ verdicts }) => verdicts).map(({ reportSeq }) => reportSeq)).toEqual(
      Array.from({ length: 5_000 }, (_, index) => index + 1),
    );
    for (const message of messages) expect(ServerMessage.encode(message).finish().length).toBeLessThan(40 * 1024);
  });

  it("publish the limits in the welcome", () => {
    const [message] = toServerMessages(
      { welcome: { sessionId: "s", heartbeatIntervalUs: 5_000_000, ttlUs: 20_000_000, keptTokens: ["k"], droppedTokens: ["d"] } },
      CONFIG,
      "1.0",
      "LOCAL",
    );
    expect(message?.welcome).toMatchObject({
      keptLeaseTokens: ["k"],
      droppedLeaseTokens: ["d"],
      durability: DurabilityClass.LOCAL,
      limits: { maxPayloadBytes: 1_048_576, maxErrorBytes: 65_536, maxMessageBytes: 4_194_304, maxSlots: 10_000 },
    });
  });

  it("of which nothing is set only show that the server lives", () => {
    expect(toServerMessages({}, CONFIG, "1").map((message) => ServerMessage.encode(message).finish().length)).toEqual([0]);
    expect(
      toServerMessages({ revoked: [{ token: "t", reason: "ATTEMPT_DEADLINE" }], drain: { reconnectAfterUs: 1 } }, CONFIG, "1"),
    ).toMatchObject([
      { revoked: [{ leaseToken: "t", reason: RevocationReason.ATTEMPT_DEADLINE }], drain: { reconnectAfter: { nanos: 1000 } } },
    ]);
  });
});
