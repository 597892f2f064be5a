// What does the server write to its log, and what never? One line an entry; no payload, token or connection string in any of them.
//
// json: {"level":"info","time":"2026-01-31T12:00:00.000Z","msg":"listening","address":"127.0.0.1:7410"}
// text: 2026-01-31T12:00:00.000Z info  listening address=127.0.0.1:7410

import { pino } from "pino";
import type { AboutTask } from "../domain/task.js";

/** A log. The message is a constant sentence; what varies is in the fields. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** The fields that tie an entry to a task and to a trace, by OpenTelemetry's names for the latter; each only where it is known. */
export function fieldsOf({ taskId, traceContext }: AboutTask): {
  readonly task_id?: string;
  readonly trace_id?: string;
  readonly span_id?: string;
} {
  const task = taskId === undefined ? {} : { task_id: taskId };
  if (traceContext === undefined || traceContext === null) return task;
  // 00-<32 digits>-<16 digits>-<2 digits>
  return { ...task, trace_id: traceContext.traceparent.slice(3, 35), span_id: traceContext.traceparent.slice(36, 52) };
}

/** Where lines go; each ends with a line feed. */
export interface LogDestination {
  write(line: string): void;
}

/** What the log is made with. */
export interface LogOptions {
  readonly level: string;
  readonly format: "json" | "text";
}

/** Keys whose values are secrets or belong to users, wherever they stand in the fields of an entry, one level deep. */
const SECRET_KEYS = [
  "url",
  "listenUrl",
  "connectionString",
  "password",
  "token",
  "leaseToken",
  "tokens",
  "authorization",
  "payload",
  "data",
  "metadata",
  "executionMetadata",
  "result",
  "details",
];
const CONNECTION_STRING = /\bpostgres(?:ql)?:\/\/\S+/gi;
const LEASE_TOKEN = /(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])/g;
const MAX_STACK_DEPTH = 4;

/** Makes the log. Lines go to standard error unless told otherwise: standard output belongs to commands. */
export function createLog(options: LogOptions, destination: LogDestination = process.stderr): Log {
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_KEYS.flatMap((key) => [key, `*.${key}`]), censor: "[removed]" },
      serializers: { err: (error: unknown) => describeError(error, 0) },
    },
    options.format === "json" ? destination : { write: (line) => destination.write(textLine(line)) },
  );
}

interface ErrorFields {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly cause?: ErrorFields;
}

/** Only these fields of an error: drivers hang queries, parameters and connection settings on theirs. */
function describeError(error: unknown, depth: number): ErrorFields {
  if (!(error instanceof Error)) return { type: typeof error, message: withoutSecrets(String(error)) };
  const code = "code" in error && (typeof error.code === "string" || typeof error.code === "number") ? { code: String(error.code) } : {};
  const stack = error.stack === undefined ? {} : { stack: withoutSecrets(error.stack) };
  const cause = error.cause === undefined || depth >= MAX_STACK_DEPTH ? {} : { cause: describeError(error.cause, depth + 1) };
  return { type: error.name, message: withoutSecrets(error.message), ...code, ...stack, ...cause };
}

/** A text without the connection strings and lease tokens that are in it. */
export function withoutSecrets(text: string): string {
  return text.replace(CONNECTION_STRING, "postgres://[removed]").replace(LEASE_TOKEN, "[removed]");
}

function textLine(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const shown = Object.entries(fields).map(
    ([key, value]) => ` ${key}=${typeof value === "string" && !/[\s"=]/.test(value) ? value : JSON.stringify(value)}`,
  );
  return `${String(time)} ${String(level).padEnd(5)} ${String(msg)}${shown.join("")}\n`;
}
