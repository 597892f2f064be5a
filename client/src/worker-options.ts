// What may a worker be told, and what is refused?
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Client } from "./client.js";
import { type DurationInput, durationMs } from "./duration.js";
import { invalid, type Violation } from "./errors.js";
import type { TaskHandler } from "./handler-context.js";
import type { Logger } from "./log.js";
import type { Middleware } from "./middleware.js";
import { isName, wholeNumber } from "./task-options.js";

/** Options of `createWorker`. */
export interface WorkerOptions {
  /** The client whose connection, namespace and credentials it uses. It stays open when the worker ends. */
  readonly client: Client;
  /** 1 to 500, one for each task name. */
  readonly handlers: readonly TaskHandler[];
  /** Code around every handler run, the first one outermost. */
  readonly middleware?: readonly Middleware[];
  /** Tasks at once, 1 to 10,000. Default 10. */
  readonly concurrency?: number;
  /** Queues to take from, at most 100. Default: all. */
  readonly queues?: readonly string[];
  /** How long running handlers may finish after SIGTERM or `drain`. 0 = now. Default 30 s. */
  readonly grace?: DurationInput;
  /** How long its leases live without a heartbeat, 2 s to 1 h. Server's default 20 s. */
  readonly sessionTtl?: DurationInput;
  /** For people; need not be unique. At most 128 bytes. Default: host name and process id. */
  readonly name?: string;
  /** For people and lists; at most 16. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Serves `/livez` and `/readyz` while it runs. Default: no port. */
  readonly health?: { readonly port: number; readonly host?: string };
  /** Where warnings and `ctx.log` go. Default: the client's. */
  readonly logger?: Logger;
}

/** Options that were checked and filled in. */
export interface CheckedWorkerOptions {
  readonly handlers: ReadonlyMap<string, TaskHandler>;
  readonly concurrency: number;
  readonly queues: readonly string[];
  readonly graceMs: number;
  readonly sessionTtlMs: number | undefined;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Checks and fills in. Throws INVALID_ARGUMENT with all violations. */
export function checkWorkerOptions(options: WorkerOptions): CheckedWorkerOptions {
  const violations: Violation[] = [];
  const handlers = new Map<string, TaskHandler>();
  for (const [index, handler] of options.handlers.entries()) {
    const path = `handlers[${String(index)}]`;
    if (handlers.has(handler.task.name)) violations.push({ path, message: `a second handler for ${handler.task.name}` });
    handlers.set(handler.task.name, handler);
  }
  if (handlers.size < 1 || handlers.size > 500) violations.push({ path: "handlers", message: "must be 1 to 500" });
  const concurrency = options.concurrency ?? 10;
  wholeNumber(concurrency, "concurrency", 1, 10_000, violations);
  const queues = options.queues ?? [];
  if (queues.length > 100 || !queues.every(isName)) violations.push({ path: "queues", message: "must be at most 100 queue names" });
  const graceMs = options.grace === undefined ? 30_000 : durationMs(options.grace, "grace", violations);
  const sessionTtlMs =
    options.sessionTtl === undefined
      ? undefined
      : durationMs(options.sessionTtl, "sessionTtl", violations, { atLeastMs: 2_000, atMostMs: 3_600_000 });
  const name = options.name ?? `${hostname()}-${String(process.pid)}-${randomUUID().slice(0, 4)}`;
  if (name === "" || Buffer.byteLength(name, "utf8") > 128) violations.push({ path: "name", message: "must be 1 to 128 bytes" });
  const labels = options.labels ?? {};
  if (Object.keys(labels).length > 16) violations.push({ path: "labels", message: "must be at most 16" });
  for (const [key, value] of Object.entries(labels)) {
    if (typeof value !== "string" || key === "__proto__")
      violations.push({ path: `labels.${key}`, message: "must be a string under an ordinary name" });
  }
  if (options.health !== undefined) wholeNumber(options.health.port, "health.port", 1, 65_535, violations);
  if (violations.length > 0) throw invalid(violations);
  return { handlers, concurrency, queues, graceMs, sessionTtlMs, name: name.slice(0, 128), labels };
}
