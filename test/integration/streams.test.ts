// What does the end of a stream mean, and what still goes over one that drains? Nothing is released by an end, a draining worker hears of
// cancels, and a heartbeat is answered by its own number, when it is stored.
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { outcomes } from "../support/raw-run.js";
import { openRawWorker, type RawWorker } from "../support/raw-worker.js";
import { createTaskClient, type TaskClient } from "../support/task-client.js";
import { untilBlocked } from "../support/storage.js";

let server: InProcessServer;
let tasks: TaskClient;
let database: pg.Client;
beforeEach(async () => {
  server = await startInProcess();
  tasks = createTaskClient(server.address);
  database = await connect();
});
afterEach(async () => {
  tasks.close();
  await database.end();
  await server[Symbol.asyncDispose]();
});

async function connect(): Promise<pg.Client> {
  const client = new pg.Client(server.databaseUrl);
  await client.connect();
  return client;
}

const TTL = { sessionTtl: { seconds: 60n, nanos: 0 } };

describe("the end of a stream", () => {
  const ends: [string, (raw: RawWorker) => void][] = [
    ["that is broken off", (raw) => raw.close()],
    ["that the worker ends politely", (raw) => void raw.call.end()],
    [
      "that drains",
      (raw) => {
        raw.send({ drain: {} });
        raw.call.end();
      },
    ],
  ];

  it.each(ends)("%s releases nothing: the lease is held, and its outcome recorded over the next one", async (_, end) => {
    const raw = openRawWorker(server.address, ["a"], TTL);
    const { sessionId } = await raw.welcome();
    const { taskId } = await tasks.submit({ name: "a" });
    const lease = await raw.lease();
    end(raw);
    // Whoever would release does it at once: a second task that is submitted, leased and finished after it shows that time for it was.
    const other = openRawWorker(server.address, ["a", "b"], { slots: 2 });
    await tasks.submit({ name: "b" });
    other.report(await other.lease(), 1, outcomes.complete);
    await other.verdict(await other.lease(), 1);
    expect(await tasks.get(taskId)).toMatchObject({ state: TaskState.RUNNING, fencingToken: lease.fencingToken });
    expect(other.received.flatMap(({ leases }) => leases)).toHaveLength(1);
    const again = openRawWorker(server.address, ["a"], { ...TTL, sessionId, connection: 2, heldLeaseTokens: [lease.leaseToken] });
    expect((await again.welcome()).keptLeaseTokens).toEqual([lease.leaseToken]);
    again.report(lease, 1, outcomes.complete);
    expect((await again.verdict(lease, 1)).code).toBe(VerdictCode.RECORDED);
    for (const one of [raw, other, again]) one.close();
  });
});

describe("a worker that drains", () => {
  it("hears of the cancel of what it still runs", async () => {
    const raw = openRawWorker(server.address, ["a"], TTL);
    const { taskId } = await tasks.submit({ name: "a" });
    const lease = await raw.lease();
    raw.send({ drain: {}, heartbeat: { number: 1, leasesReceived: 1 } });
    await raw.first(({ heartbeatAnswer }) => heartbeatAnswer, "answer to the heartbeat");
    await tasks.cancel(taskId, "no longer wanted");
    const cancel = await raw.first(({ cancels }) => cancels[0], "cancel");
    expect(cancel).toMatchObject({ leaseToken: lease.leaseToken, reason: "no longer wanted" });
    raw.close();
  });
});

describe("a heartbeat", () => {
  it("is answered by its own number when it is stored, not by that of one that came meanwhile", async () => {
    const raw = openRawWorker(server.address, ["a"], TTL);
    const { sessionId } = await raw.welcome();
    const observer = await connect();
    await database.query("BEGIN");
    await database.query("SELECT 1 FROM leasehold.sessions WHERE id = $1 FOR UPDATE", [sessionId]);
    raw.send({ heartbeat: { number: 1, leasesReceived: 0 } });
    await untilBlocked(observer);
    raw.send({ heartbeat: { number: 2, leasesReceived: 0 } });
    // What the server answers to a message behind it says that the second heartbeat has arrived.
    const unknown = { leaseToken: "none", fencingToken: 0n };
    raw.send({ reports: [{ ...unknown, reportSeq: 1, ...outcomes.complete } as never] });
    await raw.first(({ verdicts }) => verdicts[0], "verdict");
    expect(raw.received.some(({ heartbeatAnswer }) => heartbeatAnswer !== undefined)).toBe(false);
    await database.query("COMMIT");
    const answers = () => raw.received.flatMap(({ heartbeatAnswer }) => (heartbeatAnswer === undefined ? [] : [heartbeatAnswer.number]));
    await raw.first(({ heartbeatAnswer }) => heartbeatAnswer, "answer to the first heartbeat");
    expect(answers()[0]).toBe(1);
    raw.send({ heartbeat: { number: 3, leasesReceived: 0 } });
    await raw.first(({ heartbeatAnswer }) => (heartbeatAnswer?.number === 3 ? true : undefined), "answer to the third heartbeat");
    await observer.end();
    raw.close();
  });
});
