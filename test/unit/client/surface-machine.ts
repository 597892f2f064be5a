// Does a machine type-check as the design wrote it, and refuse what it must? Compiled by types.test.ts, never run.
import {
  type Client,
  createWorker,
  defineMachine,
  handleMachine,
  type MachineHandlers,
  type StateData,
  type StateInput,
  type,
} from "@leasehold/client";
import { z } from "zod";

type Probe<A> = <T>(value: T) => T extends A ? T : A;
type Same<A, B> = Probe<A> extends Probe<B> ? true : never;
declare function same<A, B>(yes: Same<A, B>): void;
declare function make(orderId: string): string;

export const order = defineMachine({
  name: "order",
  metadata: z.object({ orderId: z.string() }),
  states: { placed: z.object({}), awaiting_payment: z.object({ invoice: z.string() }), paid: z.object({ receipt: z.string() }) },
  initial: { state: "placed", data: {} },
  result: z.object({ receipt: z.string() }),
});
export const orderHandler = handleMachine(order, {
  placed: (_d, ctx) => ctx.park("awaiting_payment", { invoice: make(ctx.metadata.orderId) }, { untilProceeded: true, timeout: "3d" }),
  awaiting_payment: (d, ctx) => ctx.goto("paid", { receipt: d.invoice }),
  paid: (d, ctx) => ctx.finish({ receipt: d.receipt }),
});

// Output and input of a state's schema are kept apart; a machine is a task like any other.
export const dated = defineMachine({
  name: "dated",
  result: z.number(),
  states: { at: z.object({ when: z.string().transform((text) => new Date(text)), times: z.number().default(1) }), over: z.null() },
  errors: { late: z.object({ by: z.number() }) },
  initial: { state: "at", data: { when: "2026-01-01" } },
  options: { queue: "slow" },
});
same<StateInput<typeof dated, "at">, { when: string; times?: number | undefined }>(true);
same<StateData<typeof dated, "at">, { when: Date; times: number }>(true);
handleMachine(dated, {
  at: async (d, ctx) => {
    same<typeof d.when, Date>(true);
    same<typeof ctx.state, "at">(true);
    await ctx.checkpoint({ when: d.when.toISOString() });
    if (ctx.attempt > 3) return ctx.fail("late", { by: d.times }, { retry: false });
    if (ctx.signal.aborted) return ctx.cancel("no longer");
    return ctx.goto("over", null);
  },
  over: (_d, ctx) => ctx.finish(3),
});
export async function owner(client: Client): Promise<void> {
  const task = await client.submit(order, { orderId: "7" }, { key: "7" });
  const { receipt } = await task.result();
  same<typeof receipt, string>(true);
  make(receipt);
  await task.proceed({ update: () => ({ state: "paid", data: { receipt: "r" } }) });
  const { executionMetadata } = await task.snapshot();
  if (executionMetadata.state === "awaiting_payment") same<typeof executionMetadata.data.invoice, string>(true);
  await createWorker({ client, handlers: [orderHandler] }).run();
  // @ts-expect-error not a state
  await task.proceed({ update: () => ({ state: "lost", data: {} }) });
  // @ts-expect-error data of another state
  await task.proceed({ replace: { state: "paid", data: { invoice: "i" } } });
}
const states: MachineHandlers<typeof order> = {
  placed: (_d, ctx) => ctx.goto("placed", {}),
  awaiting_payment: (_d, ctx) => ctx.finish({ receipt: "" }),
  paid: (_d, ctx) => ctx.finish({ receipt: "" }),
};
handleMachine(order, states, { concurrency: 3, maxSteps: 10 });

// @ts-expect-error a state is missing
handleMachine(order, { placed: states.placed, paid: states.paid });
// @ts-expect-error an unknown state
handleMachine(order, { ...states, lost: (_d, ctx) => ctx.finish({ receipt: "" }) });
// @ts-expect-error a state must say where to go
handleMachine(order, { ...states, paid: () => ({ receipt: "r" }) });
// @ts-expect-error a state may not end without saying so
handleMachine(order, { ...states, paid: () => undefined });
// @ts-expect-error goes to no state
handleMachine(order, { ...states, paid: (_d, ctx) => ctx.goto("lost", {}) });
// @ts-expect-error data of another state
handleMachine(order, { ...states, paid: (_d, ctx) => ctx.goto("paid", { invoice: "i" }) });
// @ts-expect-error nothing to wait for
handleMachine(order, { ...states, paid: (_d, ctx) => ctx.park("paid", { receipt: "r" }, {}) });
// @ts-expect-error not the result
handleMachine(order, { ...states, paid: (_d, ctx) => ctx.finish({ invoice: "i" }) });
// @ts-expect-error reads data of another state
handleMachine(order, { ...states, paid: (d, ctx) => ctx.finish({ receipt: String(d.invoice) }) });
// @ts-expect-error no such error
handleMachine(order, { ...states, paid: (_d, ctx) => ctx.fail("late", {}) });
// @ts-expect-error begins in no state
defineMachine({ name: "m", states: { a: z.object({}) }, initial: { state: "b", data: {} } });
// @ts-expect-error begins with other data
defineMachine({ name: "m", states: { a: z.object({ n: z.number() }) }, initial: { state: "a", data: {} } });
// @ts-expect-error the data of a state must be JSON
defineMachine({ name: "m", states: { a: type<{ at: Date }>() }, initial: { state: "a", data: { at: new Date() } } });
