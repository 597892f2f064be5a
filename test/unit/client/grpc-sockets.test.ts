// Does the SDK speak gRPC over real sockets: calls, details in trailers, a worker's stream and its end?
import { createClient, createWorker, defineTask, handle, isTaskFailed, LeaseholdError, type } from "@leasehold/client";
import type { Any } from "@leasehold/proto/google/protobuf/any";
import { BadRequest, ErrorInfo, RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { Task, TaskState } from "@leasehold/proto/leasehold/v1/task";
import type { SubmitTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import type { ServerMessage, WorkerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import { type handleUnaryCall, Metadata, type ServerDuplexStream, status } from "@grpc/grpc-js";
import { promises } from "node:dns";
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { json, parsed, rejection } from "./fake-transport.js";
import { double, serve, stopServers, tinyServer } from "./tiny-server.js";

afterEach(stopServers);

function detailed(code: status, message: string, details: Any[]): { code: status; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(Status.encode({ code, message, details }).finish()));
  return { code, details: message, metadata };
}

function any(name: string, value: Uint8Array): Any {
  return { typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(value) };
}

describe("over real sockets", () => {
  it("submits, runs and returns results and declared errors", async () => {
    const server = tinyServer();
    const client = createClient({ address: await serve(server), token: "secret", namespace: "shop" });
    const worker = createWorker({
      client,
      handlers: [handle(double, ({ metadata: { n }, ...ctx }) => (n % 2 === 1 ? ctx.fail("odd", { n }, { retry: false }) : { n: n * 2 }))],
    });
    const running = worker.run();
    await worker.ready();
    const even = await client.submit(double, { n: 21 * 2 });
    expect(await even.result({ timeout: "20s" })).toEqual({ n: 84 });
    const error = await rejection((await client.submit(double, { n: 3 })).result({ timeout: "20s" }));
    expect(isTaskFailed(error, double) && error.failure).toMatchObject({ code: "odd", data: { n: 3 } });
    expect(server.seen.metadata?.get("authorization")).toEqual(["Bearer secret"]);
    expect(server.seen.metadata?.get("leasehold-namespace")).toEqual(["shop"]);
    await worker.drain();
    await running;
    expect(worker.state).toMatchObject({ status: "stopped", heldLeases: 0, running: [] });
    client.close();
  });

  it("reads google.rpc details from the trailers of a refused call", async () => {
    const details = [
      any("ErrorInfo", ErrorInfo.encode({ reason: "KEY_METADATA_MISMATCH", domain: "leasehold", metadata: {} }).finish()),
      any(
        "BadRequest",
        BadRequest.encode(BadRequest.create({ fieldViolations: [{ field: "task.key", description: "is taken" }] })).finish(),
      ),
    ];
    const refuse: handleUnaryCall<SubmitTaskRequest, unknown> = (_call, answer) =>
      answer(detailed(status.FAILED_PRECONDITION, "no", details));
    const client = createClient({ address: await serve({ task: { submitTask: refuse } }) });
    const error = await rejection(client.submit(double, { n: 1 }));
    expect(error).toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "KEY_METADATA_MISMATCH",
      violations: [{ path: "task.key", message: "is taken" }],
      retryable: false,
    });
    client.close();
  });

  it("tries again when the server asks for it, and says UNAVAILABLE when nobody is there", async () => {
    let tries = 0;
    const retryInfo = [any("RetryInfo", RetryInfo.encode({ retryDelay: { seconds: 0n, nanos: 1_000_000 } }).finish())];
    const busyOnce: handleUnaryCall<SubmitTaskRequest, unknown> = (call, answer) => {
      tries += 1;
      if (tries === 1) answer(detailed(status.RESOURCE_EXHAUSTED, "busy", retryInfo));
      else answer(null, { task: Task.create({ taskId: call.request.task!.taskId, state: TaskState.PENDING }), created: false });
    };
    const client = createClient({ address: await serve({ task: { submitTask: busyOnce } }) });
    expect((await client.submit(double, { n: 1 })).created).toBe(true);
    expect(tries).toBe(2);
    client.close();
    const nobody = createClient({ address: "127.0.0.1:1" });
    expect((await rejection(nobody.submit(double, { n: 1 }, { timeout: "300ms" }))).code).toMatch(/UNAVAILABLE|DEADLINE_EXCEEDED/);
    nobody.close();
  });

  it("goes on to the next address when one is unavailable", async () => {
    const server = tinyServer();
    const client = createClient({ addresses: ["127.0.0.1:1", await serve(server), "127.0.0.1:2"] });
    expect((await client.submit(double, { n: 1 }, { timeout: "20s" })).created).toBe(true);
    client.close();
  });

  it("gets a worker through although one of its addresses is dead for ever", async () => {
    const dead = new Set(["127.0.0.1:1", "127.0.0.1:2"]);
    const client = createClient({ addresses: [...dead, await serve(tinyServer())], random: () => 0 });
    const worker = createWorker({ client, handlers: [handle(double, ({ metadata }) => metadata)] });
    const running = worker.run();
    await worker.ready();
    await worker.drain({ grace: 0 });
    await running;
    client.close();
  });

  it("finds a server that came back behind its name at another address, with calls and with a worker", async () => {
    const addresses = ["127.0.0.1"];
    // What DNS answers. Both families are asked for at once.
    const lookup = vi.spyOn(promises, "lookup");
    onTestFinished(() => lookup.mockRestore());
    lookup.mockImplementation((async () => Promise.resolve(addresses.map((address) => ({ address, family: 4 })))) as never);
    const port = Number((await serve(tinyServer())).split(":")[1]);
    const client = createClient({ address: `leasehold.test:${String(port)}`, random: () => 0.01 });
    const worker = createWorker({ client, handlers: [handle(double, ({ metadata: { n } }) => ({ n: n * 2 }))] });
    const running = worker.run();
    await worker.ready();
    expect(await (await client.submit(double, { n: 1 })).result({ timeout: "20s" })).toEqual({ n: 2 });

    stopServers();
    const second = tinyServer();
    await serve(second, { host: "127.0.0.2", port });
    addresses[0] = "127.0.0.2";
    await expect.poll(() => second.seen.hellos, { timeout: 20_000 }).toBe(1);
    expect(await (await client.submit(double, { n: 2 }, { timeout: "20s" })).result({ timeout: "20s" })).toEqual({ n: 4 });
    await worker.drain({ grace: 0 });
    await running;
    client.close();
  });

  it("connects again with the same session when the server ends the stream", async () => {
    const server = tinyServer();
    const hellos: { sessionId: string; connection: number }[] = [];
    const { executeTasks } = server.worker as { executeTasks: (call: ServerDuplexStream<WorkerMessage, ServerMessage>) => void };
    const worker = {
      executeTasks: (call: ServerDuplexStream<WorkerMessage, ServerMessage>) => {
        executeTasks(call);
        call.on("data", ({ hello }: WorkerMessage) => {
          if (!hello) return;
          hellos.push({ sessionId: hello.sessionId, connection: hello.connection });
          if (hellos.length === 1) call.emit("error", { code: status.UNAVAILABLE, details: "draining" });
        });
      },
    };
    const client = createClient({ address: await serve({ worker }), random: () => 0.01 });
    const running = createWorker({ client, handlers: [handle(double, ({ metadata }) => metadata)] });
    const done = running.run();
    await expect
      .poll(() => hellos, { timeout: 20_000 })
      .toEqual([
        { sessionId: "", connection: 1 },
        { sessionId: "s1", connection: 2 },
      ]);
    await running.drain({ grace: 0 });
    await done;
    client.close();
  });

  it("ends a worker with a clear error when its credentials are refused", async () => {
    const executeTasks = (call: ServerDuplexStream<WorkerMessage, ServerMessage>): void => {
      call.on("data", () => call.emit("error", { code: status.UNAUTHENTICATED, details: "unknown token" }));
    };
    const client = createClient({ address: await serve({ worker: { executeTasks } }), token: "wrong" });
    const worker = createWorker({ client, handlers: [handle(double, ({ metadata }) => metadata)] });
    const error = await rejection(worker.run());
    expect(LeaseholdError.is(error) && error.code).toBe("UNAUTHENTICATED");
    expect((await rejection(worker.ready())).code).toBe("UNAUTHENTICATED");
    client.close();
  });

  it("says UNAUTHENTICATED where the user's own function gives no token, in calls and in a worker", async () => {
    const client = createClient({
      address: await serve(tinyServer()),
      token: () => {
        throw new Error("the vault is sealed");
      },
    });
    const worker = createWorker({ client, handlers: [handle(double, ({ metadata }) => metadata)] });
    for (const refused of [rejection(client.submit(double, { n: 1 })), rejection(worker.run())]) {
      expect(await refused).toMatchObject({ code: "UNAUTHENTICATED", cause: { message: "the vault is sealed" } });
    }
    client.close();
  });

  it("keeps a value exactly as it was given, through bytes and back", async () => {
    const given = { __proto__: null, text: "\u2028 \ud83d\ude00 \u0000", nested: [[[1e300, -0.1, 9007199254740991]]] };
    const echo = defineTask({ name: "echo", metadata: type<{ [key: string]: unknown }>() });
    let stored: unknown;
    const keep: handleUnaryCall<SubmitTaskRequest, unknown> = (call, answer) => {
      stored = parsed(call.request.task!.metadata);
      answer(null, { task: Task.create({ taskId: call.request.task!.taskId, state: TaskState.PENDING }), created: true });
    };
    const client = createClient({ address: await serve({ task: { submitTask: keep } }) });
    await client.submit(echo, given);
    expect(stored).toEqual(parsed(json(given)));
    client.close();
  });
});
