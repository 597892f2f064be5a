// How does a test ask what a person would ask of the metrics? With a real Prometheus that scrapes real servers, fetched from Debian's packages.
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { environment, startProcess } from "./child-process.js";
import { debianProgram } from "./debian-programs.js";

/** What a query answered, one entry a series. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  /** Time and value. */
  readonly value: readonly [number, string];
}

/** An alert rule as Prometheus read it. */
export interface AlertRule {
  readonly name: string;
  readonly query: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** `ok` once it was evaluated without a fault. */
  readonly health: string;
  readonly lastError?: string;
  /** `inactive`, `pending` or `firing`. */
  readonly state: string;
}

/** A Prometheus that scrapes each second. */
export interface Prometheus {
  /** Rejects with what is wrong about the expression. */
  query(expression: string): Promise<Series[]>;
  rules(): Promise<AlertRule[]>;
  stop(): Promise<void>;
}

const PACKAGE = ["prometheus"];

/** Runs promtool; rejects with what it said when it is not content. */
export async function promtool(...args: readonly string[]): Promise<string> {
  const { path, env } = await debianProgram({ packages: PACKAGE, program: "usr/bin/promtool" });
  const tool = startProcess(path, args, { env: environment(env) });
  if ((await tool.ended) !== 0) throw new Error(`promtool ${args.join(" ")} said:\n${tool.said()}`);
  return tool.said();
}

/** Starts one that scrapes these addresses as the job `leasehold`, with these rules. `folder`: for its files. */
export async function startPrometheus(folder: string, targets: readonly string[], rules: string): Promise<Prometheus> {
  const { path, env } = await debianProgram({ packages: PACKAGE, program: "usr/bin/prometheus" });
  const config = join(folder, "prometheus.yml");
  // JSON is YAML.
  await writeFile(
    config,
    JSON.stringify({
      global: { scrape_interval: "1s", evaluation_interval: "1s" },
      rule_files: [rules],
      scrape_configs: [{ job_name: "leasehold", static_configs: [{ targets }] }],
    }),
  );
  const address = `127.0.0.1:${String(await freePort())}`;
  const options = [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, "prometheus")}`, `--web.listen-address=${address}`];
  const started = startProcess(path, options, { env: environment(env) });
  await started.waitFor(/Server is ready to receive web requests/);
  const ask = async <T>(what: string): Promise<T> => {
    const response = await fetch(`http://${address}/api/v1/${what}`);
    const answer = (await response.json()) as { status: string; error?: string; data: T };
    if (answer.status !== "success") throw new Error(`${decodeURIComponent(what)}: ${answer.error ?? "no answer"}`);
    return answer.data;
  };
  return {
    query: async (expression) => (await ask<{ result: Series[] }>(`query?query=${encodeURIComponent(expression)}`)).result,
    rules: async () => (await ask<{ groups: { rules: AlertRule[] }[] }>("rules")).groups.flatMap((group) => group.rules),
    stop: async () => {
      started.child.kill("SIGKILL");
      await started.ended;
    },
  };
}

/** A port of 127.0.0.1 that nobody uses at the moment, for programs that cannot choose one. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
