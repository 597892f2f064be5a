// What does a collector do to a server that takes its connections and never answers, or is not there at all? Nothing but a line in the log.
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/postgres.js";
import { freePort } from "../support/prometheus.js";
import { startServerProcess } from "../support/server-process.js";
import { createTaskClient } from "../support/task-client.js";

const SAID = "telemetry is not delivered";
/** Many times what the server may keep for its collector. */
const TASKS = 400;
/** Far above what a stop takes, far below any time-out of an export. */
const LONGEST_STOP_MS = 15_000;

/** A collector that answers nothing until it is told to. */
interface HangingCollector extends AsyncDisposable {
  readonly endpoint: string;
  /** How many requests came that are not answered. */
  readonly held: () => number;
  /** Answers from now on; resolves with the first request that comes then. */
  readonly comeBack: () => Promise<void>;
}

async function hangingCollector(): Promise<HangingCollector> {
  let held = 0;
  let answered: (() => void) | null = null;
  const server: Server = createServer((request, response: ServerResponse) => {
    request.resume();
    if (answered === null) {
      held++;
      return;
    }
    response.setHeader("content-type", "application/x-protobuf").end();
    answered();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`,
    held: () => held,
    comeBack: () => new Promise((resolve) => (answered = resolve)),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

/** Starts a server with little patience and little room for its collector, and lets it store tasks, each with a span of its call. */
async function busyServer(endpoint: string) {
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_TIMEOUT: "300",
    OTEL_BSP_SCHEDULE_DELAY: "50",
    OTEL_BSP_EXPORT_TIMEOUT: "400",
    OTEL_BSP_MAX_QUEUE_SIZE: "64",
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "32",
    OTEL_METRIC_EXPORT_INTERVAL: "500",
    OTEL_METRIC_EXPORT_TIMEOUT: "400",
  };
  const server = await startServerProcess({ databaseUrl: database.url, env });
  const client = createTaskClient(server.address);
  const submitted = await Promise.all(Array.from({ length: TASKS }, () => client.submit({ name: "quick" })));
  expect(submitted).toHaveLength(TASKS);
  return { server, client };
}

function timesSaid(log: string): number {
  return log.split(SAID).length - 1;
}

describe("a collector that never answers", () => {
  it("holds up no task, is told of in the log once in ten seconds, and gets spans again when it answers", async () => {
    await using collector = await hangingCollector();
    const { server, client } = await busyServer(collector.endpoint);
    const beganMs = performance.now();
    await expect.poll(() => timesSaid(server.log()), { timeout: 20_000 }).toBeGreaterThan(0);
    // Several exports failed meanwhile, of spans and of metrics.
    await expect.poll(collector.held, { timeout: 20_000 }).toBeGreaterThan(4);
    expect(timesSaid(server.log())).toBeLessThanOrEqual(1 + (performance.now() - beganMs) / 10_000);
    const back = collector.comeBack();
    await client.submit({ name: "quick" });
    await back;
    client.close();
    expect(await server.stop()).toBe(0);
  });

  it.each(["hangs", "is dead"])("and one that %s: the server stops all the same", async (kind) => {
    await using collector = await hangingCollector();
    const dead = `http://127.0.0.1:${String(await freePort())}`;
    const { server, client } = await busyServer(kind === "hangs" ? collector.endpoint : dead);
    await expect.poll(() => timesSaid(server.log()), { timeout: 20_000 }).toBe(1);
    client.close();
    const beganMs = performance.now();
    expect(await server.stop()).toBe(0);
    expect(performance.now() - beganMs).toBeLessThan(LONGEST_STOP_MS);
  });
});
