// What do the faults of the test kit do? What a network, a slow server and a silent worker would: each is seen by handler, task and timeline.
import { defineTask, handle, type HandlerContext, LeaseholdError } from "@leasehold/client";
import { createTestEnv } from "@leasehold/testing";
import { WorkerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { Activity } from "../../../testing/src/activity.js";
import { WorkerStream } from "../../../testing/src/worker-stream.js";

const copy = defineTask({
  name: "copy",
  metadata: z.object({ rows: z.number() }),
  executionMetadata: z.object({ offset: z.number().default(0) }),
  result: z.object({ offset: z.number(), attempt: z.number() }),
});

/** A handler that runs until it is let go, and notes with which reasons it was told to stop. */
function gatedHandler() {
  const contexts: HandlerContext<typeof copy>[] = [];
  const reasons: unknown[] = [];
  let open: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const handler = handle(copy, async (ctx) => {
    contexts.push(ctx);
    const stopped = new Promise<never>((_, reject) => {
      ctx.signal.addEventListener("abort", () => {
        reasons.push(LeaseholdError.from(ctx.signal.reason).stop?.kind);
        reject(LeaseholdError.from(ctx.signal.reason));
      });
    });
    await Promise.race([gate, stopped]);
    await ctx.executionMetadata.checkpoint({ offset: ctx.metadata.rows });
    return { offset: ctx.executionMetadata.current.offset, attempt: ctx.attempt };
  });
  return { handler, contexts, reasons, open };
}

describe("a fault", { timeout: 60_000 }, () => {
  it("of the stream keeps the lease: the same run goes on over a new connection", async () => {
    const { handler, contexts, reasons, open } = gatedHandler();
    await using env = await createTestEnv({ handlers: [handler] });
    const task = await env.client.submit(copy, { rows: 7 });
    await env.settled();
    const sessionId = env.worker?.state.sessionId;
    await env.faults.dropStream();
    expect(env.worker?.state).toMatchObject({ status: "ready", sessionId, heldLeases: 1 });
    open();
    expect(await task.result()).toEqual({ offset: 7, attempt: 1 });
    expect([contexts.length, reasons]).toEqual([1, []]);
  });

  it("of the stream makes a report without verdict go out again, and it counts once", async () => {
    const { handler, contexts, open } = gatedHandler();
    await using env = await createTestEnv({ handlers: [handler] });
    const task = await env.client.submit(copy, { rows: 7 });
    await env.settled();
    const goOn = env.faults.delayVerdict();
    open();
    await env.settled();
    expect(env.worker?.state.unacknowledgedReports).toBe(1);
    await env.faults.dropStream();
    await goOn();
    await env.settled();
    expect(env.worker?.state).toMatchObject({ unacknowledgedReports: 0, heldLeases: 0 });
    expect(await task.result()).toEqual({ offset: 7, attempt: 1 });
    const { executionMetadataVersion } = await task.snapshot();
    expect([executionMetadataVersion, contexts.length]).toEqual([1n, 1]);
  });

  it("of the reports makes them arrive twice: each is recorded once, and the handler hears nothing of it", async () => {
    const { handler, contexts, reasons, open } = gatedHandler();
    await using env = await createTestEnv({ handlers: [handler] });
    const task = await env.client.submit(copy, { rows: 7 });
    await env.settled();
    env.faults.duplicateReport({ count: 10 });
    open();
    expect(await task.result()).toEqual({ offset: 7, attempt: 1 });
    await env.settled();
    expect(env.worker?.state).toMatchObject({ unacknowledgedReports: 0, heldLeases: 0, status: "ready" });
    expect(await task.snapshot()).toMatchObject({ state: "completed", executionMetadataVersion: 1n, attempt: 1, lostLeases: 0 });
    const { events } = await task.events().page();
    expect(events.map(({ type }) => type)).toEqual(["submitted", "leased", "checkpointed", "finished"]);
    expect([contexts.length, reasons]).toEqual([1, []]);
  });

  it("of the verdicts makes them late by the given time", async () => {
    const { handler, open } = gatedHandler();
    await using env = await createTestEnv({ handlers: [handler] });
    const task = await env.client.submit(copy, { rows: 7 });
    await env.settled();
    env.faults.delayVerdict("10m");
    open();
    await env.clock.advance("9m");
    expect((await task.snapshot()).state).toBe("running");
    expect(env.worker?.state.unacknowledgedReports).toBe(1);
    await env.clock.advance("2m");
    expect((await task.snapshot()).state).toBe("completed");
    expect(env.worker?.state.heldLeases).toBe(1);
    await env.clock.advance("10m");
    expect(env.worker?.state.heldLeases).toBe(0);
  });

  it("of the lease tells the handler and gives the task to another run", async () => {
    const { handler, contexts, reasons, open } = gatedHandler();
    await using env = await createTestEnv({ handlers: [handler] });
    const task = await env.client.submit(copy, { rows: 7 });
    await env.settled();
    await env.faults.expireLease(task);
    expect(reasons).toEqual(["lease_lost"]);
    await env.clock.advance("2s");
    expect(contexts.map(({ resumed }) => resumed.by)).toEqual(["new", "lease_lost"]);
    expect(contexts[1]?.fencingToken).toBeGreaterThan(contexts[0]?.fencingToken ?? 0n);
    open();
    expect(await task.result()).toMatchObject({ offset: 7 });
    const { events } = await task.events().page();
    expect(events.map(({ type }) => type)).toContain("lease_lost");
    await expect(env.faults.expireLease(task)).rejects.toThrow(/nobody holds a lease/);
  });

  it("of the network stops a worker that is cut off before its task is given to another one", async () => {
    const [first, second] = [gatedHandler(), gatedHandler()];
    await using env = await createTestEnv({ handlers: [first.handler] });
    const task = await env.client.submit(copy, { rows: 7 });
    await env.settled();
    const restore = env.faults.cutOff();
    await env.clock.advance("19s");
    expect((await task.snapshot()).state).toBe("running");
    await env.clock.advance("1m");
    expect(first.reasons).toEqual(["disconnected"]);
    expect(await task.snapshot()).toMatchObject({ state: "pending", pendingReason: "lease_lost" });
    await restore();
    await env.startWorker({ handlers: [second.handler] });
    await env.settled();
    first.open();
    second.open();
    expect(await task.result()).toMatchObject({ offset: 7 });
  });

  it("of calls is healed by the SDK, and a lost answer stores nothing twice", async () => {
    await using env = await createTestEnv();
    env.faults.failCalls();
    const [late] = await Promise.all([env.client.submit(copy, { rows: 1 }), env.clock.advance("10s")]);
    env.faults.failCalls({ lostAnswer: true });
    const [again] = await Promise.all([env.client.submit(copy, { rows: 2 }), env.clock.advance("10s")]);
    expect([late.created, again.created]).toEqual([true, true]);
    expect(await env.client.count()).toMatchObject({ count: 2 });
    env.faults.failCalls({ count: 1_000 });
    const refused = env.client.submit(copy, { rows: 3 }).catch((error: unknown) => error);
    await env.clock.advance("1m");
    expect(LeaseholdError.from(await refused).code).toMatch(/UNAVAILABLE|DEADLINE_EXCEEDED/);
  });
});

it("a stream that doubles reports hands the server a message of them twice and others once", async () => {
  const received: WorkerMessage[] = [];
  const activity = new Activity();
  const faults = { cutOff: false, verdictDelayMs: 0, reportsToDouble: 1 };
  const stream = new WorkerStream(faults, activity, () => undefined, { message: () => undefined, closed: () => undefined });
  const call = { receive: (bytes: Buffer) => received.push(WorkerMessage.decode(bytes)) };
  stream.begin(call as never, () => undefined);
  const report = { leaseToken: "a", reportSeq: 1 };
  for (const fields of [{ heartbeat: { number: 1 } }, { reports: [report] }, { reports: [{ ...report, reportSeq: 2 }] }])
    stream.send(Buffer.from(WorkerMessage.encode(WorkerMessage.create(fields)).finish()));
  await activity.quiet();
  expect(received.map(({ reports }) => reports.map(({ reportSeq }) => reportSeq))).toEqual([[], [1], [1], [2]]);
});
