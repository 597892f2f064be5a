// How does work end that nobody waits for any more? The request that submitted it cancels it when the browser goes away.
import { type Client, defineTask, handle, type TaskHandler } from "@leasehold/client";
import { createServer, type Server, type ServerResponse } from "node:http";
import { z } from "zod";

/** A report that somebody looks at while it is made. */
export const report = defineTask({
  name: "report",
  metadata: z.object({ month: z.string() }),
  result: z.object({ total: z.number() }),
  options: { deadlines: { total: "10m" } },
});

/** Sums up a month. The query gets the signal: it ends with the task. */
export function reportHandler(query: (month: string, signal: AbortSignal) => Promise<number>): TaskHandler {
  return handle(report, async (ctx) => ({ total: await query(ctx.metadata.month, ctx.signal) }));
}

async function answer(client: Client, month: string, response: ServerResponse): Promise<void> {
  const left = new AbortController();
  response.once("close", () => left.abort());
  const job = await client.submit(report, { month });
  try {
    const { total } = await job.result({ signal: left.signal, timeout: "1m" });
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ total }));
  } catch (error) {
    // Nobody reads the answer: not when they left, and not after a minute.
    await job.cancel({ reason: left.signal.aborted ? "the browser went away" : "took too long", grace: "5s" });
    if (!left.signal.aborted) throw error;
  }
}

/** `GET /?month=2026-01` answers the report. */
export function reportServer(client: Client): Server {
  return createServer((request, response) => {
    const month = new URL(request.url ?? "/", "http://localhost").searchParams.get("month") ?? "";
    answer(client, month, response).catch(() => response.writeHead(504).end());
  });
}
