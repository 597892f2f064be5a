// What does the api talk to in tests that have no database? Stand-ins for the rooms behind it, and a gRPC server in front of them.

import { loadConfig } from "@leasehold/server/config";
import type { Config } from "@leasehold/server/config";
import type { Clock } from "@leasehold/server/clock";
import { systemClock } from "@leasehold/server/clock";
import { grpcServer } from "@leasehold/server/api/grpc-server";
import type { GrpcServer } from "@leasehold/server/api/grpc-server";
import { taskService } from "@leasehold/server/api/task-service";
import { workerService } from "@leasehold/server/api/worker-service";
import type { WrappedService } from "@leasehold/server/api/call";
import type { TaskCommands, TaskWatch, UnaryWorkers, WorkerSessions } from "@leasehold/server/dispatch/dispatch";
import type { LiveTask } from "@leasehold/server/domain/task";
import { NO_DEADLINES } from "@leasehold/server/domain/task";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import type { Storage, StoredTask } from "@leasehold/server/storage/storage";
import type { Log } from "@leasehold/server/telemetry/log";

/** A log that keeps what it is told. */
export interface KeptLog extends Log {
  readonly lines: { level: string; message: string; fields: object }[];
}

/** Makes a log that keeps what it is told. */
export function keptLog(): KeptLog {
  const lines: KeptLog["lines"] = [];
  const at = (level: string) => (fields: object, message: string) => void lines.push({ level, message, fields });
  return { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** The default settings, with some changed. */
export function testConfig(env: Record<string, string> = {}): Config {
  return loadConfig({ LEASEHOLD_DATABASE_URL: "postgres://localhost/x", LEASEHOLD_LISTEN: "127.0.0.1:0", ...env });
}

/** An object of which every member that is not given throws when it is called. */
export function standIn<T extends object>(members: Partial<T>): T {
  return new Proxy(members as T, {
    get: (target, key) => {
      // A promise asks whatever it is resolved with whether it is a promise too.
      if (key in target || key === "then") return target[key as keyof T];
      return () => {
        throw new Error(`nobody expected a call of ${String(key)}`);
      };
    },
  });
}

/** A task as it is stored, with some fields changed. */
export function storedTask(fields: Partial<StoredTask> = {}, live: Partial<LiveTask> = {}): StoredTask {
  const id = fields.id ?? "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";
  const identity = {
    id,
    namespace: "default",
    name: "a",
    key: null,
    keyHoldUs: 0,
    retryPolicy: DEFAULT_RETRY_POLICY,
    deadlines: NO_DEADLINES,
    createTimeUs: 1_700_000_000_123_456,
  };
  return {
    id,
    namespace: "default",
    state: "PENDING",
    live: {
      identity,
      queue: "default",
      priority: 0,
      state: "PENDING",
      pendingReason: "NEW",
      runAtUs: 1_700_000_000_123_456,
      suspendTimeUs: null,
      failures: 0,
      lostLeases: 0,
      releases: 0,
      lease: null,
      workerName: "",
      leaseTimeUs: null,
      fencingToken: 0,
      settledSeq: 0,
      lastOutcome: null,
      queueDeadlineUs: null,
      attemptDeadlineUs: null,
      silenceDeadlineUs: null,
      totalDeadlineUs: null,
      cancel: null,
      proceeds: null,
      executionMetadataVersion: 0,
      executionMetadataBytes: 0,
      checkpointCount: 0,
      checkpointTimeUs: null,
      lastError: null,
      revision: 1,
      ...live,
    },
    finish: null,
    scheduleUs: null,
    labels: new Map(),
    traceContext: null,
    metadataBytes: 4,
    metadata: null,
    executionMetadata: null,
    progress: null,
    ...fields,
  };
}

/** What stands behind the api. */
export interface Behind {
  readonly storage?: Partial<Storage>;
  readonly commands?: Partial<TaskCommands>;
  readonly watch?: Partial<TaskWatch>;
  readonly sessions?: Partial<WorkerSessions>;
  readonly unary?: Partial<UnaryWorkers>;
  readonly env?: Record<string, string>;
  readonly clock?: Clock;
}

/** An api that serves. */
export interface ServedApi extends AsyncDisposable {
  readonly address: string;
  readonly services: readonly WrappedService[];
  readonly server: GrpcServer;
  readonly log: KeptLog;
}

/** Serves the api on a port of this machine. */
export async function serveApi(behind: Behind = {}): Promise<ServedApi> {
  const config = testConfig(behind.env);
  const clock = behind.clock ?? systemClock();
  const log = keptLog();
  const storage = standIn<Storage>(behind.storage ?? {});
  const commands = standIn<TaskCommands>(behind.commands ?? {});
  const watch = standIn<TaskWatch>({ size: 0, ...behind.watch });
  const sessions = standIn<WorkerSessions>(behind.sessions ?? {});
  const unary = standIn<UnaryWorkers>(behind.unary ?? {});
  const services = [
    taskService({ storage, commands, watch, clock, config, log }),
    workerService({ sessions, unary, clock, config, log, serverVersion: "1.2.3" }),
  ];
  const server = grpcServer({ services, config, clock, log });
  const [address = ""] = await server.listen();
  return { address, services, server, log, [Symbol.asyncDispose]: () => server.shutdown(0) };
}
