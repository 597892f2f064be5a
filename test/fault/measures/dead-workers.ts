// How soon is a dead worker noticed, and how soon do its tasks run elsewhere? By the clock of the database, from what is stored there.
import { setTimeout as pause } from "node:timers/promises";
import { createClient } from "@leasehold/client";
import { ending } from "../../e2e/programs/tasks.js";
import { eventually, type Stage } from "./stage.js";

/** What was seen; times are in milliseconds, one of each for each lease of a dead worker. */
export interface DeadWorkersSeen {
  readonly kills: number;
  readonly ttlMs: number;
  /** From the last heartbeat that was stored to the loss of the lease. Never below the TTL. */
  readonly lostAfterMs: readonly number[];
  /** From the loss to the next lease. */
  readonly leasedAgainAfterMs: readonly number[];
  /** Leases that were lost more than once, or under a worker that lived. */
  readonly wrong: readonly string[];
}

const TTL_MS = 3_000;
const TASKS_EACH = 2;

/** Kills workers of two servers with SIGKILL at random moments, several at once, until so many are dead. */
export async function deadWorkers(stage: Stage, kills: number, atOnce = 10): Promise<DeadWorkersSeen> {
  const servers = [await stage.server(), await stage.server()];
  const addresses = servers.map(({ address }) => address);
  const lostAfterMs: number[] = [];
  const leasedAgainAfterMs: number[] = [];
  const wrong: string[] = [];
  for (let dead = 0; dead < kills; dead += atOnce) {
    const seen = await round(stage, addresses, Math.min(atOnce, kills - dead), dead);
    lostAfterMs.push(...seen.map(({ lost_ms }) => lost_ms));
    leasedAgainAfterMs.push(...seen.map(({ again_ms }) => again_ms));
    wrong.push(...seen.filter(({ losses }) => losses !== 1).map(({ id }) => id));
  }
  return { kills, ttlMs: TTL_MS, lostAfterMs, leasedAgainAfterMs, wrong };
}

interface Loss extends Record<string, unknown> {
  readonly id: string;
  readonly losses: number;
  readonly lost_ms: number;
  readonly again_ms: number;
}

async function round(stage: Stage, addresses: readonly string[], victims: number, first: number): Promise<Loss[]> {
  using client = createClient({ addresses });
  const worker = (name: string, concurrency: number): ReturnType<Stage["worker"]> =>
    stage.worker({ addresses, name, concurrency, sessionTtl: `${TTL_MS / 1_000}s`, tasks: [ending.name] });
  const names = Array.from({ length: victims }, (_, index) => `victim-${first + index}`);
  const workers = await Promise.all(names.map((name) => worker(name, TASKS_EACH)));
  const items = Array.from({ length: victims * TASKS_EACH }, () => ({ metadata: { how: "abort" } as const }));
  const tasks = await client.submitMany(ending, items);
  const ids = tasks.map(({ id }) => id);
  await running(stage, ids, "victim-%");
  const sessions = await stage.rows<{ id: string; session_id: string }>(
    "SELECT id::text, session_id::text FROM live_tasks WHERE id = ANY ($1)",
    [ids],
  );
  // Only there when every victim is busy: what it gets was lost before.
  const survivor = await worker("survivor", items.length);
  await Promise.all(
    workers.map(async (victim) => {
      await pause(Math.random() * TTL_MS);
      await victim.kill();
    }),
  );
  await running(stage, ids, "survivor");
  const losses = await stage.rows<Loss>(LOSSES, [sessions.map(({ id }) => id), sessions.map(({ session_id }) => session_id)]);
  await Promise.all(tasks.map((task) => task.cancel({ grace: 0 })));
  await survivor.kill();
  if (losses.length !== ids.length) throw new Error(`${ids.length} leases were lost, and ${losses.length} are known`);
  return losses;
}

async function running(stage: Stage, ids: readonly string[], worker: string): Promise<void> {
  await eventually(
    () => stage.rows("SELECT 1 FROM live_tasks WHERE id = ANY ($1) AND state = 1 AND worker_name LIKE $2", [ids, worker]),
    (rows) => rows.length === ids.length,
    `all tasks run under ${worker}`,
  );
}

// A heartbeat sets the end of its session to its own time and the TTL: so the last one is known from the end.
const LOSSES = `
  SELECT l.id::text, count(e.*)::int AS losses,
    (extract(epoch FROM min(e.event_time) - min(s.expires_at) + min(s.ttl_us) * interval '1 microsecond') * 1000)::float8 AS lost_ms,
    (extract(epoch FROM min(l.lease_time) - min(e.event_time)) * 1000)::float8 AS again_ms
  FROM unnest($1::uuid[], $2::uuid[]) AS u(id, session_id)
  JOIN sessions s ON s.id = u.session_id
  JOIN live_tasks l ON l.id = u.id
  JOIN task_events e ON e.id = u.id AND e.type = 'LEASE_LOST'
  GROUP BY l.id`;
