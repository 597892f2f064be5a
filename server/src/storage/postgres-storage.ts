// How is the conversation of storage.ts held with Postgres? This file only picks the connection for each operation:
// lanes for the hot path, pools for transactions, slonik for reads, one connection that listens. Where they lead is another's business: the same
// operations run over one connection within the process (embedded-storage.ts).

import { randomUUID } from "node:crypto";

import type { Clock } from "../clock.js";
import type { Event } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import { conflictReason } from "../domain/new-task.js";
import { shardOf } from "../domain/shard.js";
import { applyDecisions, applyStatements } from "./apply-decisions.js";
import { censusStatements, readCensus } from "./census.js";
import { CONNECTION_TRAITS } from "./conditions.js";
import type { HotLane, Reachability, Transactions } from "./connections.js";
import { clientConfig, Lane } from "./connections.js";
import { decideById, decideStatements, resolveId } from "./decide.js";
import { deleteFinished, finishedStatements, retryFinished } from "./finished-tasks.js";
import { insertWithKeys, keyStatements } from "./insert-keyed.js";
import { insertLeasing, insertStatements, NO_SLOTS, rereadSessions } from "./insert-tasks.js";
import { leaseStatements, leaseTasks, readPayloads } from "./lease-tasks.js";
import { readLive } from "./live-rows.js";
import type { Pools, QueueSettings } from "./pools.js";
import { openPools } from "./pools.js";
import type { TaskReader } from "./read-tasks.js";
import { openReader } from "./read-tasks.js";
import { takeOverSession } from "./session-takeover.js";
import { cancelledLeases, isAlive, openSession, revokedLeases, sessionStatements, storeBeats } from "./sessions.js";
import type { Connection } from "./statement.js";
import { statementsFor } from "./statement.js";
import type { Hint, Inserted, Storage, TaskReference } from "./storage.js";
import { groupsWithWork, orphanedLeases, overdueTasks, removeExpiredTasks, upkeepStatements } from "./upkeep-statements.js";
import { eventStatements, readTaskEvents } from "./task-events.js";
import { countAhead, readSurroundings, surroundingStatements } from "./task-surroundings.js";
import type { Caller } from "./turnstile.js";
import { tickUpkeep } from "./upkeep-tick.js";
import { channelOf, HintListener, writeHint } from "./wakeups.js";
import { readChanged, storeProgress, sweepProgress, watchStatements } from "./watch-statements.js";

/** What the operations need beside connections. */
export interface OperationSettings {
  readonly schema: string;
  readonly maxPayloadBytes: number;
  /** This server, in sessions and hints. */
  readonly serverId: string;
  readonly serverAddress: string;
  readonly serverVersion: string;
}

/** What a storage is opened with. */
export interface StorageSettings extends QueueSettings, OperationSettings {
  /** Direct connection for LISTEN where `url` goes through a pooler. */
  readonly listenUrl: string;
}

/** One shard until the service runs on more than one machine's Postgres. */
const SHARDS = 1;
const SHARD = 0;

/** A storage over connections that live long, and may be of another Postgres than a new one would be. */
export interface ConnectedStorage extends Storage {
  /** Compares the connections of the hot path with these `CONNECTION_TRAITS` of a new one and replaces all where they differ. Answers whether. */
  renewUnless(traits: string): Promise<boolean>;
}

/** Opens the storage. Connects lazily: an absent Postgres is answered as a fault by each operation. */
export async function openStorage(settings: StorageSettings, clock: Clock): Promise<ConnectedStorage> {
  const reached = reachabilityOf(clock);
  const lanes = openLanes(settings, reached);
  const pools = openPools(settings, reached, clock);
  const reader = await openReader(settings.url, settings.schema, settings.poolSize, settings.statementTimeoutMs, clock);
  const statements = buildStatements(settings.schema);
  const hints = hintOperations(settings, clock, lanes.hints, statements);
  return {
    ...operations(settings, clock, { lanes, pools, reader }, statements),
    notify: hints.notify,
    onHint: hints.onHint,
    get listening() {
      return hints.listening();
    },
    get health() {
      const silentMs = reached.silentMs();
      return { available: silentMs < 2000, unavailableSinceMs: silentMs < 2000 ? null : silentMs };
    },
    renewUnless: async (traits) => {
      const seen = await Promise.allSettled(lanes.all.map((lane) => lane.run(statements.traits, [])));
      // A lane that failed has a new connection already.
      if (!seen.some((read) => read.status === "fulfilled" && read.value[0]?.[0] !== traits)) return false;
      for (const connection of [...lanes.all, ...pools.all]) connection.renew();
      return true;
    },
    close: async () => {
      await Promise.allSettled([
        ...lanes.all.map((lane) => lane.close()),
        ...pools.all.map((pool) => pool.close()),
        reader.close(),
        hints.close(),
      ]);
    },
  };
}

/** Through what the operations reach their database. */
export interface Routes {
  readonly lanes: Lanes;
  readonly pools: Pools;
  readonly reader: TaskReader;
}

interface Parts extends Routes {
  readonly settings: OperationSettings;
  readonly clock: Clock;
  readonly statements: Statements;
  readonly observe: (nowUs: number) => void;
}

/** Everything that a storage answers by statements of its own, whatever its connections are. */
export function operations(
  settings: OperationSettings,
  clock: Clock,
  routes: Routes,
  statements: Statements,
): Omit<Storage, "notify" | "onHint" | "health" | "listening" | "close"> {
  const observe = (nowUs: number): void => {
    clock.observe(nowUs);
  };
  const parts: Parts = { settings, clock, ...routes, statements, observe };
  return {
    ...taskOperations(parts),
    ...finishedOperations(parts),
    ...sessionOperations(parts),
    ...upkeepOperations(parts),
    ...readOperations(parts),
  };
}

/** The statements of all operations, for one schema. */
export type Statements = ReturnType<typeof buildStatements>;

/** Writes a schema's name into all statements. */
export function buildStatements(schema: string) {
  const build = statementsFor(schema);
  return {
    ...insertStatements(build),
    ...keyStatements(build),
    ...finishedStatements(build),
    ...leaseStatements(build),
    ...applyStatements(build),
    ...sessionStatements(build),
    ...decideStatements(build),
    ...upkeepStatements(build),
    ...watchStatements(build),
    ...eventStatements(build),
    ...surroundingStatements(build),
    ...censusStatements(build),
    traits: build("traits", `SELECT ${CONNECTION_TRAITS}`),
  };
}

function reachabilityOf(clock: Clock): Reachability & { silentMs(): number } {
  let lastReachedMs = clock.monotonicMs();
  return {
    reached: () => void (lastReachedMs = clock.monotonicMs()),
    failed: () => undefined,
    silentMs: () => clock.monotonicMs() - lastReachedMs,
  };
}

/** The connections of the hot path. */
export interface Lanes {
  readonly submits: readonly HotLane[];
  readonly reports: readonly HotLane[];
  readonly leases: HotLane;
  readonly beats: HotLane;
  readonly hints: HotLane;
  readonly all: readonly HotLane[];
}

function openLanes(settings: StorageSettings, reachability: Reachability): Lanes {
  const lane = (name: string): Lane => new Lane(settings, name, reachability);
  const submits = [lane("submits 1"), lane("submits 2")];
  const reports = [lane("reports 1"), lane("reports 2")];
  const leases = lane("leases");
  const beats = lane("heartbeats");
  const hints = lane("hints");
  return { submits, reports, leases, beats, hints, all: [...submits, ...reports, leases, beats, hints] };
}

type TaskOperations = "insertTasks" | "leaseTasks" | "readPayloads" | "applyDecisions" | "decide" | "groupsWithWork";

function taskOperations({ settings, clock, lanes, pools, statements, observe }: Parts): Pick<Storage, TaskOperations> {
  return {
    insertTasks: (tasks, atomic, caller, slots = NO_SLOTS) => {
      const keyed = tasks.some(({ submission }) => submission.key !== null);
      const context = { shard: SHARD, slots, chance: clock.chance(), observe };
      if (!atomic && !keyed) return insertLeasing(idlest(lanes.submits), statements, tasks, context);
      const insert = (connection: Connection): Promise<Inserted[]> => insertWithKeys(connection, statements, tasks, context);
      const stored = atomic
        ? insertAtomically(() => pools.submissions.transaction(async (connection) => allOrNothing(tasks, await insert(connection)), caller))
        : pools.submissions.transaction(insert);
      // After the commit, which the transaction ends with.
      return stored.then((inserted) => rereadSessions(lanes.leases, statements, SHARD, slots, inserted));
    },
    leaseTasks: (claim) => leaseTasks(lanes.leases, statements, SHARD, claim, observe),
    readPayloads: (namespace, taskId) => readPayloads(pools.workers, statements, shardOf(taskId, SHARDS), namespace, taskId),
    applyDecisions: (decisions) => applyDecisions(idlest(lanes.reports), statements, SHARD, decisions, observe),
    decide: (reference, event, etagRevision, caller) =>
      poolFor(event, pools).transaction(async (connection) => {
        const id = await resolveId(connection, statements, SHARD, reference);
        if (id === null) return { kind: "not-found" };
        const context = { maxPayloadBytes: settings.maxPayloadBytes, observe, chance: clock.chance() };
        return decideById(connection, statements, shardOf(id, SHARDS), reference.namespace, id, event, etagRevision, context);
      }, caller),
    groupsWithWork: (namespace, most) => groupsWithWork(lanes.leases, statements, SHARD, namespace, most, observe),
  };
}

// A report must not wait behind owners, nor the passing of time behind either.
function poolFor({ kind }: Event, pools: Pools): Transactions {
  if (kind === "reported") return pools.workers;
  return kind === "time-passed" ? pools.upkeep : pools.commands;
}

function finishedOperations({ pools, statements }: Parts): Pick<Storage, "retryTask" | "deleteTask"> {
  const onId = <T>(
    reference: TaskReference,
    caller: Caller | undefined,
    work: (connection: Connection, id: string) => Promise<T>,
  ): Promise<T | { readonly kind: "not-found" }> =>
    pools.commands.transaction(async (connection) => {
      const id = await resolveId(connection, statements, SHARD, reference);
      return id === null ? { kind: "not-found" as const } : work(connection, id);
    }, caller);
  return {
    retryTask: (reference, how, etagRevision, caller) =>
      onId(reference, caller, (connection, id) => retryFinished(connection, statements, SHARD, reference.namespace, id, how, etagRevision)),
    deleteTask: (reference, etagRevision, caller) =>
      onId(reference, caller, (connection, id) => deleteFinished(connection, statements, SHARD, reference.namespace, id, etagRevision)),
  };
}

type SessionOperations =
  | "endSession"
  | "revokedLeases"
  | "openSession"
  | "takeOverSession"
  | "storeBeats"
  | "isSessionAlive"
  | "runningLeases"
  | "cancelledLeases";

function sessionOperations({ settings, clock, lanes, pools, statements, observe }: Parts): Pick<Storage, SessionOperations> {
  const { serverId } = settings;
  return {
    // Whoever comes must not hold up the heartbeats of those who are there.
    openSession: (hello) => openSession(lanes.leases, statements, SHARD, randomUUID(), serverId, hello),
    takeOverSession: (sessionId, hello, held) =>
      pools.workers.transaction((connection) => {
        const context = { shard: SHARD, serverId, freshId: randomUUID(), chance: clock.chance(), observe };
        return takeOverSession(connection, statements, sessionId, hello, held, context);
      }),
    storeBeats: (beats) => storeBeats(lanes.beats, statements, SHARD, beats),
    isSessionAlive: (namespace, sessionId) => isAlive(lanes.beats, statements, SHARD, namespace, sessionId),
    runningLeases: async (sessionId) => (await pools.workers.run(statements.running, [SHARD, sessionId])).map(readLive),
    endSession: async (sessionId) => {
      await lanes.leases.run(statements.endSession, [SHARD, sessionId]);
    },
    revokedLeases: (sessionIds) => revokedLeases(lanes.beats, statements, SHARD, sessionIds),
    cancelledLeases: (sessionIds) => cancelledLeases(lanes.beats, statements, SHARD, sessionIds),
  };
}

type UpkeepOperations =
  "census" | "tickUpkeep" | "endExpiredSessions" | "orphanedLeases" | "overdueTasks" | "removeExpiredTasks" | "sweepProgress";

function upkeepOperations({ settings, pools, statements, observe }: Parts): Pick<Storage, UpkeepOperations> {
  const pool = pools.upkeep;
  return {
    tickUpkeep: (serverId) =>
      tickUpkeep(pool, statements, SHARD, { id: serverId, address: settings.serverAddress, version: settings.serverVersion }, observe),
    endExpiredSessions: async () => {
      await pool.run(statements.sweepSessions, [SHARD]);
      await pool.run(statements.sweepRevoked, [SHARD]);
      return (await pool.run(statements.endExpired, [SHARD])).length;
    },
    orphanedLeases: (most) => orphanedLeases(pool, statements, SHARD, most),
    overdueTasks: (most) => overdueTasks(pool, statements, SHARD, most),
    removeExpiredTasks: (retentionUs, most) => removeExpiredTasks(pool, statements, SHARD, "default", retentionUs, most),
    sweepProgress: (most) => sweepProgress(pool, statements, SHARD, most),
    census: () => readCensus(pool, statements, SHARD),
  };
}

type ReadOperations =
  | "readTask"
  | "readTasks"
  | "listTasks"
  | "countTasks"
  | "listTaskEvents"
  | "surroundings"
  | "tasksAhead"
  | "readChanged"
  | "storeProgress";

function readOperations({ lanes, pools, reader, statements }: Parts): Pick<Storage, ReadOperations> {
  const { reads, lookups } = pools;
  const readTask: Storage["readTask"] = async (reference, withPayloads, caller) => {
    const id = "id" in reference ? reference.id : await resolveId(lookups.for(caller), statements, SHARD, reference);
    if (id === null) return null;
    return reads.pass(() => reader.readTask(shardOf(id, SHARDS), reference.namespace, id, withPayloads), caller);
  };
  return {
    readTask,
    readTasks: (namespace, ids, withPayloads) => reads.pass(() => reader.readTasks(SHARD, namespace, ids, withPayloads)),
    listTasks: (query, caller) => reads.pass(() => reader.listTasks(SHARD, query), caller),
    countTasks: (namespace, filter, caller) => reads.pass(() => reader.countTasks(SHARD, namespace, filter), caller),
    listTaskEvents: async (reference, after, most, caller) => {
      const task = await readTask(reference, false, caller);
      return task === null ? null : readTaskEvents(lookups.for(caller), statements, SHARD, task, after, most);
    },
    surroundings: (task, caller) => readSurroundings(lookups.for(caller), statements, SHARD, task),
    tasksAhead: (task, names, caller) => countAhead(lookups.for(caller), statements, SHARD, task, names),
    readChanged: (known) => readChanged(lanes.hints, statements, SHARD, known),
    storeProgress: (progress) => storeProgress(lanes.hints, statements, SHARD, progress),
  };
}

function hintOperations(
  settings: StorageSettings,
  clock: Clock,
  lane: HotLane,
  statements: Statements,
): Pick<Storage, "notify" | "onHint"> & { listening(): boolean; close(): Promise<void> } {
  const listeners: ((hint: Hint | null) => void)[] = [];
  const channel = channelOf(settings.schema);
  const listenConfig = clientConfig({ ...settings, url: settings.listenUrl }, "leasehold wakeups");
  const listener = new HintListener(listenConfig, channel, settings.serverId, clock, (hint) => {
    for (const heard of listeners) heard(hint);
  });
  return {
    notify: async (hint) => {
      const payloads = writeHint(settings.serverId, hint);
      if (payloads.length > 0) await lane.run(statements.notify, [channel, payloads]);
    },
    onHint: (callback) => {
      listeners.push(callback);
      if (listeners.length === 1) listener.start();
    },
    listening: () => listener.listening,
    close: () => listener.close(),
  };
}

function idlest(lanes: readonly HotLane[]): HotLane {
  return lanes.reduce((best, lane) => (lane.inFlight < best.inFlight ? lane : best));
}

/** Carries the answers of an atomic insert out of the transaction that it rolls back. */
class NothingStored extends Error {
  constructor(readonly answers: Inserted[]) {
    super("an id of the batch exists with other content");
  }
}

function allOrNothing(tasks: readonly NewTask[], answers: Inserted[]): Inserted[] {
  const refused = (answer: Inserted, index: number): boolean =>
    answer.kind !== "created" && conflictReason(tasks[index]?.submission.keyConflictPolicy ?? "REJECT", answer) !== null;
  if (answers.some(refused)) throw new NothingStored(answers);
  return answers;
}

async function insertAtomically(insert: () => Promise<Inserted[]>): Promise<Inserted[]> {
  try {
    return await insert();
  } catch (error) {
    if (error instanceof NothingStored) return error.answers;
    throw error;
  }
}
