// What is tried again, when, and how does a call end? And what are its errors made of?
import { defineTask, ERROR_CODES, isTaskFailed, LeaseholdError, type } from "@leasehold/client";
import { durationFromMs, msFromDuration, requireDurationMs, timeFrom } from "../../../client/src/duration.js";
import { systemClock } from "../../../client/src/clock.js";
import { errorFromCall, errorFromStatus } from "../../../client/src/status.js";
import { BadRequest, ErrorInfo, ResourceInfo, RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fakeClient, failure, rejection, taskMessage } from "./fake-transport.js";

const task = defineTask({ name: "t", metadata: type<number>() });

describe("a call", () => {
  it("is tried again after UNAVAILABLE and asked-for RESOURCE_EXHAUSTED only", async () => {
    for (const code of ERROR_CODES) {
      const { client, transport, clock } = fakeClient();
      transport.answer = (_method, _request, tries) => {
        if (tries === 1) throw failure({ code });
        return { task: taskMessage(), created: true };
      };
      const outcome = client.submit(task, 1).then(
        () => "answered",
        (error: unknown) => LeaseholdError.from(error).code,
      );
      await clock.advance(1_000);
      expect(await outcome).toBe(code === "UNAVAILABLE" ? "answered" : code);
    }
    const { client, transport, clock } = fakeClient();
    transport.answer = (_method, _request, tries) => {
      if (tries === 1) throw failure({ code: "RESOURCE_EXHAUSTED", retryAfterMs: 2_000 });
      return { task: taskMessage(), created: true };
    };
    const answered = client.submit(task, 1);
    await clock.advance(1_999);
    expect(transport.calls).toHaveLength(1);
    await clock.advance(60);
    expect((await answered).created).toBe(false);
  });

  it("waits with full jitter in windows that double up to five seconds", async () => {
    const { client, transport, clock } = fakeClient({ random: () => 0.999 });
    const at: number[] = [];
    transport.answer = () => {
      at.push(clock.monotonic());
      throw failure({ code: "UNAVAILABLE" });
    };
    const failed = rejection(client.submit(task, 1, { timeout: "1m" }));
    await clock.advance(60_000);
    await failed;
    const gaps = at.slice(1).map((time, index) => Math.round(time - (at[index] ?? 0)));
    expect(gaps.slice(0, 7)).toEqual([100, 200, 400, 799, 1_598, 3_197, 4_995]);
    const eager = fakeClient({ random: () => 0 });
    eager.transport.answer = (_method, _request, tries) => {
      if (tries < 5) throw failure({ code: "UNAVAILABLE" });
      return { task: taskMessage(), created: true };
    };
    const soon = eager.client.submit(task, 1);
    await eager.clock.advance(1);
    await soon;
  });

  it("sends what is left of its timeout, and ends with the last error when another try would come too late", async () => {
    const { client, transport, clock } = fakeClient();
    transport.answer = () => {
      throw failure({ code: "UNAVAILABLE", message: "no route" });
    };
    const failed = rejection(client.submit(task, 1, { timeout: "1s" }));
    await clock.advance(1_000);
    expect(await failed).toMatchObject({ code: "UNAVAILABLE", retryable: false });
    const deadlines = transport.calls.map(({ deadlineMs }) => deadlineMs ?? 0);
    expect(deadlines[0]).toBe(1_000);
    expect(deadlines).toEqual(deadlines.toSorted((a, b) => b - a));
    expect(clock.pending).toBe(0);
  });

  it("ends at once with the caller's signal, also one that fired before", async () => {
    const { client, transport, clock } = fakeClient();
    transport.answer = () => new Promise(() => undefined);
    const controller = new AbortController();
    const pending = rejection(client.handle(task, "x").snapshot({ signal: controller.signal }));
    await clock.advance(10);
    controller.abort(new Error("changed my mind"));
    expect(await pending).toMatchObject({ code: "CANCELLED", cause: { message: "changed my mind" } });
    expect((await rejection(client.submit(task, 1, { signal: AbortSignal.abort() }))).code).toBe("CANCELLED");
    expect(clock.pending).toBe(0);
  });
});

describe("an error", () => {
  it("is recognized by its brand, also from another copy of the package", () => {
    const foreign = Object.assign(new Error("x"), { code: "NOT_FOUND", [Symbol.for("leasehold.error")]: true });
    expect([LeaseholdError.is(foreign), LeaseholdError.from(foreign)]).toEqual([true, foreign]);
    expect([LeaseholdError.is(new Error("x")), LeaseholdError.is(null), LeaseholdError.is("x")]).toEqual([false, false, false]);
  });

  it("is made of whatever is thrown, without throwing", () => {
    const own = failure({ code: "NOT_FOUND" });
    expect(LeaseholdError.from(own)).toBe(own);
    for (const thrown of [
      new Error("disk"),
      "text",
      null,
      undefined,
      5n,
      {
        toString: () => {
          throw new Error("no");
        },
      },
      Object.create(null),
    ]) {
      expect(LeaseholdError.from(thrown)).toMatchObject({ code: "UNKNOWN", retryable: false });
    }
    expect(LeaseholdError.from(new Error("disk"))).toMatchObject({ message: "UNKNOWN: disk", cause: { message: "disk" } });
  });

  it("says its code in the message and links to its page", () => {
    expect(failure({ code: "ABORTED", message: "etag" })).toMatchObject({
      message: "ABORTED: etag",
      help: expect.stringMatching(/errors\.md#aborted$/) as string,
    });
  });

  it("reads every google.rpc detail, and survives those it cannot read", () => {
    const any = (name: string, value: Uint8Array) => ({ typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(value) });
    const details = [
      any("ErrorInfo", ErrorInfo.encode({ reason: "TASK_REMOVED", domain: "leasehold", metadata: {} }).finish()),
      any("RetryInfo", RetryInfo.encode({ retryDelay: durationFromMs(1_500) }).finish()),
      any("BadRequest", BadRequest.encode(BadRequest.create({ fieldViolations: [{ field: "a.b", description: "odd" }] })).finish()),
      any("ResourceInfo", ResourceInfo.encode(ResourceInfo.create({ resourceType: "Task", resourceName: "id-1" })).finish()),
      any("BadRequest", Buffer.from([0xff, 0xff, 0xff])),
      any("Unheard", Buffer.from([1])),
    ];
    const expected = {
      code: "TASK_REMOVED",
      reason: "TASK_REMOVED",
      retryAfterMs: 1_500,
      violations: [{ path: "a.b", message: "odd" }],
      taskId: "id-1",
    };
    expect(errorFromStatus({ code: 5, message: "gone", details })).toMatchObject(expected);
    expect(errorFromCall(5, "gone", Status.encode({ code: 5, message: "gone", details }).finish())).toMatchObject(expected);
    expect(errorFromCall(14, "away", Buffer.from("not a status"))).toMatchObject({ code: "UNAVAILABLE", retryable: true });
    expect(errorFromCall(99, "", undefined)).toMatchObject({ code: "UNKNOWN", message: "UNKNOWN: unknown" });
  });

  it("of a failed task is narrowed by its own definition only", () => {
    const error = failure({ code: "TASK_FAILED", taskName: "t", failure: { code: "HANDLER_ERROR", message: "x" } });
    expect([isTaskFailed(error, task), isTaskFailed(error, defineTask({ name: "u" })), isTaskFailed(new Error("x"), task)]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe("a duration", () => {
  it("is a text with a unit or milliseconds, up to ten years", () => {
    const given: [unknown, number][] = [
      ["250ms", 250],
      ["1s", 1_000],
      ["1.5h", 5_400_000],
      ["5m", 300_000],
      ["7d", 604_800_000],
      ["3650d", 315_360_000_000],
      [0, 0],
      [1_500, 1_500],
    ];
    for (const [input, ms] of given) expect(requireDurationMs(input, "x"), String(input)).toBe(ms);
    for (const input of ["", "1", "1 s", "-1s", "1y", "1e3s", "s", "3651d", Number.NaN, Infinity, -1, null, undefined, {}, [], true]) {
      expect(() => requireDurationMs(input, "a.b"), JSON.stringify(input)).toThrow(
        expect.objectContaining({ violations: [expect.objectContaining({ path: "a.b" })] }) as Error,
      );
    }
  });

  it("keeps its milliseconds through the protobuf form", () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 315_360_000_000 }), (value) => msFromDuration(durationFromMs(value)) === value));
  });

  it("may be a time, which is refused when it is none", () => {
    const { clock } = fakeClient();
    for (const input of [new Date(Number.NaN), { in: "soon" }, {}, null, "2026-01-01", 5]) {
      const violations: { path: string; message: string }[] = [];
      timeFrom(input, "at", violations, clock);
      expect(violations, JSON.stringify(input)).toHaveLength(1);
    }
  });
});

describe("the system's clock", () => {
  it("waits longer than setTimeout can, and can be told not to", async () => {
    const fired: string[] = [];
    const never = systemClock.timer(10 * 365 * 86_400_000, () => fired.push("ten years"));
    await new Promise<void>((resolve) => systemClock.timer(20, resolve));
    never.cancel();
    expect(fired).toEqual([]);
  });
});
