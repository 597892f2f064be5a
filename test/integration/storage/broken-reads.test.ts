// What becomes of reads when Postgres breaks off their connections or refuses new ones? Each fails at once, and none takes its place in the pool along.
import { once } from "node:events";
import { createServer } from "node:net";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "@leasehold/server/clock";
import { openReader, type TaskReader } from "@leasehold/server/storage/read-tasks";
import { type DatabaseProxy, startDatabaseProxy } from "../../support/database-proxy.js";
import { createTestDatabase, type TestDatabase } from "../../support/postgres.js";
import { eventually } from "../../support/scene.js";

const POOL_SIZE = 2;
const ID = "00000000-0000-7000-8000-000000000001";

let database: TestDatabase;
let proxy: DatabaseProxy;
let reader: TaskReader;
let watcher: pg.Client;
beforeEach(async () => {
  database = await createTestDatabase();
  proxy = await startDatabaseProxy(database.url);
  watcher = new pg.Client(database.url);
  await watcher.connect();
  reader = await openReader(proxy.url, "leasehold", POOL_SIZE, 5_000, systemClock());
});
afterEach(async () => {
  await watcher.end();
  await reader.close();
  await proxy.proxy.close();
  await database.drop();
});

const read = (): Promise<unknown> => reader.readTask(0, "default", ID, false);
// A transaction sees the activity as it was when it first looked: it is looked at from outside.
const WAITING =
  "SELECT count(*)::int AS count FROM pg_stat_activity WHERE application_name = 'leasehold reads' AND wait_event_type = 'Lock'";

/** Begins as many reads as there are places, and breaks off their connections while Postgres works on them. */
async function breakReads(): Promise<string[]> {
  const holder = new pg.Client(database.url);
  // A test that fails drops the database beneath it.
  holder.on("error", () => undefined);
  await holder.connect();
  try {
    await holder.query("BEGIN");
    await holder.query("LOCK TABLE leasehold.tasks IN ACCESS EXCLUSIVE MODE");
    const reads = Promise.allSettled(Array.from({ length: POOL_SIZE }, read));
    await eventually(
      async () => (await watcher.query<{ count: number }>(WAITING)).rows[0]?.count,
      (count) => count === POOL_SIZE,
      "Postgres works on every read",
    );
    proxy.proxy.reset();
    return (await reads).map(({ status }) => status);
  } finally {
    await holder.end();
  }
}

describe("a pool of readers", () => {
  it("loses no place to a read whose connection broke", async () => {
    for (let round = 0; round < 3; round++) expect(await breakReads()).toEqual(["rejected", "rejected"]);
    expect(await read()).toBeNull();
  });

  it("leaves nobody waiting when no connection can be made", async () => {
    const refusing = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    await once(refusing, "listening");
    const address = refusing.address();
    if (typeof address === "string" || address === null) throw new Error("it listens on a port");
    proxy.proxy.aim({ host: "127.0.0.1", port: address.port });
    const reads = await Promise.allSettled(Array.from({ length: 4 * POOL_SIZE }, read));
    expect(reads.filter(({ status }) => status === "fulfilled")).toEqual([]);
    refusing.close();
    proxy.moveTo(database.url);
    expect(await Promise.all([read(), read(), read()])).toEqual([null, null, null]);
  });
});
