// Which defects of the origin must not survive? One test for each, with the SDK against a real server. What it could do is in origin-rows.test.ts.
import { createWorker, defineTask, handle, LeaseholdError } from "@leasehold/client";
import { SimulateRetryRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { gate, rowsOf, sdkScene, until } from "../support/sdk-scene.js";

const sdk = sdkScene();

/** How a call was refused. */
async function refusal(call: Promise<unknown>): Promise<{ code: string; reason: string | undefined }> {
  const error = await call.then(
    () => new Error("the call succeeded"),
    (thrown: unknown) => thrown,
  );
  if (!LeaseholdError.is(error)) throw error;
  return { code: error.code, reason: error.reason };
}

/** A task that waits for its `votes` to be two. */
const voting = () => {
  const task = defineTask({
    name: sdk.name(),
    metadata: z.number(),
    executionMetadata: z.object({ votes: z.record(z.string(), z.boolean()).default({}), seen: z.number().default(0) }),
    result: z.object({ votes: z.record(z.string(), z.boolean()), seen: z.number() }),
  });
  return task;
};

describe("it does not happen that", () => {
  it("a proceed that arrives while the task runs is overwritten", async () => {
    const task = voting();
    const running = gate();
    const go = gate();
    await sdk.work([
      handle(task, async (ctx) => {
        const { votes, seen } = ctx.executionMetadata.current;
        if (Object.keys(votes).length === 2) return { votes, seen };
        running.open();
        await go.opened;
        // What it saves itself, before and with the suspension, does not undo what others changed.
        await ctx.executionMetadata.checkpoint({ votes, seen: seen + 1 });
        return ctx.suspend({ untilProceeded: true, executionMetadata: { votes, seen: seen + 2 } });
      }),
    ]);
    const job = await sdk.client.submit(task, 0);
    await running.opened;
    expect((await job.proceed({ patch: { votes: { ann: true } } })).result).toBe("remembered");
    expect((await job.proceed({ patch: { votes: { bob: false } }, note: "second" })).task.rememberedProceeds).toBe(2);
    go.open();
    expect(await job.result({ timeout: "20s" })).toEqual({ votes: { ann: true, bob: false }, seen: 2 });
  });

  it("a graceful shutdown leaves a task enqueued for ever", async () => {
    const task = defineTask({ name: sdk.name(), metadata: z.number(), result: z.number() });
    const server = await sdk.server();
    const busy = gate();
    let begun = 0;
    const first = await sdk.work(
      [
        handle(task, async ({ metadata, signal }) => {
          begun += 1;
          if (begun === 4) busy.open();
          await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
          return metadata;
        }),
      ],
      { client: server.client, concurrency: 4 },
    );
    const jobs = await Promise.all(Array.from({ length: 20 }, (_, n) => server.client.submit(task, n)));
    await busy.opened;
    await first.drain({ grace: 0 });
    const states = [];
    for await (const { state, attempt, lostLeases } of server.client.list(task))
      states.push(`${state} ${String(attempt)} ${String(lostLeases)}`);
    expect(new Set(states), "all wait, and no attempt was used").toEqual(new Set(["pending 1 0"]));
    // The server goes too, with tasks that are due; the next one has them.
    const next = await sdk.server({}, server.databaseUrl);
    await server.stop();
    await sdk.work([handle(task, ({ metadata }) => metadata)], { client: next.client });
    const results = jobs.map(({ id }) => next.client.handle(task, id).result({ timeout: "20s" }));
    expect(await Promise.all(results)).toEqual(jobs.map((_, n) => n));
  });

  it("a proceed takes no lock: of many that replace at once, exactly one does", async () => {
    const task = voting();
    const resumed: unknown[] = [];
    await sdk.work([
      handle(task, (ctx) => {
        if (ctx.resumed.by === "new") return ctx.suspend({ untilProceeded: true });
        resumed.push(ctx.executionMetadata.current.seen);
        return { votes: {}, seen: ctx.executionMetadata.current.seen };
      }),
    ]);
    const job = await sdk.client.submit(task, 0);
    const { etag } = await until(job, ({ state }) => state === "suspended");
    const clients = [sdk.client, sdk.connect(), sdk.connect(), sdk.connect()];
    const answers = await Promise.allSettled(
      Array.from({ length: 16 }, (_, n) => clients[n % 4]!.handle(task, job.id).proceed({ replace: { seen: n + 1 }, etag })),
    );
    const winners = answers.flatMap(({ status }, n) => (status === "fulfilled" ? [n + 1] : []));
    expect(winners).toHaveLength(1);
    for (const answer of answers)
      if (answer.status === "rejected") expect(["ABORTED", "FAILED_PRECONDITION"]).toContain((answer.reason as LeaseholdError).code);
    expect((await job.result({ timeout: "20s" })).seen).toBe(winners[0]);
    expect(resumed).toEqual(winners);
  });

  it("a proceed checks no state", async () => {
    const task = voting();
    const running = gate();
    const go = gate();
    await sdk.work([
      handle(task, async ({ executionMetadata }) => {
        running.open();
        await go.opened;
        return { votes: {}, seen: executionMetadata.current.seen };
      }),
    ]);
    const job = await sdk.client.submit(task, 1);
    await running.opened;
    const replacing = { replace: { seen: 9 } };
    expect(await refusal(job.proceed(replacing))).toEqual({ code: "FAILED_PRECONDITION", reason: "TASK_NOT_SUSPENDED" });
    go.open();
    expect((await job.result({ timeout: "20s" })).seen).toBe(0);
    for (const options of [{}, replacing, { patch: { seen: 9 } }])
      expect(await refusal(job.proceed(options))).toEqual({ code: "FAILED_PRECONDITION", reason: "TASK_FINISHED" });
  });

  it("a proceed says that several tasks were found where there is none", async () => {
    const task = voting();
    const proceed = () => sdk.client.proceed(task, { labels: { of: "both" } }, { patch: { seen: 1 } });
    expect(await refusal(proceed())).toEqual({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
    expect(await refusal(sdk.client.handle(task, { key: "unknown" }).proceed())).toEqual({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
    const options = { labels: { of: "both" }, scheduleTime: { in: "1h" } } as const;
    const only = await sdk.client.submit(task, 0, options);
    expect((await proceed()).task.id).toBe(only.id);
    await sdk.client.submit(task, 0, options);
    expect(await refusal(proceed())).toEqual({ code: "FAILED_PRECONDITION", reason: "MULTIPLE_TASKS" });
    await only.cancel();
    expect((await proceed()).task.id, "what is finished does not count").not.toBe(only.id);
  });

  it("a cursor drops ties", async () => {
    const task = defineTask({ name: sdk.name(), metadata: z.number() });
    const jobs = await sdk.client.submitMany(
      task,
      Array.from({ length: 60 }, (_, n) => ({ metadata: n })),
    );
    const times = await rowsOf(sdk.databaseUrl, "SELECT DISTINCT create_time FROM tasks WHERE name = $1", [task.name]);
    expect(times, "one batch has one time").toHaveLength(1);
    const ids = jobs.map(({ id }) => id).toSorted();
    for (const order of ["newest_first", "oldest_first"] as const) {
      for (const pageSize of [1, 7, 60]) {
        const found: string[] = [];
        for await (const { id } of sdk.client.list(task, {}, { order, pageSize })) found.push(id);
        expect(found.toSorted()).toEqual(ids);
      }
    }
  });

  it("a suspension until a time hides as pending", async () => {
    const task = voting();
    await sdk.work([
      handle(task, (ctx) => (ctx.resumed.by === "woken" ? { votes: {}, seen: 1 } : ctx.suspend({ until: { in: ctx.metadata } }))),
    ]);
    const job = await sdk.client.submit(task, 3_600_000);
    const suspended = await until(job, ({ state }) => state !== "pending" && state !== "running");
    expect(suspended).toMatchObject({ state: "suspended", pendingReason: undefined });
    const sleepsMs = suspended.runTime!.getTime() - suspended.suspendTime!.getTime();
    expect(sleepsMs).toBeGreaterThanOrEqual(3_600_000 - 1);
    expect(sleepsMs).toBeLessThan(3_600_000 + 1_000);
    const listed = [];
    for await (const { id } of sdk.client.list(task, { state: ["suspended"] })) listed.push(id);
    expect(listed).toEqual([job.id]);
    expect(await (await sdk.client.submit(task, 100)).result({ timeout: "20s" })).toMatchObject({ seen: 1 });
  });

  it("retries have one count for all tasks and no delay", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.object({ attempts: z.number() }),
      executionMetadata: z.array(z.number()).default([]),
    });
    await sdk.work([
      handle(task, async (ctx) => {
        await ctx.executionMetadata.checkpoint([...ctx.executionMetadata.current, Date.now()]);
        throw new Error(`attempt ${String(ctx.attempt)}`);
      }),
    ]);
    const submit = (attempts: number, ...delays: number[]) =>
      sdk.client.submit(task, { attempts }, { retry: { maxAttempts: attempts, delays } });
    const jobs = [await submit(1, 0), await submit(2, 300), await submit(4, 50, 400)];
    for (const [index, delays] of [[], [300], [50, 400, 400]].entries()) {
      const job = jobs[index]!;
      expect(await job.outcome({ timeout: "20s" })).toMatchObject({ state: "failed", finishReason: "max_attempts" });
      const { executionMetadata: times, metadata } = await job.snapshot();
      expect(times).toHaveLength(metadata.attempts);
      for (const [at, delay] of delays.entries())
        expect(times[at + 1]! - times[at]!, `delay ${String(at + 1)}`).toBeGreaterThanOrEqual(delay - 5);
    }
    // The server says the same beforehand.
    const simulation = await sdk.owner.call(
      TaskServiceService.simulateRetry,
      SimulateRetryRequest.create({ retryPolicy: { maxAttempts: 2, delays: [{ nanos: 300_000_000 }] }, failures: [{}, {}] }),
    );
    expect(simulation.attempts.length).toBe(2);
  });

  it("a thrown exception stores no error", async () => {
    const task = defineTask({ name: sdk.name(), options: { retry: { maxAttempts: 2, delays: ["1h"] } } });
    await sdk.work([
      handle(task, () => {
        throw new TypeError("the page has no header", { cause: new Error("connection reset") });
      }),
    ]);
    const job = await sdk.client.submit(task);
    const waiting = await until(job, ({ pendingReason }) => pendingReason === "retry");
    expect(waiting.lastError, "also while it will be tried again").toEqual({ code: "HANDLER_ERROR", message: "the page has no header" });
    await sdk.owner.update({ task: { taskId: job.id }, updateMask: ["schedule_time"] });
    const outcome = await job.outcome({ timeout: "20s" });
    expect(outcome).toMatchObject({ state: "failed", error: { code: "HANDLER_ERROR", message: "the page has no header" } });
    expect(outcome.state === "failed" && outcome.error.stack).toMatch(/TypeError: the page has no header\n\s+at /);
    const { error } = await sdk.owner.get({ taskId: job.id });
    expect(error?.cause).toMatchObject({ message: "connection reset" });
  });

  it("two tasks share a name within a worker", async () => {
    const name = sdk.name();
    const [one, other] = [defineTask({ name, metadata: z.string() }), defineTask({ name, metadata: z.number() })];
    const handlers = [handle(one, () => undefined), handle(other, () => undefined)];
    expect(() => createWorker({ client: sdk.client, handlers })).toThrow(`handlers[1]: a second handler for ${name}`);
    // Nor does a worker that is no SDK's.
    const raw = sdk.raw(sdk.address, [name, name]);
    expect(await raw.ended).toMatchObject({ reason: "INVALID_FIELD" });
  });
});
