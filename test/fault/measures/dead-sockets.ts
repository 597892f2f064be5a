// What happens when the network below open connections to Postgres goes away without a word? Calls are answered by their deadlines, nothing
// acknowledged is lost, and everything comes back by itself.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { createClient } from "@leasehold/client";
import { GetTaskRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { count } from "../../e2e/programs/tasks.js";
import type { DatabaseProxy } from "../../support/database-proxy.js";
import { jsonPayload } from "../../support/task-client.js";
import { tally } from "./figures.js";
import { type Answered, followHealth, openProbe, type Probe } from "./probes.js";
import { eventually, type Stage } from "./stage.js";

/** The ways in which the network goes away between each server and Postgres. */
export const DEAD_SOCKETS = {
  /** Nothing passes, and new connections hang. */
  everything: (proxy) => {
    proxy.blackHole("to-target");
    proxy.blackHole("to-client");
  },
  /** Only connections that are open; Postgres does not learn of their end. */
  established: (proxy) => proxy.freeze(),
  /** What is sent arrives, and no answer comes back. */
  answers: (proxy) => proxy.blackHole("to-client"),
  /** Open connections are reset, and new ones hang. */
  connect: (proxy) => {
    proxy.blackHole("to-target");
    proxy.blackHole("to-client");
    proxy.reset();
  },
} satisfies Record<string, (proxy: DatabaseProxy["proxy"]) => void>;

/** What was seen; times in milliseconds, rates in submissions a second. */
export interface DeadSocketsSeen {
  readonly variant: string;
  /** How long calls took that were made while the network was away. */
  readonly callsTookMs: readonly number[];
  /** Calls that were answered later than their deadline and some grace. */
  readonly late: number;
  readonly answers: Readonly<Record<string, number>>;
  /** From the fault; empty where health stayed. */
  readonly notServingAfterMs: readonly number[];
  /** From the healing. */
  readonly servingAfterMs: readonly number[];
  readonly rateBefore: number;
  /** From the healing until 90 % of the rate before; null if it never came. */
  readonly rateBackAfterMs: number | null;
  /** From the healing until every server answered many reads at once; null if one never did. */
  readonly readsBackAfterMs: number | null;
  readonly acknowledged: number;
  /** Of these after the healing. */
  readonly acknowledgedAfter: number;
  readonly unknown: number;
  /** Acknowledged submissions that are not stored. */
  readonly lost: number;
  /** Submissions that were sent again with their id and did not name their task, or made a second one. */
  readonly doubled: number;
  readonly running: number;
  readonly lostLeases: number;
  /** Long tasks that make no further checkpoint after the healing. */
  readonly stuck: number;
  readonly connectionsBefore: number;
  readonly connectionsAfter: number;
}

/** How long a measurement watches before and after. */
export interface Patience {
  readonly beforeMs: number;
  /** Most that is waited for the rate to come back. */
  readonly afterMs: number;
}

const DEADLINE_MS = 5_000;
const GRACE_MS = 1_000;
const SUBMITTERS_EACH = 4;
const RUNNING = 10;
const READERS_EACH = 10;
const RATE_WINDOW_MS = 2_000;

/** Takes the network between two servers and Postgres away. */
export async function deadSockets(
  stage: Stage,
  variant: keyof typeof DEAD_SOCKETS,
  awayMs: number,
  { beforeMs, afterMs }: Patience = { beforeMs: 5_000, afterMs: 60_000 },
): Promise<DeadSocketsSeen> {
  const databases = [await stage.database(), await stage.database()];
  const servers = await Promise.all(databases.map(({ url }) => stage.server({ databaseUrl: url })));
  const addresses = servers.map(({ address }) => address);
  const worker = await stage.worker({ addresses, name: "holder", sessionTtl: "20s", concurrency: RUNNING, tasks: [count.name] });
  using client = createClient({ addresses });
  const long = await client.submitMany(
    count,
    Array.from({ length: RUNNING }, () => ({ metadata: { to: 1_000_000, stepMs: 500 } })),
  );
  for (const { id } of long) await worker.waitFor(new RegExp(`^checkpointed ${id}`, "m"));
  const diaries = addresses.map(followHealth);
  const probes = addresses.map(openProbe);
  const load = startHardLoad(probes, long[0]!.id);
  stage.undo(async () => {
    await load.stop();
    await Promise.all(diaries.map((diary) => diary.stop()));
    for (const probe of probes) probe.close();
  });
  await pause(RATE_WINDOW_MS + beforeMs);
  const rateBefore = load.rate(beforeMs);
  const connectionsBefore = await connections(stage);

  const awaySinceMs = performance.now();
  for (const { proxy } of databases) DEAD_SOCKETS[variant](proxy);
  await pause(awayMs);
  const healedMs = performance.now();
  for (const { proxy } of databases) proxy.heal();
  const [rateBackAfterMs, readsBackAfterMs] = await Promise.all([
    rateBack(load, rateBefore, healedMs, afterMs),
    readsBack(probes, long[0]!.id, healedMs, afterMs),
  ]);
  await eventually(
    () => diaries.every(({ changes }) => changes.at(-1)?.serving === true),
    (serving) => serving,
    "health is SERVING again",
  );
  const checkpointsBefore = long.map(({ id }) => worker.times("checkpointed", id));
  await load.stop();
  const stuck = await stuckTasks(
    () => long.filter(({ id }, index) => worker.times("checkpointed", id) <= checkpointsBefore[index]!).length,
  );
  const during = load.calls.filter(({ atMs, tookMs }) => atMs > awaySinceMs && atMs - tookMs < healedMs);
  const notServing = diaries.flatMap(({ changes }) => changes.filter(({ serving, atMs }) => !serving && atMs > awaySinceMs).slice(0, 1));
  const [lostLeases] = await stage.rows<{ n: number }>("SELECT count(*)::int AS n FROM task_events WHERE type = 'LEASE_LOST'");
  return {
    ...{ variant, rateBefore, rateBackAfterMs, readsBackAfterMs, stuck, connectionsBefore },
    callsTookMs: during.map(({ tookMs }) => tookMs),
    late: during.filter(({ tookMs }) => tookMs > DEADLINE_MS + GRACE_MS).length,
    answers: tally(during.map(({ method, code, reason }) => `${method} ${code} ${reason}`.trim())),
    notServingAfterMs: notServing.map(({ atMs }) => atMs - awaySinceMs),
    servingAfterMs: diaries
      .flatMap(({ changes }) => changes.filter(({ serving, atMs }) => serving && atMs > healedMs).slice(-1))
      .map(({ atMs }) => atMs - healedMs),
    acknowledged: load.acknowledged.size,
    acknowledgedAfter: load.calls.filter(({ method, code, atMs }) => method === "SubmitTask" && code === "OK" && atMs > healedMs).length,
    unknown: load.unknown.size,
    ...(await settle(stage, probes[0]!, load)),
    running: RUNNING,
    lostLeases: lostLeases?.n ?? Number.NaN,
    connectionsAfter: await connections(stage),
  };
}

interface HardLoad {
  readonly calls: readonly Answered<unknown>[];
  readonly acknowledged: ReadonlySet<string>;
  /** Ids of submissions whose outcome nobody knows. */
  readonly unknown: ReadonlySet<string>;
  /** Acknowledged submissions a second, over the last while. */
  rate(overMs: number): number;
  stop(): Promise<unknown>;
}

/** A few submitters and readers for each server, each with one call at a time. */
function startHardLoad(probes: readonly Probe[], knownId: string): HardLoad {
  const calls: Answered<unknown>[] = [];
  const acknowledged = new Set<string>();
  const unknown = new Set<string>();
  const over = new AbortController();
  const submitters = probes.flatMap((probe) =>
    Array.from({ length: SUBMITTERS_EACH }, async () => {
      while (!over.signal.aborted) {
        const taskId = randomUUID();
        const answer = await probe.submit({ taskId, name: "e2e.nobody", metadata: jsonPayload(taskId) }, DEADLINE_MS);
        calls.push(answer);
        (answer.code === "OK" ? acknowledged : unknown).add(taskId);
        // A closed loop, but not one that measures how fast this process can call.
        await pause(answer.code === "OK" ? 10 : 100);
      }
    }),
  );
  const readers = probes.flatMap((probe) =>
    Array.from({ length: READERS_EACH }, async () => {
      while (!over.signal.aborted) {
        calls.push(await probe.call(TaskServiceService.getTask, GetTaskRequest.create({ task: { taskId: knownId } }), DEADLINE_MS));
        await pause(200);
      }
    }),
  );
  return {
    calls,
    acknowledged,
    unknown,
    rate: (overMs) => {
      const fromMs = performance.now() - overMs;
      return (calls.filter(({ method, code, atMs }) => method === "SubmitTask" && code === "OK" && atMs >= fromMs).length / overMs) * 1_000;
    },
    stop: () => {
      over.abort();
      return Promise.all([...submitters, ...readers]);
    },
  };
}

async function rateBack(load: HardLoad, before: number, healedMs: number, mostMs: number): Promise<number | null> {
  while (performance.now() < healedMs + mostMs) {
    await pause(250);
    const sinceMs = performance.now() - healedMs;
    if (sinceMs >= RATE_WINDOW_MS && load.rate(RATE_WINDOW_MS) >= 0.9 * before) return sinceMs;
  }
  return null;
}

async function readsBack(probes: readonly Probe[], taskId: string, healedMs: number, mostMs: number): Promise<number | null> {
  while (performance.now() < healedMs + mostMs) {
    const reads = probes.flatMap(({ call }) =>
      Array.from({ length: READERS_EACH }, () =>
        call(TaskServiceService.getTask, GetTaskRequest.create({ task: { taskId } }), DEADLINE_MS),
      ),
    );
    if ((await Promise.all(reads)).every(({ code }) => code === "OK")) return performance.now() - healedMs;
    await pause(100);
  }
  return null;
}

async function stuckTasks(stuck: () => number): Promise<number> {
  return eventually(stuck, (number) => number === 0, "every long task goes on", 30_000).catch(stuck);
}

/** Sends everything of unknown outcome again, and looks for all of it. */
async function settle(stage: Stage, probe: Probe, load: HardLoad): Promise<{ lost: number; doubled: number }> {
  const again = [...load.unknown, ...[...load.acknowledged].slice(-20)];
  const answers = await Promise.all(
    again.map(async (taskId) => ({
      taskId,
      answer: await probe.submit({ taskId, name: "e2e.nobody", metadata: jsonPayload(taskId) }, 20_000),
    })),
  );
  const strange = answers.filter(({ taskId, answer }) => answer.response?.task?.taskId !== taskId);
  const [stored] = await stage.rows<{ n: number }>("SELECT count(*)::int AS n FROM tasks WHERE name = 'e2e.nobody'");
  const missing = await stage.rows("SELECT 1 FROM unnest($1::uuid[]) AS id WHERE id NOT IN (SELECT t.id FROM tasks t)", [
    [...load.acknowledged],
  ]);
  const more = (stored?.n ?? 0) - load.acknowledged.size - load.unknown.size;
  return { lost: missing.length, doubled: strange.length + Math.max(0, more) };
}

async function connections(stage: Stage): Promise<number> {
  const [row] = await stage.rows<{ n: number }>(
    "SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'leasehold%'",
  );
  return row?.n ?? 0;
}
