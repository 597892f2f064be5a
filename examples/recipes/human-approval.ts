// How does a task wait for a person for days? Suspended, without a slot; whoever decides proceeds it, and only the first decision counts.
import { type Client, defineTask, type DurationInput, handle, LeaseholdError, type TaskHandler } from "@leasehold/client";
import { z } from "zod";

/** An expense that somebody has to approve. */
export const expense = defineTask({
  name: "expense",
  metadata: z.object({ employee: z.string(), amount: z.number() }),
  executionMetadata: z.object({
    asked: z.boolean().default(false),
    decision: z.object({ approved: z.boolean(), by: z.string() }).optional(),
  }),
  result: z.object({ approved: z.boolean(), by: z.string() }),
});

/** Asks once, then waits for a week at most. */
export function expenseHandler(ask: (taskId: string, amount: number) => Promise<void>, timeout: DurationInput = "7d"): TaskHandler {
  return handle(expense, async (ctx) => {
    const { asked, decision } = ctx.executionMetadata.current;
    if (decision !== undefined) return decision;
    if (ctx.resumed.by === "woken") return { approved: false, by: "nobody" }; // the week is over
    if (!asked) {
      await ask(ctx.id, ctx.metadata.amount);
      await ctx.executionMetadata.checkpoint({ asked: true }); // a crash from here on asks nobody twice
    }
    return ctx.suspend({ untilProceeded: true, timeout });
  });
}

/** Decides; answers whether this decision is the one that counts. */
export async function decide(client: Client, key: string, decision: { approved: boolean; by: string }): Promise<boolean> {
  try {
    await client.handle(expense, { key }).proceed({ update: (current) => ({ ...current, decision }), note: `decided by ${decision.by}` });
    return true;
  } catch (error) {
    if (LeaseholdError.is(error) && (error.reason === "TASK_NOT_SUSPENDED" || error.reason === "TASK_FINISHED")) return false;
    throw error;
  }
}

/** What waits for a decision, longest first. */
export async function undecided(client: Client): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of client.list(expense, { state: ["suspended"] }, { order: "waiting_longest_first" })) keys.push(key ?? "");
  return keys;
}
