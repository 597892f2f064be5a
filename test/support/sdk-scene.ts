// What does a test of the SDK need? A real server on a database of its own, a client that notes what it sends, and workers that go with the test.
// At the end no server may have logged a fault, and every stored task must be in exactly one place.
import {
  type Client,
  type ClientOptions,
  createClient,
  createWorker,
  type Logger,
  type TaskHandle,
  type TaskSnapshot,
  type Worker,
  type WorkerOptions,
} from "@leasehold/client";
import pg from "pg";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { createGrpcTransport } from "../../client/src/grpc-transport.js";
import type { Transport } from "../../client/src/transport.js";
import { auditBetweenTicks, type Finding } from "./audit.js";
import { startInProcess } from "./in-process-server.js";
import { type OwnerCalls, ownerCalls } from "./owner-calls.js";
import { createTestDatabase, type TestDatabase } from "./postgres.js";
import { type RawWorker, openRawWorker } from "./raw-worker.js";

/** A server of a test and a client of it. */
export interface SdkServer {
  readonly address: string;
  readonly databaseUrl: string;
  readonly client: Client;
  /** Stops the server before the test ends. */
  stop(): Promise<void>;
}

/** What the tests of one file share. Workers, clients and further servers go with each test. */
export interface SdkScene {
  /** The file's server and its client. */
  readonly address: string;
  readonly databaseUrl: string;
  readonly client: Client;
  /** The same server without the SDK. */
  readonly owner: OwnerCalls;
  /** Methods that `client` called in this test, as `SubmitTasks`, oldest first; a stream counts once. */
  readonly calls: readonly string[];
  /** Messages of warnings and errors that clients and workers logged in this test. */
  readonly warnings: readonly string[];
  /** A task name that no other test uses, so that its workers get nobody else's tasks. */
  name(): string;
  /** Another client, by default of the same server. */
  connect(options?: ClientOptions): Client;
  /** Another server with settings of its own, by default on a database of its own. */
  server(env?: Record<string, string>, databaseUrl?: string): Promise<SdkServer>;
  /** Starts a worker and waits until it is connected. Default: the file's client, no grace. */
  work(handlers: WorkerOptions["handlers"], options?: Partial<WorkerOptions>): Promise<Worker>;
  /** A worker without the SDK; it has nothing to answer and no heartbeat. */
  raw(...parameters: Parameters<typeof openRawWorker>): RawWorker;
}

/** Opens a scene for the tests of this file, with settings for its server. */
export function sdkScene(env: Record<string, string> = {}): SdkScene {
  const faults: string[] = [];
  const calls: string[] = [];
  const warnings: string[] = [];
  const steps: (() => Promise<unknown> | undefined)[] = [];
  const note = (message: string): void => void warnings.push(message);
  const logger: Logger = { debug: () => {}, info: () => {}, warn: note, error: note };
  let database: TestDatabase | undefined;
  let shared: SdkServer | undefined;
  let owner: OwnerCalls | undefined;
  let names = 0;

  const open = async (settings: Record<string, string>, databaseUrl: string): Promise<SdkServer> => {
    const server = await startInProcess(settings, databaseUrl, faultLog(faults));
    const client = createClient({ transport: noting(calls, server.address), logger });
    let stopped: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      client.close();
      await (stopped ??= Promise.resolve(server[Symbol.asyncDispose]()));
    };
    return { address: server.address, databaseUrl, client, stop };
  };
  const theServer = (): SdkServer => {
    if (shared === undefined) throw new Error("the scene's server starts with the first test");
    return shared;
  };

  beforeAll(async () => {
    database = await createTestDatabase();
    shared = await open(env, database.url);
    owner = ownerCalls(shared.address);
  });
  afterEach(async () => {
    for (const step of steps.splice(0).reverse()) await step();
    calls.length = 0;
    warnings.length = 0;
    expect(faults.splice(0), "what servers logged as faults").toEqual([]);
  });
  afterAll(async () => {
    owner?.close();
    if (database === undefined || shared === undefined) return;
    await shared.stop();
    await closeDatabase(database);
  });

  const undo = (step: () => Promise<unknown> | undefined): void => void steps.push(step);
  return {
    get address() {
      return theServer().address;
    },
    get databaseUrl() {
      return theServer().databaseUrl;
    },
    get client() {
      return theServer().client;
    },
    get owner() {
      return owner!;
    },
    calls,
    warnings,
    name: () => `sdk.${String(++names)}`,
    connect: (options = {}) => {
      const client = createClient({ address: theServer().address, logger, ...options });
      undo(async () => client.close());
      return client;
    },
    server: async (settings = {}, databaseUrl) => {
      const own = databaseUrl === undefined ? await createTestDatabase() : undefined;
      if (own !== undefined) undo(() => closeDatabase(own));
      const server = await open(settings, own?.url ?? databaseUrl ?? "");
      undo(() => server.stop());
      return server;
    },
    work: async (handlers, options = {}) => {
      const worker = createWorker({ client: theServer().client, handlers, grace: 0, logger, ...options });
      const running = worker.run();
      // Told by `ready` as well.
      running.catch(() => {});
      undo(() => worker.drain({ grace: 0 }).then(() => running.catch(() => {})));
      await worker.ready();
      return worker;
    },
    raw: (...parameters) => {
      const raw = openRawWorker(...parameters);
      undo(async () => raw.close());
      return raw;
    },
  };
}

/** Removes a database that no server uses any more; what was stored in it must be sound. */
async function closeDatabase(database: TestDatabase): Promise<void> {
  const findings = await auditBetweenTicks((text) => rowsOf<Finding>(database.url, text));
  await database.drop();
  expect(findings).toEqual([]);
}

/** Rows of one statement, where names are looked up in Leasehold's schema. */
export async function rowsOf<Row extends object>(databaseUrl: string, text: string, values: readonly unknown[] = []): Promise<Row[]> {
  const connection = new pg.Client({ connectionString: databaseUrl, options: "-c search_path=leasehold" });
  await connection.connect();
  try {
    return (await connection.query<Row>(text, [...values])).rows;
  } finally {
    await connection.end();
  }
}

function faultLog(faults: string[]): NonNullable<Parameters<typeof startInProcess>[2]> {
  const fault = (fields: object, message: string): void => void faults.push(`${message} ${JSON.stringify(fields)}`);
  return { debug: () => {}, info: () => {}, warn: () => {}, error: fault };
}

function noting(calls: string[], address: string): Transport {
  const transport = createGrpcTransport({ addresses: [address] });
  const noted = ({ path }: { readonly path: string }): void => void calls.push(path.slice(path.lastIndexOf("/") + 1));
  return {
    unary: (method, request, options) => {
      noted(method);
      return transport.unary(method, request, options);
    },
    stream: (method, events) => {
      noted(method);
      return transport.stream(method, events);
    },
    close: () => transport.close(),
  };
}

/** A door that a test opens for a handler, or a handler for a test. */
export interface Gate<T = void> {
  readonly opened: Promise<T>;
  open(value: T): void;
}

/** Makes a gate that is shut. */
export function gate<T = void>(): Gate<T> {
  let open: (value: T) => void = () => {};
  const opened = new Promise<T>((resolve) => (open = resolve));
  return { opened, open: (value) => open(value) };
}

/** The first snapshot of a task that is as wanted; rejects after 20 s with the last one. */
export async function until<Snapshot>(
  task: { watch(options: { timeout: "20s" }): AsyncIterable<Snapshot> },
  wanted: (snapshot: Snapshot) => boolean,
): Promise<Snapshot> {
  let last: Snapshot | undefined;
  try {
    for await (const snapshot of task.watch({ timeout: "20s" })) {
      last = snapshot;
      if (wanted(snapshot)) return snapshot;
    }
  } catch (error) {
    throw new Error(`the task never was as wanted; last ${shown(last)}`, { cause: error });
  }
  throw new Error(`the task finished without being as wanted: ${shown(last)}`);
}

/** As `until`, for the next suspension after a snapshot. */
export function untilSuspendedAfter(task: Pick<TaskHandle, "watch">, { fencingToken }: TaskSnapshot): Promise<TaskSnapshot> {
  return until(task, (snapshot) => snapshot.state === "suspended" && snapshot.fencingToken > fencingToken);
}

function shown(value: unknown): string {
  return JSON.stringify([value], (_key, part: unknown) => (typeof part === "bigint" ? part.toString() : part));
}
