// Does a process that lives on one stream stay as it is: no memory per task, no listeners per reconnect, no dependence on timers that a test replaced?
import { createClient, createWorker, defineTask, handle, type } from "@leasehold/client";
import { ServerMessage, VerdictCode, type WorkerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, it, vi } from "vitest";
import { failure, json } from "./fake-transport.js";
import { FakeWorkerServer, stopWorkers } from "./fake-worker-server.js";
import { double, serve, stopServers, tinyServer } from "./tiny-server.js";

afterEach(stopServers);
afterEach(stopWorkers);

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Bytes on the heap that something still holds. */
async function heldBytes(): Promise<number> {
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

type WorkerCall = ServerDuplexStream<WorkerMessage, ServerMessage>;

/** Keeps a worker busy on one stream: a new lease for each outcome, as long as `wanted` says. */
function busyServer(): { worker: Record<string, unknown>; done: number; wanted: number; more(count: number): Promise<void> } {
  let call: WorkerCall | undefined;
  let leased = 0;
  let finished = (): void => undefined;
  const payload = json({ text: "x".repeat(500) });
  const feed = (free: number): void => {
    const leases = Array.from({ length: Math.min(free, server.wanted - leased) }, () => {
      const id = `task-${String((leased += 1))}`;
      return { leaseToken: id, taskId: id, name: "long", metadata: payload, attempt: 1, maxAttempts: 5 };
    });
    if (leases.length > 0) call?.write(ServerMessage.create({ leases }));
  };
  const server = {
    done: 0,
    wanted: 0,
    worker: {
      executeTasks: (opened: WorkerCall) => {
        call = opened;
        const seconds = (n: number) => ({ seconds: BigInt(n), nanos: 0 });
        opened.on("data", ({ hello, heartbeat, reports, drain }: WorkerMessage) => {
          if (hello)
            opened.write(ServerMessage.create({ welcome: { sessionId: "s", heartbeatInterval: seconds(5), sessionTtl: seconds(20) } }));
          if (heartbeat) opened.write(ServerMessage.create({ heartbeatAnswer: { number: heartbeat.number } }));
          if (reports.length > 0) {
            const verdicts = reports.map(({ leaseToken, reportSeq }) => ({ leaseToken, reportSeq, code: VerdictCode.RECORDED }));
            opened.write(ServerMessage.create({ verdicts }));
            const ended = reports.filter(({ complete }) => complete !== undefined).length;
            server.done += ended;
            feed(ended);
            if (server.done === server.wanted) finished();
          }
          if (drain) opened.end();
        });
      },
    },
    more: (count: number) =>
      new Promise<void>((resolve) => {
        finished = resolve;
        server.wanted += count;
        feed(50);
      }),
  };
  return server;
}

describe("one long stream", { timeout: 120_000 }, () => {
  it("of fifteen thousand tasks with a checkpoint each holds nothing of those that are over", async () => {
    const server = busyServer();
    const task = defineTask({ name: "long", metadata: type<{ text: string }>(), executionMetadata: type<{ at?: string }>() });
    const client = createClient({ address: await serve(server) });
    const worker = createWorker({
      client,
      concurrency: 50,
      handlers: [handle(task, async (ctx) => ctx.executionMetadata.checkpoint({ at: ctx.metadata.text }))],
    });
    const running = worker.run();
    await worker.ready();
    const warned: string[] = [];
    const note = (warning: Error): void => void warned.push(warning.name);
    process.on("warning", note);
    await server.more(5_000);
    const before = await heldBytes();
    await server.more(10_000);
    await expect.poll(() => worker.state.heldLeases).toBe(0);
    const grownBytes = (await heldBytes()) - before;
    process.off("warning", note);
    expect(worker.state).toMatchObject({ heldLeases: 0, unacknowledgedReports: 0, running: [] });
    // A message that was kept would be a thousand bytes a task, ten million in all.
    expect(grownBytes).toBeLessThan(3_000_000);
    expect(warned).toEqual([]);
    await worker.drain({ grace: 0 });
    await running;
    client.close();
  });

  it("broken two thousand times leaves one timer, no listeners, and no stream but the last", async () => {
    const server = await FakeWorkerServer.start([handle(defineTask({ name: "t" }), () => new Promise<null>(() => undefined))]);
    await server.lease("a");
    const kept = { welcome: { ...server.welcome, keptLeaseTokens: ["a"] } };
    const timers: number[] = [];
    const listeners = process.listenerCount("SIGTERM");
    let before = 0;
    for (let round = 0; round < 2_000; round += 1) {
      await server.breakStream(failure({ code: "UNAVAILABLE" }));
      await server.greet(kept);
      if (round % 500 === 499) timers.push(server.clock.pending);
      // What the test itself keeps of each stream would count as growth.
      server.transport.streams.splice(0, server.transport.streams.length - 1);
      server.lines.length = 0;
      if (round === 999) before = await heldBytes();
    }
    expect(((await heldBytes()) - before) / 1_000).toBeLessThan(1_000);
    expect(new Set(timers).size).toBe(1);
    expect(process.listenerCount("SIGTERM")).toBe(listeners);
    expect(server.worker.state).toMatchObject({ heldLeases: 1, unacknowledgedReports: 0, status: "ready" });
  });
});

describe("timers that a test replaced", { timeout: 60_000 }, () => {
  afterEach(() => void vi.useRealTimers());

  it.each([
    ["before the client is made", true],
    ["while a worker runs", false],
  ] as const)("%s stop neither calls nor workers nor a drain", async (_, early) => {
    const mock = (): unknown =>
      vi.useFakeTimers({
        // Not setImmediate: the gRPC library itself lives on it. docs/client.md says so.
        toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "queueMicrotask", "performance", "Date"],
      });
    // The server's own library is in the same process, so its socket is there before.
    const address = await serve(tinyServer());
    if (early) mock();
    const client = createClient({ address });
    const worker = createWorker({ client, handlers: [handle(double, ({ metadata: { n } }) => ({ n: n * 2 }))] });
    const running = worker.run();
    await worker.ready();
    if (!early) mock();
    vi.setSystemTime(new Date("2040-01-01"));
    const job = await client.submit(double, { n: 21 });
    expect(await job.result({ timeout: "20s" })).toEqual({ n: 42 });
    await worker.drain();
    await running;
    client.close();
  });
});
