// What does a worker of the demo do? A process of its own, like any user's: three handlers on the SDK, and a word to its parent about each step.
// Arguments: the server's address, the worker's name.
import { setTimeout as sleep } from "node:timers/promises";
import { createClient, createWorker, handle } from "@leasehold/client";
import { readChunk, writeChunk } from "./chunks.js";
import { approveInvoice, importReadings, sendMail, type WorkerMessage } from "./tasks.js";

// Without it the import would be over before anybody could kill it.
const CHUNK_PAUSE_MS = 40;
const MAIL_FAILURES = 2;

const [address = "", name = ""] = process.argv.slice(2);

function tell(message: WorkerMessage): void {
  process.send?.(message);
}

const importing = handle(importReadings, async (ctx) => {
  let { offset = 0, rows = 0 } = ctx.executionMetadata.current;
  tell({ kind: "took", task: ctx.name, attempt: ctx.attempt, resumedBy: ctx.resumed.by, fromRow: rows });
  for (;;) {
    const chunk = await readChunk(ctx.metadata.csv, offset);
    if (chunk.rows === 0) return { rows };
    const first = await writeChunk(ctx.metadata.output, offset, chunk.text);
    offset = chunk.nextOffset;
    rows += chunk.rows;
    tell({ kind: "wrote", rows, again: !first });
    await ctx.executionMetadata.checkpoint({ offset, rows });
    ctx.progress({ done: rows, message: "rows" });
    await sleep(CHUNK_PAUSE_MS, undefined, { signal: ctx.signal });
  }
});

const approving = handle(approveInvoice, async (ctx) => {
  tell({ kind: "took", task: ctx.name, attempt: ctx.attempt, resumedBy: ctx.resumed.by, fromRow: 0 });
  const { decision } = ctx.executionMetadata.current;
  return decision === undefined ? ctx.suspend({ untilProceeded: true }) : { decision };
});

const mailing = handle(sendMail, async (ctx) => {
  tell({ kind: "took", task: ctx.name, attempt: ctx.attempt, resumedBy: ctx.resumed.by, fromRow: 0 });
  if (ctx.attempt <= MAIL_FAILURES) throw new Error("the mail server says 451, try again later");
  return { attempts: ctx.attempt };
});

// The parent may be killed as well; nobody else would end this process.
process.once("disconnect", () => process.exit(1));
const client = createClient({ address });
const worker = createWorker({ client, handlers: [importing, approving, mailing], name, grace: 0 });
const running = worker.run();
await worker.ready();
tell({ kind: "ready" });
await running;
client.close();
process.disconnect();
