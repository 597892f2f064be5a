// How is graphile-worker used where throughput counts? With its local queue and batched completion, as its documentation advises.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";
import { payload, TASK_NAME } from "../payload.mjs";
import { untilNone } from "./until-none.mjs";

const UNFINISHED = "SELECT 1 FROM graphile_worker._private_jobs LIMIT 1";

const CONCURRENCY = 24;
const POOL_SIZE = 25;
const LOCAL_QUEUE_SIZE = 500;

const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

function openPool(databaseUrl, max) {
  const pool = new pg.Pool({ connectionString: databaseUrl, max });
  const tell = (error) => console.error(error.message);
  // The library warns where connections in use have no listener of their own.
  return pool.on("error", tell).on("connect", (client) => client.on("error", tell));
}

/** The producer's side. */
export async function connectProducer({ databaseUrl }) {
  const utils = await makeWorkerUtils({ pgPool: openPool(databaseUrl, 20), logger });
  await utils.migrate();
  return {
    submit: () => utils.addJob(TASK_NAME, payload()),
    submitBatch: (size) => utils.addJobs(Array.from({ length: size }, () => ({ identifier: TASK_NAME, payload: payload() }))),
  };
}

/** The worker's side. A task counts as done when its handler returned; it is stored as done, which removes it, a moment later. */
export async function connectWorker({ databaseUrl }, { latency }, events) {
  const pgPool = openPool(databaseUrl, POOL_SIZE);
  const runner = await run({
    pgPool,
    logger,
    noHandleSignals: true,
    preset: {
      worker: {
        concurrentJobs: CONCURRENCY,
        maxPoolSize: POOL_SIZE,
        localQueue: { size: LOCAL_QUEUE_SIZE },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    taskList: {
      [TASK_NAME]: async (given) => {
        events.started(latency ? given : undefined);
        events.done(1);
      },
    },
  });
  return {
    settled: untilNone(databaseUrl, UNFINISHED),
    async stop() {
      await runner.stop();
      await pgPool.end();
    },
  };
}
