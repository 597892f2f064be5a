// What is an expense that waits for approval? A task that suspends itself until somebody decides.
import { defineTask, handle } from "@leasehold/client";
import { z } from "zod";

/** An expense; its key is its number. */
export const expense = defineTask({
  name: "example.expense",
  metadata: z.object({ employee: z.string(), amount: z.number().positive() }),
  executionMetadata: z.object({ decision: z.object({ approved: z.boolean(), by: z.string() }).optional() }),
  result: z.object({ paid: z.boolean(), by: z.string() }),
});

const PETTY = 50;

/** Pays small amounts at once, and others when they are approved. */
export const expenseHandler = handle(expense, (ctx) => {
  const { decision } = ctx.executionMetadata.current;
  if (ctx.metadata.amount <= PETTY) return { paid: true, by: "policy" };
  if (decision !== undefined) return { paid: decision.approved, by: decision.by };
  if (ctx.resumed.by === "woken") return { paid: false, by: "nobody" };
  return ctx.suspend({ untilProceeded: true, timeout: "7d" });
});
