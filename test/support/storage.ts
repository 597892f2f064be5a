// How does a test talk to a storage? One on a database of its own, whose clock the test moves, with tasks and sessions in one line each.
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { it } from "vitest";
import type { Clock } from "@leasehold/server/clock";
import { systemClock } from "@leasehold/server/clock";
import type { Event, ReportBody } from "@leasehold/server/domain/event";
import type { Submission } from "@leasehold/server/domain/new-task";
import { newTask } from "@leasehold/server/domain/new-task";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import { uuidV7 } from "@leasehold/server/domain/shard";
import type { LiveTask, Payload } from "@leasehold/server/domain/task";
import { NO_DEADLINES } from "@leasehold/server/domain/task";
import { transition } from "@leasehold/server/domain/transition";
import { openStorage } from "@leasehold/server/storage/postgres-storage";
import type {
  Claim,
  Decision,
  GroupWithWork,
  Inserted,
  LeasedTask,
  OpenSession,
  SessionHello,
  Storage,
  StoredTask,
} from "@leasehold/server/storage/storage";
import { createTestDatabase } from "./postgres.js";
import type { StorageGround } from "./storage-ground.js";

/** When the database's clock of every test begins, in microseconds. */
export const START = 1_767_225_600_000_000;
const SECOND = 1_000_000;
/** Largest payload of a test's storage. */
export const MAX_PAYLOAD_BYTES = 1_048_576;

/** What a claim of a test may ask for. */
export interface LeaseOptions {
  /** Most tasks for each session; default 100. */
  readonly most?: number;
  /** Only groups that this is true of; default all with work. */
  readonly groups?: (group: GroupWithWork) => boolean;
  /** Most tasks of a name; default as many as there are slots. */
  readonly free?: (name: string) => number;
  /** Another server's storage. */
  readonly on?: Storage;
}

/** A storage on a database of its own. */
export interface TestStorage extends AsyncDisposable {
  readonly url: string;
  readonly storage: Storage;
  readonly clock: Clock;
  /** The database's time; it stands still until it is moved. */
  readonly nowUs: number;
  /** Moves the database's clock forward. */
  advance(us: number): Promise<void>;
  /** A storage of another server on the same database. */
  another(): Promise<Storage>;
  /** A connection of the test's own, for barriers and for looking into tables; its search path is the schema. */
  connection(): Promise<pg.Client>;
  /** Rows of a statement, looked up in the schema. */
  rows<T>(text: string, ...values: readonly unknown[]): Promise<T[]>;
  /** Stores tasks, each from a few fields of its submission; answers their ids. */
  store(...submissions: readonly Partial<Submission>[]): Promise<string[]>;
  session(hello?: Partial<SessionHello>): Promise<OpenSession>;
  /** Leases what is due to sessions. */
  lease(sessions: OpenSession | readonly OpenSession[], options?: LeaseOptions): Promise<LeasedTask[]>;
  /** Stores one task, leases it to the session; answers the leased task. */
  running(session: OpenSession, submission?: Partial<Submission>): Promise<LiveTask>;
  /** A stored task; fails if there is none. */
  read(id: string): Promise<StoredTask>;
  /** The decision about an event as a server makes it on its copy. */
  decision(task: LiveTask, event: Event, notBeforeUs?: number | null): Decision;
  /** The next report of a lease, decided on this copy. */
  report(task: LiveTask, body: ReportBody): Decision;
}

/** A submission of which only a few fields matter. */
export function submissionOf(fields: Partial<Submission> = {}): Submission {
  return {
    id: uuidV7(START, randomBytes(10)),
    namespace: "default",
    name: "report.render",
    queue: "default",
    metadata: { data: Buffer.from("{}"), contentType: "" },
    executionMetadata: null,
    labels: new Map(),
    priority: 0,
    scheduleUs: null,
    deadlines: NO_DEADLINES,
    retryPolicy: DEFAULT_RETRY_POLICY,
    key: null,
    keyConflictPolicy: "RETURN_EXISTING",
    keyHoldUs: 0,
    metadataFingerprint: null,
    traceContext: null,
    contentHash: null,
    ...fields,
  };
}

/** A worker's hello of which only a few fields matter. */
export function helloOf(fields: Partial<SessionHello> = {}): SessionHello {
  const worker = {
    workerName: "worker-1",
    sdk: "test/1",
    language: "typescript",
    queues: [],
    handlers: [],
    labels: new Map<string, string>(),
  };
  return { namespace: "default", ...worker, slots: 10, ownSlots: new Map(), ttlUs: 20 * SECOND, connection: 1, unary: false, ...fields };
}

/** The lease event of a report that is next in order. */
export function nextReport(task: LiveTask, body: ReportBody): Extract<Event, { kind: "reported" }> {
  return { kind: "reported", nonce: task.lease?.nonce ?? "", seq: task.settledSeq + 1, body };
}

/** A payload of these bytes. */
export function payload(text: string | Uint8Array, contentType = ""): Payload {
  return { data: typeof text === "string" ? Buffer.from(text) : text, contentType };
}

/** Waits until a connection waits for a lock that another holds: a signal, looked for every few milliseconds. */
export async function untilBlocked(observer: pg.Client, count = 1): Promise<void> {
  for (;;) {
    const { rows } = await observer.query<{ waiting: number }>(
      "SELECT count(*)::int AS waiting FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    if ((rows[0]?.waiting ?? 0) >= count) return;
    await pause(2);
  }
}

/** Set for the vitest project `pglite`: storages are those of the test kit, over the one session of a PGlite. */
const ON_PGLITE = process.env["LEASEHOLD_TEST_STORAGE"] === "pglite";

/** A test that holds several connections at once. Where there is only one, as on PGlite, it is none. */
export function itOverConnections(name: string, run: () => Promise<void>): void {
  if (!ON_PGLITE) it(name, run);
}

async function postgresGround(schema: string, clock: Clock): Promise<StorageGround> {
  const database = await createTestDatabase();
  const clients: pg.Client[] = [];
  const connection = async (): Promise<pg.Client> => {
    const client = new pg.Client(database.url);
    await client.connect();
    await client.query(`SET search_path TO "${schema}"`);
    clients.push(client);
    return client;
  };
  const own = await connection();
  await replaceClock(own);
  return {
    url: database.url,
    open: () => openStorage(storageSettings(database.url, schema), clock),
    rows: async <T>(text: string, values: readonly unknown[]) => (await own.query(text, [...values])).rows as T[],
    setTime: async (nowUs) => {
      await own.query("UPDATE test_time SET now_us = $1", [nowUs]);
    },
    connection,
    remove: async () => {
      await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
      await database.drop();
    },
  };
}

/** Opens a storage on a new database. `schema` must be migrated already; its clock is replaced. */
export async function openTestStorage(schema = "leasehold"): Promise<TestStorage> {
  const storages: Storage[] = [];
  const clock = databaseClock();
  const ground = ON_PGLITE
    ? await (await import("./pglite-storage.js")).pgliteGround(storageSettings(""), START, clock)
    : await postgresGround(schema, clock);
  const another = async (): Promise<Storage> => {
    const storage = await ground.open();
    storages.push(storage);
    return storage;
  };
  clock.observe(START);
  const storage = await another();
  let nowUs = START;

  const test: TestStorage = {
    url: ground.url,
    storage,
    clock,
    get nowUs() {
      return nowUs;
    },
    advance: async (us) => {
      nowUs += us;
      await ground.setTime(nowUs);
      clock.observe(nowUs);
    },
    another,
    connection: () => ground.connection(),
    rows: (text, ...values) => ground.rows(text, values),
    store: async (...submissions) => {
      const tasks = submissions.map((fields) => newTask(submissionOf(fields), nowUs));
      const inserted = await storage.insertTasks(tasks, false);
      expectCreated(inserted);
      return tasks.map((task) => task.submission.id);
    },
    session: (hello) => storage.openSession(helloOf(hello)),
    lease: async (sessions, options = {}) => {
      const on = options.on ?? storage;
      const found = await on.groupsWithWork("default", 1000);
      return (await on.leaseTasks(claimOf([sessions].flat(), found, options))).leased;
    },
    running: async (session, submission) => {
      const [id] = await test.store({ name: `alone.${String(storages.length)}.${randomUUID()}`, ...submission });
      const { live } = await test.read(id ?? "");
      const [leased] = await test.lease(session, { most: 1, groups: ({ name }) => name === live.identity.name });
      if (leased === undefined || leased.live.identity.id !== id) throw new Error("another task was leased, or none");
      return leased.live;
    },
    read: async (id) => {
      const stored = await storage.readTask({ namespace: "default", id }, true);
      if (stored === null) throw new Error(`there is no task ${id}`);
      return stored;
    },
    decision: (before, event, notBeforeUs = null) => {
      const answer = transition(before, event, { nowUs, chance: 0, executionMetadata: null, maxPayloadBytes: MAX_PAYLOAD_BYTES });
      if (answer.kind === "rejected" || answer.kind === "repeated") throw new Error(`nothing to write: ${JSON.stringify(answer)}`);
      return { before, answer, notBeforeUs };
    },
    report: (task, body) => test.decision(task, nextReport(task, body)),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(storages.map((one) => one.close()));
      await ground.remove();
    },
  };
  return test;
}

/** Settings of a storage, each server with an id of its own. */
export function storageSettings(url: string, schema = "leasehold"): Parameters<typeof openStorage>[0] {
  const server = { serverId: randomUUID(), serverAddress: "127.0.0.1:1", serverVersion: "test" };
  return {
    url,
    listenUrl: url,
    schema,
    prepared: true,
    poolSize: 6,
    statementTimeoutMs: 20_000,
    queueWaitMs: 20_000,
    maxPayloadBytes: MAX_PAYLOAD_BYTES,
    ...server,
  };
}

/** A claim of these groups for these sessions, a fresh nonce for each. */
export function claimOf(sessions: readonly OpenSession[], found: readonly GroupWithWork[], options: LeaseOptions = {}): Claim {
  const { most = 100, groups = () => true, free = () => most * sessions.length } = options;
  return {
    namespace: "default",
    suspects: false,
    groups: found.filter((group) => !group.suspect && groups(group)).map((group) => ({ ...group, free: free(group.name) })),
    sessions: sessions.map(({ id, epoch }) => ({ id, epoch, nonce: randomBytes(16).toString("hex"), workerName: `worker of ${id}` })),
    slots: Array.from({ length: most * sessions.length }, (_, at) => at % sessions.length),
  };
}

function expectCreated(inserted: readonly Inserted[]): void {
  const other = inserted.find(({ kind }) => kind !== "created");
  if (other !== undefined) throw new Error(`a task was not stored: ${JSON.stringify(other)}`);
}

/** Time as the database told it last; timers are real. */
function databaseClock(): Clock {
  let nowUs = START;
  return { ...systemClock(), nowUs: () => nowUs, observe: (us) => void (nowUs = us), chance: () => 0 };
}

// A VOLATILE function sees what was committed when it is called, so that a moved clock counts at once, also within a statement that waited.
async function replaceClock(client: pg.Client): Promise<void> {
  await client.query(`CREATE TABLE test_time (now_us bigint NOT NULL)`);
  await client.query("INSERT INTO test_time VALUES ($1)", [START]);
  await client.query(`CREATE OR REPLACE FUNCTION leasehold_now() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
    BEGIN RETURN (SELECT timestamptz '1970-01-01 00:00:00+00' + now_us * interval '1 microsecond' FROM leasehold.test_time); END $$`);
  await client.query("UPDATE upkeep SET last_tick = leasehold_now(), lenient_until = leasehold_now()");
}
