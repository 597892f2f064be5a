// Do literals, enums and discriminated unions go through handlers without `as const`? Compiled by types.test.ts, never run.
import { type Client, defineMachine, defineTask, handle, handleMachine, type TaskHandler, type } from "@leasehold/client";
import * as v from "valibot";
import { z } from "zod";

declare const client: Client;

export const choice = defineTask({
  name: "choice",
  metadata: z.object({ kind: z.enum(["a", "b"]), yes: z.literal(true), list: z.array(z.enum(["x", "y"])) }),
  executionMetadata: z.object({ phase: z.enum(["p", "q"]).default("p") }),
  result: z.discriminatedUnion("how", [z.object({ how: z.literal("bought"), price: z.number() }), z.object({ how: z.literal("kept") })]),
});
const flag = defineTask({ name: "flag", result: v.object({ paid: v.literal(true) }) });
const word = defineTask({ name: "word", result: type<"one" | "two">() });

export const handlers: TaskHandler[] = [
  handle(choice, () => ({ how: "kept" })),
  handle(choice, async () => ({ how: "bought", price: 1 })),
  handle(choice, async (ctx) => {
    if (ctx.metadata.kind === "b") return ctx.cancel("not b");
    await ctx.executionMetadata.checkpoint({ phase: "q" });
    if (ctx.attempt > 1) return ctx.suspend({ untilProceeded: true, executionMetadata: { phase: "q" } });
    return ctx.attempt === 1 ? { how: "kept" } : { how: "bought", price: 1 };
  }),
  handle(flag, () => ({ paid: true })),
  handle(flag, async () => {
    await Promise.resolve();
    return { paid: true };
  }),
  handle(word, async (ctx) => (ctx.attempt > 1 ? "one" : "two")),
  // @ts-expect-error not one of the words
  handle(word, async () => "three"),
  // @ts-expect-error not the literal
  handle(flag, async () => ({ paid: false })),
  // @ts-expect-error a price belongs to it
  handle(choice, () => ({ how: "bought" })),
];

export const machine = defineMachine({
  name: "machine",
  states: { a: z.object({ kind: z.enum(["x", "y"]) }) },
  initial: { state: "a", data: { kind: "x" } },
  result: z.object({ done: z.literal(true) }),
});
export const machineHandler = handleMachine(machine, {
  a: async (data, ctx) => (data.kind === "x" ? ctx.goto("a", { kind: "y" }) : ctx.finish({ done: true })),
});

export async function calls(): Promise<void> {
  await client.submit(choice, { kind: "a", yes: true, list: ["x"] }, { executionMetadata: { phase: "q" } });
  await client.submitMany(choice, [{ metadata: { kind: "a", yes: true, list: ["x"] } }]);
  await client.handle(choice, "id").proceed({ update: async () => ({ phase: "q" }) });
  await client.proceed(choice, { metadata: { kind: "a" } }, { update: () => ({ phase: "q" }) });
  await client.proceed(
    choice,
    { metadata: { kind: "a" } },
    { update: async (current) => (current.phase === "p" ? current : { phase: "q" }) },
  );
}
