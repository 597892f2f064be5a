// How is the conversation of storage.ts held with a real Postgres? This file only picks the connection for each operation:
// lanes for the hot path, a pool for transactions, slonik for reads, one connection that listens.

import { randomUUID } from "node:crypto";

import type pg from "pg";

import type { Clock } from "../clock.js";
import { shardOf } from "../domain/shard.js";
import { applyDecisions, applyStatements } from "./apply-decisions.js";
import type { ConnectionSettings } from "./connections.js";
import { clientConfig, Lane, TransactionPool } from "./connections.js";
import { decideById, decideStatements } from "./decide.js";
import { DatabaseFault } from "./faults.js";
import { insertStatements, insertTasks } from "./insert-tasks.js";
import { leaseStatements, leaseTasks, readPayloads } from "./lease-tasks.js";
import { readLive } from "./live-rows.js";
import { openReader } from "./read-tasks.js";
import { takeOverSession } from "./session-takeover.js";
import { cancelledLeases, isAlive, openSession, sessionStatements, storeBeats } from "./sessions.js";
import { statementsFor } from "./statement.js";
import type { Hint, Inserted, Storage, TaskReference } from "./storage.js";
import { groupsWithWork, orphanedLeases, overdueTasks, removeExpiredTasks, upkeepStatements } from "./upkeep-statements.js";
import { tickUpkeep } from "./upkeep-tick.js";
import { channelOf, HintListener, writeHint } from "./wakeups.js";
import { readChanged, storeProgress, watchStatements } from "./watch-statements.js";

/** What a storage is opened with. */
export interface StorageSettings extends ConnectionSettings {
  /** Direct connection for LISTEN where `url` goes through a pooler. */
  readonly listenUrl: string;
  readonly schema: string;
  readonly maxPayloadBytes: number;
  /** This server, in sessions and hints. */
  readonly serverId: string;
  readonly serverAddress: string;
  readonly serverVersion: string;
}

/** One shard until the service runs on more than one machine's Postgres. */
const SHARDS = 1;
const SHARD = 0;
/** High bits of a fencing token: the timeline of Postgres, which rises with each failover. */
const TIMELINE_UNIT = 2 ** 40;

/** Opens the storage. Connects lazily: an absent Postgres is answered as a fault by each operation. */
export async function openStorage(settings: StorageSettings, clock: Clock): Promise<Storage> {
  const build = statementsFor(settings.schema);
  const statements = {
    ...insertStatements(build),
    ...leaseStatements(build),
    ...applyStatements(build),
    ...sessionStatements(build),
    ...decideStatements(build),
    ...upkeepStatements(build),
    ...watchStatements(build),
  };
  let lastReachedMs = clock.monotonicMs();
  const reachability = {
    reached: () => void (lastReachedMs = clock.monotonicMs()),
    failed: () => undefined,
  };
  let fencingBase = TIMELINE_UNIT;
  const readTimeline = async (client: pg.Client): Promise<void> => {
    const result = await client.query<string[]>({ text: "SELECT pg_walfile_name(pg_current_wal_lsn())", rowMode: "array" });
    fencingBase = Number.parseInt(result.rows[0]?.[0]?.slice(0, 8) ?? "1", 16) * TIMELINE_UNIT;
  };
  const lane = (name: string, onOpen?: (client: pg.Client) => Promise<void>): Lane => new Lane(settings, name, reachability, onOpen);
  const submitLanes = [lane("submits 1"), lane("submits 2")];
  const reportLanes = [lane("reports 1"), lane("reports 2")];
  const leaseLane = lane("leases", readTimeline);
  const beatLane = lane("heartbeats");
  const hintLane = lane("hints");
  const lanes = [...submitLanes, ...reportLanes, leaseLane, beatLane, hintLane];
  const pool = new TransactionPool(settings, reachability);
  const reader = await openReader(settings.url, settings.schema, settings.poolSize, settings.statementTimeoutMs);
  const observe = (nowUs: number): void => {
    clock.observe(nowUs);
  };
  const listeners: ((hint: Hint | null) => void)[] = [];
  const channel = channelOf(settings.schema);
  const listenConfig = clientConfig({ ...settings, url: settings.listenUrl }, "leasehold wakeups");
  const listener = new HintListener(listenConfig, channel, settings.serverId, clock, (hint) => {
    for (const heard of listeners) heard(hint);
  });
  const decideContext = { maxPayloadBytes: settings.maxPayloadBytes, observe };

  return {
    insertTasks: (tasks, atomic) =>
      atomic
        ? insertAtomically(() => pool.transaction(async (connection) => allOrNothing(await insertTasks(connection, statements, SHARD, tasks, observe))))
        : insertTasks(idlest(submitLanes), statements, SHARD, tasks, observe),
    leaseTasks: async (claim) => {
      const claimed = await leaseTasks(leaseLane, statements, SHARD, claim, fencingBase, observe);
      // What was claimed for an older epoch is left RUNNING under it: the next tick of upkeep gives it back.
      return claimed.leased;
    },
    readPayloads: (namespace, taskId) => readPayloads(pool, statements, shardOf(taskId, SHARDS), namespace, taskId),
    applyDecisions: (decisions) => applyDecisions(idlest(reportLanes), statements, SHARD, decisions, observe),
    decide: (reference, event, etagRevision) => {
      const id = idOf(reference);
      return pool.transaction((connection) =>
        decideById(connection, statements, shardOf(id, SHARDS), reference.namespace, id, event, etagRevision, { ...decideContext, chance: clock.chance() }),
      );
    },
    groupsWithWork: (namespace, most) => groupsWithWork(leaseLane, statements, SHARD, namespace, most, observe),

    openSession: (hello) => openSession(beatLane, statements, SHARD, randomUUID(), settings.serverId, hello),
    takeOverSession: (sessionId, hello, held) =>
      pool.transaction((connection) =>
        takeOverSession(connection, statements, sessionId, hello, held, {
          shard: SHARD,
          serverId: settings.serverId,
          freshId: randomUUID(),
          chance: clock.chance(),
          observe,
        }),
      ),
    storeBeats: (beats) => storeBeats(beatLane, statements, SHARD, beats),
    isSessionAlive: (namespace, sessionId) => isAlive(beatLane, statements, SHARD, namespace, sessionId),
    runningLeases: async (sessionId) => (await pool.run(statements.running, [SHARD, sessionId])).map(readLive),
    cancelledLeases: (sessionIds) => cancelledLeases(beatLane, statements, SHARD, sessionIds),

    tickUpkeep: (serverId) =>
      tickUpkeep(pool, statements, SHARD, { id: serverId, address: settings.serverAddress, version: settings.serverVersion }, observe),
    endExpiredSessions: async () => {
      await pool.run(statements.sweepSessions, [SHARD]);
      return (await pool.run(statements.endExpired, [SHARD])).length;
    },
    orphanedLeases: (most) => orphanedLeases(pool, statements, SHARD, most),
    overdueTasks: (most) => overdueTasks(pool, statements, SHARD, most),
    removeExpiredTasks: (retentionUs, most) => removeExpiredTasks(pool, statements, SHARD, "default", retentionUs, most),

    readTask: (reference, withPayloads) => {
      const id = idOf(reference);
      return reader.readTask(shardOf(id, SHARDS), { namespace: reference.namespace, id }, withPayloads);
    },
    listTasks: (query) => reader.listTasks(SHARD, query),
    readChanged: (known) => readChanged(hintLane, statements, SHARD, known),
    storeProgress: (progress) => storeProgress(hintLane, statements, SHARD, progress),

    notify: async (hint) => {
      const payloads = writeHint(settings.serverId, hint);
      if (payloads.length > 0) await hintLane.run(statements.notify, [channel, payloads]);
    },
    onHint: (callback) => {
      listeners.push(callback);
      if (listeners.length === 1) listener.start();
    },

    get health() {
      const silentMs = clock.monotonicMs() - lastReachedMs;
      return { available: silentMs < 2000, unavailableSinceMs: silentMs < 2000 ? null : silentMs };
    },
    close: async () => {
      await Promise.allSettled([...lanes.map((one) => one.close()), pool.close(), reader.close(), listener.close()]);
    },
  };
}

function idlest(lanes: readonly Lane[]): Lane {
  return lanes.reduce((best, lane) => (lane.inFlight < best.inFlight ? lane : best));
}

function idOf(reference: TaskReference): string {
  if ("id" in reference) return reference.id;
  throw new DatabaseFault("unexpected", "looking up a task by key is not there yet", false, null);
}

/** Carries the answers of an atomic insert out of the transaction that it rolls back. */
class NothingStored extends Error {
  constructor(readonly answers: Inserted[]) {
    super("an id of the batch exists with other content");
  }
}

function allOrNothing(answers: Inserted[]): Inserted[] {
  if (answers.some((answer) => answer.kind === "id-exists" && !answer.sameContent)) throw new NothingStored(answers);
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
