// What runs around a handler and around a call: in which order, how often, and what an error in it becomes.
import { type ClientInterceptor, defineTask, handle, type InterceptedCall, LeaseholdError, type Middleware, type } from "@leasehold/client";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { AsyncLocalStorage } from "node:async_hooks";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { settle } from "./fake-clock.js";
import { fakeClient, failure, json, parsed, rejection, taskMessage } from "./fake-transport.js";
import { FakeWorkerServer, ms, stopWorkers } from "./fake-worker-server.js";

const task = defineTask({
  name: "t",
  metadata: z.object({ at: z.string().transform((text) => new Date(text)) }),
  executionMetadata: type<{ n?: number }>(),
  result: type<unknown>(),
});
const METADATA = json({ at: "2026-01-01T00:00:00Z" });

afterEach(stopWorkers);

/** A worker with this middleware that got one lease. */
async function leased(middleware: readonly Middleware[], run: () => unknown, fields: object = {}): Promise<FakeWorkerServer> {
  const server = await FakeWorkerServer.start([handle(task, run)], { middleware });
  await server.lease("a", { metadata: METADATA, ...fields });
  await settle();
  return server;
}

describe("middleware", () => {
  it("runs around the handler, the first one outermost, with the context of the run", async () => {
    const order: string[] = [];
    const named =
      (name: string): Middleware =>
      async (context, next) => {
        order.push(
          `${name} before ${context.name} ${context.id} ${String(context.attempt)} ${String((context.metadata as { at: Date }).at.getTime())}`,
        );
        const returned = await next();
        order.push(`${name} after ${String(returned)}`);
        return returned;
      };
    const server = await leased([named("one"), named("two")], () => order.push("handler") && "done");
    expect(order).toEqual([
      "one before t a 1 1767225600000",
      "two before t a 1 1767225600000",
      "handler",
      "two after done",
      "one after done",
    ]);
    expect(server.kinds).toEqual(["1 complete"]);
  });

  it("gives the handler what it keeps in asynchronous storage", async () => {
    const storage = new AsyncLocalStorage<string>();
    const server = await leased([(context, next) => storage.run(`for ${context.id}`, next)], () => storage.getStore());
    expect(parsed(server.reports[0]?.complete?.result)).toBe("for a");
  });

  it("sees suspensions and failures as they were returned, and may put something else in their place", async () => {
    const instead = await leased([async (_context, next) => ({ was: await next() })], () => 1);
    expect(parsed(instead.reports[0]?.complete?.result)).toEqual({ was: 1 });
    const without = await leased([(context) => context.cancel("not this tenant")], () => {
      throw new Error("never called");
    });
    expect(without.reports).toMatchObject([{ cancel: { error: { message: "not this tenant" } } }]);
    const kept = await FakeWorkerServer.start([handle(task, (ctx) => ctx.suspend({ until: { in: "1h" } }))], {
      middleware: [(_context, next) => next()],
    });
    await kept.lease("a", { metadata: METADATA });
    expect(kept.kinds).toEqual(["1 suspend"]);
  });

  it("throws as the handler would: a failure that is tried again, or what the signal makes of it", async () => {
    const failing = await leased([() => Promise.reject(new Error("no session"))], () => 1);
    expect(failing.reports).toMatchObject([{ fail: { retryable: true, error: { code: "HANDLER_ERROR", message: "no session" } } }]);
    const cleaning = await leased(
      [
        async (_context, next) => {
          await next().catch((error: unknown) => {
            throw new Error("rolled back", { cause: error });
          });
        },
      ],
      () => Promise.reject(new Error("disk")),
    );
    expect(cleaning.reports[0]?.fail?.error).toMatchObject({ message: "rolled back", cause: { message: "disk" } });
    const stopped = await leased(
      [(context) => new Promise((_resolve, reject) => context.signal.addEventListener("abort", () => reject(new Error("stop"))))],
      () => 1,
    );
    await stopped.send({ cancels: [{ leaseToken: "a", reason: "r", remainingGrace: ms(1_000) }] });
    expect(stopped.kinds).toEqual(["1 cancel"]);
  });

  it("cannot run a handler twice", async () => {
    let runs = 0;
    const server = await leased(
      [
        async (_context, next) => {
          await next();
          return next();
        },
      ],
      () => (runs += 1),
    );
    expect(runs).toBe(1);
    expect(server.reports[0]?.fail?.error?.message).toContain("next() twice");
  });

  it("is not called for a task that this worker cannot read", async () => {
    let calls = 0;
    const server = await leased([(_context, next) => ((calls += 1), next())], () => 1, { metadata: json({ at: 5 }) });
    expect([calls, server.reports[0]?.fail?.error?.code]).toEqual([0, "METADATA_INVALID"]);
  });
});

describe("an interceptor", () => {
  it("sees each try of a call: method, deadline, headers and number", async () => {
    const seen: InterceptedCall[] = [];
    const { client, transport, clock } = fakeClient({
      interceptors: [
        {
          call: (call, next) => {
            seen.push(call);
            return next({ ...call, headers: { ...call.headers, traceparent: `try ${String(call.attempt)}` }, deadlineMs: 5_000 });
          },
        },
      ],
    });
    transport.answer = (_method, _request, tries) => {
      if (tries < 3) throw failure({ code: "UNAVAILABLE" });
      return taskMessage();
    };
    const got = client.handle({ id: "a" }).snapshot({ timeout: "10s" });
    await clock.advance(5_000);
    await got;
    expect(seen.map(({ method, path, attempt, deadlineMs }) => [method, path, attempt, deadlineMs])).toEqual([
      ["GetTask", "/leasehold.v1.TaskService/GetTask", 1, 10_000],
      ["GetTask", "/leasehold.v1.TaskService/GetTask", 2, 9_950],
      ["GetTask", "/leasehold.v1.TaskService/GetTask", 3, 9_850],
    ]);
    expect(transport.calls.map(({ headers, deadlineMs }) => [headers?.["traceparent"], deadlineMs])).toEqual([
      ["try 1", 5_000],
      ["try 2", 5_000],
      ["try 3", 5_000],
    ]);
  });

  it("runs in order, the first one outermost, around batches too", async () => {
    const order: string[] = [];
    const named = (name: string): ClientInterceptor => ({
      call: async (call, next) => {
        order.push(`${name} ${call.method} ${String(call.attempt)}`);
        const answer = await next(call);
        order.push(`${name} done`);
        return answer;
      },
    });
    const { client, transport, clock } = fakeClient({ interceptors: [named("one"), {}, named("two")] });
    transport.answer = (_method, { tasks }: { tasks: { taskId: string }[] }, tries) => {
      if (tries === 1) throw failure({ code: "UNAVAILABLE" });
      return { results: tasks.map(({ taskId }) => ({ task: taskMessage({ taskId }), created: true })) };
    };
    const submitted = Promise.all([1, 2].map(() => client.submit(task, { at: "" })));
    await clock.advance(1_000);
    await submitted;
    expect(order).toEqual(["one SubmitTasks 1", "two SubmitTasks 1", "one SubmitTasks 2", "two SubmitTasks 2", "two done", "one done"]);
  });

  it("answers in the server's place, and its UNAVAILABLE is tried again like the server's", async () => {
    let tries = 0;
    const { client, transport, clock } = fakeClient({
      interceptors: [
        {
          call: async () => {
            tries += 1;
            if (tries === 1) throw new LeaseholdError({ code: "UNAVAILABLE", message: "injected" });
            return taskMessage({ state: TaskState.RUNNING });
          },
        },
      ],
    });
    const got = client.handle({ id: "a" }).snapshot();
    await clock.advance(1_000);
    expect((await got).state).toBe("running");
    expect([tries, transport.calls.length]).toEqual([2, 0]);
  });

  it("that throws ends the call with its error and nothing else", async () => {
    const { client } = fakeClient({ interceptors: [{ call: () => Promise.reject(new Error("my own")) }] });
    const error = await rejection(client.handle({ id: "a" }).snapshot());
    expect(error).toMatchObject({ code: "UNKNOWN", cause: { message: "my own" } });
  });

  it("gives a worker's stream its headers, and a throw is an ended stream", async () => {
    let throws = false;
    const interceptors: ClientInterceptor[] = [
      { stream: ({ method, headers }) => ({ ...headers, one: method }) },
      {
        stream: ({ headers }) => {
          if (throws) throw new LeaseholdError({ code: "UNAVAILABLE", message: "not now" });
          return { ...headers, two: "2" };
        },
      },
    ];
    const server = await FakeWorkerServer.start([handle(task, () => 1)], {}, { interceptors });
    expect(server.stream.headers).toEqual({ one: "ExecuteTasks", two: "2" });
    throws = true;
    server.stream.close(failure({ code: "UNAVAILABLE" }));
    await server.clock.advance(20_000);
    expect(server.worker.state.status).toBe("disconnected");
    throws = false;
    const before = server.transport.streams.length;
    while (server.transport.streams.length === before) await server.clock.advance(500);
    await server.greet();
    expect(server.worker.state.status).toBe("ready");
  });
});
