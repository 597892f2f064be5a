// Can the owner of a task change its course with the SDK, and does nobody's change get lost: proceed in every form, races, retry, cancel?
import { defineTask, handle, LeaseholdError } from "@leasehold/client";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { gate, sdkScene, until, untilSuspendedAfter } from "../../support/sdk-scene.js";

const sdk = sdkScene();
const PATIENCE = { timeout: "20s" } as const;
const UNKNOWN_ID = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";

const approval = () =>
  defineTask({
    name: sdk.name(),
    executionMetadata: z.object({ votes: z.record(z.string(), z.number()).default({}), decision: z.string().optional() }),
    result: z.object({ votes: z.record(z.string(), z.number()), decision: z.string(), notes: z.array(z.string()) }),
  });

/** Waits for a decision; suspends again and again until there is one. */
const waitsForDecision = (task: ReturnType<typeof approval>) =>
  handle(task, (ctx) => {
    const { votes, decision } = ctx.executionMetadata.current;
    if (decision === undefined) return ctx.suspend({ untilProceeded: true });
    return { votes, decision, notes: ctx.resumed.proceeds.map(({ note }) => note) };
  });

async function suspended(task: ReturnType<typeof approval>) {
  const job = await sdk.client.submit(task);
  const snapshot = await until(job, ({ state }) => state === "suspended");
  return { ...job, first: snapshot };
}

async function refusal(call: Promise<unknown>): Promise<object> {
  const thrown: unknown = await call.then(
    () => new Error("the call succeeded"),
    (error: unknown) => error,
  );
  if (!LeaseholdError.is(thrown)) throw thrown;
  const { code, reason, violations } = thrown;
  return { code, reason, ...(violations.length > 0 && { paths: violations.map(({ path }) => path) }) };
}

describe("proceed", () => {
  it("patches parts, replaces the whole, or makes the new of the old, with a note for the handler", async () => {
    const task = approval();
    await sdk.work([waitsForDecision(task)]);
    const patched = await suspended(task);
    await patched.proceed({ patch: { votes: { ann: 1 } } });
    await untilSuspendedAfter(patched, patched.first);
    await patched.proceed({ patch: { votes: { ann: null, bob: 2 }, decision: "yes" }, note: "by phone" });
    expect(await patched.result(PATIENCE)).toEqual({ votes: { bob: 2 }, decision: "yes", notes: ["by phone"] });

    const replaced = await suspended(task);
    await replaced.proceed({ replace: { decision: "no" } });
    expect(await replaced.result(PATIENCE)).toEqual({ votes: {}, decision: "no", notes: [""] });

    const updated = await suspended(task);
    await updated.proceed({ update: async (current) => ({ ...current, votes: { ...current.votes, cy: 3 }, decision: "later" }) });
    expect(await updated.result(PATIENCE)).toMatchObject({ votes: { cy: 3 }, decision: "later" });
  });

  it("with update loses no change of many that come at once", async () => {
    const task = approval();
    const job = await sdk.client.submit(task, null, { executionMetadata: { votes: { start: 0 } } });
    const go = gate();
    await sdk.work([
      handle(task, async (ctx) => {
        const { votes } = ctx.executionMetadata.current;
        // It takes turns of suspending and waking until all have voted.
        if (Object.keys(votes).length < 9) return ctx.suspend({ untilProceeded: true });
        await go.opened;
        return { votes, decision: "counted", notes: [] };
      }),
    ]);
    await until(job, ({ state }) => state === "suspended");
    const voters = [sdk.client, sdk.connect()];
    const vote = async (n: number): Promise<void> => {
      for (;;) {
        try {
          const own = voters[n % 2]!.handle(task, job.id);
          await own.proceed({ update: (now) => ({ ...now, votes: { ...now.votes, [`voter${String(n)}`]: n } }) });
          return;
        } catch (error) {
          // It runs for a moment after each vote: an update needs it suspended.
          const { code, reason } = LeaseholdError.from(error);
          if (code !== "ABORTED" && reason !== "TASK_NOT_SUSPENDED") throw error;
          await until(voters[n % 2]!.handle(task, job.id), ({ state }) => state === "suspended");
        }
      }
    };
    await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(vote));
    go.open();
    const { votes } = await job.result(PATIENCE);
    expect(votes).toEqual({ start: 0, voter1: 1, voter2: 2, voter3: 3, voter4: 4, voter5: 5, voter6: 6, voter7: 7, voter8: 8 });
  });

  it("keeps every digit of a 64-bit integer, patched and updated", async () => {
    const client = sdk.connect({ bigints: "bigint" });
    const task = defineTask({
      name: sdk.name(),
      executionMetadata: z.custom<{ readonly ledger: number; readonly step: number }>(),
      result: z.custom<{ readonly ledger: number }>(),
    });
    const ledger = 9_223_372_036_854_775_807n as unknown as number;
    await sdk.work(
      [
        handle(task, (ctx) => {
          const { current } = ctx.executionMetadata;
          return current.step === 3 ? { ledger: current.ledger } : ctx.suspend({ untilProceeded: true });
        }),
      ],
      { client },
    );
    const job = await client.submit(task, null, { executionMetadata: { ledger, step: 1 } });
    const first = await until(job, ({ state }) => state === "suspended");
    await job.proceed({ patch: { step: 2 } });
    await untilSuspendedAfter(job, first);
    await job.proceed({ update: (now) => ({ ...now, step: 3 }) });
    expect(await job.result(PATIENCE)).toEqual({ ledger });
    // A client that was not told of such integers refuses to round them.
    expect(await refusal(sdk.client.handle(task, job.id).result(PATIENCE))).toMatchObject({
      code: "UNSAFE_INTEGER",
      paths: ["result.ledger"],
    });
  });

  it("at the etag of another moment is refused, as is what makes no sense", async () => {
    const task = approval();
    await sdk.work([waitsForDecision(task)]);
    const job = await suspended(task);
    const { etag } = await job.snapshot();
    await job.proceed({ patch: { votes: { ann: 1 } } });
    await untilSuspendedAfter(job, job.first);
    expect(await refusal(job.proceed({ patch: { decision: "late" }, etag }))).toEqual({ code: "ABORTED", reason: "ETAG_MISMATCH" });
    const both = { patch: { decision: "a" }, replace: { decision: "b" } };
    expect(await refusal(job.proceed(both))).toMatchObject({ code: "INVALID_ARGUMENT", paths: ["patch, replace"] });
    const wrong = { replace: { decision: 7 as unknown as string } };
    expect(await refusal(job.proceed(wrong))).toMatchObject({ code: "INVALID_ARGUMENT", paths: ["replace.decision"] });
    expect(await refusal(sdk.client.handle(task, UNKNOWN_ID).proceed())).toEqual({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
  });

  it("with a patch that does not fit the handler's schema is a failure that says where, not a lost task", async () => {
    const task = approval();
    await sdk.work([waitsForDecision(task)]);
    const job = await suspended(task);
    await job.proceed({ patch: { decision: 7 as unknown as string } });
    const failed = await until(job, ({ pendingReason }) => pendingReason === "retry");
    expect(failed.lastError).toMatchObject({ code: "METADATA_INVALID" });
    expect(failed.lastError?.message).toContain("executionMetadata.decision");
    // Repaired by its owner, it goes on: what waits for a retry takes a patch only when it suspends, so it is cancelled and retried.
    await job.cancel();
    await job.retry({ keepExecutionMetadata: false });
    await until(job, ({ state }) => state === "suspended");
    await job.proceed({ patch: { decision: "fits" } });
    expect(await job.result(PATIENCE)).toMatchObject({ decision: "fits" });
  });
});

describe("retry", () => {
  it("takes a failed task back with what it saved and its attempts anew, or without and counting on", async () => {
    const task = defineTask({
      name: sdk.name(),
      executionMetadata: z.object({ offset: z.number().default(0) }),
      result: z.object({ from: z.number(), attempt: z.number(), by: z.string() }),
      options: { retry: { maxAttempts: 1 } },
    });
    let works = false;
    await sdk.work([
      handle(task, async (ctx) => {
        const from = ctx.executionMetadata.current.offset;
        if (works) return { from, attempt: ctx.attempt, by: ctx.resumed.by };
        await ctx.executionMetadata.checkpoint({ offset: 5 });
        throw new Error("not yet");
      }),
    ]);
    const [kept, dropped] = [await sdk.client.submit(task), await sdk.client.submit(task)];
    for (const job of [kept, dropped]) expect(await job.outcome(PATIENCE)).toMatchObject({ state: "failed", finishReason: "max_attempts" });
    works = true;
    const { etag } = await kept.snapshot();
    expect(await kept.retry({ etag })).toMatchObject({ id: kept.id, attempt: 1 });
    await dropped.retry({ keepExecutionMetadata: false, resetAttempts: false, scheduleTime: { in: "100ms" } });
    expect(await kept.result(PATIENCE)).toEqual({ from: 5, attempt: 1, by: "retried" });
    expect(await dropped.result(PATIENCE)).toEqual({ from: 0, attempt: 2, by: "retried" });
    expect(await refusal(kept.retry())).toEqual({ code: "FAILED_PRECONDITION", reason: "TASK_FINISHED" });
    const waiting = await sdk.client.submit(task, null, { scheduleTime: { in: "1h" } });
    expect(await refusal(waiting.retry())).toEqual({ code: "FAILED_PRECONDITION", reason: "TASK_NOT_FINISHED" });
  });
});

describe("cancel", () => {
  it("ends at once what nobody runs, says why, and can be said twice", async () => {
    const task = approval();
    const waiting = await sdk.client.submit(task);
    expect(await waiting.cancel({ reason: "superseded" })).toMatchObject({ state: "cancelled", finishReason: "cancel_requested" });
    expect(await waiting.cancel({ reason: "again" })).toMatchObject({ state: "cancelled" });
    expect(await waiting.outcome(PATIENCE)).toMatchObject({ state: "cancelled", reason: "superseded" });
    await sdk.work([waitsForDecision(task)]);
    const job = await suspended(task);
    await job.cancel({ reason: "nobody decides" });
    const error: unknown = await job.result(PATIENCE).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "TASK_CANCELLED", taskId: job.id });
    expect(await refusal(job.proceed())).toEqual({ code: "FAILED_PRECONDITION", reason: "TASK_FINISHED" });
    const done = await suspended(task);
    await done.proceed({ replace: { decision: "done" } });
    await done.result(PATIENCE);
    expect(await refusal(done.cancel())).toEqual({ code: "FAILED_PRECONDITION", reason: "TASK_FINISHED" });
  });
});
