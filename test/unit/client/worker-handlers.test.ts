// What does the worker make of what a handler does: its values, its outcome, and what it throws?
import { defineTask, handle, type HandlerContext, type HandlerFunction, type HandlerOutcome, type } from "@leasehold/client";
import { BadRequest } from "@leasehold/proto/google/rpc/error_details";
import { PendingReason } from "@leasehold/proto/leasehold/v1/task";
import { VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { settle } from "./fake-clock.js";
import { json, parsed, rejection } from "./fake-transport.js";
import { FakeWorkerServer, gate, kindOf, ms, stopWorkers } from "./fake-worker-server.js";

const task = defineTask({
  name: "t",
  metadata: z.object({
    a: z.number(),
    at: z
      .string()
      .transform((text) => new Date(text))
      .optional(),
  }),
  executionMetadata: z.object({ offset: z.number().default(0) }),
  result: type<unknown>(),
  errors: { quota: z.object({ resetsAt: z.string() }) },
});
type Context = HandlerContext<typeof task>;
type Run = HandlerFunction<typeof task>;

afterEach(stopWorkers);

/** A promise that rejects with anything. */
function gateOf(thrown: unknown): Promise<never> {
  const { promise, fail } = gate<never>();
  fail(thrown);
  return promise;
}

/** Runs one lease of metadata `{ a: 1 }` and returns the server that saw it. */
async function runOnce(run: Run, fields: object = {}): Promise<FakeWorkerServer> {
  const server = await FakeWorkerServer.start([handle(task, run)]);
  await server.lease("a", { metadata: json({ a: 1 }), ...fields });
  await settle();
  return server;
}

describe("a handler", () => {
  it("gets its task parsed, with why it runs", async () => {
    let seen: Context | undefined;
    await runOnce((ctx) => void (seen = ctx), {
      metadata: json({ a: 1, at: "2026-01-01T00:00:00Z" }),
      executionMetadata: json({ offset: 500 }),
      executionMetadataVersion: 3n,
      attempt: 2,
      key: "k",
      labels: { tenant: "x" },
      fencingToken: 7n,
      previousError: { code: "quota", message: "full", details: json({ resetsAt: "noon" }) },
      resumption: { reason: PendingReason.PROCEEDED, proceeds: [{ note: "by phone" }], unappliedPatches: [json({ b: 2 })] },
    });
    expect(seen).toMatchObject({
      id: "a",
      name: "t",
      attempt: 2,
      maxAttempts: 5,
      key: "k",
      labels: { tenant: "x" },
      fencingToken: 7n,
      draining: false,
    });
    expect(seen?.metadata).toEqual({ a: 1, at: new Date("2026-01-01T00:00:00Z") });
    expect(seen?.executionMetadata).toMatchObject({ current: { offset: 500 }, version: 3n });
    expect(seen?.resumed).toEqual({ by: "proceeded", proceeds: [{ note: "by phone", time: undefined }], unappliedPatches: [{ b: 2 }] });
    expect(seen?.previousFailure).toMatchObject({ code: "quota", data: { resetsAt: "noon" } });
  });

  it("begins with the defaults of its schema when nothing was saved", async () => {
    let current: unknown;
    await runOnce((ctx) => (current = ctx.executionMetadata.current));
    expect(current).toEqual({ offset: 0 });
  });

  it("is not called when its metadata or execution metadata does not parse, and the task is tried again later", async () => {
    let called = 0;
    const cases: [object, string][] = [
      [{ metadata: json({ a: "1", b: 2 }) }, "metadata.a"],
      [{ metadata: json({ a: 1 }), executionMetadata: json({ offset: "x" }) }, "executionMetadata.offset"],
      [{ metadata: { data: Buffer.from('{"a": 9007199254740993}'), contentType: "" } }, "metadata.a"],
      [{ metadata: { data: Buffer.from([1, 2]), contentType: "application/x-encrypted" } }, "metadata"],
    ];
    for (const [fields, path] of cases) {
      const server = await runOnce(() => (called += 1), fields);
      const { fail } = server.reports[0]!;
      expect(fail).toMatchObject({ retryable: true, retryAfter: ms(15_000), error: { code: "METADATA_INVALID" } });
      expect(fail?.error?.message).toContain(path);
      expect(parsed(fail?.error?.details)).toMatchObject({ violations: [{ path }] });
    }
    expect(called).toBe(0);
  });

  it("survives a schema that throws or rejects", async () => {
    const throwing = defineTask({ name: "t", metadata: z.object({}).refine(() => Promise.reject(new Error("no database"))) });
    const server = await FakeWorkerServer.start([handle(throwing, () => undefined)]);
    await server.lease("a", { metadata: json({}) });
    expect(server.reports[0]?.fail).toMatchObject({ retryable: true, error: { code: "METADATA_INVALID" } });
  });
});

describe("an outcome", () => {
  it("is one report of what the handler returned", async () => {
    const returned: [Run, object][] = [
      [() => ({ rows: 1 }), { complete: { result: json({ rows: 1 }) } }],
      [(ctx) => ctx.suspend({ until: { in: "1h" } }), { suspend: { untilAfter: ms(3_600_000), untilProceeded: false } }],
      [(ctx) => ctx.suspend({ until: new Date(1_000) }), { suspend: { untilTime: { seconds: 1n, nanos: 0 } } }],
      [
        (ctx) => ctx.suspend({ untilProceeded: true, timeout: "7d", executionMetadata: { offset: 9 } }),
        { suspend: { untilProceeded: true, untilAfter: ms(604_800_000), executionMetadata: json({ offset: 9 }) } },
      ],
      [
        (ctx) => ctx.fail("quota", { resetsAt: "noon" }, { retry: false, retryAfter: "5s" }),
        { fail: { retryable: false, retryAfter: ms(5_000), error: { code: "quota", details: json({ resetsAt: "noon" }) } } },
      ],
      [(ctx) => ctx.cancel("not needed"), { cancel: { error: { message: "not needed" } } }],
    ];
    for (const [run, report] of returned) {
      const server = await runOnce(run);
      expect(server.reports).toMatchObject([{ leaseToken: "a", reportSeq: 1, ...report }]);
      await server.verdict("a", 1);
      expect(server.worker.state).toMatchObject({ heldLeases: 0, running: [] });
    }
  });

  it("of something thrown is a failure that may be retried, with message, stack and cause", async () => {
    const frozen = Object.freeze(new Error("frozen"));
    const broken = Object.defineProperty(new Error("x"), "message", {
      get: () => {
        throw new Error("no");
      },
    });
    const circular = new Error("circular");
    circular.cause = circular;
    const thrown: [unknown, string][] = [
      [new Error("disk", { cause: new Error("full") }), "disk"],
      ["text", "text"],
      [null, "null"],
      [undefined, "undefined"],
      [{ odd: 1n }, "a value that cannot be shown"],
      [frozen, "frozen"],
      [broken, ""],
      [circular, "circular"],
      [new AggregateError([new Error("a")], "several"), "several"],
      [new Error("x".repeat(10_000_000)), "xxxx"],
    ];
    for (const [value, message] of thrown) {
      const server = await runOnce(() => gateOf(value));
      const { fail } = server.reports[0]!;
      expect(fail).toMatchObject({ retryable: true, error: { code: "HANDLER_ERROR" } });
      expect(fail?.error?.message).toContain(message);
      expect(JSON.stringify(fail?.error, (_key, one: unknown) => (typeof one === "bigint" ? String(one) : one)).length).toBeLessThan(
        65_536,
      );
    }
    const server = await runOnce(() => Promise.reject(new Error("disk", { cause: new Error("full") })));
    expect(server.reports[0]?.fail?.error).toMatchObject({ cause: { message: "full" } });
    expect(server.reports[0]?.fail?.error?.stack).toContain("disk");
    const several = await runOnce(() => Promise.reject(new AggregateError([new Error("first"), new Error("second")], "several")));
    expect(several.reports[0]?.fail?.error).toMatchObject({ message: "several", cause: { message: "first" } });
  });

  it("that JSON cannot hold is one failure that says why and is not retried", async () => {
    for (const value of [new Map([[1, 2]]), 5n, undefined, Number.NaN, { deep: [new Set()] }, { at: new Date(Number.NaN) }]) {
      const server = await runOnce(() => value);
      expect(server.reports).toHaveLength(1);
      expect(server.reports[0]?.fail).toMatchObject({ retryable: false, error: { code: "RESULT_INVALID" } });
      expect(server.reports[0]?.fail?.error?.message).toContain("result");
    }
  });

  it("that the server refuses ends the lease with a warning", async () => {
    const server = await runOnce(() => 1);
    const detail = BadRequest.encode(BadRequest.create({ fieldViolations: [{ field: "result", description: "too large" }] })).finish();
    const status = { code: 3, message: "too large", details: [{ typeUrl: "type.googleapis.com/google.rpc.BadRequest", value: detail }] };
    await server.verdict("a", 1, VerdictCode.INVALID, { status });
    expect(server.worker.state.heldLeases).toBe(0);
    expect(server.lines.join()).toContain("too large");
  });

  it("is sent again after RETRY_LATER, and what follows waits for it", async () => {
    const checkpoints: Promise<void>[] = [];
    const server = await runOnce((ctx) => {
      checkpoints.push(ctx.executionMetadata.checkpoint({ offset: 1 }), ctx.executionMetadata.checkpoint({ offset: 2 }));
      return "done";
    });
    expect(server.kinds).toEqual(["1 checkpoint", "2 checkpoint", "3 complete"]);
    await server.verdict("a", 1, VerdictCode.RETRY_LATER, { retryAfter: ms(2_000) });
    await server.verdict("a", 2, VerdictCode.RETRY_LATER);
    await server.verdict("a", 3, VerdictCode.RETRY_LATER);
    await server.clock.advance(1_999);
    expect(server.kinds).toHaveLength(3);
    await server.clock.advance(1);
    expect(server.kinds.slice(3)).toEqual(["1 checkpoint", "2 checkpoint", "3 complete"]);
    for (const seq of [1, 2, 3]) await server.verdict("a", seq);
    await Promise.all(checkpoints);
    expect(server.worker.state).toMatchObject({ heldLeases: 0, unacknowledgedReports: 0 });
  });
});

describe("a checkpoint", () => {
  it("made while an earlier one was told RETRY_LATER is not sent before it", async () => {
    let context: Context | undefined;
    const server = await runOnce((ctx) => {
      context = ctx;
      return new Promise<never>(() => undefined);
    });
    void context!.executionMetadata.checkpoint({ offset: 1 });
    await settle();
    await server.verdict("a", 1, VerdictCode.RETRY_LATER, { retryAfter: ms(500) });
    void context!.executionMetadata.checkpoint({ offset: 2 });
    await settle();
    expect(server.kinds).toEqual(["1 checkpoint"]);
    await server.clock.advance(500);
    expect(server.kinds).toEqual(["1 checkpoint", "1 checkpoint", "2 checkpoint"]);
  });

  it("resolves when it is recorded, in the order of the calls", async () => {
    const order: number[] = [];
    let context: Context | undefined;
    const server = await runOnce((ctx) => {
      context = ctx;
      for (const offset of [1, 2]) void ctx.executionMetadata.checkpoint({ offset }).then(() => order.push(offset));
      return new Promise<never>(() => undefined);
    });
    expect(server.reports.map(({ checkpoint }) => parsed(checkpoint?.executionMetadata))).toEqual([{ offset: 1 }, { offset: 2 }]);
    expect(order).toEqual([]);
    await server.verdict("a", 1, VerdictCode.RECORDED, { executionMetadataVersion: 4n });
    expect([order, context?.executionMetadata.current, context?.executionMetadata.version]).toEqual([[1], { offset: 1 }, 4n]);
  });

  it("of a value that JSON or the schema refuses rejects with its path, and leaves no hole in the numbers", async () => {
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    let deep: unknown = 1;
    for (let level = 0; level < 10_000; level += 1) deep = [deep];
    const thrower = {
      get offset(): number {
        throw new Error("no");
      },
    };
    class Money {
      amount = 1;
    }
    const refused: unknown[] = [
      { offset: 1n },
      circular,
      { offset: Number.NaN },
      undefined,
      () => 1,
      new Map(),
      new Date(),
      { offset: 0, money: new Money() },
      { offset: 0, text: "x".repeat(2_000_000) },
      { offset: 0, deep },
      thrower,
      { offset: "text" },
      { offset: 0, toJSON: () => 1 },
      { offset: 0, list: [undefined] },
    ];
    const errors: unknown[] = [];
    const server = await runOnce(async (ctx) => {
      for (const value of refused) errors.push(await rejection(ctx.executionMetadata.checkpoint(value as never)));
      void ctx.executionMetadata.checkpoint({ offset: 7 });
      return "done";
    });
    for (const error of errors) {
      expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
      expect((error as { violations: { path: string }[] }).violations[0]?.path).toMatch(/^executionMetadata/);
    }
    expect(errors).toHaveLength(refused.length);
    expect(server.kinds).toEqual(["1 checkpoint", "2 complete"]);
  });

  it("refused by the server rejects, and the lease goes on", async () => {
    let error: unknown;
    const server = await runOnce(async (ctx) => {
      error = await rejection(ctx.executionMetadata.checkpoint({ offset: 1 }));
      return "done";
    });
    await server.verdict("a", 1, VerdictCode.INVALID, { status: { code: 3, message: "not JSON", details: [] } });
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", message: "INVALID_ARGUMENT: not JSON" });
    expect(server.kinds).toEqual(["1 checkpoint", "2 complete"]);
  });

  it("after the handler has ended is refused, and nobody awaiting it ends nothing", async () => {
    let context: Context | undefined;
    const server = await runOnce((ctx) => {
      context = ctx;
      return "done";
    });
    expect((await rejection(context!.executionMetadata.checkpoint({ offset: 1 }))).code).toBe("FAILED_PRECONDITION");
    void context!.executionMetadata.checkpoint({ offset: 2 });
    await settle();
    expect(server.kinds).toEqual(["1 complete"]);
  });

  it("keeps the value that it was given, whatever the handler changes afterwards", async () => {
    const server = await runOnce((ctx) => {
      const next = { offset: 1 };
      void ctx.executionMetadata.checkpoint(next);
      next.offset = 99;
      return "done";
    });
    expect(parsed(server.reports[0]?.checkpoint?.executionMetadata)).toEqual({ offset: 1 });
  });
});

describe("other values", () => {
  it("of ctx.fail, ctx.suspend and ctx.progress are refused at the call, with their path", async () => {
    const calls: [(ctx: Context) => unknown, string][] = [
      [(ctx) => ctx.fail("quota", { resetsAt: 5 } as never), "data.resetsAt"],
      [(ctx) => ctx.fail("quota", { resetsAt: "x", extra: new Map() } as never), "data.extra"],
      [(ctx) => ctx.fail("unknown" as never, {} as never), "code"],
      [(ctx) => ctx.suspend({ until: new Date(Number.NaN) }), "until"],
      [(ctx) => ctx.suspend({ until: { in: "5 parsecs" as never } }), "until.in"],
      [(ctx) => ctx.suspend({} as never), "until"],
      [(ctx) => ctx.suspend({ untilProceeded: true, executionMetadata: { offset: "x" } as never }), "executionMetadata.offset"],
      [(ctx) => ctx.progress({ done: Number.NaN }), "done"],
      [(ctx) => ctx.progress({ done: 1, total: Infinity }), "total"],
    ];
    for (const [call, path] of calls) {
      let error: unknown;
      const server = await runOnce((ctx) => {
        try {
          call(ctx);
        } catch (thrown) {
          error = thrown;
        }
        return "done";
      });
      expect(error, path).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ path }] });
      expect(server.kinds).toEqual(["1 complete"]);
    }
  });

  it("of progress travel newest first, cut, and never as a report", async () => {
    const server = await runOnce((ctx) => {
      for (let done = 0; done < 100; done += 1) ctx.progress({ done, total: 100, message: "m".repeat(1_000_000) });
      return new Promise<never>(() => undefined);
    });
    await server.clock.advance(1_000);
    const progress = server.stream.received.flatMap((message) => message.progress);
    expect(progress).toHaveLength(1);
    expect(progress[0]).toMatchObject({ leaseToken: "a", progress: { done: 99, total: 100 } });
    expect(Buffer.byteLength(progress[0]?.progress?.message ?? "")).toBeLessThanOrEqual(1_024);
    expect(server.reports.map(kindOf)).toEqual([]);
  });

  it("of an asynchronous schema are checked before the report leaves", async () => {
    const slow = z.object({ resetsAt: z.string() }).refine(async () => Promise.resolve(false), "never");
    const late = defineTask({ name: "t", errors: { quota: slow } });
    const outcomes: HandlerOutcome[] = [];
    const server = await FakeWorkerServer.start([
      handle(late, (ctx) => {
        outcomes.push(ctx.fail("quota", { resetsAt: "x" }));
        return outcomes[0]!;
      }),
    ]);
    await server.lease("a");
    await settle();
    expect(server.reports[0]?.fail?.error?.message).toContain("never");
  });
});
