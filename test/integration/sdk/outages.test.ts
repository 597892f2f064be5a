// What does the SDK hold when the network eats an answer, or the only server is away for a while? What was asked for happens once, and goes on by itself.
import { defineTask, handle } from "@leasehold/client";
import { describe, expect, it, onTestFinished } from "vitest";
import { z } from "zod";
import { createTestDatabase } from "../../support/postgres.js";
import { freePort } from "../../support/free-port.js";
import { startInProcess } from "../../support/in-process-server.js";
import { gate, rowsOf, sdkScene, until } from "../../support/sdk-scene.js";
import { startTcpProxy, type TcpProxy } from "../../support/tcp-proxy.js";

const sdk = sdkScene();
const PATIENCE = { timeout: "25s" } as const;

/** A proxy in front of the scene's server. */
async function proxied(): Promise<TcpProxy> {
  const [host = "", port = ""] = sdk.address.split(":");
  const proxy = await startTcpProxy({ host, port: Number(port) });
  onTestFinished(() => proxy.close());
  return proxy;
}

const numbered = () =>
  defineTask({
    name: sdk.name(),
    metadata: z.number(),
    executionMetadata: z.object({ at: z.number().default(0) }),
    result: z.number(),
  });

describe("an answer that the network eats", { timeout: 60_000 }, () => {
  it("to a submission costs no second task: the next try finds the first one, and still says that it created it", async () => {
    const proxy = await proxied();
    const client = sdk.connect({ address: proxy.address });
    const task = numbered();
    await client.count(task);
    proxy.blackHole("to-client");
    const submitted = client.submit(task, 1, PATIENCE);
    await expect.poll(() => sdk.client.count(task), { timeout: 20_000 }).toMatchObject({ count: 1 });
    proxy.heal();
    proxy.reset();
    const { id, created } = await submitted;
    expect(created).toBe(true);
    expect((await sdk.client.list(task).page()).tasks.map((stored) => stored.id)).toEqual([id]);
  });

  it("to a checkpoint and to an outcome leaves each recorded once, and the handler hears of the checkpoint all the same", async () => {
    const proxy = await proxied();
    const task = numbered();
    const [began, go] = [gate(), gate()];
    const saved: bigint[] = [];
    let runs = 0;
    const worker = await sdk.work(
      [
        handle(task, async (ctx) => {
          runs += 1;
          began.open();
          await go.opened;
          await ctx.executionMetadata.checkpoint({ at: ctx.metadata });
          saved.push(ctx.executionMetadata.version);
          return ctx.metadata;
        }),
      ],
      { client: sdk.connect({ address: proxy.address, random: () => 0 }) },
    );
    const job = await sdk.client.submit(task, 7);
    await began.opened;
    for (const recorded of ["checkpointCount", "finishTime"] as const) {
      proxy.blackHole("to-client");
      go.open();
      await until(job, (snapshot) => Number(snapshot[recorded] ?? 0) > 0);
      proxy.heal();
      proxy.reset();
      if (recorded === "checkpointCount") await expect.poll(() => saved.length, { timeout: 20_000 }).toBe(1);
    }
    await expect.poll(() => worker.state.heldLeases, { timeout: 20_000 }).toBe(0);
    expect([runs, saved.length, await job.result(PATIENCE)]).toEqual([1, 1, 7]);
    expect(await job.snapshot()).toMatchObject({ checkpointCount: 1n, attempt: 1, lostLeases: 0 });
    const events = await rowsOf<{ type: string }>(sdk.databaseUrl, "SELECT type FROM task_events WHERE id = $1", [job.id]);
    expect(events.map(({ type }) => type)).not.toContain("LEASE_LOST");
  });

  it("to a wait ends no wait: the result comes when the network is back", async () => {
    const proxy = await proxied();
    const client = sdk.connect({ address: proxy.address, random: () => 0 });
    const task = numbered();
    const job = await client.submit(task, 3);
    const waiting = job.result(PATIENCE);
    await expect.poll(() => sdk.client.count(task)).toMatchObject({ count: 1 });
    proxy.blackHole("to-client");
    await sdk.work([handle(task, ({ metadata }) => metadata)]);
    await sdk.client.handle(task, job.id).result(PATIENCE);
    proxy.heal();
    proxy.reset();
    expect(await waiting).toBe(3);
  });
});

describe("the only server, away and back on the same address", { timeout: 60_000 }, () => {
  it("finds every worker again: what became due meanwhile runs once, and what was running was not disturbed", async () => {
    const database = await createTestDatabase();
    const env = { LEASEHOLD_LISTEN: `127.0.0.1:${String(await freePort())}` };
    const first = await startInProcess(env, database.url);
    const client = sdk.connect({ address: first.address });
    const task = numbered();
    const [running, go] = [gate(), gate()];
    const runs: number[] = [];
    const handler = handle(task, async ({ metadata }) => {
      runs.push(metadata);
      if (metadata === 0) {
        running.open();
        await go.opened;
      }
      return metadata;
    });
    const workers = await Promise.all(
      Array.from({ length: 5 }, () => sdk.work([handler], { client: sdk.connect({ address: first.address }) })),
    );
    const due = await client.submitMany(
      task,
      Array.from({ length: 20 }, (_, n) => ({ metadata: n, ...(n === 0 ? {} : { scheduleTime: { in: "2s" } as const }) })),
    );
    await running.opened;
    await first[Symbol.asyncDispose]();
    await expect.poll(() => workers.map(({ state }) => state.notReady ?? "ready").join("; "), { timeout: 20_000 }).not.toContain("ready");
    go.open();
    // Everything is due by then.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(runs).toEqual([0]);

    const second = await startInProcess(env, database.url);
    try {
      expect(await Promise.all(due.map((job) => job.result(PATIENCE)))).toEqual(due.map((_, n) => n));
      expect(runs.toSorted((a, b) => a - b)).toEqual(due.map((_, n) => n));
      await expect.poll(() => workers.map(({ state }) => state.status), { timeout: 20_000 }).toEqual(workers.map(() => "ready"));
      for (const job of due) expect(await job.snapshot()).toMatchObject({ attempt: 1, lostLeases: 0 });
      await Promise.all(workers.map((worker) => worker.drain({ grace: 0 })));
    } finally {
      await second[Symbol.asyncDispose]();
      await database.drop();
    }
  });
});
