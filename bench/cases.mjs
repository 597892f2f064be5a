// What is measured? One function for each case; the same function measures every system that has it.
import { nowMs, pause } from "./clock.mjs";
import { Child } from "./children.mjs";
import { startMeter } from "./measure.mjs";
import { percentile } from "./statistics.mjs";

const DRAIN_PATIENCE_MS = 600_000;
const HAPPEN_PATIENCE_MS = 30_000;
const BATCH = 500;
const BATCHES_IN_FLIGHT = 4;
/** Submissions a second of the latency case. */
const RATE = 100;

const batches = { kind: "batch", size: BATCH, inFlight: BATCHES_IN_FLIGHT };
const single = (inFlight) => ({ kind: "single", inFlight });

/** All cases in the order in which they are run: what is compared stands side by side. `quick` marks those of the smoke. */
export const CASES = [
  { key: "unary-64", quick: true, title: "bare unary echo, 64 in flight", run: (stage) => submitting(stage, single(64)) },
  { key: "a-64", quick: true, title: "submit one by one, 64 in flight, no worker", run: (stage) => submitting(stage, single(64)) },
  { key: "unary-256", title: "bare unary echo, 256 in flight", run: (stage) => submitting(stage, single(256)) },
  { key: "a-256", title: "submit one by one, 256 in flight, no worker", run: (stage) => submitting(stage, single(256)) },
  {
    key: "bidi-64",
    quick: true,
    title: "bare echo on one stream, 64 in flight",
    run: (stage) => submitting(stage, { kind: "stream", inFlight: 64 }),
  },
  { key: "d-64", quick: true, title: "submitted one by one and done, 64 in flight", run: (stage) => endToEnd(stage, single(64)) },
  { key: "d-256", title: "submitted one by one and done, 256 in flight", run: (stage) => endToEnd(stage, single(256)) },
  { key: "insert-100", title: "bare insert, batches of 100", run: (stage) => bare(stage, "insert", 100) },
  { key: "insert-500", quick: true, title: "bare insert, batches of 500", run: (stage) => bare(stage, "insert", 500) },
  { key: "b", quick: true, title: "submit batches of 500, 4 in flight, no worker", run: (stage) => submitting(stage, batches) },
  { key: "lease-complete-100", title: "bare lease and complete, batches of 100", run: (stage) => bare(stage, "leaseAndComplete", 100) },
  {
    key: "lease-complete-500",
    quick: true,
    title: "bare lease and complete, batches of 500",
    run: (stage) => bare(stage, "leaseAndComplete", 500),
  },
  { key: "c", quick: true, title: "drain of a backlog, one worker of 1,000 slots", run: (stage) => drain(stage, { slots: 1000 }) },
  { key: "life-100", title: "bare insert, lease and complete, batches of 100", run: (stage) => bare(stage, "life", 100) },
  { key: "life-500", quick: true, title: "bare insert, lease and complete, batches of 500", run: (stage) => bare(stage, "life", 500) },
  { key: "e", quick: true, title: "submitted in batches of 500 and done, 4 in flight", run: (stage) => endToEnd(stage, batches) },
  {
    key: "e-two-servers",
    quick: true,
    title: "the same through two servers, in total",
    run: (stage) => onTwoServers(stage, () => endToEnd(stage, batches, 500)),
  },
  {
    key: "g",
    quick: true,
    title: "drain by 20 workers of 10 slots on two servers",
    run: (stage) => onTwoServers(stage, () => drain(stage, { sessions: 20, slots: 10 })),
  },
  { key: "h", quick: true, title: "checkpoints of 100 running tasks", unit: "checkpoints/s", run: checkpoints },
  { key: "f", quick: true, title: "submit to handler start at 100/s, idle service", unit: "ms", run: latency },
];

/** Tasks acknowledged a second, without a worker. */
async function submitting(stage, load) {
  const { scene, options } = stage;
  const producer = await scene.producer();
  await producer.ask("load", load);
  await pause(options.warmUpSeconds * 1000);
  const finish = await startMeter(scene, options.postgresPid);
  const before = await producer.ask("read");
  await passed(options.seconds, async () => (await producer.ask("read")).submitted > before.submitted);
  const after = await producer.ask("read");
  const submitted = after.submitted - before.submitted;
  const costs = await finish(submitted);
  await producer.ask("halt");
  await scene.reset();
  return { "tasks/s": perSecond(submitted, before, after), ...costs };
}

/**
 * Tasks a second through their whole life: submitted for so many seconds while the worker runs, until the last of them is done. A system
 * that takes tasks faster than it works them off does not gain by that, nor lose.
 */
async function endToEnd({ scene, options }, load, slots = 1000) {
  const worker = await scene.worker();
  await worker.ask("start", { slots });
  await submittedAndDone(scene, load, options.warmUpSeconds);
  const finish = await startMeter(scene, options.postgresPid);
  const { count, tookMs } = await submittedAndDone(scene, load, options.seconds);
  const costs = await finish(count);
  await worker.ask("stop");
  await scene.reset();
  return { "tasks/s": (count / tookMs) * 1000, ...costs };
}

async function submittedAndDone(scene, load, seconds) {
  const [producer, worker] = [await scene.producer(), await scene.worker()];
  await worker.ask("mark");
  const before = await producer.ask("read");
  await producer.ask("load", load);
  await passed(seconds, async () => (await producer.ask("read")).submitted > before.submitted);
  await producer.ask("halt");
  const count = (await producer.ask("read")).submitted - before.submitted;
  const { endMs } = await worker.ask("until", { count, patienceMs: DRAIN_PATIENCE_MS });
  return { count, tookMs: endMs - before.atMs };
}

/** Tasks done a second of a backlog, after a warm-up on other ones. */
async function drain({ scene, options }, workerOptions) {
  const producer = await scene.producer();
  await warmUp(scene, options, workerOptions);
  await scene.reset();
  await producer.ask("backlog", { count: options.backlog, size: BATCH });
  return drained(scene, options, workerOptions);
}

/** Lets a worker work on tasks that nobody counts. */
export async function warmUp(scene, options, workerOptions) {
  const [producer, worker] = [await scene.producer(), await scene.worker()];
  await worker.ask("start", workerOptions);
  await producer.ask("load", batches);
  await pause(options.warmUpSeconds * 1000);
  await producer.ask("halt");
  await worker.ask("stop");
}

/** Works on what is stored until so many are done, then stops the worker. */
export async function drained(scene, options, workerOptions) {
  const worker = await scene.worker();
  await worker.ask("mark");
  const finish = await startMeter(scene, options.postgresPid);
  await worker.ask("start", workerOptions);
  const { beganMs, endMs, done } = await worker.ask("until", { count: options.backlog, patienceMs: DRAIN_PATIENCE_MS });
  const costs = await finish(options.backlog);
  await worker.ask("stop");
  return { "tasks/s": (done / (endMs - beganMs)) * 1000, ...costs };
}

/** Runs a case with a second server beside the first; producer and worker use both. */
async function onTwoServers({ scene }, run) {
  await scene.stopClients();
  const removeServer = await scene.addServer();
  try {
    return await run();
  } finally {
    await scene.stopClients();
    await removeServer();
  }
}

/** Checkpoints recorded a second: each task makes the next one when the last was acknowledged. */
async function checkpoints({ scene, options }) {
  const [producer, worker] = [await scene.producer(), await scene.worker()];
  await producer.ask("backlog", { count: 100, size: 100 });
  await worker.ask("start", { slots: 100, checkpoints: true });
  await pause(options.warmUpSeconds * 1000);
  const before = await worker.ask("read");
  await passed(options.seconds, async () => (await worker.ask("read")).done > before.done);
  const after = await worker.ask("read");
  // Tasks that run are given back by their worker's end.
  await scene.stopClients();
  await scene.reset();
  return { "checkpoints/s": perSecond(after.done - before.done, before, after) };
}

/** How old a task is when its handler begins; then, with nothing else going on, what three commits in a row take on the same database. */
async function latency({ scene, options }) {
  const measured = await latencyOf(scene, options, { slots: 100 });
  await scene.reset();
  if (scene.database === undefined) return measured;
  const statements = new Child("limit.mjs");
  const commits = { databaseUrl: scene.database.url, perSecond: RATE, seconds: options.seconds };
  const tookMs = await statements.ask("threeCommits", commits);
  await statements.stop();
  return { ...measured, "ms p50, 3 commits": percentile(tookMs, 0.5), "ms p99, 3 commits": percentile(tookMs, 0.99) };
}

/** p50 and p99 from submit to handler start at 100 a second. */
export async function latencyOf(scene, options, workerOptions) {
  const [producer, worker] = [await scene.producer(), await scene.worker()];
  await worker.ask("start", { ...workerOptions, latency: true });
  await producer.ask("load", { kind: "rate", perSecond: RATE });
  await pause(options.warmUpSeconds * 1000);
  await worker.ask("latencies");
  const before = await worker.ask("read");
  await passed(options.seconds, async () => (await worker.ask("read")).started > before.started);
  const ages = await worker.ask("latencies");
  await producer.ask("halt");
  await worker.ask("stop");
  return { "ms p50": percentile(ages, 0.5), "ms p99": percentile(ages, 0.99) };
}

/** The bare statements, warmed up by themselves. */
async function bare({ scene, options }, verb, batch) {
  await scene.statements.ask("life", { batch, seconds: options.warmUpSeconds });
  await scene.reset();
  const rate = await scene.statements.ask(verb, { batch, seconds: options.seconds, backlog: options.backlog });
  await scene.reset();
  return { "tasks/s": rate };
}

/** Waits for the seconds; in a short smoke on a busy machine longer, until something happened at all. */
async function passed(seconds, happened) {
  await pause(seconds * 1000);
  for (const limitMs = nowMs() + HAPPEN_PATIENCE_MS; !(await happened()); await pause(20)) {
    if (nowMs() > limitMs) throw new Error(`nothing happened for ${HAPPEN_PATIENCE_MS} ms`);
  }
}

function perSecond(count, before, after) {
  return (count / (after.atMs - before.atMs)) * 1000;
}
