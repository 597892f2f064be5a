// Is the fence kept also by the plans of large tables? There a row that was found by id is written by its TID, and a TID scan of servers before
// 17.7 looks at nothing again after it waited: on such a server only these races see a guard that stands in the CTE alone. Small tables
// are joined otherwise, and keep the fence by chance.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { LiveTask } from "@leasehold/server/domain/task";
import type { OpenSession } from "@leasehold/server/storage/storage";
import { bodies } from "../support/domain.js";
import { helloOf, openTestStorage, type TestStorage, untilBlocked } from "../support/storage.js";

const ROWS = 5000;
const SECOND = 1_000_000;

let test: TestStorage;
let session: OpenSession;
beforeEach(async () => {
  test = await openTestStorage();
  session = await test.session();
});
afterEach(() => test[Symbol.asyncDispose]());

/** Runs what a late writer does while somebody else changes the row it has found, and commits first. */
async function whileHeld<T>(change: string, values: readonly unknown[], late: () => Promise<T>): Promise<T> {
  const [holder, observer] = [await test.connection(), await test.connection()];
  await holder.query("BEGIN");
  await holder.query(change, [...values]);
  const writing = late();
  await untilBlocked(observer);
  await holder.query("COMMIT");
  return writing;
}

async function fillTasks(): Promise<void> {
  const later = { name: "later", scheduleUs: test.nowUs + 3600 * SECOND };
  for (let stored = 0; stored < ROWS; stored += 1000) await test.store(...Array.from({ length: 1000 }, () => later));
  await test.rows("ANALYZE live_tasks");
}

const LEASED_BY_ANOTHER = `UPDATE live_tasks SET state = 1, lease_nonce = '\\x${"ab".repeat(16)}', fencing_token = fencing_token + 1,
  settled_seq = 0, revision = revision + 1 WHERE id = $1`;

describe("a late report among many tasks", () => {
  it.each(["checkpoint", "complete", "fail", "suspend"] as const)("writes nothing over the lease that came first: %s", async (kind) => {
    const task: LiveTask = await test.running(session);
    await fillTasks();
    const { id } = task.identity;
    const late = test.report(task, bodies[kind]);
    expect(await whileHeld(LEASED_BY_ANOTHER, [id], () => test.storage.applyDecisions([late]))).toEqual([false]);
    const { live, state } = await test.read(id);
    expect([state, live.lease?.nonce, live.fencingToken, live.settledSeq]).toEqual(["RUNNING", "ab".repeat(16), task.fencingToken + 1, 0]);
    expect(await test.rows("SELECT 1 FROM finished_tasks")).toEqual([]);
    expect(await test.rows("SELECT 1 FROM execution_metadata")).toEqual([]);
  });
});

describe("a late claim among many tasks", () => {
  it("leases nothing that was taken while it looked", async () => {
    const [id] = await test.store({ name: "wanted" });
    await fillTasks();
    const holder = await test.connection();
    await holder.query("BEGIN");
    await holder.query(LEASED_BY_ANOTHER.replace("SET", `SET session_id = '${session.id}', session_epoch = 1,`), [id]);
    expect(await test.lease(session, { groups: ({ name }) => name === "wanted" })).toEqual([]);
    await holder.query("COMMIT");
    expect(await test.lease(session, { groups: ({ name }) => name === "wanted" })).toEqual([]);
  });
});

describe("a late heartbeat among many sessions", () => {
  const beat = () => test.storage.storeBeats([{ sessionId: session.id, epoch: 1, number: 1 }]);
  const expiry = () => test.rows("SELECT expires_at, heartbeat_number FROM sessions WHERE id = $1", session.id);

  async function fillSessions(): Promise<void> {
    const { connection, ttlUs } = helloOf();
    await test.rows(
      `INSERT INTO sessions (shard, namespace, id, connection, epoch, ttl_us, expires_at, create_time, server_id, slots, unary, worker_name,
        sdk, language, queues, handlers)
      SELECT 0, 'default', gen_random_uuid(), $1, 1, $2, leasehold_now() + interval '1 hour', leasehold_now(), gen_random_uuid(), 1, false,
        'worker', 'test/1', 'none', '{}', '{}' FROM generate_series(1, $3::int)`,
      connection,
      ttlUs,
      ROWS,
    );
    await test.rows("ANALYZE sessions");
    await test.advance(5 * SECOND);
  }

  it.each([
    ["was taken over", "UPDATE sessions SET epoch = 2, connection = 2 WHERE id = $1"],
    ["has ended", "UPDATE sessions SET end_time = leasehold_now() WHERE id = $1"],
  ])("is not stored for a session that %s first", async (_, change) => {
    await fillSessions();
    const before = await expiry();
    expect(await whileHeld(change, [session.id], beat)).toEqual([]);
    expect(await expiry()).toEqual(before);
  });
});
