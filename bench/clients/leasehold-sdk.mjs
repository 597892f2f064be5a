// How is Leasehold used by its TypeScript SDK? As docs/client.md says.
import { createClient, createWorker, defineTask, handle, type } from "@leasehold/client";
import { payload, QUEUE, TASK_NAME } from "../payload.mjs";

const task = defineTask({ name: TASK_NAME, metadata: type(), options: { queue: QUEUE } });

/** The producer's side: concurrent calls of `submit` travel together. */
export function connectProducer({ addresses }) {
  const client = createClient({ addresses });
  return {
    submit: () => client.submit(task, payload()),
    submitBatch: (size) =>
      client.submitMany(
        task,
        Array.from({ length: size }, () => ({ metadata: payload() })),
      ),
  };
}

/** The worker's side. */
export async function connectWorker({ addresses }, { slots, latency, checkpoints }, events) {
  const client = createClient({ addresses });
  let stopped = false;
  const worked = handle(task, async (ctx) => {
    events.started(latency ? ctx.metadata : undefined);
    while (checkpoints && !stopped) {
      await ctx.executionMetadata.checkpoint({});
      events.done(1);
    }
    if (!checkpoints) events.done(1);
    return {};
  });
  const worker = createWorker({ client, handlers: [worked], concurrency: slots, grace: "5s" });
  const running = worker.run();
  await worker.ready();
  return {
    // A handler that returned is done only when its outcome has a verdict. Checkpoints are counted when theirs has come.
    unrecorded: () => (checkpoints ? 0 : worker.state.unacknowledgedReports),
    async stop() {
      stopped = true;
      await worker.drain();
      await running;
      client.close();
    },
  };
}
