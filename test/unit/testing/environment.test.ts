// What does an environment of the test kit do? The whole way of a task in the test's process: submitted, run, retried, suspended, in virtual time.
import { defineTask, handle, isTaskFailed, LeaseholdError } from "@leasehold/client";
import { createTestEnv } from "@leasehold/testing";
import { mock } from "node:test";
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { z } from "zod";

const half = defineTask({
  name: "half",
  metadata: z.object({ n: z.number() }),
  result: z.object({ half: z.number() }),
  errors: { odd: z.object({ n: z.number() }) },
  options: { retry: { maxAttempts: 4, backoff: { initial: "1h", factor: 2, max: "1d", jitter: 0 } } },
});
const halfHandler = handle(half, (ctx) => {
  const { n } = ctx.metadata;
  return n % 2 === 0 ? { half: n / 2 } : ctx.fail("odd", { n }, { retry: false });
});

const approval = defineTask({
  name: "approval",
  metadata: z.object({ who: z.string() }),
  executionMetadata: z.object({ decision: z.string().optional() }),
  result: z.object({ decision: z.string() }),
});
const approvalHandler = handle(approval, (ctx) => {
  const { decision } = ctx.executionMetadata.current;
  if (decision !== undefined) return { decision };
  return ctx.resumed.by === "woken" ? { decision: "nobody answered" } : ctx.suspend({ untilProceeded: true, timeout: "7d" });
});

const START = { hookTimeout: 60_000, testTimeout: 60_000 };
const DAY_MS = 86_400_000;

afterEach(() => {
  vi.useRealTimers();
});

describe("an environment", { timeout: START.testTimeout }, () => {
  it("starts within seconds, and each further one at once", async ({ annotate }) => {
    // The database starts, too, while the test has replaced the timers.
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setImmediate", "queueMicrotask", "Date"] });
    const startsMs: number[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      const fromMs = performance.now();
      await using env = await createTestEnv({ handlers: [halfHandler] });
      startsMs.push(Math.round(performance.now() - fromMs));
      expect(await (await env.client.submit(half, { n: 4 })).result()).toEqual({ half: 2 });
    }
    const fromMs = performance.now();
    await using one = await createTestEnv();
    await using two = await createTestEnv();
    const freshMs = Math.round(performance.now() - fromMs);
    expect(one.clock.now()).toBeInstanceOf(Date);
    expect(two.worker).toBeUndefined();
    await annotate(
      `environments of the test kit started in ${startsMs.join(", ")} ms; one reused and one new beside it in ${String(freshMs)} ms`,
    );
    const [firstMs = Number.NaN, ...furtherMs] = startsMs;
    expect(firstMs).toBeLessThan(40_000);
    expect(Math.max(...furtherMs, freshMs)).toBeLessThan(6_000);
  });

  it("runs a submitted task and answers as the server does", async () => {
    await using env = await createTestEnv({ handlers: [halfHandler] });
    const [good, bad] = await Promise.all([env.client.submit(half, { n: 4 }), env.client.submit(half, { n: 3 }, { key: "three" })]);
    await env.settled();
    expect(await good.outcome()).toMatchObject({ state: "completed", result: { half: 2 } });
    const error = await bad.result().catch((thrown: unknown) => thrown);
    expect(isTaskFailed(error, half) && error.failure).toMatchObject({ code: "odd", data: { n: 3 } });
    expect(await env.client.count(half, { state: ["failed"] })).toMatchObject({ count: 1 });
    const { events } = await env.client.handle(half, { key: "three" }).events().page();
    expect(events.at(-1)).toMatchObject({ state: "failed", error: { code: "odd" } });
    await expect(env.client.submit(half, { n: "four" as never })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(env.client.handle(half, { key: "none" }).snapshot()).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  it("leaps over hours of backoff and sees each attempt in its hour", async () => {
    const attempts: Date[] = [];
    const flaky = handle(half, ({ attempt, metadata: { n } }) => {
      attempts.push(env.clock.now());
      if (attempt < 4) throw new Error("not yet");
      return { half: n / 2 };
    });
    await using env = await createTestEnv({ handlers: [flaky], now: new Date("2030-01-01T00:00:00Z") });
    const task = await env.client.submit(half, { n: 4 });
    const result = task.result();
    const fromMs = performance.now();
    await env.clock.advance("6h");
    expect(attempts).toHaveLength(3);
    await env.clock.advance("2h");
    expect(await result).toEqual({ half: 2 });
    expect(performance.now() - fromMs).toBeLessThan(20_000);
    expect(attempts.map((at) => at.toISOString().slice(0, 16))).toEqual([
      "2030-01-01T00:00",
      "2030-01-01T01:00",
      "2030-01-01T03:00",
      "2030-01-01T07:00",
    ]);
  });

  it("lets a task wait for days, for somebody or for time, while its worker stays connected", async () => {
    await using env = await createTestEnv({ handlers: [approvalHandler] });
    const answered = await env.client.submit(approval, { who: "E" });
    const forgotten = await env.client.submit(approval, { who: "F" });
    await env.settled();
    const sessionId = env.worker?.state.sessionId;
    await env.clock.advance("3d");
    expect((await answered.snapshot()).state).toBe("suspended");
    await answered.proceed({ update: () => ({ decision: "yes" }) });
    expect(await answered.result()).toEqual({ decision: "yes" });
    await env.clock.advance("4d");
    expect(await forgotten.result()).toEqual({ decision: "nobody answered" });
    expect(env.worker?.state).toMatchObject({ status: "ready", sessionId });
  });

  it("keeps the lease of a handler that runs for days, and ends it at its deadline", async () => {
    const reasons: unknown[] = [];
    const slow = defineTask({ name: "slow", options: { deadlines: { attempt: "2d" }, retry: { maxAttempts: 1 } } });
    const handler = handle(slow, async ({ signal }) => {
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => {
          resolve();
        });
      });
      reasons.push(LeaseholdError.from(signal.reason).stop?.kind);
      throw signal.reason;
    });
    await using env = await createTestEnv({ handlers: [handler] });
    const task = await env.client.submit(slow, null);
    await env.clock.advance("47h");
    expect(await task.snapshot()).toMatchObject({ state: "running", attempt: 1 });
    await env.clock.advance("2h");
    expect(reasons).toEqual(["attempt_deadline"]);
    expect(await task.outcome()).toMatchObject({ state: "failed", error: { code: "ATTEMPT_DEADLINE" } });
  });

  it("gives handlers a sleep in its own time", async () => {
    const waits = defineTask({ name: "waits", result: z.number() });
    const handler = handle(waits, async ({ signal }) => {
      const fromMs = env.clock.now().getTime();
      for (let hour = 0; hour < 3; hour += 1) await env.clock.sleep("1h", { signal });
      return env.clock.now().getTime() - fromMs;
    });
    await using env = await createTestEnv({ handlers: [handler] });
    const task = await env.client.submit(waits, null);
    await env.clock.advance("4h");
    expect(await task.result()).toBe(3 * 3_600_000);
  });

  it("is settled when what is due has run, and not before real work of a handler is done", async () => {
    const works = defineTask({ name: "works", metadata: z.number() });
    const done: number[] = [];
    const handler = handle(
      works,
      async ({ metadata }) => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        done.push(metadata);
      },
      { concurrency: 2 },
    );
    await using env = await createTestEnv({ handlers: [handler] });
    for (const n of [1, 2, 3, 4, 5]) await env.client.submit(works, n);
    await env.client.submit(works, 6, { scheduleTime: { in: "5m" } });
    await env.settled();
    expect(done.sort()).toEqual([1, 2, 3, 4, 5]);
    await env.clock.advance("5m");
    expect(done).toContain(6);
  });

  it("shares nothing with another environment: no task, no time, no worker", async () => {
    await using one = await createTestEnv({ handlers: [halfHandler], now: new Date("2030-01-01T00:00:00Z") });
    await using two = await createTestEnv({ now: new Date("2040-01-01T00:00:00Z") });
    const mine = await one.client.submit(half, { n: 2 }, { key: "k" });
    const other = await two.client.submit(half, { n: 4 }, { key: "k" });
    await one.clock.advance("1d");
    expect(await mine.result()).toEqual({ half: 1 });
    expect((await other.snapshot()).state).toBe("pending");
    expect(await two.client.count()).toMatchObject({ count: 1 });
    expect(one.clock.now().getTime() - Date.parse("2030-01-02T00:00:00Z")).toBeLessThan(1_000);
    expect(two.clock.now().getTime() - Date.parse("2040-01-01T00:00:00Z")).toBeLessThan(1_000);
    await two.startWorker({ handlers: [halfHandler] });
    expect(await other.result()).toEqual({ half: 2 });
  });

  it("takes settings of the server, and finds an emptied schema where another environment was", async () => {
    {
      await using before = await createTestEnv({ settings: { LEASEHOLD_RETENTION_COMPLETED: "1h" }, handlers: [halfHandler] });
      const task = await before.client.submit(half, { n: 4 });
      await before.settled();
      await before.clock.advance("2h");
      await expect(task.snapshot()).rejects.toMatchObject({ code: "NOT_FOUND" });
      await before.client.submit(half, { n: 4 }, { scheduleTime: { in: "1h" } });
    }
    await using after = await createTestEnv();
    expect(await after.client.count()).toMatchObject({ count: 0 });
    await expect(createTestEnv({ settings: { LEASEHOLD_RETENTION_COMPLETED: "soon" } })).rejects.toThrow(/LEASEHOLD_RETENTION_COMPLETED/);
  });

  it("is moved by its own clock alone, whatever the test made of the process's", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setImmediate", "setInterval", "Date", "performance", "queueMicrotask"] });
    vi.setSystemTime(new Date("2040-01-01T00:00:00Z"));
    await using env = await createTestEnv({ handlers: [halfHandler, approvalHandler], now: new Date("2030-01-01T00:00:00Z") });
    const waiting = await env.client.submit(approval, { who: "E" });
    const task = await env.client.submit(half, { n: 8 }, { scheduleTime: { in: "1h" } });
    await env.settled();
    vi.advanceTimersByTime(10 * DAY_MS);
    await env.settled();
    expect((await task.snapshot()).state).toBe("pending");
    await env.clock.advance("1h");
    expect(await task.result()).toEqual({ half: 4 });
    await env.clock.advance("7d");
    expect(await waiting.result()).toEqual({ decision: "nobody answered" });
  });

  it("is moved by its own clock alone, and ends, where Node's test runner has replaced the timers of all modules", async () => {
    mock.timers.enable({ apis: ["setTimeout", "setInterval", "setImmediate", "Date"] });
    onTestFinished(() => mock.timers.reset());
    const env = await createTestEnv({ handlers: [halfHandler], now: new Date("2030-01-01T00:00:00Z") });
    const task = await env.client.submit(half, { n: 8 }, { scheduleTime: { in: "1h" } });
    mock.timers.tick(10 * DAY_MS);
    await env.settled();
    expect((await task.snapshot()).state).toBe("pending");
    await env.clock.advance("1h");
    expect(await task.result()).toEqual({ half: 4 });
    await env.dispose();
  });

  it("of two hundred in one file warns of nothing and finds nothing of the others", async () => {
    const warnings: string[] = [];
    const note = (warning: Error): void => void warnings.push(warning.message);
    process.on("warning", note);
    onTestFinished(() => void process.off("warning", note));
    for (let turn = 0; turn < 200; turn += 1) {
      await using env = await createTestEnv({ handlers: [halfHandler] });
      await (await env.client.submit(half, { n: 4 }, { key: "the same" })).result();
      expect(await env.client.count(half)).toMatchObject({ count: 1 });
    }
    expect(warnings).toEqual([]);
  });

  it("ends with work pending and a handler that heeds nothing", async () => {
    const stuck = defineTask({ name: "stuck" });
    const env = await createTestEnv({ handlers: [handle(stuck, () => new Promise<never>(() => undefined)), halfHandler] });
    await env.client.submit(stuck, null);
    await env.client.submit(half, { n: 4 }, { scheduleTime: { in: "1h" } });
    await env.settled();
    expect(env.worker?.state.running).toHaveLength(1);
    await env.dispose();
    await env.dispose();
    expect(env.worker?.state.status).toBe("stopped");
    await expect(env.client.submit(half, { n: 4 })).rejects.toMatchObject({ code: "CLIENT_CLOSED" });
  });
});
