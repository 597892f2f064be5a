// How long from submit to handler start on an idle server? One worker process with 100 slots, 100 submissions a second for 10 s
// after a warm-up of 5 s; server, Postgres, submitter and worker are separate processes on this machine.
// Run: npm run bench -- [--seconds 10] [--rate 100]. Prints p50, p90 and p99 in milliseconds, by one clock (CLOCK_MONOTONIC).

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { credentials } from "@grpc/grpc-js";
import { TaskServiceClient } from "@leasehold/proto/leasehold/v1/task_service";
import { startEmbeddedPostgres } from "../cli/dist/embedded-postgres/start.js";

const WARM_UP_SECONDS = 5;
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({ options: { seconds: { type: "string", default: "10" }, rate: { type: "string", default: "100" } } });
const seconds = Number(values.seconds);
const rate = Number(values.rate);

const folder = mkdtempSync("/var/tmp/leasehold-bench-");
const postgres = await startEmbeddedPostgres({ dataDir: folder });
const port = await freePort();
const address = `127.0.0.1:${port}`;
const server = spawn(process.execPath, ["cli/bin/leasehold.js", "serve"], {
  cwd: root,
  env: { ...process.env, LEASEHOLD_DATABASE_URL: postgres.url, LEASEHOLD_LISTEN: address, LEASEHOLD_LOG_LEVEL: "warn" },
  stdio: "inherit",
});
let worker;
try {
  const client = new TaskServiceClient(address, credentials.createInsecure());
  await new Promise((resolve, reject) => client.waitForReady(Date.now() + 30_000, (error) => (error ? reject(error) : resolve())));
  worker = spawn(process.execPath, ["bench/latency-worker.mjs", address], { cwd: root, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  await new Promise((resolve) => worker.once("message", resolve));
  const latencies = [];
  worker.on("message", (batch) => latencies.push(...batch));
  await submitFor(client, WARM_UP_SECONDS);
  await pause(1500);
  latencies.length = 0;
  await submitFor(client, seconds);
  await pause(1500);
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))]?.toFixed(2);
  console.log(`submit to handler start at ${rate}/s, ${latencies.length} tasks: p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms`);
  process.exitCode = latencies.length >= rate * seconds * 0.99 ? 0 : 1;
} finally {
  worker?.kill();
  server.kill();
  await new Promise((resolve) => server.once("exit", resolve));
  await postgres.stop();
  rmSync(folder, { recursive: true, force: true });
}

async function submitFor(client, duration) {
  const endAt = performance.now() + duration * 1000;
  for (let next = performance.now(); next < endAt; next += 1000 / rate) {
    const waitMs = next - performance.now();
    if (waitMs > 0) await pause(waitMs);
    submit(client);
  }
}

function submit(client) {
  const metadata = { data: Buffer.from(JSON.stringify(process.hrtime.bigint().toString())), contentType: "" };
  const task = { name: "bench.latency", metadata, labels: {}, queue: "", taskId: "", priority: 0, key: "", keyConflictPolicy: 0 };
  client.submitTask({ task: { ...task, metadataFingerprint: Buffer.alloc(0) } }, (error) => {
    if (error) console.error(error.message);
  });
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function freePort() {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.listen(0, "127.0.0.1", () => {
      const { port: free } = probe.address();
      probe.close(() => resolve(free));
    });
  });
}
