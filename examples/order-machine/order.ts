// How does an order go from state to state? A machine: each state is stored before it is entered, with exactly the data that it needs.
import { defineMachine, handleMachine } from "@leasehold/client";
import { z } from "zod";

const address = z.object({ street: z.string(), city: z.string() });

/** An order; its key is its number. */
export const order = defineMachine({
  name: "example.order",
  metadata: z.object({ number: z.string(), cents: z.number(), address }),
  states: {
    placed: z.object({}),
    awaiting_payment: z.object({ invoice: z.string(), paid: z.number().default(0) }),
    packing: z.object({ invoice: z.string() }),
    shipped: z.object({ parcel: z.string() }),
  },
  initial: { state: "placed", data: {} },
  result: z.object({ parcel: z.string() }),
  errors: { unpaid: z.object({ invoice: z.string(), missing: z.number() }) },
});

/** Runs orders. */
export const orderHandler = handleMachine(order, {
  placed: (_data, ctx) =>
    ctx.park("awaiting_payment", { invoice: `invoice-${ctx.metadata.number}` }, { untilProceeded: true, timeout: "14d" }),
  awaiting_payment: ({ invoice, paid }, ctx) => {
    const missing = ctx.metadata.cents - paid;
    if (missing <= 0) return ctx.goto("packing", { invoice });
    if (ctx.resumed.by === "woken") return ctx.fail("unpaid", { invoice, missing }, { retry: false });
    return ctx.park("awaiting_payment", { invoice, paid }, { untilProceeded: true, timeout: "14d" }); // a part of it came
  },
  packing: (_data, ctx) => ctx.goto("shipped", { parcel: `parcel-${ctx.metadata.number}` }),
  shipped: ({ parcel }, ctx) => ctx.finish({ parcel }),
});
