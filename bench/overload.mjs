// What does a server answer at three times what its database takes? A proxy slows the lanes of submissions to some 500 a second; submitters send by
// schedule at 0.5, 1 and 3 times the capacity while workers hold leases, beat and report. Server, Postgres, submitters and workers are processes of
// this machine. Run: npm run bench:overload -- [--seconds 15] [--workers 10] [--rate 500] [--unslowed]. Exits with 1 where a target is missed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { credentials, Metadata, status } from "@grpc/grpc-js";
import { TaskServiceClient } from "@leasehold/proto/leasehold/v1/task_service";
import pg from "pg";
import { startEmbeddedPostgres } from "../cli/dist/embedded-postgres/start.js";
import { startSlowLanes } from "./slow-lanes.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "15" },
    workers: { type: "string", default: "10" },
    rate: { type: "string", default: "500" },
    unslowed: { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);
/** What one submission of the load brings to Postgres, about; the capacity is measured. */
const BYTES_EACH = 520;
const HELD_EACH = 2;
const started = [];

const folder = mkdtempSync("/var/tmp/leasehold-bench-");
const postgres = await startEmbeddedPostgres({ dataDir: folder });
const lanes = await startSlowLanes(postgres.url, /^leasehold submits/);
const address = `127.0.0.1:${await freePort()}`;
const env = { ...process.env, LEASEHOLD_DATABASE_URL: lanes.url, LEASEHOLD_LISTEN: address, LEASEHOLD_LOG_LEVEL: "warn" };
const server = start(["cli/bin/leasehold.js", "serve"], { env, stdio: "inherit" });
try {
  const client = new TaskServiceClient(address, credentials.createInsecure());
  await new Promise((resolve, reject) => client.waitForReady(Date.now() + 30_000, (error) => (error ? reject(error) : resolve())));
  await measure(client);
} finally {
  for (const child of started.reverse()) {
    if (child.exitCode !== null) continue;
    child.kill();
    await once(child, "exit");
  }
  await lanes.close();
  await postgres.stop();
  rmSync(folder, { recursive: true, force: true });
}

async function measure(client) {
  const load = start(["bench/overload-load.mjs", address], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  await once(load, "message");
  const workers = start(["bench/overload-workers.mjs", address, values.workers], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const seen = { beats: [], reports: [], counts: {} };
  workers.on("message", ({ beats, reports, ...counts }) => {
    seen.beats.push(...beats);
    seen.reports.push(...reports);
    seen.counts = counts;
  });
  const holding = Number(values.workers) * HELD_EACH;
  await run(load, { rate: 20, seconds: holding / 20, name: "bench.hold" });
  while ((seen.counts.held ?? 0) < holding) await once(workers, "message");

  if (!values.unslowed) lanes.setBytesPerSecond((Number(values.rate) / 2) * BYTES_EACH);
  await run(load, { rate: 100, seconds: 5, name: "bench.load" });
  const idle = figures(await run(load, { rate: 20, seconds: 3, name: "bench.load" }));
  const open = values.unslowed ? 400 : 100;
  const capacity = figures(await run(load, { open, seconds: 10, name: "bench.load" }));
  console.log(`capacity: ${capacity.goodput.toFixed(0)}/s answered to ${open} calls at a time, ${show(capacity.accepted)}`);
  let last;
  for (const factor of [0.5, 1, 3]) {
    seen.beats = [];
    seen.reports = [];
    const probe = probing(client);
    last = figures(await run(load, { rate: capacity.goodput * factor, seconds, name: "bench.load" }, probe.loadEnded));
    const ratio = last.goodput / capacity.goodput;
    console.log(
      `\n${factor}x: ${(capacity.goodput * factor).toFixed(0)}/s offered, goodput ${last.goodput.toFixed(0)}/s = ${ratio.toFixed(2)} of capacity`,
    );
    console.log(`  accepted ${last.accepted.length}, ${show(last.accepted)}`);
    console.log(
      `  refused ${last.refused.length}, ${show(last.refused)}; RetryInfo ${show(last.retry)}; without RetryInfo ${last.bare}; other codes ${JSON.stringify(last.others)}; the submitters' own delay ${show(last.late)}`,
    );
    console.log(`  heartbeats ${show(seen.beats)}; reports ${show(seen.reports)}`);
    const recoveredMs = await probe.recovered(Math.max(100, 4 * idle.accepted.at(-1)));
    console.log(`  normal again ${recoveredMs.toFixed(0)} ms after the load; server memory ${memory("VmRSS")}, highest ${memory("VmHWM")}`);
    last = { ...last, ratio, recoveredMs };
  }

  const database = new pg.Client(postgres.url);
  await database.connect();
  const { rows } = await database.query(
    `SELECT (SELECT count(*) FROM leasehold.live_tasks WHERE lost_leases > 0) + (SELECT count(*) FROM leasehold.task_events WHERE type = 'LEASE_LOST') AS lost`,
  );
  const { rows: still } = await database.query(`SELECT count(*) AS held FROM leasehold.live_tasks WHERE name = 'bench.hold' AND state = 1`);
  await database.end();
  const { revoked, ended, later, refused } = seen.counts;
  console.log(
    `\nlost leases ${rows[0].lost}, revoked ${revoked}, streams ended ${ended}, reports asked to come later ${later}, refused ${refused}; held all the time ${still[0].held} of ${seen.counts.held}`,
  );
  const sound = Number(rows[0].lost) + revoked + ended + refused === 0 && Number(still[0].held) === seen.counts.held;
  const kept = values.unslowed || (last.ratio >= 0.8 && at(last.refused, 0.99) <= 100 && last.recoveredMs <= 10_000 && last.bare === 0);
  process.exitCode = sound && kept ? 0 : 1;
}

async function run(load, order, sent = () => undefined) {
  load.send(order);
  await once(load, "message");
  sent();
  const [outcomes] = await once(load, "message");
  return { outcomes, seconds: order.seconds };
}

function figures({ outcomes, seconds: duration }) {
  const took = (wanted) =>
    outcomes
      .filter(([, , code]) => wanted(code))
      .map(([, ms]) => ms)
      .sort((a, b) => a - b);
  const accepted = took((code) => code === status.OK);
  const isRefused = ([, , code]) => code === status.RESOURCE_EXHAUSTED;
  const refusals = outcomes.filter(isRefused);
  const others = {};
  for (const [, , code] of outcomes)
    if (code !== status.OK && code !== status.RESOURCE_EXHAUSTED) others[status[code]] = (others[status[code]] ?? 0) + 1;
  // What was answered while the load lasted: a backlog that is answered later is no goodput.
  const inTime = outcomes.filter(([atMs, ms, code]) => code === status.OK && atMs + ms <= duration * 1000).length;
  const retry = refusals.map(([, , , retryMs]) => retryMs).sort((a, b) => a - b);
  return {
    accepted,
    refused: took((code) => code === status.RESOURCE_EXHAUSTED),
    retry,
    bare: retry.filter((ms) => ms === 0).length,
    late: outcomes.map(([, , , , lateMs]) => lateMs),
    others,
    goodput: inTime / duration,
  };
}

// Submits every 50 ms once the load has ended; tells when they began to be answered as before it.
function probing(client) {
  const task = {
    name: "bench.load",
    metadata: { data: Buffer.from("1"), contentType: "" },
    labels: {},
    queue: "",
    taskId: "",
    priority: 0,
    key: "",
  };
  const probes = [];
  let endedMs = Infinity;
  const timer = setInterval(() => {
    if (endedMs === Infinity) return;
    const atMs = performance.now();
    const request = { task: { ...task, keyConflictPolicy: 0, metadataFingerprint: Buffer.alloc(0) } };
    client.submitTask(request, new Metadata(), { deadline: Date.now() + 5000 }, (error) =>
      probes.push({ atMs, ms: performance.now() - atMs, failed: error !== null }),
    );
  }, 50);
  return {
    loadEnded: () => void (endedMs = performance.now()),
    recovered: async (normalMs) => {
      await new Promise((resolve) => setTimeout(resolve, 6000));
      clearInterval(timer);
      // Normal is a second of calls that are: single ones are late on a busy machine at any time.
      const isBad = ({ ms, failed }) => failed || ms > normalMs;
      const first = probes.findIndex((_, index) => !probes.slice(index, index + 20).some(isBad));
      return first < 0 ? Infinity : first === 0 ? 0 : probes[first].atMs - endedMs;
    },
  };
}

function at(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

function show(latencies) {
  const sorted = latencies.sort((a, b) => a - b);
  return `p50 ${at(sorted, 0.5).toFixed(1)}, p99 ${at(sorted, 0.99).toFixed(1)}, max ${at(sorted, 1).toFixed(1)} ms`;
}

function memory(line) {
  // The server is the child of the command that starts it, or the command itself.
  const kB = Number(new RegExp(`${line}:\\s+(\\d+)`).exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1] ?? 0);
  return `${(kB / 1024).toFixed(0)} MiB`;
}

function start(args, options) {
  const child = spawn(process.execPath, args, { cwd: root, ...options });
  child.once("exit", (code) => {
    // Nobody waits for one that is gone.
    if (code) process.exit(1);
  });
  started.push(child);
  return child;
}

function freePort() {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
