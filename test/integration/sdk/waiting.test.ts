// Does waiting with the SDK scale, and does it end: for a result, for a change, for a page, and for a task that is no longer there?
import { defineTask, handle, LeaseholdError, type TaskSnapshot } from "@leasehold/client";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { gate, rowsOf, sdkScene, until } from "../../support/sdk-scene.js";

const sdk = sdkScene();
const UNKNOWN_ID = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";
const PATIENCE = { timeout: "20s" } as const;

const numbered = () => defineTask({ name: sdk.name(), metadata: z.number(), result: z.object({ n: z.number() }) });
const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "no error",
    (error: unknown) => LeaseholdError.from(error).code,
  );

describe("waiting", () => {
  it("for 500 results at once needs a few streams and gives each its own", async () => {
    const task = numbered();
    const jobs = await sdk.client.submitMany(
      task,
      Array.from({ length: 500 }, (_, n) => ({ metadata: n })),
    );
    const results = Promise.all(jobs.map((job) => job.result({ timeout: "30s" })));
    await sdk.work([handle(task, ({ metadata }) => ({ n: metadata }))], { concurrency: 50 });
    expect((await results).map(({ n }) => n)).toEqual(Array.from({ length: 500 }, (_, n) => n));
    expect(sdk.calls.filter((method) => method === "WatchTasks").length).toBeLessThanOrEqual(3);
  });

  it("begun before, with and after the end of a task always hears of it", async () => {
    const task = numbered();
    await sdk.work([handle(task, ({ metadata }) => ({ n: metadata }))], { concurrency: 20 });
    for (let round = 0; round < 10; round += 1) {
      const jobs = await Promise.all(Array.from({ length: 20 }, (_, n) => sdk.client.submit(task, n)));
      const early = jobs.map((job) => job.result(PATIENCE));
      const late = jobs.map(async (job, n) => {
        await early[(n + round) % 20];
        return job.result(PATIENCE);
      });
      expect((await Promise.all(late)).map(({ n }) => n)).toEqual(jobs.map((_, n) => n));
    }
  });

  it("with watch shows what the task is and how it goes on, to its end", async () => {
    const task = defineTask({ name: sdk.name(), executionMetadata: z.object({ step: z.number().default(0) }) });
    const go = gate();
    const seen: TaskSnapshot[] = [];
    const job = await sdk.client.submit(task);
    const watched = (async () => {
      for await (const snapshot of job.watch(PATIENCE)) seen.push(snapshot);
    })();
    const first = await until(job, () => true);
    expect(first).toMatchObject({ id: job.id, name: task.name, state: "pending" });
    await sdk.work([
      handle(task, async (ctx) => {
        ctx.progress({ done: 3, total: 10, message: "rows" });
        await go.opened;
        await ctx.executionMetadata.checkpoint({ step: 1 });
      }),
    ]);
    const shown = await until(job, ({ progress }) => progress !== undefined);
    expect(shown).toMatchObject({ state: "running", progress: { done: 3, total: 10, message: "rows" } });
    go.open();
    await watched;
    expect(seen[0]?.state).toBe("pending");
    expect(seen.at(-1)).toMatchObject({ state: "completed", checkpointCount: 1n });
    const order = ["pending", "running", "completed"];
    const states = seen.map(({ state }) => order.indexOf(state));
    expect(states).toEqual(states.toSorted((a, b) => a - b));
  });

  it("ends with its own limit, its own signal, or the client, and the task goes on", async () => {
    const task = numbered();
    const job = await sdk.client.submit(task, 1);
    const other = sdk.connect();
    const stop = new AbortController();
    const limited = codeOf(job.result({ timeout: "50ms" }));
    const stopped = codeOf(job.result({ signal: stop.signal }));
    const closed = codeOf(other.handle(task, job.id).result());
    expect(await limited).toBe("DEADLINE_EXCEEDED");
    stop.abort();
    expect(await stopped).toBe("CANCELLED");
    await other.handle(task, job.id).snapshot();
    other.close();
    expect(await closed).toBe("CLIENT_CLOSED");
    await sdk.work([handle(task, ({ metadata }) => ({ n: metadata }))]);
    expect(await job.result(PATIENCE)).toEqual({ n: 1 });
  });
});

describe("waiting for what is not there", () => {
  it("ends for an unknown id in every way to wait, and disturbs nobody else's wait", async () => {
    const task = numbered();
    const there = await sdk.client.submit(task, 1);
    const here = there.result(PATIENCE);
    const unknown = sdk.client.handle(task, UNKNOWN_ID);
    const watching = (async () => {
      for await (const _ of unknown.watch(PATIENCE)) throw new Error("there was something to see");
    })();
    expect(await Promise.all([unknown.result(PATIENCE), unknown.outcome(PATIENCE), watching].map(codeOf))).toEqual([
      "TASK_REMOVED",
      "TASK_REMOVED",
      "TASK_REMOVED",
    ]);
    expect(await codeOf(unknown.snapshot())).toBe("NOT_FOUND");
    expect(await codeOf(sdk.client.handle(task, { key: "unknown" }).result(PATIENCE))).toBe("NOT_FOUND");
    await sdk.work([handle(task, ({ metadata }) => ({ n: metadata }))]);
    expect(await here).toEqual({ n: 1 });
  });

  it("ends when the task is deleted after it finished, or its retention is over", async () => {
    const task = numbered();
    await sdk.work([handle(task, ({ metadata }) => ({ n: metadata }))]);
    const [deleted, expired] = [await sdk.client.submit(task, 1), await sdk.client.submit(task, 2)];
    await Promise.all([deleted.result(PATIENCE), expired.result(PATIENCE)]);
    await sdk.owner.remove({ task: { taskId: deleted.id } });
    expect(await codeOf(deleted.result(PATIENCE))).toBe("TASK_REMOVED");
    await rowsOf(sdk.databaseUrl, "UPDATE finished_tasks SET finish_time = finish_time - interval '8 days' WHERE id = $1", [expired.id]);
    // A server looks for what is too old when it starts.
    await sdk.server({}, sdk.databaseUrl);
    await expect.poll(() => codeOf(expired.snapshot()), { timeout: 20_000 }).toBe("NOT_FOUND");
    expect(await codeOf(expired.result(PATIENCE))).toBe("TASK_REMOVED");
  });

  it("ends when the task is replaced, and goes on with a task that is retried", async () => {
    const task = numbered();
    const old = await sdk.client.submit(task, 1, { key: "k" });
    const replaced = old.outcome(PATIENCE);
    await sdk.client.submit(task, 2, { key: "k", onConflict: "replace_pending" });
    expect(await replaced).toMatchObject({ state: "cancelled", finishReason: "replaced" });

    let fails = true;
    await sdk.work([
      handle(task, ({ metadata }) => {
        if (fails) throw new Error("not yet");
        return { n: metadata };
      }),
    ]);
    const retried = await sdk.client.submit(task, 3, { retry: { maxAttempts: 1 } });
    expect(await retried.outcome(PATIENCE)).toMatchObject({ state: "failed" });
    fails = false;
    await retried.retry();
    expect(await retried.result(PATIENCE)).toEqual({ n: 3 });
  });

  it("never ends in a hang when the server goes: another one answers the same wait", async () => {
    const task = numbered();
    const first = await sdk.server();
    const second = await sdk.server({}, first.databaseUrl);
    const client = sdk.connect({ addresses: [first.address, second.address] });
    const jobs = await client.submitMany(
      task,
      Array.from({ length: 20 }, (_, n) => ({ metadata: n })),
    );
    const results = Promise.all(jobs.map((job) => job.result({ timeout: "25s" })));
    await Promise.all(jobs.map((job) => until(job, () => true)));
    await first.stop();
    await sdk.work([handle(task, ({ metadata }) => ({ n: metadata }))], { client: second.client });
    expect((await results).map(({ n }) => n)).toEqual(jobs.map((_, n) => n));
  });
});

describe("a list", () => {
  it("gives pages by hand and all of them by itself, without one task twice while others are added", async () => {
    const task = numbered();
    const before = await sdk.client.submitMany(
      task,
      Array.from({ length: 25 }, (_, n) => ({ metadata: n })),
    );
    const list = sdk.client.list(task, {}, { pageSize: 10 });
    const found: string[] = [];
    let token: string | undefined;
    do {
      const page = await list.page(token);
      expect(page.tasks.length).toBeLessThanOrEqual(10);
      found.push(...page.tasks.map(({ id }) => id));
      token = page.nextPageToken;
      await sdk.client.submit(task, 99);
    } while (token !== undefined);
    expect(new Set(found).size).toBe(found.length);
    expect(found.toSorted()).toEqual(before.map(({ id }) => id).toSorted());
    const all: string[] = [];
    for await (const { id } of list) all.push(id);
    expect(all).toHaveLength(28);
    expect(await codeOf(list.page("no token"))).toBe("INVALID_ARGUMENT");
    expect(await codeOf(sdk.client.list(task, {}, { pageSize: 0 }).page())).toBe("INVALID_ARGUMENT");
  });

  it("can be left in the middle, and finds by state, time and error", async () => {
    const task = defineTask({ name: sdk.name(), metadata: z.number(), errors: { odd: z.object({}) } });
    await sdk.work([handle(task, (ctx) => (ctx.metadata % 2 === 1 ? ctx.fail("odd", {}, { retry: false }) : undefined))]);
    const began = new Date(Date.now() - 60_000);
    const jobs = await sdk.client.submitMany(
      task,
      Array.from({ length: 6 }, (_, n) => ({ metadata: n })),
    );
    await Promise.all(jobs.map((job) => job.outcome(PATIENCE)));
    for await (const { id } of sdk.client.list(task, {}, { pageSize: 1 })) {
      expect(jobs.map((job) => job.id)).toContain(id);
      break;
    }
    const count = async (filter: Parameters<typeof sdk.client.list>[0]): Promise<number> => {
      let found = 0;
      for await (const _ of sdk.client.list({ names: [task.name], ...filter })) found += 1;
      return found;
    };
    expect(await count({ state: ["completed"] })).toBe(3);
    expect(await count({ errorCodes: ["odd"] })).toBe(3);
    expect(await count({ createdFrom: began, finishedBefore: { in: "1h" } })).toBe(6);
    expect(await count({ createdBefore: began })).toBe(0);
  });
});
