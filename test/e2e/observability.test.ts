// Do dashboard and alerts ask for what servers tell? Each expression is put to a real Prometheus that scrapes two servers under a small load.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { dashboardExpressions, documentedMetrics, metricsIn, observabilityFolder } from "../support/observability.js";
import { startOtlpReceiver } from "../support/otlp-receiver.js";
import { freePort, promtool, startPrometheus, type Prometheus } from "../support/prometheus.js";
import { eventually, test, type Scene } from "../support/scene.js";
import { count, quick } from "./programs/tasks.js";

// Two servers, a worker and Prometheus start one after another, after it was fetched.
vi.setConfig({ testTimeout: 150_000 });

const RULES = join(observabilityFolder, "alerts.yml");
/** Panels that show nothing while all is well. */
const EMPTY_WHEN_WELL = [
  "Failed by task name",
  "Put back to run again",
  "Leases that ended without a report",
  "Failed operations",
  "Refused because of overload",
];
/** Metrics that have no series while all is well: nothing of their kind was counted. */
const UNCOUNTED_WHEN_WELL = ["leasehold_leases_lost_total", "leasehold_tasks_retried_total", "leasehold_retention_removed_tasks_total"];

/** A server whose metrics can be scraped at the address that is answered. */
async function observedServer(scene: Scene, collector: string): Promise<{ address: string; metrics: string }> {
  const port = String(await freePort());
  const env = {
    LEASEHOLD_DURABILITY: "provider",
    OTEL_METRICS_EXPORTER: "prometheus",
    OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
    OTEL_EXPORTER_PROMETHEUS_PORT: port,
    OTEL_TRACES_EXPORTER: "otlp",
    OTEL_EXPORTER_OTLP_ENDPOINT: collector,
    OTEL_BSP_SCHEDULE_DELAY: "200",
  };
  const { address } = await scene.server({ env });
  return { address, metrics: `127.0.0.1:${port}` };
}

/** Expressions that Prometheus answers with nothing, or not at all. */
async function unanswered(prometheus: Prometheus, asked: readonly { panel: string; expression: string }[]): Promise<string[]> {
  const empty: string[] = [];
  for (const { panel, expression } of asked) {
    const answer = await prometheus.query(expression).catch((error: unknown) => String(error));
    if (typeof answer === "string") empty.push(`${panel}: ${answer}`);
    else if (answer.length === 0 && !EMPTY_WHEN_WELL.includes(panel)) empty.push(`${panel}: nothing for ${expression}`);
  }
  return empty;
}

describe("alert rules", () => {
  it("are well formed, and each comes when it should and not while all is well", async () => {
    expect(await promtool("check", "rules", RULES)).toMatch(/SUCCESS/);
    expect(await promtool("test", "rules", join(observabilityFolder, "alerts.test.yml"))).toMatch(/SUCCESS/);
    const names = [...readFileSync(RULES, "utf8").matchAll(/- alert: (\w+)/g)].map(([, name = ""]) => name);
    const tested = readFileSync(join(observabilityFolder, "alerts.test.yml"), "utf8");
    expect(names.filter((name) => !new RegExp(`alertname: ${name}\\n\\s+exp_alerts:`).test(tested))).toEqual([]);
  });
});

describe("dashboard and alerts", () => {
  test("find what two servers tell under load, and raise no alarm", async ({ scene }) => {
    const collector = await startOtlpReceiver();
    scene.undo(async () => collector[Symbol.asyncDispose]());
    const servers = [await observedServer(scene, collector.endpoint), await observedServer(scene, collector.endpoint)];
    const addresses = servers.map(({ address }) => address);
    const prometheus = await startPrometheus(
      scene.folder,
      servers.map(({ metrics }) => metrics),
      RULES,
    );
    scene.undo(() => prometheus.stop());
    await scene.worker({ addresses });
    const clients = addresses.map((address) => scene.client(address));
    // Longer than a heartbeat of the worker and some scrapes, so that every counter has counted before and between them.
    const counted = await clients[0]!.submit(count, { to: 12, stepMs: 300 });
    const rounds = await Promise.all(
      clients.flatMap((client) => Array.from({ length: 20 }, (_, n) => client.submit(quick, { n }).then((task) => task.result()))),
    );
    expect(rounds).toHaveLength(40);
    await counted.result();
    // Of the last round: whatever is told at all is told by then.
    const finished = 'sum(leasehold_tasks_finished_total{job="leasehold",state="COMPLETED"})';
    await eventually(
      () => prometheus.query(finished),
      ([sum]) => Number(sum?.value[1] ?? 0) >= 41,
      "41 ends were scraped",
    );

    await eventually(
      () => unanswered(prometheus, dashboardExpressions()),
      (empty) => empty.length === 0,
      "each expression of the dashboard is answered",
      15_000,
    );
    const rules = await prometheus.rules();
    expect(rules.filter(({ health }) => health !== "ok").map(({ name, lastError }) => `${name}: ${lastError ?? "not evaluated"}`)).toEqual(
      [],
    );
    expect(rules.filter(({ state }) => state !== "inactive").map(({ name }) => name)).toEqual([]);
    const used = new Set(
      [...rules.map(({ query }) => query), ...dashboardExpressions().map(({ expression }) => expression)].flatMap(metricsIn),
    );
    const told = await prometheus.query('count by (__name__) ({job="leasehold"})');
    const names = new Set(told.map(({ metric }) => (metric["__name__"] ?? "").replace(/_(?:bucket|sum|count)$/, "")));
    expect([...used].filter((name) => !names.has(name) && !UNCOUNTED_WHEN_WELL.includes(name))).toEqual([]);
    const documented = documentedMetrics();
    expect([...used].filter((name) => name !== "up" && !documented.has(name))).toEqual([]);
  });
});
