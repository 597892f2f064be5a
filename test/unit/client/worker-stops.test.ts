// How does a worker stop: one handler that is told to, or everything because the process ends?
import { defineTask, handle, type HandlerContext, type } from "@leasehold/client";
import { RevocationReason, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterEach, describe, expect, it } from "vitest";
import { settle } from "./fake-clock.js";
import { failure, rejection } from "./fake-transport.js";
import { FakeWorkerServer, gate, ms, stopWorkers } from "./fake-worker-server.js";

const task = defineTask({ name: "t", metadata: type<unknown>(), executionMetadata: type<{ n?: number }>(), result: type<unknown>() });
const other = defineTask({ name: "other", metadata: type<unknown>(), result: type<unknown>() });
interface Run {
  ctx: HandlerContext<typeof task>;
  end: ReturnType<typeof gate<unknown>>;
}

afterEach(stopWorkers);

function driven(options: { concurrency?: number } = {}): { handler: ReturnType<typeof handle>; runs: Map<string, Run> } {
  const runs = new Map<string, Run>();
  const handler = handle(
    task,
    (ctx) => {
      const end = gate<unknown>();
      runs.set(ctx.id, { ctx, end });
      return end.promise;
    },
    options,
  );
  return { handler, runs };
}

/** A worker that runs task `a`. */
async function running(
  options: Parameters<typeof FakeWorkerServer.start>[1] = {},
): Promise<{ server: FakeWorkerServer; run: Run; runs: Map<string, Run> }> {
  const { handler, runs } = driven();
  const server = await FakeWorkerServer.start([handler], options);
  await server.lease("a");
  return { server, run: runs.get("a")!, runs };
}

describe("a cancel", () => {
  const cancel = { cancels: [{ leaseToken: "a", reason: "superseded", remainingGrace: ms(10_000) }] };

  it("fires the signal once with its reason, however often it is told", async () => {
    const { server, run } = await running();
    let fired = 0;
    run.ctx.signal.addEventListener("abort", () => (fired += 1));
    await server.send(cancel);
    await server.send(cancel);
    expect([fired, run.ctx.stops]).toEqual([1, [{ kind: "cancelled", reason: "superseded", graceMs: 10_000 }]]);
    expect(run.ctx.signal.reason).toMatchObject({ code: "STOPPED", taskId: "a", stop: { kind: "cancelled" } });
  });

  it("makes a throw a cancellation that keeps the handler's error", async () => {
    const { server, run } = await running();
    await server.send(cancel);
    run.end.fail(new Error("my own error"));
    await settle();
    expect(server.reports).toMatchObject([{ cancel: { error: { message: "my own error" } } }]);
  });

  it("still lets a result, a failure and a suspension be reported as they are", async () => {
    const ends: [(ctx: Run["ctx"]) => unknown, string][] = [
      [() => 1, "1 complete"],
      [(ctx) => ctx.suspend({ untilProceeded: true }), "1 suspend"],
      [(ctx) => ctx.cancel("other"), "1 cancel"],
    ];
    for (const [end, kind] of ends) {
      const { server, run } = await running();
      await server.send(cancel);
      run.end.open(end(run.ctx));
      await settle();
      expect(server.kinds).toEqual([kind]);
    }
  });

  it("that comes with the lease keeps the handler from beginning", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a", {}, cancel);
    expect(runs.size).toBe(0);
    expect(server.kinds).toEqual(["1 cancel"]);
  });

  it("reaches a handler that drains", async () => {
    const { server, run } = await running();
    void server.worker.drain();
    await settle();
    expect([run.ctx.draining, run.ctx.signal.aborted]).toEqual([true, false]);
    await server.send(cancel);
    expect(run.ctx.stops.map(({ kind }) => kind)).toEqual(["cancelled"]);
  });
});

describe("a lost lease", () => {
  it("by revocation stops the handler for its reason and nothing is reported", async () => {
    const reasons: [RevocationReason, string][] = [
      [RevocationReason.ATTEMPT_DEADLINE, "attempt_deadline"],
      [RevocationReason.SILENCE_DEADLINE, "silence_deadline"],
      [RevocationReason.TOTAL_DEADLINE, "total_deadline"],
      [RevocationReason.CANCEL_GRACE_ENDED, "cancel_grace_ended"],
      [RevocationReason.LEASE_LOST, "lease_lost"],
    ];
    for (const [reason, kind] of reasons) {
      const { server, run } = await running();
      await server.send({ revoked: [{ leaseToken: "a", reason }] });
      expect(run.ctx.stops.map((stop) => stop.kind)).toEqual([kind]);
      run.end.open("late");
      await settle();
      expect(server.kinds).toEqual([]);
      expect(server.worker.state.heldLeases).toBe(0);
    }
  });

  it("by verdict rejects the checkpoint, stops the handler and drops what follows", async () => {
    const { server, run } = await running();
    const first = rejection(run.ctx.executionMetadata.checkpoint({ n: 1 }));
    const second = rejection(run.ctx.executionMetadata.checkpoint({ n: 2 }));
    await settle();
    await server.verdict("a", 1, VerdictCode.LEASE_LOST);
    expect([(await first).code, (await second).code]).toEqual(["LEASE_LOST", "LEASE_LOST"]);
    expect(run.ctx.stops.map(({ kind }) => kind)).toEqual(["lease_lost"]);
    expect((await rejection(run.ctx.executionMetadata.checkpoint({ n: 3 }))).code).toBe("LEASE_LOST");
    run.end.fail(run.ctx.signal.reason);
    await settle();
    expect(server.kinds).toEqual(["1 checkpoint", "2 checkpoint"]);
  });

  it("is foreseen by the attempt deadline of the lease, also without a connection", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a", { attemptDeadlineRemaining: ms(3_000) });
    server.stream.close(failure({ code: "UNAVAILABLE" }));
    await server.clock.advance(3_000);
    expect(runs.get("a")!.ctx.stops.map(({ kind }) => kind)).toEqual(["attempt_deadline"]);
  });

  it("that is only foreseen leaves the verdict to the server: a throw says nothing, a result is sent", async () => {
    const { handler, runs } = driven();
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a", { attemptDeadlineRemaining: ms(3_000) });
    await server.lease("b", { attemptDeadlineRemaining: ms(3_000) });
    await server.clock.advance(3_000);
    runs.get("a")!.end.fail(runs.get("a")!.ctx.signal.reason);
    runs.get("b")!.end.open("just in time");
    await settle();
    expect(server.reports).toMatchObject([{ leaseToken: "b", complete: {} }]);
    expect(server.worker.state.heldLeases).toBe(2);
  });
});

describe("a slot", () => {
  it("is kept by a handler that does not end: the server is told of fewer, then of all again", async () => {
    const { handler, runs } = driven({ concurrency: 1 });
    const server = await FakeWorkerServer.start([handler, handle(other, () => 1)], { concurrency: 2 });
    await server.lease("a");
    await server.send({ revoked: [{ leaseToken: "a", reason: RevocationReason.ATTEMPT_DEADLINE }] });
    const slots = () => server.stream.received.flatMap((message) => message.slots ?? []);
    expect(slots()).toEqual([{ total: 1, handlers: [{ taskName: "t", slots: 0 }] }]);
    await server.clock.advance(10_000);
    expect(server.lines.join()).toContain("runs on; it keeps its slot");
    expect(server.worker.state.running).toMatchObject([{ taskId: "a", held: false, stops: ["attempt_deadline"] }]);
    runs.get("a")!.end.open("at last");
    await settle();
    expect(slots().at(-1)).toEqual({ total: 2, handlers: [{ taskName: "t", slots: 1 }] });
    expect(server.kinds).toEqual([]);
  });

  it("is missing from the hello while such a handler runs", async () => {
    const { server } = await running({ concurrency: 2 });
    await server.send({ revoked: [{ leaseToken: "a", reason: RevocationReason.LEASE_LOST }] });
    await server.breakStream(failure({ code: "UNAVAILABLE" }));
    expect(server.hellos[1]).toMatchObject({ slots: 1, heldLeaseTokens: [] });
  });

  it("that is not there sends the lease back at once: the worker never sits on it", async () => {
    const { server, runs } = await running({ concurrency: 1 });
    await server.send({ revoked: [{ leaseToken: "a", reason: RevocationReason.LEASE_LOST }] });
    await server.lease("b");
    expect([...runs.keys()]).toEqual(["a"]);
    expect(server.reports).toMatchObject([{ leaseToken: "b", reportSeq: 1, release: {} }]);
  });

  it("is not given to the very task whose handler still runs here", async () => {
    const { server, runs } = await running({ concurrency: 8 });
    await server.send({ revoked: [{ leaseToken: "a", reason: RevocationReason.LEASE_LOST }] });
    await server.lease("a", { leaseToken: "a again" });
    expect(runs.size).toBe(1);
    expect(server.reports).toMatchObject([{ leaseToken: "a again", release: {} }]);
  });

  it("is not used for a name that this worker does not handle", async () => {
    const { server } = await running();
    await server.lease("b", { name: "unknown" });
    expect(server.reports).toMatchObject([{ leaseToken: "b", release: { retryAfter: ms(1_000) } }]);
  });
});

describe("a drain", () => {
  it("takes no more, lets handlers finish, waits for verdicts and lets the server end the stream", async () => {
    const { server, run } = await running();
    let over = false;
    void server.worker.drain().then(() => (over = true));
    await settle();
    expect(server.stream.received.at(-1)?.drain).toEqual({});
    expect(server.worker.state.status).toBe("draining");
    await server.lease("b");
    expect(server.reports).toMatchObject([{ leaseToken: "b", release: {} }]);
    await server.verdict("b", 1);
    run.end.open("finished");
    await settle();
    expect(over).toBe(false);
    await server.verdict("a", 1);
    server.stream.close();
    await server.running;
    await settle();
    expect([over, server.worker.state.status, server.transport.streams.length]).toEqual([true, "stopped", 1]);
    expect(server.clock.pending).toBe(0);
  });

  it("fires the signal when the grace ends, and a handler that throws then is released", async () => {
    const { server, run } = await running({ grace: "30s" });
    void server.worker.drain();
    await server.live(29_000);
    expect(run.ctx.signal.aborted).toBe(false);
    await server.live(1_000);
    expect(run.ctx.stops).toEqual([{ kind: "shutdown" }]);
    run.end.fail(run.ctx.signal.reason);
    await settle();
    expect(server.kinds).toEqual(["1 release"]);
    await server.verdict("a", 1);
    server.stream.close();
    await server.running;
  });

  it("releases what does not end, after its checkpoints, and resolves although it runs on", async () => {
    const { server, run } = await running({ grace: 0 });
    void run.ctx.executionMetadata.checkpoint({ n: 1 });
    await settle();
    void server.worker.drain();
    await server.clock.advance(1_000);
    expect(server.kinds).toEqual(["1 checkpoint", "2 release"]);
    await server.verdict("a", 1);
    await server.verdict("a", 2);
    server.stream.close();
    await server.running;
    run.end.open("too late");
    await settle();
    expect(server.kinds).toHaveLength(2);
  });

  it("goes on over a reconnect: no slots in the hello, and drain again", async () => {
    const { server, run } = await running({ grace: "1h" });
    void server.worker.drain();
    await settle();
    await server.breakStream(failure({ code: "UNAVAILABLE" }));
    expect(server.hellos[1]).toMatchObject({ slots: 0, heldLeaseTokens: ["a"] });
    await server.greet({ welcome: { ...server.welcome, keptLeaseTokens: ["a"] } });
    expect(server.stream.received.at(-1)?.drain).toEqual({});
    run.end.open(1);
    await settle();
    await server.verdict("a", 1);
    server.stream.close();
    await server.running;
  });

  it("begins with SIGTERM or the signal of run, and a second one ends the grace", async () => {
    const { server, run } = await running({ grace: "1h" });
    const listeners = process.listenerCount("SIGTERM");
    process.emit("SIGTERM");
    await settle();
    expect([server.worker.state.status, run.ctx.signal.aborted]).toEqual(["draining", false]);
    process.emit("SIGTERM");
    await settle();
    expect(run.ctx.stops).toEqual([{ kind: "shutdown" }]);
    run.end.fail(run.ctx.signal.reason);
    await settle();
    await server.verdict("a", 1);
    server.stream.close();
    await server.running;
    expect(process.listenerCount("SIGTERM")).toBe(listeners - 1);
    expect(process.listenerCount("uncaughtExceptionMonitor")).toBe(0);
  });

  it("without a connection and without leases is over at once", async () => {
    const { server } = await running();
    await server.send({ revoked: [{ leaseToken: "a", reason: RevocationReason.LEASE_LOST }] });
    server.stream.close(failure({ code: "UNAVAILABLE" }));
    void server.worker.drain({ grace: 0 });
    await server.clock.advance(1_000);
    await server.running;
    expect(server.worker.state.status).toBe("stopped");
  });

  it("names the running tasks when the process is about to end by an error", async () => {
    const { server } = await running();
    (process as NodeJS.EventEmitter).emit("uncaughtExceptionMonitor", new Error("boom"), "uncaughtException");
    expect(server.lines.join()).toContain("these tasks were running");
  });
});
