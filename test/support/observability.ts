// What do the files of deploy/observability ask? Expressions of the dashboard and names of metrics, for the tests that hold them against what is there.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");

/** The folder of alert rules and dashboard. */
export const observabilityFolder = join(ROOT, "deploy/observability");

/** An expression of the dashboard. */
export interface Asked {
  readonly panel: string;
  /** For Prometheus: variables of Grafana are filled in. */
  readonly expression: string;
}

interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }[];
}

/** Every expression of the dashboard, with all servers and queues chosen. */
export function dashboardExpressions(): Asked[] {
  const { panels } = JSON.parse(readFileSync(join(observabilityFolder, "dashboard.json"), "utf8")) as Dashboard;
  return panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ panel: title, expression: filledIn(expr) })));
}

function filledIn(expression: string): string {
  const filled = expression
    .replaceAll("$job", "leasehold")
    .replaceAll("$instance", ".*")
    .replaceAll("$queue", ".*")
    .replaceAll("$__rate_interval", "1m");
  if (filled.includes("$")) throw new Error(`a variable of Grafana is not filled in: ${filled}`);
  return filled;
}

/** Names of metrics in an expression, without the suffix of a histogram's part. */
export function metricsIn(expression: string): string[] {
  const bare = expression
    .replace(/"[^"]*"/g, "")
    .replace(/\{[^}]*\}/g, "")
    .replace(/\b(?:by|on|without|ignoring)\s*\([^)]*\)/g, "");
  return [...bare.matchAll(/\b(?:leasehold|db|rpc|nodejs|otel|up)(?:_[a-z0-9_]+)?\b/g)].map(([name]) =>
    name.replace(/_(?:bucket|sum|count)$/, ""),
  );
}

/** Metrics that docs/telemetry.md names, as Prometheus gets them: dots become `_`, counters end in `_total`. */
export function documentedMetrics(): Set<string> {
  const page = readFileSync(join(ROOT, "docs/telemetry.md"), "utf8");
  const names = [...page.matchAll(/`([a-z][a-z_0-9]*(?:\.[a-z0-9_]+)+)`/g)].map(([, name = ""]) => name.replaceAll(".", "_"));
  return new Set(names.flatMap((name) => [name, `${name}_total`]));
}
