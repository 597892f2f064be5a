// What does a server write that was frozen and wakes up? Nothing that contradicts what happened meanwhile: no finished task changes, each lease is
// lost once, and nothing is stuck.
import { setTimeout as pause } from "node:timers/promises";
import { type Lease, type ServerMessage, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { keepAlive, openRawWorker } from "../../support/raw-worker.js";
import type { ServerProcess } from "../../support/server-process.js";
import { jsonPayload } from "../../support/task-client.js";
import { openProbe } from "./probes.js";
import { eventually, type Stage } from "./stage.js";

/** What was seen. */
export interface PausedServersSeen {
  readonly loops: number;
  readonly submitted: number;
  /** Completions that were recorded. */
  readonly completed: number;
  readonly lostLeases: number;
  /** Leases with two LEASE_LOST entries. */
  readonly lostTwice: number;
  /** Finished tasks that looked otherwise later, have entries after their end, or are not COMPLETED although that was recorded. */
  readonly changed: number;
  /** Tasks that are unfinished 30 s after the last loop. */
  readonly stuck: number;
}

const SERVERS = 3;
const SLOTS = 4;
const TTL_MS = 2_000;
const BEAT_MS = 500;
const TASK = "measure.paused";
const SILENCE_EVERY_MS = 100;
const SETTLE_MS = 30_000;

/** Freezes one of three servers again and again around the expiries of leases, under workers that fall silent now and then. */
export async function pausedServers(stage: Stage, loops: number, workers = 50): Promise<PausedServersSeen> {
  const servers = await Promise.all(Array.from({ length: SERVERS }, () => stage.server()));
  const addresses = servers.map(({ address }) => address);
  const over = new AbortController();
  const completed = new Set<string>();
  const crew = Array.from({ length: workers }, (_, index) => startWorker(addresses, index, completed, over.signal));
  const quiet = new AbortController();
  const submitted: string[] = [];
  const submitting = submitSteadily(addresses, workers, submitted, quiet.signal);
  const silencing = setInterval(
    () => crew[Math.floor(Math.random() * crew.length)]?.silence(TTL_MS - 300 + Math.random() * 600),
    SILENCE_EVERY_MS,
  );
  stage.undo(async () => {
    clearInterval(silencing);
    quiet.abort();
    over.abort();
    await Promise.all(crew.map(({ ended }) => ended));
  });

  const seen = new Map<string, string>();
  let changed = 0;
  for (let loop = 0; loop < loops; loop++) {
    crew[loop % crew.length]?.silence(TTL_MS + 300);
    await pause(TTL_MS - Math.random() * 500);
    await freeze(servers[Math.floor(Math.random() * SERVERS)]!, 2_000 + Math.random() * 4_000);
    changed += await compare(stage, seen);
  }
  clearInterval(silencing);
  quiet.abort();
  await submitting;
  const stuck = await eventually(
    async () => (await stage.rows<{ n: number }>("SELECT count(*)::int AS n FROM live_tasks"))[0]?.n ?? 0,
    (unfinished) => unfinished === 0,
    "every task has finished",
    SETTLE_MS,
  ).catch(async () => (await stage.rows<{ n: number }>("SELECT count(*)::int AS n FROM live_tasks"))[0]?.n ?? 0);
  changed += await compare(stage, seen);
  const count = async (query: string, ...parameters: unknown[]): Promise<number> =>
    (await stage.rows<{ n: number }>(query, parameters))[0]?.n ?? Number.NaN;
  return {
    loops,
    submitted: submitted.length,
    completed: completed.size,
    lostLeases: await count("SELECT count(*)::int AS n FROM task_events WHERE type = 'LEASE_LOST'"),
    lostTwice: await count(
      "SELECT count(*)::int AS n FROM (SELECT 1 FROM task_events WHERE type = 'LEASE_LOST' GROUP BY id, fencing_token HAVING count(*) > 1) twice",
    ),
    changed:
      changed +
      (await count("SELECT count(*)::int AS n FROM task_events e JOIN finished_tasks f ON f.id = e.id AND e.revision > f.revision")) +
      (await count(
        "SELECT count(*)::int AS n FROM unnest($1::uuid[]) AS id WHERE id NOT IN (SELECT f.id FROM finished_tasks f WHERE f.state = 3)",
        [...completed],
      )),
    stuck,
  };
}

async function freeze({ pid }: ServerProcess, forMs: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  try {
    await pause(forMs);
  } finally {
    process.kill(pid, "SIGCONT");
  }
}

/** How many finished tasks look otherwise than when they were seen first. */
async function compare(stage: Stage, seen: Map<string, string>): Promise<number> {
  const rows = await stage.rows<{ id: string; look: string }>("SELECT id::text, to_jsonb(f)::text AS look FROM finished_tasks f");
  let changed = 0;
  for (const { id, look } of rows) {
    if (seen.has(id) && seen.get(id) !== look) changed += 1;
    seen.set(id, look);
  }
  return changed;
}

async function submitSteadily(addresses: readonly string[], perSecond: number, submitted: string[], over: AbortSignal): Promise<void> {
  const probes = addresses.map(openProbe);
  const open = new Set<Promise<unknown>>();
  const retryPolicy = { maxLostLeases: 1_000, lostLeaseDelays: [{ seconds: 0n }] };
  for (let n = 0; !over.aborted; n++) {
    const one = probes[n % probes.length]!.submit({ name: TASK, metadata: jsonPayload(n), retryPolicy }, 10_000).then(({ response }) => {
      if (response?.task !== undefined) submitted.push(response.task.taskId);
    });
    open.add(one);
    void one.finally(() => open.delete(one));
    await pause(1_000 / perSecond);
  }
  await Promise.all(open);
  for (const probe of probes) probe.close();
}

interface Crewman {
  /** Says nothing for a while: no heartbeat, no report. */
  readonly silence: (forMs: number) => void;
  readonly ended: Promise<void>;
}

/** A worker that completes what it gets after a moment, and opens a session anew when the old one is over or its server says nothing. */
function startWorker(addresses: readonly string[], index: number, completed: Set<string>, over: AbortSignal): Crewman {
  let silentUntilMs = 0;
  const live = async (turn: number): Promise<void> => {
    const worker = openRawWorker(addresses[(index + turn) % addresses.length]!, [TASK], {
      workerName: `crew-${index}`,
      slots: SLOTS,
      sessionTtl: { seconds: BigInt(TTL_MS / 1_000), nanos: 0 },
    });
    const names = new Map<string, string>();
    // Late after a silence, as a worker that was only slow would: its lease may be another's by then.
    const complete = (lease: Lease): void => {
      const waitMs = silentUntilMs - performance.now();
      if (over.aborted) return;
      if (waitMs > 0) setTimeout(() => complete(lease), waitMs);
      else worker.report(lease, 1, { complete: { result: undefined, executionMetadata: undefined } });
    };
    let heardMs = performance.now();
    worker.call.on("data", ({ leases, verdicts }: ServerMessage) => {
      heardMs = performance.now();
      for (const lease of leases) {
        names.set(lease.leaseToken, lease.taskId);
        setTimeout(() => complete(lease), 200 + Math.random() * 1_300);
      }
      for (const { leaseToken, code } of verdicts) {
        const id = names.get(leaseToken);
        if (id !== undefined && code === VerdictCode.RECORDED) completed.add(id);
      }
    });
    const gone = new AbortController();
    void worker.ended.then(() => gone.abort());
    let beats = 0;
    let stop = keepAlive(worker, BEAT_MS);
    let wasSilent = false;
    while (!gone.signal.aborted && !over.aborted && performance.now() - heardMs < 3 * TTL_MS) {
      const silent = performance.now() < silentUntilMs;
      if (silent && !wasSilent) stop();
      // Its next heartbeat comes just before or just after its session expired.
      if (!silent && wasSilent) stop = keepAlive(worker, BEAT_MS, (beats += 1_000));
      wasSilent = silent;
      await pause(50);
    }
    stop();
    worker.close();
  };
  const ended = (async () => {
    for (let turn = 0; !over.aborted; turn++) await live(turn);
  })();
  return { silence: (forMs) => void (silentUntilMs = performance.now() + forMs), ended };
}
