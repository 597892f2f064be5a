// What do users notice when two servers are restarted one after the other? Submissions and running tasks go on; what each submission took is counted.
import { setTimeout as pause } from "node:timers/promises";
import { SubmitTaskRequest, SubmitTasksRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { createClient, LeaseholdError } from "../../../client/src/index.js";
import { createGrpcTransport } from "../../../client/src/grpc-transport.js";
import type { Transport } from "../../../client/src/transport.js";
import { count, quick } from "../../e2e/programs/tasks.js";
import { eventually, type Stage } from "./stage.js";

/** What was seen; times are in milliseconds. */
export interface RollingRestartSeen {
  readonly restarts: number;
  /** From the signal to the end of the process. */
  readonly stoppedAfterMs: readonly number[];
  /** Submissions that were made, and the codes of those that failed. */
  readonly submitted: number;
  readonly failed: readonly string[];
  /** Submissions by how often they were sent again. */
  readonly retries: Readonly<Record<number, number>>;
  readonly submissionTookMs: readonly number[];
  /** Long tasks that ran through it with checkpoints, and those that were begun twice or paid with an attempt. */
  readonly running: number;
  readonly disturbed: readonly string[];
  /** LEASE_LOST entries of any task. */
  readonly lostLeases: number;
  /** RELEASED entries: leases that were claimed for a stream which ended, and went back before anybody had them. */
  readonly givenBack: number;
  /** Acknowledged submissions whose task is not COMPLETED at the end. */
  readonly unfinished: number;
}

const WORKERS = 4;
const RUNNING = 20;
const BETWEEN_SUBMISSIONS_MS = 20;
const BETWEEN_RESTARTS_MS = 2_000;

/** Restarts each of two servers so many times, on its old address, under submissions and running tasks. */
export async function rollingRestart(stage: Stage, rounds: number): Promise<RollingRestartSeen> {
  const servers = [await stage.server(), await stage.server()];
  const addresses = servers.map(({ address }) => address);
  const names = Array.from({ length: WORKERS }, (_, index) => `roller-${index}`);
  const workers = await Promise.all(names.map((name) => stage.worker({ addresses, name, concurrency: RUNNING, sessionTtl: "15s" })));
  const load = submitSteadily(addresses);
  stage.undo(() => load.stop());
  const long = await load.client.submitMany(
    count,
    Array.from({ length: RUNNING }, () => ({ metadata: { to: 1_000_000, stepMs: 250 } })),
  );
  const longIds = long.map(({ id }) => id);
  await eventually(
    () => longIds.every((id) => workers.some((worker) => worker.times("checkpointed", id) > 0)),
    (running) => running,
    "every long task runs",
  );

  const stoppedAfterMs: number[] = [];
  for (let restart = 0; restart < 2 * rounds; restart++) {
    const place = restart % 2;
    await pause(BETWEEN_RESTARTS_MS);
    const askedMs = performance.now();
    const code = await servers[place]!.stop();
    if (code !== 0) throw new Error(`a server ended with ${code} when it was asked to stop`);
    stoppedAfterMs.push(performance.now() - askedMs);
    await pause(BETWEEN_RESTARTS_MS);
    servers[place] = await stage.server({ listen: addresses[place]! });
  }
  await pause(BETWEEN_RESTARTS_MS);
  const { ids, failed, retries, tookMs } = await load.finish();
  const unfinished = await eventually(
    () =>
      stage.rows<{ id: string }>(
        "SELECT id::text FROM unnest($1::uuid[]) AS id WHERE id NOT IN (SELECT f.id FROM finished_tasks f WHERE f.state = 3)",
        [ids],
      ),
    (rows) => rows.length === 0,
    "every acknowledged task is COMPLETED",
  );
  const paid = await stage.rows<{ id: string }>(
    "SELECT id::text FROM live_tasks WHERE id = ANY ($1) AND (failures > 0 OR lost_leases > 0 OR releases > 0)",
    [longIds],
  );
  const begunAgain = longIds.filter((id) => workers.reduce((sum, worker) => sum + worker.times("began", id), 0) !== 1);
  const entries = await stage.rows<{ type: string }>("SELECT type FROM task_events WHERE type IN ('LEASE_LOST', 'RELEASED')");
  return {
    restarts: stoppedAfterMs.length,
    ...{ stoppedAfterMs, failed, retries, submissionTookMs: tookMs },
    submitted: ids.length + failed.length,
    running: longIds.length,
    disturbed: [...new Set([...paid.map(({ id }) => id), ...begunAgain])],
    lostLeases: entries.filter(({ type }) => type === "LEASE_LOST").length,
    givenBack: entries.filter(({ type }) => type === "RELEASED").length,
    unfinished: unfinished.length,
  };
}

interface Submissions {
  /** Acknowledged ones. */
  readonly ids: readonly string[];
  readonly failed: readonly string[];
  readonly retries: Readonly<Record<number, number>>;
  readonly tookMs: readonly number[];
}

function submitSteadily(addresses: readonly string[]): {
  readonly client: ReturnType<typeof createClient>;
  finish(): Promise<Submissions>;
  stop(): Promise<unknown>;
} {
  const sent = new Map<string, number>();
  const client = createClient({ transport: counting(createGrpcTransport({ addresses }), sent) });
  const ids: string[] = [];
  const failed: string[] = [];
  const tookMs: number[] = [];
  const open = new Set<Promise<void>>();
  const over = new AbortController();
  const submit = async (n: number): Promise<void> => {
    const startMs = performance.now();
    try {
      ids.push((await client.submit(quick, { n })).id);
      tookMs.push(performance.now() - startMs);
    } catch (error) {
      failed.push(LeaseholdError.from(error).code);
    }
  };
  const submitting = (async () => {
    for (let n = 0; !over.signal.aborted; n++) {
      const one = submit(n);
      open.add(one);
      void one.then(() => open.delete(one));
      await pause(BETWEEN_SUBMISSIONS_MS);
    }
    await Promise.all(open);
  })();
  const finish = async (): Promise<Submissions> => {
    over.abort();
    await submitting;
    const retries: Record<number, number> = {};
    for (const id of ids) {
      const again = (sent.get(id) ?? 0) - 1;
      retries[again] = (retries[again] ?? 0) + 1;
    }
    return { ids, failed, retries, tookMs };
  };
  return { client, finish, stop: () => finish().finally(() => client.close()) };
}

/** Counts how often each task is sent. */
function counting(transport: Transport, sent: Map<string, number>): Transport {
  return {
    ...transport,
    unary: (method, request, options) => {
      const bytes = method.requestSerialize(request);
      const tasks =
        method.path === TaskServiceService.submitTasks.path
          ? SubmitTasksRequest.decode(bytes).tasks
          : method.path === TaskServiceService.submitTask.path
            ? [SubmitTaskRequest.decode(bytes).task]
            : [];
      for (const task of tasks) if (task !== undefined) sent.set(task.taskId, (sent.get(task.taskId) ?? 0) + 1);
      return transport.unary(method, request, options);
    },
  };
}
