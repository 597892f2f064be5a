// Does a worker keep its session and its leases while connections come and go?
import { defineTask, handle, type HandlerContext, type StopReason, type } from "@leasehold/client";
import { VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterEach, describe, expect, it } from "vitest";
import { settle } from "./fake-clock.js";
import { failure, parsed } from "./fake-transport.js";
import { FakeWorkerServer, gate, ms, stopWorkers } from "./fake-worker-server.js";

const task = defineTask({ name: "t", metadata: type<unknown>(), executionMetadata: type<{ n?: number }>(), result: type<unknown>() });

afterEach(stopWorkers);

/** A handler whose runs the test drives. */
function driven(): {
  handler: ReturnType<typeof handle>;
  runs: Map<string, { ctx: HandlerContext<typeof task>; end: ReturnType<typeof gate<unknown>> }>;
} {
  const runs = new Map<string, { ctx: HandlerContext<typeof task>; end: ReturnType<typeof gate<unknown>> }>();
  const handler = handle(task, (ctx) => {
    const end = gate<unknown>();
    runs.set(ctx.id, { ctx, end });
    return end.promise;
  });
  return { handler, runs };
}

describe("the handshake", () => {
  it("says hello first and nothing before the welcome", async () => {
    const { handler } = driven();
    const server = new FakeWorkerServer([handler], { concurrency: 8, queues: ["a"], sessionTtl: "1m", labels: { zone: "x" } });
    await server.clock.advance(1_000);
    expect(server.stream.received).toHaveLength(1);
    expect(server.hellos[0]).toMatchObject({
      workerName: "w",
      language: "typescript",
      queues: ["a"],
      slots: 8,
      handlers: [{ taskName: "t", slots: undefined }],
      labels: { zone: "x" },
      sessionTtl: ms(60_000),
      connection: 1,
      sessionId: "",
      heldLeaseTokens: [],
    });
    expect(server.worker.state.status).toBe("connecting");
    await server.greet();
    await server.worker.ready();
    expect(server.worker.state).toMatchObject({ status: "ready", sessionId: "session-1" });
  });

  it("tries again when no welcome comes", async () => {
    const server = new FakeWorkerServer([driven().handler]);
    await settle();
    await server.clock.advance(20_000);
    expect(server.transport.streams.length).toBeGreaterThan(1);
    expect(server.transport.streams[0]?.cancelled).toBe(true);
    expect(server.hellos[1]).toMatchObject({ connection: 1, sessionId: "" });
  });

  it.each(["PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED", "INVALID_ARGUMENT"] as const)(
    "ends run and ready when the server refuses the worker with %s, without a second try",
    async (code) => {
      const server = new FakeWorkerServer([driven().handler]);
      await settle();
      server.stream.close(failure({ code }));
      await server.running;
      expect(server.error?.code).toBe(code);
      await expect(server.worker.ready()).rejects.toMatchObject({ code });
      expect([server.clock.pending, server.transport.streams.length]).toEqual([0, 1]);
    },
  );
});

describe("heartbeats", () => {
  it("are numbered one by one, over streams, and count the leases of their own stream", async () => {
    const { handler } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.send({
      leases: [
        { leaseToken: "a", taskId: "a", name: "t" },
        { leaseToken: "b", taskId: "b", name: "t" },
      ],
    });
    await server.live(10_000);
    const beats = server.stream.received.flatMap(({ heartbeat }) => heartbeat ?? []);
    expect(beats).toEqual([
      { number: 1, leasesReceived: 0 },
      { number: 2, leasesReceived: 2 },
      { number: 3, leasesReceived: 2 },
    ]);
    await server.breakStream();
    await server.greet({ welcome: { ...server.welcome, keptLeaseTokens: ["a", "b"] } });
    expect(server.stream.received.at(-1)?.heartbeat).toEqual({ number: 4, leasesReceived: 0 });
  });

  it("begin anew with a new session", async () => {
    const server = await FakeWorkerServer.start([driven().handler]);
    await server.breakStream(failure({ code: "ABORTED", reason: "SESSION_EXPIRED" }));
    server.welcome = { ...server.welcome, sessionId: "session-2" };
    await server.greet();
    expect(server.stream.received.at(-1)?.heartbeat?.number).toBe(1);
    await server.breakStream();
    expect(server.hellos.map(({ sessionId, connection }) => [sessionId, connection])).toEqual([
      ["", 1],
      ["session-1", 2],
      ["session-2", 3],
    ]);
  });

  it("go on while a stream does not take messages, with the newest only", async () => {
    const server = await FakeWorkerServer.start([driven().handler]);
    server.stream.accepts = false;
    await server.live(5_000);
    const before = server.stream.received.length;
    for (let beats = 0; beats < 2; beats += 1) {
      await server.send({});
      await server.clock.advance(5_000);
    }
    expect(server.stream.received.length).toBe(before);
    server.stream.accept();
    await settle();
    expect(server.stream.received.length).toBe(before + 1);
  });
});

describe("a dead connection", () => {
  it("is ended when nothing was heard for three intervals", async () => {
    const server = await FakeWorkerServer.start([driven().handler]);
    await server.clock.advance(14_999);
    expect(server.stream.cancelled).toBe(false);
    await server.clock.advance(1);
    expect(server.transport.streams[0]?.cancelled).toBe(true);
    await server.clock.advance(5_000);
    expect(server.transport.streams).toHaveLength(2);
  });

  it("is not seen where only this process was blocked", async () => {
    const server = await FakeWorkerServer.start([driven().handler]);
    await server.live(5_000);
    server.clock.jump(30_000);
    await server.clock.advance(10);
    await server.send({});
    await server.clock.advance(1_000);
    expect([server.transport.streams.length, server.stream.cancelled]).toEqual([1, false]);
    expect(server.worker.state.longestStallMs).toBeGreaterThanOrEqual(29_000);
    expect(server.lines.join()).toContain("event loop was blocked");
  });

  it("is suspected at once when the machine slept: handlers stop if the session's time passed meanwhile, and the server is asked", async () => {
    for (const [sleptMs, stops] of [
      [60_000, ["disconnected"]],
      [10_000, []],
    ] as const) {
      const { handler, runs } = driven();
      const server = await FakeWorkerServer.start([handler]);
      await server.lease("a");
      await server.live(3_000);
      server.clock.sleep(sleptMs);
      await server.clock.advance(500);
      expect(runs.get("a")?.ctx.stops.map(({ kind }) => kind)).toEqual(stops);
      expect(server.hellos).toMatchObject([{ connection: 1 }, { connection: 2, sessionId: "session-1", heldLeaseTokens: ["a"] }]);
      expect(server.lines.join()).toContain("this machine slept");
      await server.greet({ welcome: { ...server.welcome, keptLeaseTokens: ["a"] } });
      await server.live(30_000);
      expect(runs.get("a")?.ctx.stops.map(({ kind }) => kind)).toEqual(stops);
      expect(server.transport.streams).toHaveLength(2);
    }
  });

  it("is replaced after a delay with jitter, which grows with the time that there is none", async () => {
    const server = await FakeWorkerServer.start([driven().handler]);
    const gaps: number[] = [];
    for (let broken = 0; broken < 16; broken += 1) {
      const startMs = server.clock.monotonic();
      await server.breakStream(failure({ code: "UNAVAILABLE" }));
      gaps.push(server.clock.monotonic() - startMs);
    }
    // Chance is a half in these tests: it takes half off the first delay and a tenth off the others, which are 5 s, then half of the absence
    // and at most 20 s. Time moves by half a second.
    expect(gaps.slice(0, 3)).toEqual([2_500, 4_500, 4_500]);
    expect(gaps.slice(1)).toEqual(gaps.slice(1).toSorted((a, b) => a - b));
    expect(gaps.slice(-3)).toEqual([18_000, 18_000, 18_000]);
    await server.greet();
    const welcomeMs = server.clock.monotonic();
    await server.breakStream(failure({ code: "UNAVAILABLE" }));
    expect(server.clock.monotonic() - welcomeMs, "a welcome begins anew").toBe(2_500);
  });

  it("logs an outage, not every try", async () => {
    const server = await FakeWorkerServer.start([driven().handler]);
    server.transport.onStream = (stream) => void setImmediate(() => stream.close(failure({ code: "UNAVAILABLE" })));
    server.stream.close(failure({ code: "UNAVAILABLE" }));
    await server.clock.advance(720_000);
    const tries = server.transport.streams.length;
    const lines = server.lines.filter((line) => line.includes("not connected"));
    expect(tries).toBeGreaterThan(40);
    expect(lines.length).toBeLessThanOrEqual(25);
  });
});

describe("a reconnect", () => {
  it("lists every held lease, and sends again what has no verdict, in order", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a");
    await server.lease("b");
    await server.lease("c");
    const saved = [1, 2, 3].map((n) => runs.get("a")!.ctx.executionMetadata.checkpoint({ n }));
    await settle();
    await server.verdict("a", 1);
    runs.get("a")!.end.open("done");
    runs.get("c")!.end.open("over");
    await settle();
    await server.verdict("c", 1);
    expect(server.kinds).toEqual(["1 checkpoint", "2 checkpoint", "3 checkpoint", "4 complete", "1 complete"]);
    await server.breakStream();
    expect(server.hellos[1]).toMatchObject({ sessionId: "session-1", connection: 2, heldLeaseTokens: ["a", "b"] });
    expect(server.kinds).toEqual([]);
    await server.greet({ welcome: { ...server.welcome, keptLeaseTokens: ["a", "b"] } });
    expect(server.kinds).toEqual(["2 checkpoint", "3 checkpoint", "4 complete"]);
    await server.verdict("a", 2, VerdictCode.ALREADY_RECORDED);
    await server.verdict("a", 3);
    await server.verdict("a", 4, VerdictCode.ALREADY_RECORDED);
    await Promise.all(saved);
    expect(server.worker.state).toMatchObject({ heldLeases: 1, unacknowledgedReports: 0 });
  });

  it("sends what was reported meanwhile", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a");
    const before = server.transport.streams.length;
    server.stream.close();
    runs.get("a")!.end.open(7);
    await settle();
    expect(server.kinds).toEqual([]);
    while (server.transport.streams.length === before) await server.clock.advance(500);
    await server.greet({ welcome: { ...server.welcome, keptLeaseTokens: ["a"] } });
    expect(parsed(server.reports[0]?.complete?.result)).toBe(7);
  });

  it("stops the handler of a dropped lease, but sends an outcome that is on its way", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a");
    await server.lease("b");
    const saved = runs.get("a")!.ctx.executionMetadata.checkpoint({ n: 1 });
    runs.get("b")!.end.open("b is done");
    await server.breakStream();
    await server.greet({ welcome: { ...server.welcome, droppedLeaseTokens: ["a", "b"] } });
    await expect(saved).rejects.toMatchObject({ code: "LEASE_LOST" });
    expect(stopsOf(runs.get("a")!.ctx)).toEqual(["lease_lost"]);
    expect(server.reports.map(({ leaseToken }) => leaseToken)).toEqual(["b"]);
    await server.verdict("b", 1, VerdictCode.RECORDED);
    expect(server.worker.state.heldLeases).toBe(0);
  });

  it("follows a server that is going away, after the delay that it gave", async () => {
    const { handler } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a");
    await server.send({ drain: { reconnectAfter: ms(3_000) } });
    server.stream.close(failure({ code: "UNAVAILABLE" }));
    await server.clock.advance(5_499);
    expect(server.transport.streams).toHaveLength(1);
    await server.clock.advance(1);
    expect(server.hellos[1]).toMatchObject({ heldLeaseTokens: ["a"], connection: 2 });
  });

  it("takes no lease from the old stream once the hello is composed", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    const old = server.stream;
    await server.send({ drain: { reconnectAfter: ms(0) } });
    await server.clock.advance(2_500);
    expect(server.transport.streams).toHaveLength(2);
    expect(old.cancelled).toBe(true);
    old.closed = false;
    const { ServerMessage } = await import("@leasehold/proto/leasehold/v1/worker_service");
    old.send(ServerMessage.create({ leases: [{ leaseToken: "late", taskId: "late", name: "t" }] }));
    await settle();
    expect(runs.size).toBe(0);
    expect(server.worker.state.heldLeases).toBe(0);
  });

  it("bears refused credentials for a while once it was welcome, then ends", async () => {
    const server = await FakeWorkerServer.start([driven().handler]);
    server.transport.onStream = (stream) => void setImmediate(() => stream.close(failure({ code: "UNAUTHENTICATED" })));
    server.stream.close(failure({ code: "UNAUTHENTICATED" }));
    await server.clock.advance(120_000);
    await server.running;
    expect(server.error?.code).toBe("UNAUTHENTICATED");
    expect(server.transport.streams).toHaveLength(5);
  });
});

describe("the session deadline", () => {
  it("stops handlers one TTL after the last answered heartbeat was sent, not answered", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a");
    await server.clock.advance(4_000);
    // Heartbeat 1 was sent at 0 and is answered only now.
    await server.answerHeartbeat();
    for (let seconds = 4; seconds < 20; seconds += 1) {
      expect(stopsOf(runs.get("a")!.ctx)).toEqual([]);
      await server.send({});
      await server.clock.advance(1_000);
    }
    expect(stopsOf(runs.get("a")!.ctx)).toEqual(["disconnected"]);
  });

  it("believes the number in the answer and not the newest heartbeat", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a");
    for (let seconds = 0; seconds < 20; seconds += 1) {
      await server.send({ heartbeatAnswer: { number: 1 } });
      await server.clock.advance(1_000);
    }
    expect(stopsOf(runs.get("a")!.ctx)).toEqual(["disconnected"]);
  });

  it("counts through an outage, and what ends by it is released after it", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    server.transport.onStream = (stream) => void setImmediate(() => stream.close(failure({ code: "UNAVAILABLE" })));
    await server.lease("a");
    await server.lease("b");
    server.stream.close(failure({ code: "UNAVAILABLE" }));
    await server.clock.advance(21_000);
    const [a, b] = [runs.get("a")!, runs.get("b")!];
    expect(a.ctx.signal.reason).toMatchObject({ code: "STOPPED", stop: { kind: "disconnected" } });
    a.end.fail(a.ctx.signal.reason);
    b.end.open("done all the same");
    server.transport.onStream = () => undefined;
    const before = server.transport.streams.length;
    while (server.transport.streams.length === before) await server.clock.advance(500);
    await server.greet({ welcome: { ...server.welcome, keptLeaseTokens: ["a", "b"] } });
    expect(server.kinds).toEqual(["1 release", "1 complete"]);
  });
});

function stopsOf(ctx: { readonly stops: readonly StopReason[] }): string[] {
  return ctx.stops.map(({ kind }) => kind);
}
