// How is pg-boss used where throughput counts? Large batches, a worker that asks again at once after a full one, no sorting by priority.
import PgBoss from "pg-boss";
import { payload, QUEUE } from "../payload.mjs";
import { untilNone } from "./until-none.mjs";

const UNFINISHED = "SELECT 1 FROM pgboss.job WHERE state < 'completed' LIMIT 1";

const WORKERS = 2;
// The shortest that it takes.
const POLLING_SECONDS = 0.5;

/** Opens pg-boss without its maintenance. */
export async function openBoss(databaseUrl, log = (error) => console.error(error.message)) {
  const boss = new PgBoss({ connectionString: databaseUrl, max: 20, supervise: false, schedule: false });
  boss.on("error", log);
  await boss.start();
  return boss;
}

/** The producer's side. */
export async function connectProducer({ databaseUrl }) {
  const boss = await openBoss(databaseUrl);
  return {
    submit: () => boss.send(QUEUE, payload()),
    submitBatch: (size) => boss.insert(Array.from({ length: size }, () => ({ name: QUEUE, data: payload() }))),
  };
}

/** The worker's side. A task counts as done when its handler returned: pg-boss does not tell when that is stored, but the table does. */
export async function connectWorker({ databaseUrl }, { slots, latency }, events) {
  const boss = await openBoss(databaseUrl);
  const batchSize = Math.ceil(slots / WORKERS);
  const options = { batchSize, pollingIntervalSeconds: POLLING_SECONDS, priority: false };
  const work = async () => {
    const id = await boss.work(QUEUE, options, async (batch) => {
      for (const { data } of batch) events.started(latency ? data : undefined);
      events.done(batch.length);
      if (batch.length === batchSize) boss.notifyWorker(id);
    });
  };
  await Promise.all(Array.from({ length: WORKERS }, work));
  return {
    settled: untilNone(databaseUrl, UNFINISHED),
    stop: () => boss.stop({ graceful: true, wait: true, timeout: 10_000 }),
  };
}
