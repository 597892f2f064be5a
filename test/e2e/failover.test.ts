// What is left when the database's host is lost and a standby takes its place? With a synchronous one everything that was acknowledged; with an
// asynchronous one all but the last moments, and never two holders of one fencing token.
import { randomUUID } from "node:crypto";
import { status } from "@grpc/grpc-js";
import {
  DurabilityClass,
  type Lease,
  ReportTasksRequest,
  VerdictCode,
  WorkerServiceService,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { CountTasksRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { systemClock } from "@leasehold/server/clock";
import { newTask } from "@leasehold/server/domain/new-task";
import { migrate } from "@leasehold/server/migrate";
import { openStorage } from "@leasehold/server/storage/postgres-storage";
import pg from "pg";
import { describe, expect } from "vitest";
import { audit, type Finding } from "../support/audit.js";
import { type Load, LOAD_TASK, type LoadRecord, startLoad } from "../support/failover-load.js";
import { ownerCalls } from "../support/owner-calls.js";
import { outcomes } from "../support/raw-run.js";
import { keepAlive, type RawWorker } from "../support/raw-worker.js";
import { eventually, type Scene, test } from "../support/scene.js";
import { type PostgresPair, startPair } from "../support/standby.js";
import { claimOf, helloOf, storageSettings, submissionOf } from "../support/storage.js";
import { createTaskClient, jsonPayload, type TaskClient } from "../support/task-client.js";
import { count } from "./programs/tasks.js";

const TIMELINE = 2 ** 40;
// Generous: the machine may be busy. What operators may expect is in docs/failover.md.
const RECOVERY_LIMIT_MS = 20_000;
const CHECKED = { LEASEHOLD_DURABILITY: "checked" };

async function openPair(scene: Scene, synchronous: boolean): Promise<PostgresPair> {
  const pair = await startPair({ synchronous });
  scene.undo(() => pair.remove());
  return pair;
}

function openClient(scene: Scene, address: string): TaskClient {
  const client = createTaskClient(address);
  scene.undo(async () => client.close());
  return client;
}

/** Rows of a statement, looked up in Leasehold's schema. */
async function rowsOf<T extends pg.QueryResultRow>(url: string, text: string, ...values: readonly unknown[]): Promise<T[]> {
  const client = new pg.Client({ connectionString: url, options: "-c search_path=leasehold,public" });
  await client.connect();
  try {
    return (await client.query<T>(text, [...values])).rows;
  } finally {
    await client.end();
  }
}

async function timeOf(url: string): Promise<string> {
  const [row] = await rowsOf<{ now: string }>(url, "SELECT clock_timestamp()::text AS now");
  return row?.now ?? "";
}

/** Waits until the load is worked off, and checks what holds after any failover. */
async function expectConsistent({ standby }: PostgresPair, load: Load, promotedAt: string): Promise<void> {
  await load.quiet();
  await eventually(
    () => rowsOf(standby.url, "SELECT id, state, pending_reason, settled_seq FROM live_tasks WHERE name = $1 LIMIT 5", LOAD_TASK),
    (left) => left.length === 0,
    "every task of the load is finished",
    60_000,
  );
  await load.stop();
  const { leases, codes } = load.record;
  const last = new Map<string, bigint>();
  for (const { taskId, fencingToken } of leases) {
    expect(fencingToken, `fencing token of ${taskId}`).toBeGreaterThan(last.get(taskId) ?? 0n);
    last.set(taskId, fencingToken);
  }
  const old = `SELECT id FROM (SELECT id, fencing_token, lease_time FROM live_tasks
    UNION ALL SELECT id, fencing_token, lease_time FROM finished_tasks) AS leased WHERE lease_time > $1 AND fencing_token < $2`;
  expect(await rowsOf(standby.url, old, promotedAt, 2 * TIMELINE), "leased with a token of the old timeline").toEqual([]);
  const passing = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "RETRY_LATER", "FAILED_PRECONDITION", "NOT_FOUND"];
  expect([...codes.keys()].filter((code) => !passing.includes(code))).toEqual([]);
  await eventually(
    () => audit((text) => rowsOf<Finding & pg.QueryResultRow>(standby.url, text)),
    (findings) => findings.length === 0,
    "each task is in exactly one place",
  );
}

async function untilMore(record: LoadRecord, patienceMs: number): Promise<void> {
  const [submitted, completed, proceeded] = [record.submitted.size, record.completed.size, record.proceeded.size];
  await eventually(
    () => record.submitted.size > submitted + 20 && record.completed.size > completed + 20 && record.proceeded.size > proceeded + 5,
    (enough) => enough,
    "owners and workers get on",
    patienceMs,
  );
}

/** A worker with one lease of a name. */
async function holder(scene: Scene, address: string, taskName: string): Promise<{ worker: RawWorker; lease: Lease }> {
  const worker = scene.raw(address, [taskName], { sessionTtl: { seconds: 60n, nanos: 0 } });
  await worker.welcome();
  keepAlive(worker, 1_000);
  const lease = await worker.lease();
  // Else it could get the task again that it loses.
  worker.send({ slots: { total: 0, handlers: [] } });
  return { worker, lease };
}

/** One report after the other over a call of its own; answers the verdict's code. */
function openReports(scene: Scene, address: string): (lease: Lease, reportSeq: number) => Promise<VerdictCode | undefined> {
  const owner = ownerCalls(address);
  scene.undo(async () => owner.close());
  return async ({ leaseToken }, reportSeq) => {
    const reports = [{ leaseToken, reportSeq, complete: {} }];
    return (await owner.call(WorkerServiceService.reportTasks, ReportTasksRequest.create({ reports }))).verdicts[0]?.code;
  };
}

/** What an owner does who finds a task suspended that it had proceeded. */
async function proceedForgotten({ standby }: PostgresPair, client: TaskClient, record: LoadRecord): Promise<void> {
  const suspended = "SELECT id FROM live_tasks WHERE name = $1 AND state = 2";
  for (const { id } of await rowsOf<{ id: string }>(standby.url, suspended, LOAD_TASK))
    if (record.proceeded.has(id)) await client.proceed(id, { requestId: "again", update: { mergePatch: jsonPayload({ go: true }) } });
}

describe.concurrent("a failover", () => {
  test("to a synchronous standby loses nothing that was acknowledged", { timeout: 120_000 }, async ({ scene }) => {
    const pair = await openPair(scene, true);
    const servers = [];
    for (let n = 0; n < 2; n++) servers.push(await scene.server({ databaseUrl: pair.database.url, env: CHECKED }));
    const addresses = servers.map(({ address }) => address);
    const client = openClient(scene, addresses[0]!);
    const worker = await scene.worker({ addresses, name: "patient", sessionTtl: "20s", tasks: [count.name] });
    const counting = await scene.client(...addresses).submit(count, { to: 60, stepMs: 100 });
    const load = startLoad(addresses);
    scene.undo(() => load.stop());
    const { record } = load;
    const welcomed = scene.raw(addresses[0]!, ["nothing"]);
    expect((await welcomed.welcome()).durability).toBe(DurabilityClass.SYNCHRONOUS_STANDBY);
    welcomed.close();
    await worker.hears("checkpointed", counting.id);
    await untilMore(record, 45_000);

    await pair.primary.kill();
    const acknowledged = { submitted: [...record.submitted.keys()], completed: [...record.completed] };
    // Whoever comes to the standby too early gets no answer from there, not even to a read.
    pair.database.moveTo(pair.standby.url);
    await expect(client.submit({ name: "early" })).rejects.toMatchObject({ code: status.UNAVAILABLE });
    const owner = ownerCalls(addresses[0]!);
    scene.undo(async () => owner.close());
    for (let times = 0; times < 20; times++)
      await expect(owner.call(TaskServiceService.countTasks, CountTasksRequest.create())).rejects.toMatchObject({
        code: status.UNAVAILABLE,
      });
    await pair.promote();
    const promotedAt = await timeOf(pair.standby.url);
    await untilMore(record, RECOVERY_LIMIT_MS);

    expect(await counting.result({ timeout: "60s" })).toEqual({ counted: 60, worker: "patient" });
    expect(await counting.snapshot()).toMatchObject({ attempt: 1, lostLeases: 0 });
    expect(worker.times("began", counting.id)).toBe(1);
    await expectConsistent(pair, load, promotedAt);
    expect(record.broken).toEqual([]);
    const rows = await rowsOf<{ id: string; state: number; result: Buffer }>(
      pair.standby.url,
      "SELECT id, state, result FROM finished_tasks",
    );
    const stored = new Map(rows.map(({ id, result }) => [id, result.toString()]));
    for (const [id, n] of record.submitted) expect([id, stored.get(id)]).toEqual([id, JSON.stringify({ n })]);
    expect(acknowledged.completed.length).toBeGreaterThan(20);
  });

  test("to an asynchronous standby loses the last moments and nothing else", { timeout: 120_000 }, async ({ scene }) => {
    const pair = await openPair(scene, false);
    const { address } = await scene.server({ databaseUrl: pair.database.url, env: CHECKED });
    const client = openClient(scene, address);
    const load = startLoad([address]);
    scene.undo(() => load.stop());
    const { record } = load;
    const checkpointed = await client.submit({ name: "held.checkpoint" });
    const known = await client.submit({ name: "held.known" });
    const first = await holder(scene, address, "held.checkpoint");
    await untilMore(record, 45_000);

    // From here on the standby hears nothing.
    pair.replication.blackHole("to-client");
    const unknown = { taskId: randomUUID(), name: "held.unknown", metadata: jsonPayload({ n: 1 }) };
    await client.submit(unknown);
    const second = await holder(scene, address, "held.known");
    const third = await holder(scene, address, "held.unknown");
    first.worker.report(first.lease, 1, { checkpoint: { executionMetadata: { ...jsonPayload({ at: 1 }), contentType: "" } } });
    expect((await first.worker.verdict(first.lease, 1)).code).toBe(VerdictCode.RECORDED);
    await untilMore(record, 45_000);
    await pair.primary.kill();
    await pair.promote();
    const promotedAt = await timeOf(pair.standby.url);
    pair.database.moveTo(pair.standby.url);
    await untilMore(record, RECOVERY_LIMIT_MS);

    // Whose lease the new primary does not know is told so; so is who waits behind a checkpoint that was forgotten.
    const late = openReports(scene, address);
    expect(await late(second.lease, 1)).toBe(VerdictCode.LEASE_LOST);
    expect(await late(third.lease, 1)).toBe(VerdictCode.LEASE_LOST);
    first.worker.report(first.lease, 2, outcomes.complete);
    expect((await first.worker.verdict(first.lease, 2)).code).toBe(VerdictCode.LEASE_LOST);
    expect(await late(first.lease, 2)).toBe(VerdictCode.LEASE_LOST);
    for (const { taskId, name } of [checkpointed, known]) {
      const again = await holder(scene, address, name);
      expect(again.lease).toMatchObject({ taskId, executionMetadata: undefined, attempt: 1 });
      expect(again.lease.fencingToken).toBeGreaterThan(2n * BigInt(TIMELINE));
    }
    await expect(client.get(unknown.taskId)).rejects.toMatchObject({ code: status.NOT_FOUND });
    expect(await client.submit(unknown)).toMatchObject({ taskId: unknown.taskId, state: TaskState.PENDING });
    // A submission that was forgotten is made again by its id, a proceed that was forgotten is asked for again.
    const made = await Promise.all([...record.submitted].map(([taskId, n]) => load.submit(taskId, n)));
    expect(made.filter(Boolean).length).toBeGreaterThan(5);
    await load.quiet();
    await proceedForgotten(pair, client, record);
    await expectConsistent(pair, load, promotedAt);
  });

  test("raises the fencing tokens of the very first leases after it", { timeout: 60_000 }, async ({ scene }) => {
    const pair = await openPair(scene, false);
    await migrate(pair.database.url, { schema: "leasehold" });
    const clock = systemClock();
    const storage = await openStorage(storageSettings(pair.database.url), clock);
    scene.undo(() => storage.close());
    await storage.insertTasks(
      Array.from({ length: 4 }, () => newTask(submissionOf({ id: randomUUID() }), clock.nowUs())),
      false,
    );
    const session = await storage.openSession(helloOf({ ttlUs: 600_000_000 }));
    const groups = await storage.groupsWithWork("default", 10);
    const lease = async (): Promise<number[]> => {
      const { leased } = await storage.leaseTasks(claimOf([session], groups, { most: 1 }));
      return leased.map(({ live }) => Math.floor(live.fencingToken / TIMELINE));
    };
    expect(await lease()).toEqual([1]);
    await pair.promote();
    await pair.primary.kill();
    pair.database.moveTo(pair.standby.url);
    expect(
      await eventually(
        () => lease().catch(() => null),
        (tokens) => tokens !== null,
        "the new primary leases",
      ),
    ).toEqual([2]);
  });

  test("of a standby that never heard of a commit does not make it an acknowledged one", { timeout: 60_000 }, async ({ scene }) => {
    const pair = await openPair(scene, true);
    const { address } = await scene.server({ databaseUrl: pair.database.url, env: CHECKED });
    const client = openClient(scene, address);
    await client.submit({ name: "heard" });
    pair.replication.blackHole("to-client");
    const plain = client.submit({ name: "unheard" });
    const keyed = client.submit({ name: "unheard", key: "k" });
    const settled = Promise.allSettled([plain, keyed]);
    let answered = false;
    void settled.then(() => (answered = true));
    const cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    await eventually(
      () => rowsOf(pair.primary.url, cancel),
      () => answered,
      "an administrator has ended both waits",
    );
    const unknown = { status: "rejected", reason: { code: status.UNAVAILABLE } };
    expect(await settled).toMatchObject([unknown, unknown]);
    pair.replication.heal();
    pair.replication.reset();
    expect(await client.submit({ name: "heard" })).toMatchObject({ state: TaskState.PENDING });
  });
});
