// Do the statements of one turn go over a lane as one, each after the commit of the one before? And is nobody told of a commit that is in doubt?
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Lane } from "@leasehold/server/storage/connections";
import type { Row } from "@leasehold/server/storage/statement";
import { type DatabaseProxy, startDatabaseProxy } from "../../support/database-proxy.js";
import { createTestDatabase, type TestDatabase } from "../../support/postgres.js";
import { eventually } from "../../support/scene.js";

let database: TestDatabase;
let proxy: DatabaseProxy;
let watcher: pg.Client;
let lanes: Lane[];
beforeEach(async () => {
  database = await createTestDatabase();
  proxy = await startDatabaseProxy(database.url);
  watcher = new pg.Client(database.url);
  await watcher.connect();
  await watcher.query("CREATE TABLE said (word text UNIQUE)");
  lanes = [];
});
afterEach(async () => {
  await Promise.all(lanes.map((lane) => lane.close()));
  await watcher.end();
  await proxy.proxy.close();
  await database.drop();
});

async function openLane({ prepared = true } = {}): Promise<Lane> {
  const settings = { url: proxy.url, prepared, poolSize: 1, statementTimeoutMs: 10_000 };
  const lane = new Lane(settings, "test", { reached: () => undefined, failed: () => undefined });
  lanes.push(lane);
  await lane.run({ name: "opened", text: "SELECT 1" }, []);
  return lane;
}

const say = (lane: Lane, word: string): Promise<Row[]> =>
  lane.run({ name: "say", text: "INSERT INTO said VALUES ($1) RETURNING word" }, [word]);
const count = (lane: Lane): Promise<Row[]> => lane.run({ name: "count", text: "SELECT count(*) FROM said" }, []);
const pid = (lane: Lane): Promise<Row[]> => lane.run({ name: "pid", text: "SELECT pg_backend_pid()" }, []);
const WARN = { name: "warn", text: "SELECT warn()" };
const heard = async (): Promise<number> => (await watcher.query<{ n: number }>("SELECT count(*)::int AS n FROM said")).rows[0]!.n;
const kinds = (settled: readonly PromiseSettledResult<unknown>[]): string[] =>
  settled.map((one) => (one.status === "fulfilled" ? "done" : String((one.reason as { outcomeUnknown: boolean }).outcomeUnknown)));

describe("statements of one turn", () => {
  it("wait for no answer: all are done although none is heard, and all fail with the connection", async () => {
    const lane = await openLane();
    proxy.proxy.blackHole("to-client");
    const both = Promise.allSettled([say(lane, "a"), say(lane, "b")]);
    await eventually(heard, (n) => n === 2, "both statements were run");
    proxy.proxy.reset();
    expect(kinds(await both)).toEqual(["true", "true"]);
    proxy.proxy.heal();
    expect(await say(lane, "c")).toEqual([["c"]]);
  });

  it("run in their order, each behind the commit of the one before", async () => {
    const lane = await openLane();
    expect(await Promise.all([say(lane, "a"), count(lane), say(lane, "b"), count(lane)])).toEqual([[["a"]], [["1"]], [["b"]], [["2"]]]);
  });

  it("fail one by one", async () => {
    const lane = await openLane();
    expect(kinds(await Promise.allSettled([say(lane, "a"), say(lane, "a"), say(lane, "b")]))).toEqual(["done", "false", "done"]);
    expect(await heard()).toBe(2);
  });

  it("wait for each other where a pooler mixes up what is prepared", async () => {
    const lane = await openLane({ prepared: false });
    proxy.proxy.blackHole("to-client");
    const both = Promise.allSettled([say(lane, "a"), say(lane, "b")]);
    await eventually(heard, (n) => n === 1, "the first statement was run");
    proxy.proxy.reset();
    expect(kinds(await both)[0]).toBe("true");
    expect(await heard()).toBe(1);
  });

  it("finish on the old connection when it is to be renewed", async () => {
    const lane = await openLane();
    const [[before]] = (await pid(lane)) as [Row];
    const under = Promise.all([say(lane, "a"), say(lane, "b")]);
    lane.renew();
    expect(await under).toEqual([[["a"]], [["b"]]]);
    expect(await pid(lane)).not.toEqual([[before]]);
  });
});

describe("a warning that a commit may not have reached the standby", () => {
  it("refuses all that was under way, whichever it belongs to, and ends the connection", async () => {
    // As Postgres says it when the wait for the standby is cancelled: a warning without a code of its own.
    await watcher.query("CREATE FUNCTION warn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'canceling wait'; RETURN 1; END $$");
    const lane = await openLane();
    const [[before]] = (await pid(lane)) as [Row];
    const settled = kinds(await Promise.allSettled([lane.run(WARN, []), say(lane, "a")]));
    expect(settled).toEqual(["true", "true"]);
    expect(await pid(lane)).not.toEqual([[before]]);
    expect(await say(lane, "b")).toEqual([["b"]]);
  });
});
