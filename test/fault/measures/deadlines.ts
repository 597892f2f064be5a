// Do limits in time hold while everything restarts? A wait, a queue deadline and a total deadline that begin before a crash and end after it, and
// an attempt deadline across the reconnecting of its worker.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { mark } from "../../e2e/programs/tasks.js";
import type { Submission } from "../../support/owner-calls.js";
import { openRawWorker } from "../../support/raw-worker.js";
import type { ServerProcess } from "../../support/server-process.js";
import { jsonPayload } from "../../support/task-client.js";
import { openProbe } from "./probes.js";
import { eventually, openStage, type Stage } from "./stage.js";

/** What is killed in the middle: all servers, Postgres, or each server every two seconds for as long as it lasts. */
export type DeadlineFault = "servers" | "postgres" | "restarts";

/** What was seen, in milliseconds by the clock of the database. */
export interface DeadlinesSeen {
  readonly fault: DeadlineFault;
  /** From the suspension to the wake-up; limit 10 s. */
  readonly wokenAfterMs: number;
  /** What woke it. */
  readonly wokenBy: string;
  /** From the submission to the failure; limits 10 s and 15 s. */
  readonly queueAfterMs: number;
  readonly totalAfterMs: number;
  /** How far the end of an attempt moved while its worker reconnected; nothing if it counts from the lease as it should. */
  readonly attemptMovedMs: number;
  /** How often the handler with that deadline was begun. */
  readonly attemptBegun: number;
}

const WAIT_S = 10n;
const TOTAL_S = 15n;
const ATTEMPT_S = 120n;
const FAULT_AT_MS = 5_000;
const BACK_AT_MS = 8_000;
/** A start of Postgres takes about so long. */
const START_MS = 800;
const RESTART_EVERY_MS = 2_000;

/** Starts the limits, then the fault, and waits for what they come to. */
export async function deadlines(fault: DeadlineFault): Promise<DeadlinesSeen> {
  await using stage = await openStage({ postgres: { durable: fault === "postgres" } });
  const database = await stage.database();
  const servers = [await stage.server({ databaseUrl: database.url }), await stage.server({ databaseUrl: database.url })];
  const addresses = servers.map(({ address }) => address);
  const worker = await stage.worker({ addresses, name: "patient", sessionTtl: "60s", tasks: [mark.name] });
  const probe = openProbe(addresses[0]!);
  stage.undo(async () => probe.close());
  const submit = async (task: NonNullable<Submission>): Promise<string> => (await probe.submit(task)).response?.task?.taskId ?? "";

  const gate = join(stage.folder, "gate");
  const held = await submit({
    name: mark.name,
    metadata: jsonPayload({ folder: stage.folder, gate }),
    deadlines: { attempt: { seconds: ATTEMPT_S } },
  });
  await worker.waitFor(new RegExp(`^began ${held}`, "m"));
  const attemptBefore = await attemptEnd(stage, held);
  const queued = await submit({ name: "measure.queued", metadata: jsonPayload(1), deadlines: { queue: { seconds: WAIT_S } } });
  const total = await submit({ name: "measure.total", metadata: jsonPayload(1), deadlines: { total: { seconds: TOTAL_S } } });
  const waiting = await submit({ name: "measure.waiting", metadata: jsonPayload(1) });
  await suspend(addresses[0]!, "measure.total");
  await suspend(addresses[0]!, "measure.waiting", { seconds: WAIT_S });

  await FAULTS[fault](stage, servers, database.url);
  await eventually(
    () =>
      stage.rows("SELECT 1 FROM finished_tasks WHERE id = ANY ($1) UNION ALL SELECT 1 FROM live_tasks WHERE id = $2 AND state = 0", [
        [queued, total],
        waiting,
      ]),
    (rows) => rows.length === 3,
    "every limit has come",
  );
  const attemptAfter = await attemptEnd(stage, held);
  writeFileSync(gate, "");
  await eventually(
    () => stage.rows("SELECT 1 FROM finished_tasks WHERE id = $1 AND state = 3", [held]),
    (rows) => rows.length === 1,
    "the held task is COMPLETED",
  );
  const [woken] = await stage.rows<{ ms: number; type: string }>(WOKEN, [waiting]);
  return {
    fault,
    wokenAfterMs: woken?.ms ?? Number.NaN,
    wokenBy: woken?.type ?? "nothing",
    queueAfterMs: await failedAfter(stage, queued),
    totalAfterMs: await failedAfter(stage, total),
    attemptMovedMs: attemptAfter - attemptBefore,
    attemptBegun: worker.times("began", held),
  };
}

const FAULTS: Readonly<Record<DeadlineFault, (stage: Stage, servers: ServerProcess[], url: string) => Promise<void>>> = {
  servers: async (stage, servers, url) => {
    await pause(FAULT_AT_MS);
    await Promise.all(servers.map((server) => server.kill()));
    await pause(BACK_AT_MS - FAULT_AT_MS);
    await Promise.all(servers.map(({ address }) => stage.server({ listen: address, databaseUrl: url })));
  },
  postgres: async (stage) => {
    await pause(FAULT_AT_MS);
    await stage.killPostgres();
    await pause(BACK_AT_MS - FAULT_AT_MS - START_MS);
    await stage.restartPostgres();
  },
  restarts: async (stage, servers, url) => {
    for (let turn = 0; turn < 10; turn++) {
      await pause(RESTART_EVERY_MS);
      const place = turn % servers.length;
      const { address } = servers[place]!;
      await servers[place]!.kill();
      servers[place] = await stage.server({ listen: address, databaseUrl: url });
    }
  },
};

/** Leases the task of a name and suspends it until it is proceeded, at the most for so long. */
async function suspend(address: string, name: string, untilAfter?: { seconds: bigint }): Promise<void> {
  const worker = openRawWorker(address, [name]);
  try {
    const lease = await worker.lease();
    // Else it would get the task again.
    worker.send({ slots: { total: 0, handlers: [] } });
    const after = untilAfter === undefined ? undefined : { ...untilAfter, nanos: 0 };
    worker.report(lease, 1, { suspend: { untilTime: undefined, untilAfter: after, untilProceeded: true, executionMetadata: undefined } });
    await worker.verdict(lease, 1);
  } finally {
    worker.close();
  }
}

async function attemptEnd(stage: Stage, id: string): Promise<number> {
  const [row] = await stage.rows<{ ms: number }>(
    "SELECT (extract(epoch FROM attempt_deadline) * 1000)::float8 AS ms FROM live_tasks WHERE id = $1",
    [id],
  );
  return row?.ms ?? Number.NaN;
}

async function failedAfter(stage: Stage, id: string): Promise<number> {
  const [row] = await stage.rows<{ ms: number }>(
    "SELECT (extract(epoch FROM finish_time - create_time) * 1000)::float8 AS ms FROM finished_tasks WHERE id = $1 AND state = 4",
    [id],
  );
  return row?.ms ?? Number.NaN;
}

const WOKEN = `
  SELECT w.type, (extract(epoch FROM w.event_time - s.event_time) * 1000)::float8 AS ms
  FROM task_events s JOIN task_events w ON w.id = s.id AND w.revision > s.revision
  WHERE s.id = $1 AND s.type = 'SUSPENDED' ORDER BY w.revision LIMIT 1`;
