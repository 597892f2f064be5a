// What do two servers on one database tell those who watch them, and what never? Metrics as Prometheus reads them, and everything that leaves a
// server searched for what belongs to its users.
import { Payload, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { type OtlpReceiver, startOtlpReceiver } from "../support/otlp-receiver.js";
import { createTestDatabase, type TestDatabase } from "../support/postgres.js";
import { openRawWorker } from "../support/raw-worker.js";
import { type ServerProcess, startServerProcess } from "../support/server-process.js";
import { createTaskClient, jsonPayload, type TaskClient } from "../support/task-client.js";

/** Stands in everything that belongs to a user. */
const MARKER = "xq7marker";
/** It sends no heartbeat while gauges are waited for. */
const LONG = { seconds: 600n, nanos: 0 };
const SECONDS_UNTIL_COUNTED = 15;

let collector: OtlpReceiver;
let database: TestDatabase;
const servers: { readonly server: ServerProcess; readonly metrics: string; readonly client: TaskClient }[] = [];

beforeAll(async () => {
  collector = await startOtlpReceiver();
  database = await createTestDatabase();
  for (let number = 0; number < 2; number++) {
    const port = String(await freePort());
    const env = {
      LEASEHOLD_LOG_LEVEL: "debug",
      LEASEHOLD_TELEMETRY_NAMES: "2",
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
      OTEL_METRICS_EXPORTER: "otlp,prometheus",
      OTEL_METRIC_EXPORT_INTERVAL: "500",
      OTEL_METRIC_EXPORT_TIMEOUT: "400",
      OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
      OTEL_EXPORTER_PROMETHEUS_PORT: port,
      OTEL_BSP_SCHEDULE_DELAY: "100",
    };
    const server = await startServerProcess({ databaseUrl: database.url, env });
    servers.push({ server, metrics: `http://127.0.0.1:${port}/metrics`, client: createTaskClient(server.address) });
  }
});

afterAll(async () => {
  for (const { server, client } of servers) {
    client.close();
    await server.stop();
  }
  await database.drop();
  await collector[Symbol.asyncDispose]();
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

function at(number: number): (typeof servers)[number] {
  const found = servers[number];
  if (found === undefined) throw new Error(`there is no server ${String(number)}`);
  return found;
}

/** Series of one server by name and labels, as `leasehold_tasks{queue="a",state="PENDING"}`; labels of the instrumentation left out. */
async function scrape({ metrics }: (typeof servers)[number]): Promise<{ text: string; series: Map<string, number> }> {
  const text = await (await fetch(metrics)).text();
  const series = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [, name, labels = "", value] = /^(\w+)(?:\{(.*)\})? (\S+)(?: \d+)?$/.exec(line) ?? [];
    if (name === undefined) continue;
    const own = labels.split(/,(?=\w+=")/).filter((label) => label !== "" && !label.startsWith("otel_scope"));
    series.set(own.length === 0 ? name : `${name}{${own.sort().join()}}`, Number(value));
  }
  return { text, series };
}

/** Scrapes until it is as it should be; a census may be some seconds old. */
async function untilShown(number: number, expected: Readonly<Record<string, number>>): Promise<void> {
  await expect
    .poll(
      async () => {
        const { series } = await scrape(at(number));
        return Object.fromEntries(Object.keys(expected).map((name) => [name, series.get(name)]));
      },
      { timeout: SECONDS_UNTIL_COUNTED * 1000, interval: 500 },
    )
    .toEqual(expected);
}

describe("two servers on one database", () => {
  it("show the same counts of it, and each what it did itself", async () => {
    const worker = openRawWorker(at(1).server.address, ["nap"], { slots: 3, queues: ["slow"], sessionTtl: LONG });
    await worker.welcome();
    for (const queue of ["slow", "slow", "idle", "third"]) await at(0).client.submit({ name: "nap", queue });
    const leases = [await worker.lease(0), await worker.lease(1)];
    worker.report(leases[0] as (typeof leases)[0], 1, { complete: { result: undefined, executionMetadata: undefined } });
    await worker.verdict(leases[0] as (typeof leases)[0], 1);
    for (const number of [0, 1]) {
      await untilShown(number, {
        'leasehold_tasks{queue="slow",state="RUNNING"}': 1,
        'leasehold_tasks{queue="slow",state="PENDING"}': 0,
        'leasehold_tasks{queue="slow",state="SUSPENDED"}': 0,
        leasehold_sessions: 1,
        'leasehold_slots{use="held"}': 1,
        'leasehold_slots{use="free"}': 2,
        leasehold_wakeups_listening: 1,
        'leasehold_durability{class="UNSAFE"}': 1,
      });
    }
    const [first, second] = [(await scrape(at(0))).series, (await scrape(at(1))).series];
    const submitted = [...first].filter(([name]) => name.startsWith("leasehold_tasks_submitted_total"));
    expect(Object.fromEntries(submitted)).toEqual({
      'leasehold_tasks_submitted_total{queue="slow",task_name="nap"}': 2,
      'leasehold_tasks_submitted_total{queue="idle",task_name="nap"}': 1,
      'leasehold_tasks_submitted_total{queue="other",task_name="nap"}': 1,
    });
    expect([first.get("leasehold_streams"), second.get("leasehold_streams")]).toEqual([0, 1]);
    expect(second.get('leasehold_reports_verdicts_total{verdict="RECORDED"}')).toBe(1);
    expect(second.get('leasehold_tasks_finished_total{state="COMPLETED",task_name="nap"}')).toBe(1);
    expect(second.get('leasehold_attempt_duration_count{outcome="complete",task_name="nap"}')).toBe(1);
    expect(second.get('leasehold_queue_wait_count{queue="slow"}')).toBe(2);
    const call = 'rpc_method="leasehold.v1.TaskService/SubmitTask",rpc_response_status_code="OK"';
    expect(first.get(`rpc_server_call_duration_count{${call}}`)).toBe(4);
    expect(first.get('leasehold_tasks_oldest_pending_age{queue="idle"}')).toBeGreaterThan(0);
    expect(second.get("leasehold_upkeep_age")).toBeLessThan(SECONDS_UNTIL_COUNTED);
    worker.close();
  });

  it("tell nobody payloads, errors, notes, lease tokens or the connection string: not in logs, not in traces, not in metrics", async () => {
    const { client, server } = at(0);
    const worker = openRawWorker(server.address, ["secret"], { slots: 2, queues: ["marked"], sessionTtl: LONG });
    await worker.welcome();
    const marked = { metadata: jsonPayload({ text: MARKER }), executionMetadata: jsonPayload({ saved: MARKER }), queue: "marked" };
    const done = await client.submit({ name: "secret", ...marked });
    const lease = await worker.lease(0);
    worker.report(lease, 1, { checkpoint: { executionMetadata: Payload.create(jsonPayload({ at: MARKER })) } });
    worker.report(lease, 2, {
      complete: { result: { data: Buffer.from(`{"broken ${MARKER}`), contentType: "" }, executionMetadata: undefined },
    });
    await worker.verdict(lease, 2);
    const failed = await client.submit({ name: "secret", ...marked });
    const second = await worker.lease(1);
    const error = { code: "boom", message: MARKER, stack: MARKER, details: Payload.create(jsonPayload(MARKER)), cause: undefined };
    worker.report(second, 1, { fail: { error, retryable: false, retryAfter: undefined, executionMetadata: undefined } });
    await worker.verdict(second, 1);
    await expect(client.submit({ name: "secret", metadata: { data: Buffer.from(`{${MARKER}`) } })).rejects.toThrow();
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const traceContext = { traceparent, tracestate: "", baggage: `user=${MARKER}` };
    const waiting = await client.submit({ name: "nobody", ...marked, labels: { owner: MARKER }, traceContext });
    await client.proceed(waiting.taskId, { note: MARKER });
    await client.cancel(waiting.taskId, MARKER);
    expect([await client.wait(done.taskId), await client.wait(failed.taskId)].map(({ state }) => TaskState[state])).toEqual([
      "FAILED",
      "FAILED",
    ]);
    const { spans } = collector;
    await collector.until(() => spans.filter(({ name }) => name === "report secret").length === 2);
    await collector.until(() => ["proceed nobody", "cancel nobody"].every((each) => spans.some(({ name }) => name === each)));
    const metrics = (await scrape(at(0))).text;
    const left = [metrics, server.log(), at(1).server.log(), ...collector.bodies].join("\n");
    // Something was searched at all.
    // The command of a process may have a connection string in it.
    expect(left).not.toContain("process_command");
    expect(left).not.toContain("process.command");
    for (const known of [done.taskId, 'task_name="secret"', "listening"]) expect(left).toContain(known);
    const password = new URL(database.url).password;
    for (const secret of [MARKER, lease.leaseToken, second.leaseToken, database.url, ...(password === "" ? [] : [password])])
      expect(left).not.toContain(secret);
    worker.close();
  });
});
