// What does a test see of one handler that runs with no server at all? Everything it was given comes through the SDK, everything it said is told.
import { defineMachine, defineTask, gzipCodec, handle, handleMachine, LeaseholdError } from "@leasehold/client";
import { runHandler } from "@leasehold/testing";
import { describe, expect, it, vi } from "vitest";
import { z } from "zod";

const importCsv = defineTask({
  name: "import-csv",
  metadata: z.object({ url: z.string(), tenant: z.string().transform((tenant) => tenant.toUpperCase()) }),
  executionMetadata: z.object({ offset: z.number().int().default(0) }),
  result: z.object({ rows: z.number() }),
  errors: { bad_header: z.object({ column: z.string() }) },
});
const metadata = { url: "https://example.com/rows.csv", tenant: "t1" };

describe("a handler that runs alone", { timeout: 30_000 }, () => {
  it("resumes from what is given, and its checkpoints, progress and result are seen", async () => {
    const seen: number[] = [];
    const handler = handle(importCsv, async (ctx) => {
      let { offset } = ctx.executionMetadata.current;
      expect(ctx.metadata.tenant).toBe("T1");
      while (offset < 800) {
        offset += 100;
        await ctx.executionMetadata.checkpoint({ offset });
        ctx.progress({ done: offset, message: "rows" });
      }
      return { rows: offset };
    });
    const run = await runHandler(importCsv, handler, {
      metadata,
      executionMetadata: { offset: 500 },
      codecs: [gzipCodec({ fromBytes: 0 })],
      checkpointed: ({ offset }) => seen.push(offset),
    });
    expect(run).toEqual({
      outcome: { kind: "completed", result: { rows: 800 } },
      checkpoints: [{ offset: 600 }, { offset: 700 }, { offset: 800 }],
      progress: [600, 700, 800].map((done) => ({ done, message: "rows" })),
      stops: [],
    });
    expect(seen).toEqual([600, 700, 800]);
  });

  it("may fail with a declared error, or with whatever it throws", async () => {
    const declared = await runHandler(
      importCsv,
      handle(importCsv, (ctx) => ctx.fail("bad_header", { column: "x" }, { retryAfter: "5m" })),
      { metadata },
    );
    expect(declared.outcome).toMatchObject({ kind: "failed", retryable: true, retryAfterMs: 300_000 });
    if (declared.outcome.kind === "failed" && declared.outcome.error.code === "bad_header")
      expect(declared.outcome.error.data.column).toBe("x");
    else expect.unreachable();
    const thrown = await runHandler(
      importCsv,
      handle(importCsv, () => {
        throw new Error("broken", { cause: new Error("disk") });
      }),
      { metadata, attempt: 3, maxAttempts: 3 },
    );
    expect(thrown.outcome).toMatchObject({
      kind: "failed",
      retryable: true,
      error: { code: "HANDLER_ERROR", message: "broken", cause: { message: "disk" } },
    });
    const unfit = await runHandler(
      importCsv,
      handle(importCsv, () => ({ rows: Number.NaN })),
      { metadata },
    );
    expect(unfit.outcome).toMatchObject({ kind: "failed", retryable: false, error: { code: "RESULT_INVALID" } });
  });

  it("may wait for a time or for somebody, with what it saves for then", async () => {
    const handler = handle(importCsv, (ctx) => {
      if (ctx.resumed.by === "proceeded") return ctx.suspend({ until: { in: "1h" } });
      return ctx.suspend({ untilProceeded: true, timeout: "7d", executionMetadata: { offset: 3 } });
    });
    const waits = await runHandler(importCsv, handler, { metadata });
    expect(waits).toMatchObject({
      outcome: { kind: "suspended", until: undefined, afterMs: 604_800_000, untilProceeded: true },
      checkpoints: [{ offset: 3 }],
    });
    const proceeded = await runHandler(importCsv, handler, { metadata, resumedBy: "proceeded", notes: ["by phone"] });
    expect(proceeded.outcome).toMatchObject({ kind: "suspended", afterMs: 3_600_000, untilProceeded: false });
  });

  it("is told to stop, by whom the test says, and what it does then is seen", async () => {
    const stopping = async (why: "cancelled" | "lease_lost" | "attempt_deadline" | "shutdown") => {
      const stop = new AbortController();
      const handler = handle(importCsv, async (ctx) => {
        await ctx.executionMetadata.checkpoint({ offset: 1 });
        await new Promise((_, reject) => {
          ctx.signal.addEventListener("abort", () => {
            reject(LeaseholdError.from(ctx.signal.reason));
          });
        });
        return { rows: 0 };
      });
      const run = await runHandler(importCsv, handler, {
        metadata,
        stop: { when: stop.signal, why },
        checkpointed: () => {
          stop.abort("superseded");
        },
      });
      return [run.outcome.kind, run.stops.map(({ kind }) => kind)];
    };
    expect(await stopping("cancelled")).toEqual(["cancelled", ["cancelled"]]);
    expect(await stopping("lease_lost")).toEqual(["nothing", ["lease_lost"]]);
    expect(await stopping("attempt_deadline")).toEqual(["nothing", ["attempt_deadline"]]);
    expect(await stopping("shutdown")).toEqual(["released", ["shutdown"]]);
  });

  it("is refused what nobody could have submitted or saved, with the path", async () => {
    const handler = handle(importCsv, () => ({ rows: 0 }));
    await expect(runHandler(importCsv, handler, { metadata: { url: 1 as never, tenant: "t" } })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      violations: [{ path: "metadata.url" }],
    });
    await expect(runHandler(importCsv, handler, { metadata, executionMetadata: { offset: 0.5 } })).rejects.toMatchObject({
      violations: [{ path: "executionMetadata.offset" }],
    });
    const other = defineTask({ name: "other" });
    await expect(runHandler(other, handler, {})).rejects.toThrow(/for import-csv, not for other/);
  });

  it("may be a machine: each state that it enters is a checkpoint", async () => {
    const order = defineMachine({
      name: "order",
      metadata: z.object({ orderId: z.string() }),
      states: { placed: z.object({}), awaiting: z.object({ invoice: z.string() }), paid: z.object({ receipt: z.string() }) },
      initial: { state: "placed", data: {} },
      result: z.object({ receipt: z.string() }),
    });
    const handler = handleMachine(order, {
      placed: (_data, ctx) => ctx.park("awaiting", { invoice: ctx.metadata.orderId }, { untilProceeded: true, timeout: "3d" }),
      awaiting: ({ invoice }, ctx) => ctx.goto("paid", { receipt: invoice }),
      paid: ({ receipt }, ctx) => ctx.finish({ receipt }),
    });
    const parked = await runHandler(order, handler, { metadata: { orderId: "o1" } });
    expect(parked.outcome).toMatchObject({ kind: "suspended", afterMs: 259_200_000 });
    const paid = await runHandler(order, handler, {
      metadata: { orderId: "o1" },
      executionMetadata: { state: "awaiting", data: { invoice: "i1" } },
    });
    expect(paid.outcome).toEqual({ kind: "completed", result: { receipt: "i1" } });
    expect(paid.checkpoints).toMatchObject([{ state: "paid", data: { receipt: "i1" } }]);
  });

  it("runs while the test has replaced the process's timers", async () => {
    vi.useFakeTimers();
    try {
      const handler = handle(importCsv, async (ctx) => {
        await ctx.executionMetadata.checkpoint({ offset: 2 });
        return { rows: 2 };
      });
      const { outcome } = await runHandler(importCsv, handler, { metadata });
      expect(outcome).toEqual({ kind: "completed", result: { rows: 2 } });
    } finally {
      vi.useRealTimers();
    }
  });
});
