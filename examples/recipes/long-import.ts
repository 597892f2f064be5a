// How does an import of hours survive crashes and deploys? It saves the cursor of its source after each page that it stored.
import { defineTask, handle, type TaskHandler } from "@leasehold/client";
import { z } from "zod";

/** An import of all customers of one source. */
export const importCustomers = defineTask({
  name: "import-customers",
  metadata: z.object({ source: z.string() }),
  executionMetadata: z.object({
    cursor: z.string().nullable().default(""), // "" is the first page; null says that there is none left
    imported: z.number().default(0),
  }),
  result: z.object({ imported: z.number() }),
  options: { deadlines: { silence: "10m" } }, // no page takes that long: then something hangs, and another attempt goes on
});

/** Where customers come from and go to. */
export interface Customers {
  page(source: string, cursor: string, signal: AbortSignal): Promise<{ readonly ids: readonly string[]; readonly next: string | null }>;
  /** Storing the same ones again changes nothing; an older token than the last one is refused. */
  store(ids: readonly string[], fencingToken: bigint): Promise<void>;
}

/** Imports page by page. */
export function importHandler(customers: Customers): TaskHandler {
  return handle(importCustomers, async (ctx) => {
    let { cursor, imported } = ctx.executionMetadata.current;
    while (cursor !== null) {
      const { ids, next } = await customers.page(ctx.metadata.source, cursor, ctx.signal);
      await customers.store(ids, ctx.fencingToken);
      imported += ids.length;
      cursor = next;
      await ctx.executionMetadata.checkpoint({ cursor, imported });
      ctx.progress({ done: imported, message: "customers" });
    }
    return { imported };
  });
}
