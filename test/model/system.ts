// What is really stored? Two servers' storages on one database, reset for each history, and everything in its tables told in the model's
// words, so that both can be compared to the byte after each step.
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import { Announcements } from "@leasehold/server/dispatch/announcements";
import { Batcher } from "@leasehold/server/dispatch/batch";
import { Reports } from "@leasehold/server/dispatch/reports";
import type { Decision, Storage, StoredTask } from "@leasehold/server/storage/storage";
import type { UpkeepParts } from "@leasehold/server/upkeep/apply-page";
import { finishReasonNumber, stateNumber } from "@leasehold/server/storage/live-rows";
import { auditBetweenTicks, type Finding } from "../support/audit.js";
import { MAX_PAYLOAD_BYTES, openTestStorage, START, type TestStorage } from "../support/storage.js";
import type { Model, ModelTask } from "./model.js";

/** One of two servers. */
export interface Server {
  readonly storage: Storage;
  readonly reports: Reports;
  readonly upkeep: UpkeepParts;
}

/** The servers and their database. */
export interface System extends AsyncDisposable {
  readonly test: TestStorage;
  readonly servers: readonly [Server, Server];
  /** The last that was seen of each task: what may only rise is compared with it. */
  readonly seen: Map<string, { readonly revision: number; readonly fencingToken: number; readonly nonce: string | null }>;
  /** Counts what happened, to prove that the histories reach what they are to prove. */
  readonly reached: Map<string, number>;
  /** Empties the tables and sets the clock back. */
  reset(): Promise<void>;
}

/** Opens both servers on a database of their own. */
export async function openSystem(): Promise<System> {
  const test = await openTestStorage();
  const other = await test.another();
  const seen: System["seen"] = new Map();
  return {
    test,
    servers: [serverOn(test, test.storage), serverOn(test, other)],
    seen,
    reached: new Map(),
    reset: async () => {
      seen.clear();
      await test.advance(START - test.nowUs);
      await test.rows(`TRUNCATE tasks, live_tasks, finished_tasks, execution_metadata, task_keys, task_labels, task_events, task_progress,
        sessions, revoked_leases, servers`);
      await test.rows("UPDATE upkeep SET last_tick = leasehold_now(), lenient_until = leasehold_now()");
    },
    [Symbol.asyncDispose]: () => test[Symbol.asyncDispose](),
  };
}

function serverOn({ clock }: TestStorage, storage: Storage): Server {
  const failed = (error: unknown): void => {
    throw error;
  };
  const announcements = new Announcements(clock, storage, { work: () => undefined, changed: () => undefined, lease: () => true });
  announcements.alone = true;
  const limits = { maxItems: 10, maxBytes: MAX_PAYLOAD_BYTES, lanes: 2, maxWaiting: 10 };
  const writes = new Batcher<Decision, boolean>(clock, limits, (decisions) => storage.applyDecisions(decisions));
  return {
    storage,
    reports: new Reports(clock, storage, writes, announcements, MAX_PAYLOAD_BYTES, failed),
    upkeep: {
      ...{ clock, storage, failed, serverId: randomUUID(), retentionUs: { COMPLETED: 0, FAILED: 0, CANCELLED: 0 } },
      ...{ committed: () => undefined, alone: () => undefined, removed: () => undefined },
    },
  };
}

/** Fails with the difference unless both are the same: bytes by their content, fields that are undefined like missing ones. */
export function expectSame(actual: unknown, expected: unknown, what: string): void {
  const [left, right] = [plain(actual), plain(expected)];
  if (left !== right) expect(JSON.parse(left), what).toEqual(JSON.parse(right));
}

function plain(value: unknown): string {
  return JSON.stringify(value ?? null, (_key, part: unknown) => {
    if (part instanceof Uint8Array) return Buffer.from(part).toString("latin1");
    if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
    // A Buffer has a toJSON of its own, which has been at it before.
    if ("type" in part && part.type === "Buffer" && "data" in part) return Buffer.from(part.data as number[]).toString("latin1");
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

interface Tables {
  readonly events: unknown;
  readonly keys: unknown;
  readonly sessions: unknown;
  readonly revoked: unknown;
}

const us = (column: string): string => `(extract(epoch FROM ${column}) * 1000000)::int8`;

const TABLES = `SELECT
  (SELECT json_agg(json_build_array(id, revision, place, ${us("event_time")}, type, state, attempt, fencing_token, worker_name, message,
    ${us("run_at")}, finish_reason) ORDER BY id, revision, place) FROM task_events) AS events,
  (SELECT json_agg(json_build_array(name || ' ' || key, id, ${us("held_until")}) ORDER BY name, key) FROM task_keys) AS keys,
  (SELECT json_agg(json_build_array(id, connection, epoch, ttl_us, ${us("expires_at")}, end_time IS NOT NULL) ORDER BY id) FROM sessions
    WHERE end_time IS NULL OR end_time >= leasehold_now() - interval '1 hour') AS sessions,
  (SELECT json_agg(json_build_array(session_id, id, encode(nonce, 'hex'), reason, ${us("revoke_time")}) ORDER BY id, nonce)
    FROM revoked_leases) AS revoked`;

/** Compares all that is stored with the model, and looks for what must never be. */
export async function expectAgreement(model: Model, { test, servers, seen }: System): Promise<void> {
  const ids = [...model.tasks.keys()];
  const [stored, tables, findings] = await Promise.all([
    servers[1].storage.readTasks("default", ids, true),
    test.rows<Tables>(TABLES),
    auditBetweenTicks((text) => test.rows<Finding>(text)),
  ]);
  expectSame(findings, [], "the audit");
  expectSame(stored.map(storedTask).sort(byId), [...model.tasks.values()].map(modelTask).sort(byId), "tasks");
  expectSame(tables[0], modelTables(model), "timelines, keys, sessions and revocations");
  for (const { id, live } of stored) {
    expectRisen(seen.get(id), { revision: live.revision, fencingToken: live.fencingToken, nonce: live.lease?.nonce ?? null });
    seen.set(id, { revision: live.revision, fencingToken: live.fencingToken, nonce: live.lease?.nonce ?? null });
  }
  for (const id of seen.keys()) if (!model.tasks.has(id)) seen.delete(id);
}

type Seen = System["seen"] extends Map<string, infer Value> ? Value : never;

function expectRisen(before: Seen | undefined, after: Seen): void {
  if (before === undefined) return;
  expect(after.revision).toBeGreaterThanOrEqual(before.revision);
  if (after.nonce !== null && after.nonce !== before.nonce) expect(after.fencingToken).toBeGreaterThan(before.fencingToken);
  else expect(after.fencingToken).toBe(before.fencingToken);
  if (after.nonce !== before.nonce) expect(after.revision).toBeGreaterThan(before.revision);
}

interface TaskPicture {
  readonly id: string;
}

const byId = (a: TaskPicture, b: TaskPicture): number => (a.id < b.id ? -1 : 1);

function storedTask({ id, live, finish, metadata, executionMetadata }: StoredTask): TaskPicture {
  const { state = null, reason = null, result = null, error = null, finishTimeUs = null, keyHoldUntilUs = null } = finish ?? {};
  return Object.assign(
    { id, live, metadata, executionMetadata },
    { finish: { state, reason, result, error, finishTimeUs, keyHoldUntilUs } },
  );
}

function modelTask({ live, finish, submission, executionMetadata }: ModelTask): TaskPicture {
  const { state = null, reason = null, result = null, error = null, finishTimeUs = null, keyHoldUntilUs = null } = finish ?? {};
  const picture = { id: submission.id, live, metadata: submission.metadata, executionMetadata };
  return Object.assign(picture, { finish: { state, reason, result, error, finishTimeUs, keyHoldUntilUs } });
}

function modelTables(model: Model): Tables {
  const orNull = (rows: unknown[][]): unknown[][] | null => (rows.length === 0 ? null : rows);
  const order = (rows: unknown[][], ...columns: number[]): unknown[][] =>
    rows.sort((a, b) => {
      const at = columns.find((column) => a[column] !== b[column]) ?? 0;
      return (a[at] as string) < (b[at] as string) ? -1 : 1;
    });
  const events = [...model.tasks.values()].flatMap(({ submission: { id }, timeline }) =>
    timeline.map(({ revision, place, timeUs, attempt, fencingToken, workerName, entry }) => [
      ...[id, revision, place, timeUs, entry.type, stateNumber(entry.state), attempt, fencingToken, workerName],
      ...[entry.message ?? null, entry.runAtUs ?? null, finishReasonNumber(entry.finishReason ?? null)],
    ]),
  );
  const kept = model.sessions.filter(({ endedUs }) => endedUs === null || endedUs >= model.nowUs - 3_600_000_000);
  return {
    events: orNull(order(events, 0, 1, 2)),
    keys: orNull(
      order(
        [...model.keys].map(([place, { id, heldUntilUs }]) => [place, id, heldUntilUs]),
        0,
      ),
    ),
    sessions: orNull(
      order(
        kept.map(({ id, connection, epoch, ttlUs, expiresAtUs, endedUs }) => [id, connection, epoch, ttlUs, expiresAtUs, endedUs !== null]),
        0,
      ),
    ),
    revoked: orNull(
      order(
        model.revocations.map(({ sessionId, id, nonce, reason, timeUs }) => [sessionId, id, nonce, reason, timeUs]),
        1,
        2,
      ),
    ),
  };
}
