// Does Leasehold stay as fast when much is stored? Drain and latency again, each beside what has grown, on a fresh database.
import { Child } from "./children.mjs";
import { drained, latencyOf, warmUp } from "./cases.mjs";
import { pause } from "./clock.mjs";
import { connect } from "./database.mjs";
import { fill } from "./growth-fill.mjs";
import { startMeter, residentMb } from "./measure.mjs";
import { isPicked } from "./options.mjs";
import { QUEUE, TASK_NAME } from "./payload.mjs";
import { printResults, printTargets, writeMarkdown, writeResults } from "./report.mjs";
import { startScene, stopScenes } from "./stage.mjs";
import { percentile, Results } from "./statistics.mjs";
import leasehold from "./systems/leasehold.mjs";
import { ratio } from "./targets.mjs";

const IDLE_LOOK_MS = 500;
const FOUND_MS = 6_000;
const STEADY_RATE = 3_000;
const STEADY_SECONDS = 120;
const STEADY_WINDOW_SECONDS = 20;

const literal = (text) => `'${text}'`;
/** Due in order, an hour ago and later. */
const dueInOrder = { run_at: "now() - interval '1 hour' + g * interval '1 millisecond'" };
const ready = { queue: literal(QUEUE), name: literal(TASK_NAME), ...dueInOrder };

/**
 * What may have grown. `stored` tells what is filled in, in full size. `backlog` is false where that itself is what is drained: then a new
 * task would wait behind it, and its latency says nothing.
 */
const GROWN = [
  { key: "empty", title: "nothing else", stored: [] },
  {
    key: "ready",
    title: "1 M ready tasks of the same queue and name",
    stored: [{ count: 1e6, columns: ready }],
    backlog: false,
  },
  {
    key: "elsewhere",
    title: "1 M ready tasks in ten other queues",
    stored: [{ count: 1e6, columns: { ...ready, queue: "'other-' || g % 10" } }],
    queues: [QUEUE],
  },
  { key: "finished", title: "5 M finished tasks", stored: [{ count: 5e6, finished: true, columns: {} }] },
  {
    key: "queues",
    title: "10,000 queues, work in one of them; the worker takes all",
    stored: [{ count: 1e4, columns: { ...ready, queue: "'queue-' || g", name: literal("bench.unhandled") } }],
  },
  {
    key: "backlogs",
    title: "a backlog over 10,000 queues; the worker takes all",
    stored: [{ count: 1e5, columns: { ...ready, queue: "'queue-' || g % 10000" } }],
    backlog: false,
  },
  {
    key: "future",
    title: "1 M tasks of a higher priority, due in 30 days",
    stored: [{ count: 1e6, columns: { ...ready, priority: "9", run_at: "now() + interval '30 days' + g * interval '1 millisecond'" } }],
  },
  {
    key: "unhandled",
    title: "1 M ready tasks of a name that nobody handles, same queue",
    stored: [{ count: 1e6, columns: { ...ready, name: literal("bench.unhandled") } }],
  },
  { key: "streams", title: "10,000 idle worker streams", stored: [], idleStreams: 1e4 },
];

const FOREIGN = { key: "foreign", title: `two minutes of ${STEADY_RATE} tasks/s beside an open foreign transaction` };

/** Measures all that may have grown, prints and writes bench/out/growth.json. */
export async function measureGrowth(environment, options) {
  const results = new Results();
  const picked = [...GROWN, FOREIGN].filter((one) => isPicked({ cases: options.cases }, one));
  for (let round = 0; round < options.runs; round++) {
    for (const grown of picked) {
      const scene = await startScene(environment, leasehold);
      const told = grown === FOREIGN ? await besideForeignTransaction(scene, options) : await measureGrown(scene, grown, options);
      for (const [unit, value] of Object.entries(told)) results.add("leasehold", grown.key, unit, value);
      const line = Object.entries(told).map(([unit, value]) => `${value.toPrecision(4)} ${unit}`);
      console.log(`round ${round + 1}/${options.runs}  ${grown.key.padEnd(10)} ${line.join(", ")}`);
      await stopScenes(environment);
      writeResults(options.out, "growth.json", results);
    }
  }
  const titles = Object.fromEntries(picked.map(({ key, title }) => [key, title]));
  printResults(results, titles);
  printTargets(results, targets(picked));
  writeMarkdown(options.out, "growth.md", { results, titles, targets: targets(picked) });
}

async function measureGrown(scene, grown, options) {
  const sized = (count) => Math.max(10, Math.round(count * options.scale));
  const workerOptions = { slots: 1000, queues: grown.queues };
  const isDrained = grown.backlog === false;
  if (isDrained) {
    // Before it is filled in, or the warm-up would drain it.
    await warmUp(scene, options, workerOptions);
    await scene.reset();
  }
  for (const { count, ...what } of grown.stored) await fill(scene, { ...what, count: sized(count) });
  const told = {};
  let idle;
  if (grown.idleStreams !== undefined) {
    idle = new Child("idle-streams.mjs");
    await idle.ask("open", { address: scene.target.addresses[0], count: sized(grown.idleStreams) });
    await pause(options.warmUpSeconds * 1000);
    told["server memory MB"] = residentMb(scene.pids()[0]);
  }
  let { backlog } = options;
  if (isDrained) {
    backlog = Math.min(backlog, sized(grown.stored[0].count));
    // Nobody told the server of these tasks; its own look finds them.
    await pause(FOUND_MS);
  } else {
    await warmUp(scene, options, workerOptions);
    await (await scene.producer()).ask("backlog", { count: backlog, size: 500 });
  }
  const drain = await drained(scene, { ...options, backlog }, workerOptions);
  told["tasks/s"] = drain["tasks/s"];
  if (!isDrained) {
    await workOff(scene, workerOptions);
    Object.assign(told, await latencyOf(scene, options, { slots: 100, queues: grown.queues }));
  }
  await idle?.stop();
  return told;
}

/** What the warm-up left over must not wait in front of the tasks whose latency is measured. */
async function workOff(scene, workerOptions) {
  const worker = await scene.worker();
  await worker.ask("start", workerOptions);
  let done = -1;
  for (let read = await worker.ask("read"); read.done !== done; read = await worker.ask("read")) {
    done = read.done;
    await pause(IDLE_LOOK_MS);
  }
  await worker.ask("stop");
}

/** An even rate for two minutes while somebody else's snapshot keeps vacuum from removing anything: its first and last 20 s. */
async function besideForeignTransaction(scene, options) {
  const [producer, worker] = [await scene.producer(), await scene.worker()];
  const seconds = Math.max(STEADY_SECONDS * options.scale, 2 * options.seconds);
  const windowSeconds = Math.min(STEADY_WINDOW_SECONDS, seconds / 2);
  const foreign = await connect(scene.database.url);
  await worker.ask("start", { slots: 1000, latency: true });
  await producer.ask("load", { kind: "steady", perSecond: STEADY_RATE });
  await pause(options.warmUpSeconds * 1000);
  await foreign.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
  await foreign.query("SELECT pg_current_xact_id()");
  const first = await steadyWindow(scene, worker, windowSeconds, options);
  await pause((seconds - 2 * windowSeconds) * 1000);
  await worker.ask("latencies");
  const last = await steadyWindow(scene, worker, windowSeconds, options);
  await foreign.query("ROLLBACK");
  await foreign.end();
  await producer.ask("halt");
  await worker.ask("stop");
  const told = {};
  for (const [when, window] of Object.entries({ "first 20 s": first, "last 20 s": last })) {
    for (const [unit, value] of Object.entries(window)) told[`${unit}, ${when}`] = value;
  }
  return told;
}

async function steadyWindow(scene, worker, seconds, options) {
  await worker.ask("latencies");
  const finish = await startMeter(scene, options.postgresPid);
  const before = await worker.ask("read");
  await pause(seconds * 1000);
  const after = await worker.ask("read");
  const done = after.done - before.done;
  const costs = await finish(done);
  const ages = await worker.ask("latencies");
  return {
    "tasks/s": (done / (after.atMs - before.atMs)) * 1000,
    "ms p50": percentile(ages, 0.5),
    "Postgres CPU µs/task": costs["Postgres CPU µs/task"],
  };
}

function targets(picked) {
  const grown = picked.filter(({ key }) => key !== "empty" && key !== FOREIGN.key);
  const of = (results, key, unit) => results.of("leasehold", key, unit);
  return [
    ...grown.map(({ key }) => ({
      title: `drain, ${key}, of the empty case`,
      least: 0.8,
      measured: (results) => ratio(of(results, key, "tasks/s"), of(results, "empty", "tasks/s")),
    })),
    ...grown
      .filter(({ backlog }) => backlog !== false)
      .map(({ key }) => ({
        title: `latency p50, ${key}, of the empty case`,
        most: key === "elsewhere" ? 1.5 : 1 / 0.8,
        measured: (results) => ratio(of(results, key, "ms p50"), of(results, "empty", "ms p50")),
      })),
    {
      title: "foreign transaction, last 20 s of first 20 s",
      least: 0.85,
      measured: (results) => ratio(of(results, FOREIGN.key, "tasks/s, last 20 s"), of(results, FOREIGN.key, "tasks/s, first 20 s")),
    },
    { title: "server memory with 10,000 idle streams, MB", most: 450, measured: (results) => of(results, "streams", "server memory MB") },
  ];
}
