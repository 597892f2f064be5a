// What does a crash of Postgres cost while tasks run? How calls are answered meanwhile, how soon everything goes on after, and that no task pays.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { createClient } from "@leasehold/client";
import {
  GetTaskRequest,
  ListTasksRequest,
  ProceedTaskRequest,
  SubmitTaskRequest,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import { LeaseTasksRequest, WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import { count, ending, mark, quick } from "../../e2e/programs/tasks.js";
import type { ServerProcess } from "../../support/server-process.js";
import { jsonPayload } from "../../support/task-client.js";
import { tally } from "./figures.js";
import { type Answered, followHealth, openProbe, type Probe } from "./probes.js";
import { eventually, openStage, type Stage, type StageWorker } from "./stage.js";

/** What was seen. Lists have one entry a server; times are in milliseconds. */
export interface OutageSeen {
  /** From the crash to NOT_SERVING. */
  readonly notServingAfterMs: readonly number[];
  /** The rest of the times is from when Postgres takes connections again. */
  readonly servingAfterMs: readonly number[];
  readonly acceptedAfterMs: readonly number[];
  readonly recordedAfterMs: readonly number[];
  readonly leasedAfterMs: readonly number[];
  /** How long calls took while Postgres was away. */
  readonly callsTookMs: readonly number[];
  /** Answers of those calls: code and reason, with `!` where they say nothing of when to try again. */
  readonly answers: Readonly<Record<string, number>>;
  /** Lines that a server logged while Postgres was away, and the most in any second. */
  readonly logLines: readonly number[];
  readonly busiestSecondLines: readonly number[];
  readonly connectionsBefore: number;
  readonly mostConnectionsAfter: number;
  /** Tasks that ran through the outage, and how many of them paid for it with an attempt or a loss. */
  readonly running: number;
  readonly charged: readonly string[];
  /** Entries of the timeline that nobody should see. */
  readonly lostLeases: number;
  /** Processes that ended by themselves. */
  readonly ended: number;
}

const AWAY_LOOK_MS = 500;
const AFTER_WATCH_MS = 12_000;
const PATIENCE_MS = 60_000;

/** Crashes a durable Postgres under two servers and leaves it away for a while. */
export async function postgresKilled(awayMs: number): Promise<OutageSeen> {
  await using stage = await openStage({ postgres: { durable: true } });
  const database = await stage.database();
  const server = (): Promise<ServerProcess> => stage.server({ databaseUrl: database.url, env: { LEASEHOLD_DURABILITY: "checked" } });
  const first = await server();
  const servers = [first, await server()];
  const load = await startLoad(stage, servers, awayMs);
  const probes = servers.map(({ address }) => openProbe(address));
  const diaries = servers.map(({ address }) => followHealth(address));
  stage.undo(async () => {
    for (const probe of probes) probe.close();
    await Promise.all(diaries.map((diary) => diary.stop()));
  });
  const connectionsBefore = await connections(stage);

  const logs = servers.map(watchLog);
  const awaySinceMs = performance.now();
  await stage.killPostgres();
  const calls = await callUntil(probes, load.heldId, awaySinceMs + awayMs);
  for (const log of logs) log.stop();
  writeFileSync(load.gates.during, "");
  await stage.restartPostgres();
  const backMs = performance.now();
  writeFileSync(load.gates.after, "");

  const since = (atMs: number): number => atMs - backMs;
  const mostConnections = watchConnections(stage);
  const [acceptedAfterMs, recordedAfterMs] = await Promise.all([
    Promise.all(probes.map(async (probe) => since(await accepted(probe)))),
    Promise.all(load.gated.map(async (id) => since(await finished(stage, id)))),
  ]);
  const leasedAfterMs = await Promise.all(load.next.map(async (submit) => since(await finished(stage, await submit()))));
  await eventually(
    () => diaries.every(({ changes }) => changes.at(-1)?.serving === true),
    (serving) => serving,
    "health is SERVING again",
  );
  const mostConnectionsAfter = await mostConnections;
  const charged = await load.charged();
  const [lost] = await stage.rows<{ n: number }>("SELECT count(*)::int AS n FROM task_events WHERE type = 'LEASE_LOST'");
  const change = (serving: boolean): number[] =>
    diaries.map(({ changes }) => changes.findLast((one) => one.serving === serving)?.atMs ?? Number.NaN);
  return {
    notServingAfterMs: change(false).map((atMs) => atMs - awaySinceMs),
    servingAfterMs: change(true).map(since),
    ...{ acceptedAfterMs, recordedAfterMs, leasedAfterMs, connectionsBefore, mostConnectionsAfter, charged },
    callsTookMs: calls.map(({ tookMs }) => tookMs),
    answers: tally(calls.map(({ code, reason, retryAfterMs }) => `${code} ${reason}${retryAfterMs === undefined ? "!" : ""}`)),
    logLines: logs.map(({ lines }) => lines()),
    busiestSecondLines: logs.map(({ busiestSecond }) => busiestSecond()),
    running: load.running.length,
    lostLeases: lost?.n ?? Number.NaN,
    ended: [...servers, ...load.workers].filter(({ pid }) => !isAlive(pid)).length,
  };
}

interface Load {
  readonly workers: readonly StageWorker[];
  /** A task that runs all the time. */
  readonly heldId: string;
  /** Tasks that run until their gates open: one during the outage, one after. */
  readonly gated: readonly string[];
  readonly gates: { readonly during: string; readonly after: string };
  readonly running: readonly string[];
  /** Submits a task that ends at once; answers its id. */
  readonly next: readonly (() => Promise<string>)[];
  charged(): Promise<string[]>;
}

// A patient worker's session outlives the outage, so that its handlers go on; a hasty one's does not, and its handlers are told to stop.
async function startLoad(stage: Stage, servers: readonly ServerProcess[], awayMs: number): Promise<Load> {
  const addresses = servers.map(({ address }) => address);
  const patientTtl = `${Math.ceil(awayMs / 1_000) + 60}s` as const;
  const patient = await stage.worker({ addresses, name: "patient", sessionTtl: patientTtl, tasks: [count.name, mark.name] });
  const hasty = await stage.worker({ addresses, name: "hasty", sessionTtl: "3s", tasks: [ending.name] });
  // Each comes through its own server.
  const fresh = await Promise.all(
    addresses.map((address) => stage.worker({ addresses: [address], name: `fresh ${address}`, sessionTtl: "10s", tasks: [quick.name] })),
  );
  const clients = addresses.map((address) => createClient({ addresses: [address] }));
  stage.undo(async () => {
    for (const client of clients) client.close();
  });
  const client = clients[0]!;
  const gates = { during: join(stage.folder, "during"), after: join(stage.folder, "after") };
  const gated = await Promise.all(Object.values(gates).map(async (gate) => (await client.submit(mark, { folder: stage.folder, gate })).id));
  const stopped = await client.submitMany(
    ending,
    Array.from({ length: 5 }, () => ({ metadata: { how: "abort" } as const })),
  );
  const counting = await client.submit(count, { to: 1_000_000, stepMs: 200 });
  const running = [...gated, counting.id, ...stopped.map(({ id }) => id)];
  await eventually(
    () => stage.rows<{ n: number }>("SELECT count(*)::int AS n FROM live_tasks WHERE state = 1"),
    ([row]) => row?.n === running.length,
    "every task runs",
  );
  return {
    ...{ gates, gated, running },
    workers: [patient, hasty, ...fresh],
    heldId: counting.id,
    next: clients.map((one) => async () => (await one.submit(quick, { n: 1 })).id),
    charged: async () => {
      const rows = await stage.rows<{ id: string }>(
        `SELECT id::text FROM live_tasks WHERE id = ANY ($1) AND (failures > 0 OR lost_leases > 0)
         UNION ALL SELECT id::text FROM finished_tasks WHERE id = ANY ($1) AND (failures > 0 OR lost_leases > 0 OR state <> $2)`,
        [running, 3],
      );
      return rows.map(({ id }) => id);
    },
  };
}

async function callUntil(probes: readonly Probe[], taskId: string, endMs: number): Promise<Answered<unknown>[]> {
  const calls: Promise<Answered<unknown>>[] = [];
  // What was under way at the crash may have been answered by it.
  await pause(50);
  while (performance.now() < endMs - AWAY_LOOK_MS) {
    for (const { call } of probes) {
      calls.push(
        call(TaskServiceService.submitTask, SubmitTaskRequest.create({ task: { name: "e2e.nobody", metadata: jsonPayload(1) } })),
        call(TaskServiceService.getTask, GetTaskRequest.create({ task: { taskId } })),
        call(TaskServiceService.listTasks, ListTasksRequest.create({})),
        call(TaskServiceService.proceedTask, ProceedTaskRequest.create({ task: { taskId } })),
        call(
          WorkerServiceService.leaseTasks,
          LeaseTasksRequest.create({ workerName: "probe", maxTasks: 1, handlers: [{ taskName: "e2e.nobody" }] }),
        ),
      );
    }
    await pause(AWAY_LOOK_MS);
  }
  const answered = Promise.all(calls);
  await pause(Math.max(0, endMs - performance.now()));
  return answered;
}

async function accepted(probe: Probe): Promise<number> {
  const { atMs } = await eventually(
    () => probe.submit({ name: "e2e.nobody", metadata: jsonPayload(1) }, 2_000),
    ({ code }) => code === "OK",
    "a submission is accepted",
    PATIENCE_MS,
  );
  return atMs;
}

async function finished(stage: Stage, id: string): Promise<number> {
  await eventually(
    () => stage.rows("SELECT 1 FROM finished_tasks WHERE id = $1", [id]),
    (rows) => rows.length > 0,
    "a task is finished",
    PATIENCE_MS,
  );
  return performance.now();
}

const CONNECTIONS = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name LIKE 'leasehold%'";

async function connections(stage: Stage): Promise<number> {
  return (await stage.rows<{ n: number }>(CONNECTIONS))[0]?.n ?? 0;
}

async function watchConnections(stage: Stage): Promise<number> {
  const endMs = performance.now() + AFTER_WATCH_MS;
  let most = 0;
  while (performance.now() < endMs) {
    most = Math.max(most, await connections(stage));
    await pause(200);
  }
  return most;
}

interface LogDiary {
  readonly stop: () => void;
  readonly lines: () => number;
  readonly busiestSecond: () => number;
}

function watchLog(server: ServerProcess): LogDiary {
  const before = server.log().length;
  let text = "";
  const logged = (): string[] => text.split("\n").filter((line) => line !== "");
  return {
    stop: () => {
      text = server.log().slice(before);
    },
    lines: () => logged().length,
    busiestSecond: () => Math.max(0, ...Object.values(tally(logged().map((line) => /T[\d:]{8}/.exec(line)?.[0] ?? "no time")))),
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
