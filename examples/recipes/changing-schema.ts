// How does a definition change while tasks of the old form are stored? The new one reads both forms; a worker that cannot read leaves it to others.
import { type Client, defineTask, handle, type TaskDefinition, type TaskHandler } from "@leasehold/client";
import { z } from "zod";

/** As it was. */
export const exportRowsBefore = defineTask({
  name: "export-rows",
  metadata: z.strictObject({ table: z.string() }),
  executionMetadata: z.object({ offset: z.number().default(0) }),
  result: z.object({ rows: z.number() }),
});

/** What a handler works with. */
interface Saved {
  readonly cursor: string;
}

/** As it is: a new field with a default, and saved state of both forms. */
export const exportRows = defineTask({
  name: "export-rows",
  metadata: z.strictObject({ table: z.string(), format: z.enum(["csv", "json"]).default("csv") }),
  executionMetadata: z.union([
    z.object({ cursor: z.string() }), // what is saved from here on
    z.object({ offset: z.number().default(0) }).transform(({ offset }): Saved => ({ cursor: `row-${offset}` })), // what was saved before
  ]),
  result: z.object({ rows: z.number() }),
});

/** Sees one form only. */
export function exportHandler(write: (table: string, format: "csv" | "json", cursor: string) => Promise<number>): TaskHandler {
  return handle(exportRows, async (ctx) => {
    const { table, format } = ctx.metadata;
    return { rows: await write(table, format, ctx.executionMetadata.current.cursor) };
  });
}

/** Whether tasks of a definition are left: what must be none before its handler is removed. */
export async function isUsed(client: Client, task: TaskDefinition): Promise<boolean> {
  const { count } = await client.count(task, { state: ["pending", "running", "suspended"] });
  return count > 0;
}
