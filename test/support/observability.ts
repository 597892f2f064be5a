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
  return [...bare.matchAll(/\b(?:leasehold|db|rpc|nodejs|up)(?:_[a-z0-9_]+)?\b/g)].map(([name]) =>
    name.replace(/_(?:bucket|sum|count)$/, ""),
  );
}

/** Metrics that docs/telemetry.md lists, by the names that Prometheus gives them. */
export function documentedMetrics(): Set<string> {
  const page = readFileSync(join(ROOT, "docs/telemetry.md"), "utf8");
  const rows = page.split("\n").filter((line) => /^\| `[a-z.0-9_]+\.[a-z.0-9_]+`/.test(line));
  return new Set(rows.flatMap((line) => prometheusNames(line)));
}

// A row may name several: `nodejs.eventloop.delay.p50`, `.p99`. Counters get a suffix; units, unlike elsewhere, none.
function prometheusNames(line: string): string[] {
  const cells = line.split("|").map((cell) => cell.trim());
  const names = [...(cells[1] ?? "").matchAll(/`([a-z.0-9_]+)`/g)].map(([, name = ""]) => name);
  const [first = ""] = names;
  const whole = names.map((name) => (name.startsWith(".") ? first.slice(0, first.lastIndexOf(".")) + name : name));
  return whole.map((name) => name.replaceAll(".", "_")).flatMap((name) => [name, `${name}_total`]);
}
