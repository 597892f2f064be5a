// What can a newcomer submit before writing a worker? Three tasks that show counting with checkpoints, waiting for a decision, and retries.
import { setTimeout as sleep } from "node:timers/promises";
import { createClient, createWorker, defineTask, handle, type } from "@leasehold/client";

// Slow enough to be watched, fast enough not to bore.
const defaultStepMs = 300;
const defaultFailures = 2;
const grace = "5s";

/** Counts to `to`, one step each `delayMs`; goes on from the last checkpoint after a crash or restart. */
export const demoCount = defineTask({
  name: "demo.count",
  metadata: type<{ to: number; delayMs?: number }>(),
  executionMetadata: type<{ counted?: number }>(),
  result: type<{ counted: number }>(),
  errors: { invalid_metadata: type<{ reason: string }>() },
});

/** Waits until somebody proceeds it with `{ "decision": … }` in its execution metadata, and returns that. */
export const demoApproval = defineTask({
  name: "demo.approval",
  metadata: type<{ question?: string } | null>(),
  executionMetadata: type<{ decision?: string }>(),
  result: type<{ decision: string }>(),
});

/** Fails `failures` times, then succeeds. */
export const demoFlaky = defineTask({
  name: "demo.flaky",
  metadata: type<{ failures?: number } | null>(),
  result: type<{ attempts: number }>(),
});

/** The names to show in the banner. */
export const demoTaskNames: readonly string[] = [demoCount, demoApproval, demoFlaky].map(({ name }) => name);

const counting = handle(demoCount, async (ctx) => {
  const { to, delayMs = defaultStepMs } = ctx.metadata;
  if (!Number.isSafeInteger(to) || !Number.isFinite(delayMs)) {
    return ctx.fail("invalid_metadata", { reason: 'expected {"to": whole number, "delayMs": number or nothing}' }, { retry: false });
  }
  let { counted = 0 } = ctx.executionMetadata.current;
  while (counted < to) {
    await sleep(delayMs, undefined, { signal: ctx.signal });
    counted += 1;
    await ctx.executionMetadata.checkpoint({ counted });
    ctx.progress({ done: counted, total: to, message: `counted ${counted} of ${to}` });
  }
  return { counted };
});

const approving = handle(demoApproval, async (ctx) => {
  const { decision } = ctx.executionMetadata.current;
  return decision === undefined ? ctx.suspend({ untilProceeded: true }) : { decision };
});

const failing = handle(demoFlaky, async (ctx) => {
  const failures = ctx.metadata?.failures ?? defaultFailures;
  if (ctx.attempt <= failures) throw new Error(`attempt ${ctx.attempt} fails on purpose; ${failures - ctx.attempt} more will`);
  return { attempts: ctx.attempt };
});

/**
 * Starts a worker for the three demo tasks in this process.
 * @param address the server, as host:port.
 * @returns what stops it: it takes no more, finishes within 5 s or gives back what is left, and closes its connections.
 */
export async function startDemoWorker(address: string): Promise<{ stop(): Promise<void> }> {
  const client = createClient({ address });
  const worker = createWorker({ client, handlers: [counting, approving, failing], grace });
  const run = worker.run();
  // Refused by the server it rejects, and so does `ready`, which is waited for.
  run.catch(() => undefined);
  await worker.ready();
  return {
    stop: async () => {
      await worker.drain();
      await run;
      client.close();
    },
  };
}
