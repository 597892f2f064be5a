// Does each thing that the origin, a .NET library of background tasks in one process, can do work here with the SDK against a real server?
// One test for each row of the table that was taken from it; its defects are in origin-defects.test.ts.
import { createClient, defineTask, handle, isTaskFailed, type MetadataInput } from "@leasehold/client";
import { CountTasksRequest, ExplainTaskRequest, ExplanationCode, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { gate, rowsOf, sdkScene, until } from "../support/sdk-scene.js";

const sdk = sdkScene();
const LONG_AWAY = { in: "1000d" } as const;

/** A task that adds, under a name of its own: it waits for a decision, and fails or is cancelled if that says so. */
const addingTask = (name = sdk.name()) =>
  defineTask({
    name,
    metadata: z.object({ numbers: z.array(z.number()), since: z.iso.date().optional() }),
    executionMetadata: z.object({ sum: z.number().default(0), decision: z.string().optional() }),
    result: z.object({ sum: z.number() }),
    errors: { negative: z.object({ index: z.number().int() }) },
  });

const adding = (task: ReturnType<typeof addingTask>) =>
  handle(task, async (ctx) => {
    const index = ctx.metadata.numbers.findIndex((number) => number < 0);
    if (index !== -1) return ctx.fail("negative", { index }, { retry: false, message: "only what is not negative" });
    const { decision } = ctx.executionMetadata.current;
    const sum = ctx.metadata.numbers.reduce((all, number) => all + number, 0);
    if (decision === undefined) return ctx.suspend({ untilProceeded: true, executionMetadata: { sum } });
    return decision === "go" ? { sum: ctx.executionMetadata.current.sum } : ctx.cancel(decision);
  });

describe("in the origin", () => {
  it("typed metadata, execution metadata, result, error per task", async () => {
    const task = addingTask();
    await sdk.work([adding(task)]);
    const job = await sdk.client.submit(task, { numbers: [1, 2.5] });
    await until(job, ({ state }) => state === "suspended");
    const { metadata, executionMetadata, result } = await job.snapshot();
    expect({ metadata, executionMetadata, result }).toEqual({
      metadata: { numbers: [1, 2.5] },
      executionMetadata: { sum: 3.5 },
      result: undefined,
    });
    await job.proceed({ patch: { decision: "go" } });
    expect((await job.result()).sum).toBe(3.5);

    const failing = await sdk.client.submit(task, { numbers: [1, -1] });
    const error: unknown = await failing.result().catch((thrown: unknown) => thrown);
    expect(isTaskFailed(error, task) && error.failure.code === "negative" && error.failure.data.index).toBe(1);

    // The same bytes come back, whatever a JSON parser would make of them.
    const bytes = '{ "numbers":[1.0, 2e0],  "since":"2026-01-31" }';
    const raw = await sdk.owner.submit({ name: task.name, metadata: { data: Buffer.from(bytes) } });
    expect((await sdk.owner.get({ taskId: raw.task.taskId })).metadata?.data.toString()).toBe(bytes);
  });

  it("task registry, name → handler", async () => {
    const [one, other, nobody] = [sdk.name(), sdk.name(), sdk.name()].map((name) => defineTask({ name, result: z.string() }));
    await sdk.work([handle(one!, () => "one"), handle(other!, () => "other")]);
    const [first, second, third] = [await sdk.client.submit(one!), await sdk.client.submit(other!), await sdk.client.submit(nobody!)];
    expect([await first.result(), await second.result()]).toEqual(["one", "other"]);
    // A name that no worker announced waits and blocks nobody.
    expect(await third.snapshot()).toMatchObject({ state: "pending", pendingReason: "new", attempt: 1 });
  });

  it("states Pending, Enqueued, Retrying, Failed, Cancelled, Completed, Proceeded, Suspended", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.object({ end: z.enum(["complete", "fail", "retry", "suspend"]) }),
      errors: { broken: z.object({}) },
      options: { retry: { delays: ["1h"] } },
    });
    const running = gate();
    const go = gate();
    const submit = (end: "complete" | "fail" | "retry" | "suspend") => sdk.client.submit(task, { end });
    const waiting = await sdk.client.submit(task, { end: "complete" }, { scheduleTime: LONG_AWAY });
    const first = await submit("complete");
    expect(await first.snapshot(), "Pending, Enqueued: due, and nobody has it").toMatchObject({ state: "pending", pendingReason: "new" });
    expect(await waiting.snapshot(), "Pending: not due").toMatchObject({ state: "pending", pendingReason: "scheduled" });
    await sdk.work([
      handle(task, async (ctx) => {
        running.open();
        await go.opened;
        if (ctx.metadata.end === "suspend" && ctx.resumed.by !== "proceeded") return ctx.suspend({ untilProceeded: true });
        if (ctx.metadata.end === "retry") throw new Error("for now");
        if (ctx.metadata.end === "fail") return ctx.fail("broken", {}, { retry: false });
        return undefined;
      }),
    ]);
    await running.opened;
    expect(await first.snapshot(), "Enqueued, and somebody runs it").toMatchObject({ state: "running" });
    go.open();
    const [failed, retrying, suspended] = [await submit("fail"), await submit("retry"), await submit("suspend")];
    expect(await first.outcome(), "Completed").toMatchObject({ state: "completed" });
    expect(await failed.outcome(), "Failed").toMatchObject({ state: "failed", error: { code: "broken" } });
    expect(await until(retrying, ({ pendingReason }) => pendingReason === "retry"), "Retrying").toMatchObject({
      state: "pending",
      attempt: 2,
    });
    expect(await until(suspended, ({ state }) => state === "suspended"), "Suspended").toMatchObject({ pendingReason: undefined });
    const { task: proceeded } = await suspended.proceed({ scheduleTime: LONG_AWAY });
    expect(proceeded, "Proceeded").toMatchObject({ state: "pending", pendingReason: "proceeded" });
    expect(await waiting.cancel(), "Cancelled").toMatchObject({ state: "cancelled", finishReason: "cancel_requested" });
  });

  it("RunWithAsync, ScheduleWithAsync(at)", async () => {
    const task = defineTask({ name: sdk.name() });
    const began: string[] = [];
    await sdk.work([handle(task, ({ id }) => void began.push(id))]);
    const at = new Date(Date.now() + 700);
    const later = await sdk.client.submit(task, null, { scheduleTime: at });
    const now = await sdk.client.submit(task);
    await now.result();
    expect((await later.snapshot()).scheduleTime).toEqual(at);
    await later.result();
    expect(began).toEqual([now.id, later.id]);
    expect((await later.snapshot()).leaseTime!.getTime()).toBeGreaterThanOrEqual(at.getTime());
  });

  it("Proceed by id or by query (exactly one match), with execution metadata modification, now or at a time", async () => {
    const task = addingTask();
    await sdk.work([adding(task)]);
    const submit = async (...numbers: number[]) => {
      const job = await sdk.client.submit(task, { numbers }, { key: `order-${numbers.join("-")}` });
      await until(job, ({ state }) => state === "suspended");
      return job;
    };
    const [byId, byKey, byQuery, atATime] = [await submit(1), await submit(2), await submit(3), await submit(4)];
    await sdk.client.handle(task, byId.id).proceed({ replace: { sum: 100, decision: "go" } });
    await sdk.client.handle(task, { key: "order-2" }).proceed({ update: ({ sum = 0 }) => ({ sum: sum * 2, decision: "go" }) });
    await sdk.client.proceed(task, { metadata: { numbers: [3] }, state: ["suspended"] }, { patch: { decision: "go" } });
    expect(await Promise.all([byId, byKey, byQuery].map(async (job) => (await job.result()).sum))).toEqual([100, 4, 3]);

    const at = new Date(Date.now() + 500);
    expect((await atATime.proceed({ patch: { decision: "go" }, scheduleTime: at })).task.runTime).toEqual(at);
    await atATime.result();
    expect((await atATime.snapshot()).leaseTime!.getTime()).toBeGreaterThanOrEqual(at.getTime());
  });

  it("results Success, Suspended(until?), Failure(error?), Cancellation(error?)", async () => {
    const task = defineTask({
      name: sdk.name(),
      metadata: z.enum(["success", "suspended", "suspended until", "failure", "failure without error", "cancellation"]),
      executionMetadata: z.object({ woken: z.boolean().default(false) }),
      result: z.string(),
      errors: { unwanted: z.object({ why: z.string() }) },
      options: { retry: { maxAttempts: 1 } },
    });
    await sdk.work([
      handle(task, (ctx) => {
        const executionMetadata = { woken: true };
        if (ctx.executionMetadata.current.woken) return "woken";
        switch (ctx.metadata) {
          case "success":
            return "well";
          case "suspended":
            return ctx.suspend({ untilProceeded: true, executionMetadata });
          case "suspended until":
            return ctx.suspend({ until: { in: "200ms" }, executionMetadata });
          case "failure":
            return ctx.fail("unwanted", { why: "no reason" }, { retry: false });
          case "failure without error":
            throw new Error("");
          case "cancellation":
            return ctx.cancel("not needed any more");
        }
      }),
    ]);
    const outcome = async (metadata: MetadataInput<typeof task>) => (await sdk.client.submit(task, metadata)).outcome({ timeout: "20s" });
    expect(await outcome("success")).toEqual({ state: "completed", result: "well" });
    expect(await outcome("suspended until")).toEqual({ state: "completed", result: "woken" });
    expect(await outcome("failure")).toMatchObject({ state: "failed", error: { code: "unwanted", data: { why: "no reason" } } });
    expect(await outcome("failure without error")).toMatchObject({ state: "failed", finishReason: "max_attempts" });
    expect(await outcome("cancellation")).toMatchObject({
      state: "cancelled",
      reason: "not needed any more",
      finishReason: "cancelled_by_worker",
    });
    const suspended = await sdk.client.submit(task, "suspended");
    await until(suspended, ({ state }) => state === "suspended");
    expect((await suspended.snapshot()).executionMetadata).toEqual({ woken: true });
  });

  it("execution metadata persisted on PersistAsync and when execution is cancelled by shutdown; restored when execution proceeds", async () => {
    const task = defineTask({ name: sdk.name(), executionMetadata: z.object({ offset: z.number().default(0) }), result: z.number() });
    const saved = gate();
    const first = await sdk.work([
      handle(task, async (ctx) => {
        await ctx.executionMetadata.checkpoint({ offset: 7 });
        saved.open();
        // Ends by the signal of the shutdown, as an uncaught rejection of whatever it waited for.
        await new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(new Error("aborted"))));
        return -1;
      }),
    ]);
    const job = await sdk.client.submit(task);
    await saved.opened;
    await first.drain({ grace: 0 });
    expect(await job.snapshot()).toMatchObject({
      state: "pending",
      pendingReason: "released",
      attempt: 1,
      executionMetadata: { offset: 7 },
    });
    await sdk.work([
      handle(task, ({ executionMetadata, attempt, resumed }) => {
        expect([attempt, resumed.by]).toEqual([1, "released"]);
        return executionMetadata.current.offset;
      }),
    ]);
    expect(await job.result({ timeout: "20s" })).toBe(7);
  });

  it("state machine: by hand, a state field of the execution metadata that is persisted after each step (defineMachine comes later)", async () => {
    const order = defineTask({
      name: sdk.name(),
      executionMetadata: z.discriminatedUnion("state", [
        z.object({ state: z.literal("placed") }),
        z.object({ state: z.literal("awaiting_payment"), invoice: z.string() }),
        z.object({ state: z.literal("paid"), receipt: z.string() }),
      ]),
      result: z.object({ receipt: z.string() }),
    });
    const steps: string[] = [];
    await sdk.work([
      handle(order, async (ctx) => {
        for (;;) {
          const now = ctx.executionMetadata.current;
          steps.push(`${now.state} ${String(ctx.attempt)}`);
          switch (now.state) {
            case "placed":
              return ctx.suspend({ untilProceeded: true, executionMetadata: { state: "awaiting_payment", invoice: "I-1" } });
            case "awaiting_payment":
              await ctx.executionMetadata.checkpoint({ state: "paid", receipt: `R of ${now.invoice}` });
              break;
            case "paid":
              if (ctx.attempt === 1) throw new Error("once, behind a step that was persisted");
              return { receipt: now.receipt };
          }
        }
      }),
    ]);
    const job = await sdk.client.submit(order, null, { executionMetadata: { state: "placed" }, retry: { delays: ["10ms"] } });
    await until(job, ({ state }) => state === "suspended");
    await job.proceed();
    expect(await job.result({ timeout: "20s" })).toEqual({ receipt: "R of I-1" });
    expect(steps).toEqual(["placed 1", "awaiting_payment 1", "paid 1", "paid 2"]);
  });

  it("query by ids, names, states, metadata and execution metadata (jsonb containment), cursor, page size, order", async () => {
    const task = addingTask();
    const other = addingTask();
    await sdk.work([adding(task)]);
    const jobs = [];
    for (const number of [1, 2, 3, 4, 5])
      jobs.push(await sdk.client.submit(task, { numbers: [number, 10] }, { labels: { odd: String(number % 2 === 1) } }));
    await sdk.client.submit(other, { numbers: [1, 10] });
    for (const job of jobs) await until(job, ({ state }) => state === "suspended");
    const ids = jobs.map(({ id }) => id);
    const found = async (list: AsyncIterable<{ readonly id: string }>): Promise<number[]> => {
      const numbers: number[] = [];
      for await (const { id } of list) numbers.push(ids.indexOf(id) + 1);
      return numbers;
    };
    const order = { order: "oldest_first" } as const;
    expect(await found(sdk.client.list(task, {}, order))).toEqual([1, 2, 3, 4, 5]);
    expect(await found(sdk.client.list({ ids: [ids[0]!, ids[2]!] }, order)), "ids").toEqual([1, 3]);
    expect(await found(sdk.client.list({ names: [task.name, other.name], state: ["pending"] }))).toEqual([0]);
    expect(await found(sdk.client.list(task, { state: ["suspended"] }, { order: "newest_first" }))).toEqual([5, 4, 3, 2, 1]);
    expect(await found(sdk.client.list(task, { metadata: { numbers: [4] } })), "metadata").toEqual([4]);
    expect(await found(sdk.client.list(task, { executionMetadata: { sum: 12 } })), "execution metadata").toEqual([2]);
    expect(await found(sdk.client.list(task, { labels: { odd: "true" } }, order)), "labels").toEqual([1, 3, 5]);
    const list = sdk.client.list(task, {}, { ...order, pageSize: 2 });
    const first = await list.page();
    const second = await list.page(first.nextPageToken);
    const third = await list.page(second.nextPageToken);
    expect([first, second, third].map((page) => page.tasks.map(({ id }) => ids.indexOf(id) + 1))).toEqual([[1, 2], [3, 4], [5]]);
    expect(third.nextPageToken).toBeUndefined();
  });

  it("Persistence: SchemaName", async () => {
    const { client, databaseUrl } = await sdk.server({ LEASEHOLD_PERSISTENCE_SCHEMA_NAME: 'Own "Schema"' });
    const task = defineTask({ name: sdk.name(), result: z.string() });
    await sdk.work([handle(task, () => "stored elsewhere")], { client });
    expect(await (await client.submit(task)).result({ timeout: "20s" })).toBe("stored elsewhere");
    const count = (schema: string) => rowsOf<{ n: number }>(databaseUrl, `SELECT count(*)::int AS n FROM ${schema}.tasks`);
    expect([await count('"Own ""Schema"""'), await count("leasehold")]).toEqual([[{ n: 1 }], [{ n: 0 }]]);
  });

  it("Scheduling: BatchSize, PollingDelay", async () => {
    const task = defineTask({ name: sdk.name(), metadata: z.number(), result: z.number() });
    const settings = { LEASEHOLD_SCHEDULING_BATCH_SIZE: "2" };
    const pushed = await sdk.server({ ...settings, LEASEHOLD_SCHEDULING_POLLING_DELAY: "1h" });
    const polling = await sdk.server({ ...settings, LEASEHOLD_SCHEDULING_POLLING_DELAY: "100ms" });
    for (const { client } of [pushed, polling]) await sdk.work([handle(task, ({ metadata }) => metadata)], { client });
    // Nothing waits for the polling delay, and a batch is no limit on how many run.
    const jobs = await Promise.all(Array.from({ length: 9 }, (_, n) => pushed.client.submit(task, n)));
    expect(await Promise.all(jobs.map((job) => job.result({ timeout: "20s" })))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    const soon = await pushed.client.submit(task, 9, { scheduleTime: { in: "300ms" } });
    expect(await soon.result({ timeout: "20s" })).toBe(9);
    // What no notification told of is found by looking.
    const unheard = await polling.client.submit(task, 10, { scheduleTime: LONG_AWAY });
    await rowsOf(polling.databaseUrl, "UPDATE live_tasks SET run_at = leasehold_now() WHERE id = $1", [unheard.id]);
    expect(await unheard.result({ timeout: "20s" })).toBe(10);
  });

  it("Scheduling: SchedulerRetryCount, SchedulerRetryDelays[] (infrastructure: a crashed execution)", async () => {
    const { client, address } = await sdk.server({
      LEASEHOLD_SCHEDULING_SCHEDULER_RETRY_COUNT: "1",
      LEASEHOLD_SCHEDULING_SCHEDULER_RETRY_DELAYS: "300ms",
    });
    const task = defineTask({ name: sdk.name() });
    const job = await client.submit(task);
    const crash = async (): Promise<void> => {
      const worker = sdk.raw(address, [task.name], { sessionTtl: { seconds: 2n, nanos: 0 } });
      await worker.lease();
      worker.close();
    };
    await crash();
    const lost = await until(job, ({ pendingReason }) => pendingReason === "lease_lost");
    expect(lost).toMatchObject({ state: "pending", attempt: 1, lostLeases: 1, maxLostLeases: 1 });
    await crash();
    expect(await job.outcome({ timeout: "20s" })).toMatchObject({ state: "failed", finishReason: "poisoned" });
  });

  it("Execution: MaxRetryCount (a handler's Failure)", async () => {
    const { client } = await sdk.server({ LEASEHOLD_EXECUTION_MAX_RETRY_COUNT: "2", LEASEHOLD_EXECUTION_RETRY_INITIAL: "10ms" });
    const task = defineTask({ name: sdk.name() });
    const attempts: string[] = [];
    await sdk.work(
      [
        handle(task, ({ id, attempt, maxAttempts }) => {
          attempts.push(`${id} ${String(attempt)} of ${String(maxAttempts)}`);
          throw new Error("again and again");
        }),
      ],
      { client },
    );
    const usual = await client.submit(task);
    const own = await client.submit(task, null, { retry: { maxAttempts: 2, delays: ["10ms"] } });
    for (const job of [usual, own])
      expect(await job.outcome({ timeout: "20s" })).toMatchObject({ state: "failed", finishReason: "max_attempts" });
    const of = (id: string) => attempts.filter((line) => line.startsWith(id)).map((line) => line.slice(id.length + 1));
    expect(of(usual.id), "MaxRetryCount is attempts − 1").toEqual(["1 of 3", "2 of 3", "3 of 3"]);
    expect(of(own.id), "overridden by the task").toEqual(["1 of 2", "2 of 2"]);
  });

  it("Hangfire dashboard: what it shows can be asked for (the page itself comes later)", async () => {
    const task = defineTask({ name: sdk.name() });
    const running = gate();
    const go = gate();
    await sdk.work(
      [
        handle(task, async () => {
          running.open();
          await go.opened;
        }),
      ],
      { name: "seen-on-the-page", concurrency: 1 },
    );
    const first = await sdk.client.submit(task);
    await running.opened;
    const second = await sdk.client.submit(task);
    const count = (state: TaskState) =>
      sdk.owner.call(TaskServiceService.countTasks, CountTasksRequest.create({ filter: { names: [task.name], states: [state] } }));
    expect(await count(TaskState.RUNNING)).toMatchObject({ count: 1, more: false });
    expect(await count(TaskState.PENDING)).toMatchObject({ count: 1 });
    expect(await first.snapshot()).toMatchObject({ workerName: "seen-on-the-page" });
    const why = await sdk.owner.call(TaskServiceService.explainTask, ExplainTaskRequest.create({ task: { taskId: second.id } }));
    expect(why.explanations[0]).toMatchObject({ code: ExplanationCode.ALL_SLOTS_BUSY });
    go.open();
    await second.result({ timeout: "20s" });
    // Whoever looks needs no definition of what it looks at.
    const page = createClient({ address: sdk.address });
    expect(await page.handle({ id: first.id }).snapshot()).toMatchObject({ name: task.name, state: "completed" });
    page.close();
  });
});
