// What does telemetry cost the server, in processor time a task? The same load, end-to-end single submissions, on servers that differ in nothing
// but their OTEL_* variables, in turns within one run: off twice (A and its control), 1 % and all traces to a collector that counts what arrives,
// and metrics. `--baseline <folder>`: also on another build, as that of the commit before there was telemetry. Each round compares with `off` of
// the same round. Two processes of the same code differ by more than spans cost, so these are also measured within one: of each round a third is
// submitted with a trace that is sampled, two thirds with one that is not, which are each other's control.
// Run: npm run bench:telemetry -- [--rounds 10] [--tasks 2000] [--in-flight 100] [--baseline <folder>]

import { fork, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { startEmbeddedPostgres } from "../cli/dist/embedded-postgres/start.js";
import { connectProducer, connectWorker } from "./clients/leasehold.mjs";
import { connect, createDatabase } from "./database.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "10" },
    tasks: { type: "string", default: "2000" },
    "in-flight": { type: "string", default: "100" },
    baseline: { type: "string" },
  },
});
const rounds = Number(values.rounds);
/** A process costs several times as much until its code is compiled. */
const WARM_UP_ROUNDS = 5;
/** Until what a round left behind is exported. */
const SETTLE_MS = 700;

const folder = mkdtempSync("/var/tmp/leasehold-bench-");
const postgres = await startEmbeddedPostgres({ dataDir: folder });
const admin = await connect(postgres.url);
const collector = fork(path.join(root, "bench/processes/span-collector.mjs"));
const [endpoint] = await once(collector, "message");
const servers = [];
try {
  const traces = { OTEL_TRACES_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_METRICS_EXPORTER: "none" };
  const sampled = { ...traces, OTEL_BSP_SCHEDULE_DELAY: "200" };
  const onePercent = { ...sampled, OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.01" };
  const metrics = { OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_PROMETHEUS_PORT: String(await freePort()) };
  if (values.baseline !== undefined) await add("without telemetry", {}, values.baseline);
  await add("off", {});
  await add("off again (control)", {});
  await add("1 % sampled", onePercent);
  await add("all sampled", { ...sampled, OTEL_SERVICE_NAME: "all" });
  await add("metrics", metrics);
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    // Another order each time: who comes after whom must not matter.
    const order = servers.map((server) => ({ server, place: Math.random() })).sort((a, b) => a.place - b.place);
    for (const { server } of order) {
      const cost = await measure(server);
      if (round >= 0) server.costs.push(cost);
    }
  }
  const thirds = await measureWithin(servers.find(({ name }) => name === "all sampled"));
  collector.send("tell");
  const [received] = await once(collector, "message");
  report(received, thirds);
} finally {
  for (const server of servers) await server.stop();
  collector.kill();
  await admin.end();
  await postgres.stop();
  rmSync(folder, { recursive: true, force: true });
}

async function add(name, variables, checkout = root) {
  const database = await createDatabase({ postgres, admin }, "telemetry");
  const address = `127.0.0.1:${await freePort()}`;
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("OTEL_")));
  const env = { ...inherited, LEASEHOLD_DATABASE_URL: database.url, LEASEHOLD_LISTEN: address, LEASEHOLD_LOG_LEVEL: "warn", ...variables };
  const args = ["--import", path.join(root, "bench/processes/end-with-parent.mjs"), path.join(checkout, "cli/bin/leasehold.js"), "serve"];
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit", "ipc"] });
  const server = { name, pid: child.pid, done: 0, submitted: 0, costs: [], stop: () => undefined };
  servers.push(server);
  const ready = await Promise.race([once(child.stdout, "data").then(() => true), once(child, "exit").then(() => false)]);
  if (!ready) throw new Error(`${name} did not start`);
  child.stdout.resume();
  const events = { started: () => undefined, done: (count) => (server.done += count) };
  server.producer = connectProducer({ addresses: [address] });
  const worker = await connectWorker({ addresses: [address] }, { slots: 200 }, events);
  server.stop = async () => {
    await worker.stop();
    child.kill();
    await once(child, "exit");
    await database.drop();
  };
}

/** Rounds on one server by the flag of the submitter's trace, in another order each time: what each third cost. */
async function measureWithin(server) {
  const costs = { sampled: [], not: [], control: [] };
  for (let round = 0; round < rounds; round++) {
    const order = Object.keys(costs).map((third) => ({ third, place: Math.random() }));
    for (const { third } of order.sort((a, b) => a.place - b.place)) {
      const before = server.submitted;
      const flags = third === "sampled" ? "01" : "00";
      costs[third].push(await measure(server, () => ({ traceContext: traceContext(flags) })));
      if (flags === "00") server.unsampled = (server.unsampled ?? 0) + server.submitted - before;
    }
  }
  return costs;
}

function traceContext(flags) {
  const traceparent = `00-${randomBytes(16).toString("hex")}-${randomBytes(8).toString("hex")}-${flags}`;
  return { traceparent, tracestate: "", baggage: "" };
}

/** Submits the tasks of a round, waits until all is done and exported, and answers what that cost a task. */
async function measure(server, more = () => ({})) {
  const before = cpuUs(server.pid);
  const submittedBefore = server.submitted;
  const lane = async () => {
    while (server.submitted - submittedBefore < Number(values.tasks)) {
      server.submitted++;
      await server.producer.submit(more());
    }
  };
  await Promise.all(Array.from({ length: Number(values["in-flight"]) }, lane));
  while (server.done < server.submitted) await pause(10);
  await pause(SETTLE_MS);
  const tasks = server.submitted - submittedBefore;
  return (cpuUs(server.pid) - before) / tasks;
}

function report(received, { sampled, not, control }) {
  const off = servers.find(({ name }) => name === "off");
  const rows = servers.map(({ name, costs }) => {
    const more = median(costs.map((cost, round) => cost - off.costs[round]));
    return [name, median(costs).toFixed(1), more.toFixed(1), `${((more / median(off.costs)) * 100).toFixed(1)} %`];
  });
  console.log(`| server | CPU µs a task | more than off | share |\n|---|---|---|---|`);
  for (const row of rows) console.log(`| ${row.join(" | ")} |`);
  const less = (costs) => median(costs.map((cost, round) => cost - not[round])).toFixed(1);
  console.log(
    `\nwithin one process: not sampled ${median(not).toFixed(1)} µs a task, control ${less(control)} more, sampled ${less(sampled)} more`,
  );
  const { submitted, unsampled } = servers.find(({ name }) => name === "all sampled");
  const traced = submitted - unsampled;
  console.log(`all sampled: ${traced} tasks; received ${JSON.stringify(received)}; dropped or missing: ${missing(received, traced)}`);
}

function missing(received, tasks) {
  const each = ["leasehold.v1.TaskService/SubmitTask", "lease", "report"].map((kind) => tasks - (received[kind] ?? 0));
  return Math.max(...each);
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return ((sorted[Math.floor((sorted.length - 1) / 2)] ?? 0) + (sorted[Math.floor(sorted.length / 2)] ?? 0)) / 2;
}

/** Processor time of all threads in whole nanoseconds, as the scheduler counts it: the ticks of `stat` are too coarse for a round. */
function cpuUs(pid) {
  const threads = readdirSync(`/proc/${pid}/task`);
  const ns = threads.map((thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]));
  return ns.reduce((sum, one) => sum + one, 0) / 1000;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}
