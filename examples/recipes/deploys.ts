// How is a worker replaced in the middle of its work? It stops taking, finishes what it can, and gives the rest back with what was saved.
import { type Client, createWorker, defineTask, handle, type TaskHandler } from "@leasehold/client";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

/** Work in steps, each short enough for a deploy to wait for. */
export const rebuildIndex = defineTask({
  name: "rebuild-index",
  metadata: z.object({ shards: z.number(), shardMs: z.number() }),
  executionMetadata: z.object({ done: z.number().default(0) }),
  result: z.object({ shards: z.number() }),
});

/** Never looks whether it should stop: the signal ends what it waits for, and the throw gives the task back. */
export const rebuildHandler: TaskHandler = handle(rebuildIndex, async (ctx) => {
  let { done } = ctx.executionMetadata.current;
  while (done < ctx.metadata.shards) {
    await sleep(ctx.metadata.shardMs, undefined, { signal: ctx.signal });
    done += 1;
    await ctx.executionMetadata.checkpoint({ done });
  }
  return { shards: done };
});

/** The whole worker process: `await runWorker(createClient(), 8081)`. Resolves after SIGTERM, when nothing is held any more. */
export async function runWorker(client: Client, port: number, signal?: AbortSignal): Promise<void> {
  const worker = createWorker({
    client,
    handlers: [rebuildHandler],
    grace: "25s", // below the 30 s after which Kubernetes kills
    health: { port }, // livenessProbe /livez, readinessProbe /readyz
  });
  await worker.run(signal === undefined ? {} : { signal });
  client.close();
}
