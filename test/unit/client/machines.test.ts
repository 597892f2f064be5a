// How does a machine go from state to state: persisted before each, parked, finished, and stopped where it would never end?
import {
  defineMachine,
  handle,
  handleMachine,
  LeaseholdError,
  type MachineContext,
  type MachineOptions,
  type MachineStep,
  type,
} from "@leasehold/client";
import { PendingReason } from "@leasehold/proto/leasehold/v1/task";
import { VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { settle } from "./fake-clock.js";
import { fakeClient, json, parsed, taskMessage } from "./fake-transport.js";
import { FakeWorkerServer, ms, stopWorkers } from "./fake-worker-server.js";

const order = defineMachine({
  name: "t",
  metadata: z.object({ orderId: z.string() }),
  states: {
    placed: z.object({}),
    waiting: z.object({ invoice: z.string(), since: z.string().transform((text) => new Date(text)) }),
    paid: z.object({ receipt: z.string() }),
  },
  errors: { refused: z.object({ why: z.string() }) },
  initial: { state: "placed", data: {} },
  result: z.object({ receipt: z.string() }),
});
type Context = MachineContext<typeof order>;

afterEach(stopWorkers);

interface Functions {
  placed?: (data: unknown, ctx: Context) => MachineStep | Promise<MachineStep>;
  waiting?: (data: { invoice: string; since: Date }, ctx: Context) => MachineStep | Promise<MachineStep>;
  paid?: (data: { receipt: string }, ctx: Context) => MachineStep | Promise<MachineStep>;
}

/** A worker with these states (the others finish at once) that got one lease. */
async function leased(functions: Functions, fields: object = {}, options: MachineOptions = {}): Promise<FakeWorkerServer> {
  const finish = (_data: unknown, ctx: Context): MachineStep => ctx.finish({ receipt: "r" });
  const handler = handleMachine(order, { placed: finish, waiting: finish, paid: finish, ...functions }, options);
  const server = await FakeWorkerServer.start([handler]);
  await server.lease("a", { metadata: json({ orderId: "7" }), ...fields });
  return server;
}

/** Answers every checkpoint until the handler has reported its outcome. */
async function answerAll(server: FakeWorkerServer): Promise<void> {
  for (let seq = 1; server.reports[seq - 1]?.checkpoint !== undefined; seq += 1) await server.verdict("a", seq);
}

const since = "2026-01-01T00:00:00.000Z";

describe("a machine", () => {
  it("persists each state before it is entered, and gives it the parsed data", async () => {
    const entered: unknown[] = [];
    const server = await leased({
      placed: (data, ctx) => {
        entered.push([ctx.state, data, ctx.metadata, ctx.attempt]);
        return ctx.goto("waiting", { invoice: "i", since });
      },
      waiting: async (data, ctx) => {
        entered.push([ctx.state, data]);
        await Promise.resolve();
        return ctx.goto("paid", { receipt: data.invoice });
      },
      paid: (data, ctx) => ctx.finish(data),
    });
    expect(server.reports.map(({ checkpoint }) => parsed(checkpoint?.executionMetadata))).toEqual([
      { state: "waiting", data: { invoice: "i", since } },
    ]);
    expect(entered).toEqual([["placed", {}, { orderId: "7" }, 1]]);
    await answerAll(server);
    expect(entered[1]).toEqual(["waiting", { invoice: "i", since: new Date(since) }]);
    expect(server.kinds).toEqual(["1 checkpoint", "2 checkpoint", "3 complete"]);
    expect(parsed(server.reports[2]?.complete?.result)).toEqual({ receipt: "i" });
  });

  it("goes on from the state that was saved, in whatever process it ran", async () => {
    const server = await leased(
      { paid: (data, ctx) => ctx.finish({ receipt: `${data.receipt} ${ctx.resumed.by}` }) },
      { executionMetadata: json({ state: "paid", data: { receipt: "saved" } }), resumption: { reason: PendingReason.LEASE_LOST } },
    );
    expect(parsed(server.reports[0]?.complete?.result)).toEqual({ receipt: "saved lease_lost" });
  });

  it("parks in a state without a slot: one report, which says until when and in which state it goes on", async () => {
    const server = await leased({
      placed: (_data, ctx) => ctx.park("waiting", { invoice: "i", since }, { untilProceeded: true, timeout: "3d" }),
    });
    expect(server.reports).toMatchObject([
      {
        suspend: {
          untilProceeded: true,
          untilAfter: ms(259_200_000),
          executionMetadata: json({ state: "waiting", data: { invoice: "i", since } }),
        },
      },
    ]);
  });

  it("saves data within a state", async () => {
    const server = await leased(
      {
        paid: async (_data, ctx) => {
          await ctx.checkpoint({ receipt: "half" });
          throw new Error("later");
        },
      },
      { executionMetadata: json({ state: "paid", data: { receipt: "" } }) },
    );
    await answerAll(server);
    expect(parsed(server.reports[0]?.checkpoint?.executionMetadata)).toEqual({ state: "paid", data: { receipt: "half" } });
    expect(server.reports[1]?.fail).toMatchObject({ retryable: true, error: { code: "HANDLER_ERROR", message: "later" } });
  });

  it("fails, cancels and throws as any handler does", async () => {
    const ends: [Functions["placed"], object][] = [
      [(_data, ctx) => ctx.fail("refused", { why: "card" }, { retry: false }), { fail: { retryable: false, error: { code: "refused" } } }],
      [(_data, ctx) => ctx.cancel("not wanted"), { cancel: { error: { message: "not wanted" } } }],
      [() => Promise.reject(new Error("disk")), { fail: { retryable: true, error: { code: "HANDLER_ERROR", message: "disk" } } }],
      [() => undefined as never, { fail: { retryable: true, error: { code: "HANDLER_ERROR" } } }],
    ];
    for (const [placed, report] of ends) expect((await leased({ placed: placed! })).reports).toMatchObject([report]);
  });

  it("that comes back to the same state with the same data fails for good, and says on which path", async () => {
    const server = await leased({
      placed: (_data, ctx) => ctx.goto("waiting", { invoice: "i", since }),
      // The same data in another order of its members.
      waiting: (_data, ctx) => ctx.goto("paid", { receipt: "r" }),
      paid: (_data, ctx) => ctx.goto("waiting", { since, invoice: "i" }),
    });
    await answerAll(server);
    expect(server.kinds).toEqual(["1 checkpoint", "2 checkpoint", "3 checkpoint", "4 fail"]);
    expect(server.reports[3]?.fail).toMatchObject({ retryable: false, error: { code: "MACHINE_CYCLE" } });
    expect(server.reports[3]?.fail?.error?.message).toContain("placed → waiting → paid → waiting");
  });

  it("finds a cycle that leads back to where the run began", async () => {
    const server = await leased({ placed: (_data, ctx) => ctx.goto("placed", {}) });
    await answerAll(server);
    expect(server.kinds).toEqual(["1 checkpoint", "2 fail"]);
  });

  it("that goes round with other data each time may, up to its step cap", async () => {
    const server = await leased(
      { paid: (data, ctx) => ctx.goto("paid", { receipt: `${data.receipt}+` }), placed: (_data, ctx) => ctx.goto("paid", { receipt: "" }) },
      {},
      { maxSteps: 5 },
    );
    await answerAll(server);
    expect(server.kinds).toEqual([1, 2, 3, 4, 5].map((seq) => `${String(seq)} checkpoint`).concat("6 fail"));
    expect(server.reports[5]?.fail).toMatchObject({ retryable: false, error: { code: "MACHINE_STEP_LIMIT" } });
  });

  it("may park in the same state again and again: each run begins anew", async () => {
    const park: Functions["waiting"] = (_data, ctx) => ctx.park("waiting", { invoice: "i", since }, { until: { in: "1h" } });
    const server = await leased({ waiting: park }, { executionMetadata: json({ state: "waiting", data: { invoice: "i", since } }) });
    expect(server.kinds).toEqual(["1 suspend"]);
  });

  it("in a state that this worker does not know, or with data it cannot read, is left for a newer worker", async () => {
    const saved: [unknown, string][] = [
      [{ state: "shipped", data: {} }, "executionMetadata.state"],
      [{ state: "paid", data: { receipt: 5 } }, "executionMetadata.data.receipt"],
      [{ offset: 5 }, "executionMetadata.state"],
      [{ state: "__proto__", data: {} }, "executionMetadata.state"],
    ];
    for (const [value, path] of saved) {
      const server = await leased({}, { executionMetadata: json(value) });
      expect(server.reports[0]?.fail).toMatchObject({ retryable: true, retryAfter: ms(15_000), error: { code: "METADATA_INVALID" } });
      expect(parsed(server.reports[0]?.fail?.error?.details)).toMatchObject({ violations: [{ path }] });
    }
  });

  it("goes to no state with data that its schema refuses: the attempt fails with the path", async () => {
    const server = await leased({ placed: (_data, ctx) => ctx.goto("paid", { receipt: 5 } as never) });
    expect(server.reports[0]?.fail?.error?.message).toContain("executionMetadata.data.receipt");
  });

  it("that lost its lease at a step stops there", async () => {
    const entered: string[] = [];
    const server = await leased({
      placed: (_data, ctx) => ctx.goto("paid", { receipt: "" }),
      paid: (_data, ctx) => {
        entered.push("paid");
        return ctx.finish({ receipt: "" });
      },
    });
    await server.verdict("a", 1, VerdictCode.LEASE_LOST);
    expect([entered, server.kinds]).toEqual([[], ["1 checkpoint"]]);
  });

  it("told to stop between two states does not begin the next one", async () => {
    const server = await leased({ placed: (_data, ctx) => ctx.goto("paid", { receipt: "" }) });
    await server.send({ cancels: [{ leaseToken: "a", reason: "superseded", remainingGrace: ms(1_000) }] });
    await server.verdict("a", 1);
    expect(server.kinds).toEqual(["1 checkpoint", "2 cancel"]);
  });
});

describe("the definition of a machine", () => {
  it("is a task definition: submitted without execution metadata, and handled as a task too", async () => {
    const { client, transport } = fakeClient();
    transport.answer = (_method, request: { task: { taskId: string } }) => ({
      task: taskMessage({ taskId: request.task.taskId }),
      created: true,
    });
    await client.submit(order, { orderId: "7" });
    await client.submit(order, { orderId: "7" }, { executionMetadata: { state: "paid", data: { receipt: "r" } } });
    expect(
      transport.calls.map(({ request }) => parsed((request as { task: { executionMetadata?: { data: Buffer } } }).task.executionMetadata)),
    ).toEqual([undefined, { state: "paid", data: { receipt: "r" } }]);
    const handler = handle(order, (ctx) => ({ receipt: ctx.executionMetadata.current.state }));
    const server = await FakeWorkerServer.start([handler]);
    await server.lease("a", { metadata: json({ orderId: "7" }) });
    await settle();
    expect(parsed(server.reports[0]?.complete?.result)).toEqual({ receipt: "placed" });
  });

  it("and its handlers refuse what does not fit, with its path", () => {
    const state = type<object>();
    const one = { a: (_data: unknown, ctx: { finish: (result: null) => MachineStep }) => ctx.finish(null) };
    const machine = defineMachine({ name: "m", states: { a: state }, initial: { state: "a", data: {} } });
    const refused: [() => unknown, string][] = [
      [() => defineMachine({ name: "m", states: {}, initial: { state: "a", data: {} } as never }), "states"],
      [() => defineMachine({ name: "m", states: { "a b": state }, initial: { state: "a b", data: {} } }), "states.a b"],
      [() => defineMachine({ name: "m", states: { a: state }, initial: { state: "b", data: {} } as never }), "initial.state"],
      [() => defineMachine({ name: " ", states: { a: state }, initial: { state: "a", data: {} } }), "name"],
      [() => handleMachine(machine, {} as never), "states.a"],
      [() => handleMachine(machine, { ...one, b: one.a } as never), "states.b"],
      [() => handleMachine(machine, one, { maxSteps: 0 }), "maxSteps"],
      [() => handleMachine(order.metadata as never, one as never), "machine"],
    ];
    for (const [define, path] of refused) {
      let error: unknown;
      try {
        define();
      } catch (thrown) {
        error = thrown;
      }
      expect(error, path).toMatchObject({ code: "INVALID_ARGUMENT" });
      expect(LeaseholdError.from(error).violations.map((violation) => violation.path)).toContain(path);
    }
  });
});
