// Does a handler's word arrive in a real server as it was said: checkpoints, suspensions, deadlines, retries, odd values?
import { defineTask, handle, LeaseholdError, type StopReason } from "@leasehold/client";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { gate, sdkScene, until, untilSuspendedAfter } from "../../support/sdk-scene.js";
import { jsonPayload } from "../../support/task-client.js";

const sdk = sdkScene();
const PATIENCE = { timeout: "20s" } as const;

describe("a handler", () => {
  it("saves durably: what a checkpoint resolved is there for everybody, each in its order", async () => {
    const task = defineTask({
      name: sdk.name(),
      executionMetadata: z.object({ n: z.number().default(0) }),
      result: z.string(),
    });
    const other = sdk.connect();
    const seen: unknown[] = [];
    const job = await sdk.client.submit(task);
    await sdk.work([
      handle(task, async (ctx) => {
        for (const n of [1, 2, 3]) {
          await ctx.executionMetadata.checkpoint({ n });
          const { executionMetadata, executionMetadataVersion } = await other.handle(task, ctx.id).snapshot();
          seen.push([executionMetadata.n, executionMetadataVersion, ctx.executionMetadata.version]);
        }
        // Not awaited one by one: still stored in the order of the calls.
        await Promise.all([4, 5, 6].map((n) => ctx.executionMetadata.checkpoint({ n })));
        return "saved";
      }),
    ]);
    await job.result(PATIENCE);
    expect(seen).toEqual([
      [1, 1n, 1n],
      [2, 2n, 2n],
      [3, 3n, 3n],
    ]);
    expect(await job.snapshot()).toMatchObject({ executionMetadata: { n: 6 }, checkpointCount: 6n });
  });

  it("is refused a checkpoint when its lease is another's, and told so once", async () => {
    const task = defineTask({ name: sdk.name(), executionMetadata: z.object({ n: z.number().default(0) }) });
    const running = gate();
    const go = gate();
    const refused = gate<string>();
    await sdk.work([
      handle(task, async (ctx) => {
        running.open();
        await go.opened;
        refused.open(
          await ctx.executionMetadata.checkpoint({ n: 1 }).then(
            () => "stored",
            (error: unknown) => LeaseholdError.from(error).code,
          ),
        );
      }),
    ]);
    const job = await sdk.client.submit(task);
    await running.opened;
    await job.cancel({ grace: 0 });
    await job.outcome(PATIENCE);
    go.open();
    expect(await refused.opened).toBe("LEASE_LOST");
    expect((await job.snapshot()).executionMetadata).toEqual({ n: 0 });
  });

  it("suspends until a time, until somebody proceeds, or until a limit passed, and holds no slot meanwhile", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.enum(["time", "proceed", "limit"]),
      executionMetadata: z.object({ step: z.number().default(0) }),
      result: z.object({ by: z.string(), step: z.number(), attempt: z.number() }),
    });
    await sdk.work(
      [
        handle(task, (ctx) => {
          const { step } = ctx.executionMetadata.current;
          if (step > 0) return { by: ctx.resumed.by, step, attempt: ctx.attempt };
          const executionMetadata = { step: 1 };
          if (ctx.metadata === "time") return ctx.suspend({ until: { in: "300ms" }, executionMetadata });
          return ctx.suspend({ untilProceeded: true, executionMetadata, ...(ctx.metadata === "limit" && { timeout: "300ms" }) });
        }),
      ],
      { concurrency: 1 },
    );
    const [time, proceed, limit] = [
      await sdk.client.submit(task, "time"),
      await sdk.client.submit(task, "proceed"),
      await sdk.client.submit(task, "limit"),
    ];
    expect(await time.result(PATIENCE)).toEqual({ by: "woken", step: 1, attempt: 1 });
    expect(await limit.result(PATIENCE)).toEqual({ by: "woken", step: 1, attempt: 1 });
    const suspended = await until(proceed, ({ state }) => state === "suspended");
    expect(suspended.runTime).toBeUndefined();
    await proceed.proceed();
    expect(await proceed.result(PATIENCE)).toEqual({ by: "proceeded", step: 1, attempt: 1 });
  });

  it("counts its attempts per phase: a suspension sets them back, however it is woken", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.enum(["timer", "proceed"]),
      executionMetadata: z.object({ phase: z.number().default(0) }),
      result: z.array(z.string()),
      options: { retry: { maxAttempts: 2, delays: [0] } },
    });
    const attempts: Record<string, string[]> = { timer: [], proceed: [] };
    await sdk.work([
      handle(task, (ctx) => {
        const { phase } = ctx.executionMetadata.current;
        const seen = (attempts[ctx.metadata] ??= []);
        seen.push(`${String(phase)}: ${String(ctx.attempt)} of ${String(ctx.maxAttempts)}`);
        // Each phase fails once, then goes well: with a count for life the third phase would be the end.
        if (ctx.attempt === 1) throw new Error("once a phase");
        if (phase === 4) return seen;
        const executionMetadata = { phase: phase + 1 };
        return ctx.metadata === "timer"
          ? ctx.suspend({ until: { in: "20ms" }, executionMetadata })
          : ctx.suspend({ untilProceeded: true, executionMetadata });
      }),
    ]);
    const expected = [0, 1, 2, 3, 4].flatMap((phase) => [`${String(phase)}: 1 of 2`, `${String(phase)}: 2 of 2`]);
    const timer = await sdk.client.submit(task, "timer");
    const proceed = await sdk.client.submit(task, "proceed");
    let snapshot = await until(proceed, ({ state }) => state === "suspended");
    for (let phase = 1; phase <= 4; phase += 1) {
      if (phase > 1) snapshot = await untilSuspendedAfter(proceed, snapshot);
      expect(snapshot, "as the lease will say").toMatchObject({ attempt: 1, maxAttempts: 2 });
      await proceed.proceed();
    }
    expect(await timer.result(PATIENCE)).toEqual(expected);
    expect(await proceed.result(PATIENCE)).toEqual(expected);
  });

  it("is stopped by the deadlines that its submission set, each in its own words", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.enum(["attempt", "silence", "total", "queue"]),
      options: { retry: { maxAttempts: 2, delays: [0] } },
    });
    const stops = new Map<string, StopReason["kind"][]>();
    const stopped = (ctx: { id: string; signal: AbortSignal; stops: readonly StopReason[] }): Promise<void> =>
      new Promise((_resolve, reject) =>
        ctx.signal.addEventListener("abort", () => {
          stops.set(ctx.id, [...(stops.get(ctx.id) ?? []), ...ctx.stops.map(({ kind }) => kind)]);
          reject(ctx.signal.reason as Error);
        }),
      );
    await sdk.work([handle(task, stopped)], { queues: ["default"] });
    const submit = (deadline: "attempt" | "silence" | "total") => sdk.client.submit(task, deadline, { deadlines: { [deadline]: "300ms" } });
    const [attempt, silence, total] = [await submit("attempt"), await submit("silence"), await submit("total")];
    const queue = await sdk.client.submit(task, "queue", { queue: "nobodys", deadlines: { queue: "300ms" } });
    expect(await attempt.outcome(PATIENCE)).toMatchObject({
      state: "failed",
      finishReason: "max_attempts",
      error: { code: "ATTEMPT_DEADLINE" },
    });
    expect(await silence.outcome(PATIENCE)).toMatchObject({
      state: "failed",
      finishReason: "max_attempts",
      error: { code: "SILENCE_DEADLINE" },
    });
    expect(await total.outcome(PATIENCE)).toMatchObject({
      state: "failed",
      finishReason: "total_deadline",
      error: { code: "TOTAL_DEADLINE" },
    });
    expect(stops.get(attempt.id)).toEqual(["attempt_deadline", "attempt_deadline"]);
    expect(stops.get(silence.id)).toEqual(["silence_deadline", "silence_deadline"]);
    expect(stops.get(total.id)).toEqual(["total_deadline"]);
    expect(await queue.outcome(PATIENCE)).toMatchObject({ finishReason: "queue_deadline", error: { code: "QUEUE_DEADLINE" } });
  });

  it("fails by its retry policy: delays, rules for codes, a delay of its own, and no more than it says", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.enum(["listed", "rule", "own delay", "declared"]),
      errors: { busy: z.object({ until: z.string() }), broken: z.object({}) },
      options: { retry: { maxAttempts: 3, delays: [10, 20], rules: [{ codes: ["broken"], action: "fail" }] } },
    });
    const began = new Map<string, number[]>();
    await sdk.work([
      handle(task, (ctx) => {
        began.set(ctx.id, [...(began.get(ctx.id) ?? []), performance.now()]);
        switch (ctx.metadata) {
          case "listed":
            throw new Error("again");
          case "rule":
            return ctx.fail("broken", {});
          case "own delay":
            return ctx.fail("busy", { until: "soon" }, { retryAfter: "400ms" });
          case "declared":
            if (ctx.previousFailure === undefined) return ctx.fail("busy", { until: "noon" }, { message: "come back" });
            return ctx.previousFailure.code === "busy" && ctx.previousFailure.data.until === "noon"
              ? undefined
              : ctx.fail("broken", {}, { retry: false });
        }
      }),
    ]);
    const submit = (how: "listed" | "rule" | "own delay" | "declared") => sdk.client.submit(task, how);
    const [listed, rule, own, declared] = [
      await submit("listed"),
      await submit("rule"),
      await submit("own delay"),
      await submit("declared"),
    ];
    expect(await listed.outcome(PATIENCE)).toMatchObject({ state: "failed", finishReason: "max_attempts" });
    expect(await rule.outcome(PATIENCE)).toMatchObject({ state: "failed", error: { code: "broken" } });
    expect(await own.outcome(PATIENCE)).toMatchObject({ state: "failed", error: { code: "busy", data: { until: "soon" } } });
    expect(await declared.outcome(PATIENCE)).toEqual({ state: "completed", result: null });
    expect([listed, rule, own].map(({ id }) => began.get(id)?.length)).toEqual([3, 1, 3]);
    const [first, second] = began.get(own.id) ?? [];
    expect(second! - first!).toBeGreaterThanOrEqual(395);
  });

  it("is not called with metadata that its schema refuses: a newer worker takes the task over", async () => {
    const name = sdk.name();
    const before = defineTask({ name, metadata: z.object({ a: z.number() }) });
    const after = defineTask({ name, metadata: z.object({ a: z.string(), b: z.number() }), result: z.string() });
    let called = 0;
    const old = await sdk.work([handle(before, () => void (called += 1))]);
    const submitted = await Promise.all(
      Array.from({ length: 5 }, () => sdk.owner.submit({ name, metadata: jsonPayload({ a: "1", b: 2 }) })),
    );
    const jobs = submitted.map(({ task }) => sdk.client.handle(after, task.taskId));
    for (const job of jobs) {
      const waiting = await until(job, ({ pendingReason }) => pendingReason === "retry");
      expect(waiting).toMatchObject({ attempt: 2, lostLeases: 0, lastError: { code: "METADATA_INVALID" } });
      expect(waiting.lastError?.message).toContain("metadata.a");
      // Long enough for a deploy, whatever the policy's own delays are.
      expect(waiting.runTime!.getTime() - waiting.leaseTime!.getTime()).toBeGreaterThanOrEqual(15_000);
    }
    expect(called).toBe(0);
    expect(old.state.status, "other tasks go on").toBe("ready");
    await old.drain();
    await sdk.work([handle(after, ({ metadata }) => `${metadata.a}${String(metadata.b)}`)]);
    for (const { task } of submitted) await sdk.owner.update({ task: { taskId: task.taskId }, updateMask: ["schedule_time"] });
    expect(await Promise.all(jobs.map((job) => job.result(PATIENCE)))).toEqual(jobs.map(() => "12"));
  });

  it("gets an error with a path for each odd value, nothing of it leaves, and it can go on", async () => {
    const task = defineTask({
      name: sdk.name(),
      executionMetadata: z.custom<object>().default({}),
      result: z.string(),
      errors: { odd: z.custom<object>() },
    });
    const circle: Record<string, unknown> = {};
    circle["self"] = circle;
    const deep = Array.from({ length: 100 }).reduce<object>((inner) => ({ inner }), {});
    const refuse = (): never => {
      throw new Error("no");
    };
    const functions = [{ toJSON: refuse }, { f: () => 1 }];
    const odd = [10n, circle, ...functions, new Map(), Number.NaN, [undefined], deep, "x".repeat(2 ** 21)];
    const codes: string[] = [];
    const worker = await sdk.work([
      handle(task, async (ctx) => {
        const note = (error: unknown): void => {
          const known = LeaseholdError.from(error);
          codes.push(`${known.code} ${known.violations[0]?.path ?? "nowhere"}`);
        };
        for (const value of odd) {
          await ctx.executionMetadata.checkpoint({ value }).then(() => codes.push("stored"), note);
          try {
            ctx.fail("odd", { value });
            codes.push("failed");
          } catch (error) {
            note(error);
          }
        }
        for (const progress of [{ done: Number.NaN }, { done: 1, total: Infinity }]) {
          try {
            ctx.progress(progress);
          } catch (error) {
            note(error);
          }
        }
        ctx.progress({ done: 1, message: "m".repeat(1_000_000) });
        try {
          ctx.suspend({ until: new Date(Number.NaN) });
        } catch (error) {
          note(error);
        }
        await ctx.executionMetadata.checkpoint({ fine: true });
        return "went on";
      }),
    ]);
    const job = await sdk.client.submit(task);
    expect(await job.result(PATIENCE)).toBe("went on");
    expect(codes).toHaveLength(2 * odd.length + 3);
    for (const code of codes) expect(code).toMatch(/^INVALID_ARGUMENT (?:executionMetadata|data|done|total|until)/);
    expect(await job.snapshot()).toMatchObject({ executionMetadata: { fine: true }, checkpointCount: 1n, attempt: 1 });
    expect(worker.state).toMatchObject({ status: "ready", heldLeases: 0, unacknowledgedReports: 0 });
  });

  it("whose result or error cannot be said in JSON fails once and says why, whatever was thrown", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.number(),
      result: z.custom<object>(),
      options: { retry: { maxAttempts: 2, delays: [0] } },
    });
    const frozen = Object.freeze(new Error("frozen"));
    const trap = Object.defineProperty(new Error("hidden"), "message", {
      get: () => {
        throw new Error("a trap");
      },
    });
    const thrown = [
      null,
      "a text",
      frozen,
      trap,
      new AggregateError([new Error("one")], "all"),
      new Error("m".repeat(10_000_000)),
      undefined,
    ];
    const returned = [new Map(), 10n, undefined, { n: Number.NaN }] as unknown as object[];
    await sdk.work([
      handle(task, ({ metadata }) => {
        // Whatever a user's code may throw, errors or not.
        if (metadata < thrown.length) throw thrown[metadata] as Error;
        return returned[metadata - thrown.length] as object;
      }),
    ]);
    const jobs = await Promise.all([...thrown, ...returned].map((_, n) => sdk.client.submit(task, n)));
    const outcomes = await Promise.all(jobs.map((job) => job.outcome(PATIENCE)));
    const said = outcomes.map((outcome) =>
      outcome.state === "failed" ? `${outcome.error.code} ${outcome.finishReason ?? ""}` : outcome.state,
    );
    expect(said).toEqual([...thrown.map(() => "HANDLER_ERROR max_attempts"), ...returned.map(() => "RESULT_INVALID not_retryable")]);
    const messages = outcomes.map((outcome) => (outcome.state === "failed" ? outcome.error.message : ""));
    expect(messages.slice(0, 5)).toEqual(["null", "a text", "frozen", expect.any(String), "all"]);
    expect(Buffer.byteLength(messages[5]!)).toBeLessThanOrEqual(8_192);
  });
});

describe("two servers", () => {
  it("serve one client and one worker that know both, and go on when one of them goes", async () => {
    const first = await sdk.server();
    const second = await sdk.server({}, first.databaseUrl);
    const addresses = [first.address, second.address];
    const [client, workersClient] = [sdk.connect({ addresses }), sdk.connect({ addresses })];
    const task = defineTask({
      name: sdk.name(),
      metadata: z.number(),
      executionMetadata: z.object({ from: z.number().default(0) }),
      result: z.number(),
    });
    const running = gate();
    const go = gate();
    let leases = 0;
    await sdk.work(
      [
        handle(task, async (ctx) => {
          leases += 1;
          if (leases === 5) running.open();
          await ctx.executionMetadata.checkpoint({ from: ctx.metadata });
          await go.opened;
          await ctx.executionMetadata.checkpoint({ from: ctx.metadata + 1 });
          return ctx.metadata * 2;
        }),
      ],
      { client: workersClient, concurrency: 5 },
    );
    const jobs = await Promise.all([1, 2, 3, 4, 5].map((n) => client.submit(task, n)));
    const results = Promise.all(jobs.map((job) => job.result({ timeout: "25s" })));
    await running.opened;
    await first.stop();
    go.open();
    expect(await results).toEqual([2, 4, 6, 8, 10]);
    expect(leases, "nothing ran twice").toBe(5);
    expect(await (await client.submit(task, 50)).result({ timeout: "25s" })).toBe(100);
    for (const job of jobs) expect(await job.snapshot()).toMatchObject({ lostLeases: 0, attempt: 1 });
  });
});
