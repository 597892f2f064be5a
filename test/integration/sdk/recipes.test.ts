// Do the recipes of docs/recipes.md do what they say? Each is run as it stands, against a real server.
import { type Client, type ClientOptions, type TaskHandle } from "@leasehold/client";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { report, reportHandler, reportServer } from "../../../examples/recipes/cancel-from-request.js";
import { exportHandler, exportRows, exportRowsBefore, isUsed } from "../../../examples/recipes/changing-schema.js";
import { rebuildHandler, rebuildIndex, runWorker } from "../../../examples/recipes/deploys.js";
import { decide, expense, expenseHandler, undecided } from "../../../examples/recipes/human-approval.js";
import { importCustomers, importHandler } from "../../../examples/recipes/long-import.js";
import { givenUp, revive, thumbnail, thumbnailHandler } from "../../../examples/recipes/poison-tasks.js";
import { encodeHandler, encodeVideo, progressServer } from "../../../examples/recipes/progress-to-browser.js";
import { payment, paymentHandler, webhookServer } from "../../../examples/recipes/webhook.js";
import { freePort } from "../../support/free-port.js";
import { gate, sdkScene, until } from "../../support/sdk-scene.js";

const sdk = sdkScene();
const PATIENCE = { timeout: "20s" } as const;
const AT_ONCE = { retry: { delays: [0] } } as const;

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => server.closeAllConnections());
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return `http://127.0.0.1:${String(port)}`;
}

const suspended = (task: TaskHandle) => until(task, ({ state }) => state === "suspended");

it("a long import fetches no page twice that was checkpointed, and hands its fencing token on", async () => {
  const fetched: string[] = [];
  const stored: { ids: readonly string[]; fencingToken: bigint }[] = [];
  const pages: Record<string, { ids: string[]; next: string | null }> = {
    "": { ids: ["a", "b"], next: "2" },
    "2": { ids: ["c"], next: "3" },
    "3": { ids: ["d"], next: null },
  };
  await sdk.work([
    importHandler({
      page: async (_source, cursor) => {
        fetched.push(cursor);
        if (fetched.length === 2) throw new Error("the source is away for a moment");
        return pages[cursor]!;
      },
      store: async (ids, fencingToken) => void stored.push({ ids, fencingToken }),
    }),
  ]);
  const job = await sdk.client.submit(importCustomers, { source: "crm" }, { key: "crm/2026-01", ...AT_ONCE });
  expect(await job.result(PATIENCE)).toEqual({ imported: 4 });
  expect(fetched).toEqual(["", "2", "2", "3"]);
  expect(stored.map(({ ids }) => ids.join())).toEqual(["a,b", "c", "d"]);
  expect(stored[1]!.fencingToken).toBeGreaterThan(stored[0]!.fencingToken);
});

describe("a human approval", () => {
  it("asks once, holds no slot, and takes the first decision alone", async () => {
    const asked: number[] = [];
    const worker = await sdk.work([expenseHandler(async (_id, amount) => void asked.push(amount))], { concurrency: 1 });
    const [first, second] = await sdk.client.submitMany(expense, [
      { metadata: { employee: "ada", amount: 100 }, key: "E-1" },
      { metadata: { employee: "bob", amount: 200 }, key: "E-2" },
    ]);
    await Promise.all([first!, second!].map(suspended));
    expect([asked.toSorted(), await undecided(sdk.client), worker.state.running]).toEqual([[100, 200], ["E-1", "E-2"], []]);
    const decisions = await Promise.all(["carol", "dave"].map((by) => decide(sdk.client, "E-1", { approved: by === "carol", by })));
    const winner = decisions[0] === true ? "carol" : "dave";
    expect(decisions.toSorted()).toEqual([false, true]);
    expect(await first!.result(PATIENCE)).toEqual({ approved: winner === "carol", by: winner });
    expect([asked.length, await undecided(sdk.client)]).toEqual([2, ["E-2"]]);
    await second!.cancel();
  });

  it("that nobody makes in time is a refusal", async () => {
    await sdk.work([expenseHandler(async () => {}, "300ms")]);
    const job = await sdk.client.submit(expense, { employee: "eve", amount: 1 }, { key: "E-3" });
    expect(await job.result(PATIENCE)).toEqual({ approved: false, by: "nobody" });
    expect(await decide(sdk.client, "E-3", { approved: true, by: "carol" })).toBe(false);
  });
});

describe("a webhook", () => {
  const post = (url: string, order: string, status: string): Promise<Response> =>
    fetch(url, { method: "POST", body: JSON.stringify({ order, status }) });

  it("that comes before the handler has suspended is not lost, and may come again", async () => {
    const url = await listening(webhookServer(sdk.client));
    const answers: number[] = [];
    await sdk.work([paymentHandler(async (order) => void answers.push((await post(url, order, "paid")).status))]);
    const job = await sdk.client.submit(payment, { order: "O-1", cents: 5 }, { key: "O-1", keyHold: "1h" });
    expect(await job.result(PATIENCE)).toEqual({ paid: true });
    answers.push((await post(url, "O-1", "paid")).status);
    expect(answers).toEqual([204, 204]);
  });

  it("fails the task as declared, and sends callbacks back that fit nothing", async () => {
    const url = await listening(webhookServer(sdk.client));
    await sdk.work([paymentHandler(async () => {})]);
    const job = await sdk.client.submit(payment, { order: "O-2", cents: 5 }, { key: "O-2" });
    await suspended(job);
    expect([(await post(url, "O-2", "odd")).status, (await post(url, "O-none", "paid")).status]).toEqual([400, 404]);
    expect((await post(url, "O-2", "refused")).status).toBe(204);
    expect(await job.outcome(PATIENCE)).toMatchObject({ state: "failed", error: { code: "refused", data: { order: "O-2" } } });
  });
});

it("a request that goes away cancels its task, and one that stays gets the report", async () => {
  const url = await listening(reportServer(sdk.client));
  const running = gate();
  const seen: string[] = [];
  await sdk.work([
    reportHandler(async (month, signal) => {
      if (month === "2026-01") return 42;
      running.open();
      await sleep(20_000, undefined, { signal }).catch((error: unknown) => {
        seen.push(month);
        throw error;
      });
      return 0;
    }),
  ]);
  expect(await (await fetch(`${url}/?month=2026-01`)).json()).toEqual({ total: 42 });
  const leaving = new AbortController();
  const left = fetch(`${url}/?month=2026-02`, { signal: leaving.signal }).catch(() => "left");
  await running.opened;
  const [task] = (await sdk.client.list(report, { metadata: { month: "2026-02" } }).page()).tasks;
  leaving.abort();
  expect(await left).toBe("left");
  const outcome = await sdk.client.handle(report, { id: task!.id }).outcome(PATIENCE);
  expect([outcome, seen]).toMatchObject([{ state: "cancelled", reason: "the browser went away" }, ["2026-02"]]);
});

it("a browser sees progress and the end, also when it comes late", async () => {
  const url = await listening(progressServer(sdk.client));
  const go = gate();
  await sdk.work([encodeHandler((frame) => (frame === 2 ? go.opened : Promise.resolve()))]);
  const job = await sdk.client.submit(encodeVideo, { frames: 3 });
  const live = (await fetch(`${url}/${job.id}`)).body!.pipeThrough(new TextDecoderStream());
  let text = "";
  for await (const part of live) {
    text += part;
    if (text.includes('"done":1,"total":3')) go.open();
  }
  expect(text).toMatch(/^data: \{"state":"(?:pending|running)"/);
  expect(text).toMatch(/data: \{"state":"completed".*\n\nevent: end\n/);
  const late = await (await fetch(`${url}/${job.id}`)).text();
  expect(late).toMatch(/^data: \{"state":"completed"[^\n]*\n\nevent: end\n/);
  expect(await (await fetch(`${url}/00000000-0000-7000-8000-000000000000`)).text()).toContain("event: failed\ndata: TASK_REMOVED");
});

it("a deploy lets short work finish and hands long work on, without using an attempt", { timeout: 60_000 }, async () => {
  const port = await freePort();
  const leave = new AbortController();
  const options: ClientOptions = { address: sdk.address };
  const running = runWorker(sdk.connect(options), port, leave.signal);
  const job = await sdk.client.submit(rebuildIndex, { shards: 12, shardMs: 100 });
  await until(job, ({ checkpointCount }) => checkpointCount >= 2n);
  expect((await fetch(`http://127.0.0.1:${String(port)}/readyz`)).status).toBe(200);
  leave.abort();
  expect((await fetch(`http://127.0.0.1:${String(port)}/readyz`)).status).toBe(503);
  await running;
  expect([await job.result(PATIENCE), await job.snapshot()]).toMatchObject([{ shards: 12 }, { attempt: 1, lostLeases: 0 }]);

  const leaving = await sdk.work([rebuildHandler]);
  const long = await sdk.client.submit(rebuildIndex, { shards: 3, shardMs: 200 });
  await until(long, ({ checkpointCount }) => checkpointCount >= 1n);
  await leaving.drain();
  const released = await long.snapshot();
  expect(released).toMatchObject({ state: "pending", pendingReason: "released", attempt: 1 });
  await sdk.work([rebuildHandler]);
  expect(await long.result(PATIENCE)).toEqual({ shards: 3 });
  expect((await long.snapshot()).checkpointCount).toBe(3n);
});

describe("a poison task", () => {
  const failing = async (client: Client, file: string, handler: Parameters<typeof thumbnailHandler>[0]) => {
    await sdk.work([thumbnailHandler(handler)]);
    const job = await client.submit(thumbnail, { file }, { retry: { maxAttempts: 2, delays: [0] } });
    return { job, outcome: await job.outcome(PATIENCE) };
  };

  it("is given up after its attempts, or at once where another attempt would see the same, and goes on when the bug is mended", async () => {
    let broken = true;
    const { job } = await failing(sdk.client, "a.png", async (file) => {
      if (broken) throw new Error(`cannot read ${file}`);
      return { type: "image/png", width: 7 };
    });
    expect(await givenUp(sdk.client)).toEqual([{ id: job.id, why: "max_attempts", error: "cannot read a.png" }]);
    broken = false;
    await revive(sdk.client, [job.id]);
    expect(await job.result(PATIENCE)).toEqual({ width: 7 });
  });

  it("with an error that its rule names uses one attempt", async () => {
    const { outcome, job } = await failing(sdk.client, "a.txt", async () => ({ type: "text/plain", width: 0 }));
    expect(outcome).toMatchObject({ state: "failed", error: { code: "not_an_image", data: { type: "text/plain" } } });
    expect((await job.snapshot()).attempt).toBe(1);
  });

  it("that takes its workers down is told apart", async () => {
    const job = await sdk.client.submit(thumbnail, { file: "bomb" }, { retry: { maxLostLeases: 0 } });
    const worker = sdk.raw(sdk.address, [thumbnail.name], { sessionTtl: { seconds: 2n, nanos: 0 } });
    await worker.lease();
    worker.close();
    await job.outcome(PATIENCE);
    expect(await givenUp(sdk.client)).toContainEqual({ id: job.id, why: "poisoned", error: expect.any(String) as string });
  });
});

it("a changed schema reads what was stored before, and what an old worker cannot read waits for a new one", async () => {
  const written: string[] = [];
  const writing = exportHandler(async (...all) => written.push(all.join(" ")));
  const before = await sdk.client.submit(exportRowsBefore, { table: "orders" }, { executionMetadata: { offset: 5 } });
  expect(await isUsed(sdk.client, exportRowsBefore)).toBe(true);
  const newer = await sdk.work([writing]);
  expect(await before.result(PATIENCE)).toEqual({ rows: 1 });
  await newer.drain();

  const old = await sdk.work([{ ...writing, task: exportRowsBefore }]);
  const after = await sdk.client.submit(exportRows, { table: "orders", format: "json" });
  const refused = await until(after, ({ lastError }) => lastError !== undefined);
  expect(refused).toMatchObject({ state: "pending", pendingReason: "retry", lastError: { code: "METADATA_INVALID" } });
  await old.drain();
  await sdk.work([writing]);
  await after.update({ scheduleTime: "now" });
  expect(await after.result(PATIENCE)).toEqual({ rows: 2 });
  expect(written).toEqual(["orders csv row-5", "orders json row-0"]);
  expect(await isUsed(sdk.client, exportRows)).toBe(false);
});
