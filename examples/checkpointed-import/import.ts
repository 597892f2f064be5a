// What is imported, and how? Line after line of a file, with a checkpoint every hundred lines.
import { defineTask, handle } from "@leasehold/client";
import { appendFile, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

/** An import of one file into another. */
export const importFile = defineTask({
  name: "example.import",
  metadata: z.object({ from: z.string(), into: z.string() }),
  executionMetadata: z.object({ lines: z.number().default(0) }),
  result: z.object({ lines: z.number() }),
});

const BATCH = 100;

/** Imports from where the last attempt stopped, in whatever process it ran. */
export const importHandler = handle(importFile, async (ctx) => {
  let { lines } = ctx.executionMetadata.current;
  console.log(`begins at line ${lines} (${ctx.resumed.by})`);
  const file = await open(ctx.metadata.from);
  let batch: string[] = [];
  let seen = 0;
  for await (const line of file.readLines()) {
    seen += 1;
    if (seen <= lines) continue;
    batch.push(line);
    if (batch.length < BATCH) continue;
    await sleep(20, undefined, { signal: ctx.signal }); // a slow place to import into
    await appendFile(ctx.metadata.into, `${batch.join("\n")}\n`);
    lines += batch.length;
    batch = [];
    await ctx.executionMetadata.checkpoint({ lines });
    ctx.progress({ done: lines, message: "lines" });
  }
  if (batch.length > 0) await appendFile(ctx.metadata.into, `${batch.join("\n")}\n`);
  return { lines: lines + batch.length };
});
