// How is BullMQ used where throughput counts? Many at a time, without keeping what is done.
import { Queue, Worker } from "bullmq";
import Redis from "ioredis";
import { payload, QUEUE, TASK_NAME } from "../payload.mjs";

const CONCURRENCY = 200;
const OPTIONS = { removeOnComplete: true };

function connect(path) {
  return new Redis({ path, maxRetriesPerRequest: null });
}

/** The producer's side. */
export function connectProducer({ redisPath }) {
  const queue = new Queue(QUEUE, { connection: connect(redisPath) });
  return {
    submit: () => queue.add(TASK_NAME, payload(), OPTIONS),
    submitBatch: (size) => queue.addBulk(Array.from({ length: size }, () => ({ name: TASK_NAME, data: payload(), opts: OPTIONS }))),
  };
}

/** The worker's side. */
export async function connectWorker({ redisPath }, { latency }, events) {
  const connection = connect(redisPath);
  const options = { connection, concurrency: CONCURRENCY };
  const worker = new Worker(QUEUE, async ({ data }) => events.started(latency ? data : undefined), options);
  worker.on("completed", () => events.done(1));
  worker.on("error", (error) => console.error(error.message));
  await worker.waitUntilReady();
  return {
    async stop() {
      await worker.close();
      await connection.quit();
    },
  };
}
