// What if servers and workers believe in another time, and their clocks jump while they work? Only the database's clock decides anything.
import { randomUUID } from "node:crypto";
import { FailReport } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect } from "vitest";
import { environment, startProcess, typescriptArguments } from "../support/child-process.js";
import { keepAlive } from "../support/raw-worker.js";
import { createTaskClient, jsonPayload } from "../support/task-client.js";
import { eventually, type Scene, test } from "../support/scene.js";
import { count, quick } from "./programs/tasks.js";

const HOUR_MS = 3_600_000;
const JUMP_AFTER_MS = 4_000;

/** Node's options that shift a process's wall clock, and make it jump to the other side some seconds after its start. */
function skewed(ms: number): { NODE_OPTIONS: string } {
  const code = `const Real = Date, began = performance.now();
    const now = () => Real.now() + (performance.now() - began < ${JUMP_AFTER_MS} ? ${ms} : ${-ms});
    globalThis.Date = class extends Real { constructor(...parts) { super(...(parts.length === 0 ? [now()] : parts)); } static now() { return now(); } };`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
}

async function skewedWorker(scene: Scene, name: string, addresses: readonly string[], ms: number) {
  const program = JSON.stringify({ name, addresses, sessionTtl: "3s", tasks: [quick.name, count.name] });
  const args = typescriptArguments("../e2e/programs/worker.ts", program);
  const worker = startProcess(process.execPath, args, { env: environment(skewed(ms)) });
  const kill = async (): Promise<void> => {
    worker.child.kill("SIGKILL");
    await worker.ended;
  };
  scene.undo(kill);
  await worker.waitFor(/^ready$/m);
  return { ...worker, kill };
}

/** Lets a task fail that is retried after a second; answers how long that took. Rejects when it takes 15 s. */
async function msUntilRetried(scene: Scene, address: string): Promise<number> {
  const client = createTaskClient(address);
  scene.undo(async () => client.close());
  const name = `failing ${address}`.replaceAll(/[^a-z0-9]/g, ".");
  const worker = scene.raw(address, [name], { sessionTtl: { seconds: 60n, nanos: 0 } });
  keepAlive(worker, 1_000);
  await client.submit({ name, retryPolicy: { delays: [{ seconds: 1n }] } });
  const failed = await worker.lease(0);
  const failedMs = performance.now();
  worker.report(failed, 1, { fail: FailReport.create({ error: { code: "again", message: "again" } }) });
  await worker.verdict(failed, 1);
  await worker.lease(1);
  return performance.now() - failedMs;
}

describe.concurrent("clocks that are", () => {
  test(
    "hours ahead and behind run each task once, keep its checkpoints, and none before it is due",
    { timeout: 120_000 },
    async ({ scene }) => {
      const ahead = await scene.server({ env: skewed(5 * HOUR_MS) });
      const behind = await scene.server({ env: skewed(-7 * HOUR_MS) });
      const addresses = [ahead.address, behind.address];
      const client = scene.client(...addresses);
      const first = await skewedWorker(scene, "first", addresses, 3 * HOUR_MS);
      const counting = await client.submit(count, { to: 200, stepMs: 50 });
      await first.waitFor(new RegExp(`^checkpointed ${counting.id} 10$`, "m"));
      const second = await skewedWorker(scene, "second", addresses.toReversed(), -11 * HOUR_MS);

      const [here, there] = [createTaskClient(ahead.address), createTaskClient(behind.address)];
      for (const each of [here, there]) scene.undo(async () => each.close());
      // One id, at both: the same task. One key, at both: the same task.
      const taskId = randomUUID();
      const task = { taskId, name: quick.name, metadata: jsonPayload({ n: 0 }), key: "only", keyHold: { seconds: 3_600n } };
      const answers = await Promise.all([here.submit(task), there.submit(task)]);
      expect(answers.map((answer) => answer.taskId)).toEqual([taskId, taskId]);
      const [clock] = await scene.rows("SELECT (extract(epoch FROM leasehold.leasehold_now()))::float8 AS now");
      expect(Math.abs(Number(clock?.["now"]) - Number(answers[0].createTime?.seconds))).toBeLessThan(60);
      const due = { seconds: BigInt(Math.floor(Number(clock?.["now"])) + 3), nanos: 0 };
      const scheduled = [];
      for (const at of [here, there, here, there])
        scheduled.push(await at.submit({ name: quick.name, metadata: jsonPayload({ n: 1 }), scheduleTime: due }));
      const many = await Promise.all(Array.from({ length: 40 }, (_, n) => client.submit(quick, { n })));

      // A delay that a server computes by its own reckoning of the database's time.
      // That is behind by what the last answer took to arrive, which on a busy machine are some milliseconds.
      for (const address of addresses) expect(await msUntilRetried(scene, address)).toBeGreaterThan(900);

      // By now every clock has jumped, some of them by more than half a day.
      for (const one of many) await one.result({ timeout: "60s" });
      await Promise.all(scheduled.map((one) => there.wait(one.taskId)));
      await eventually(
        () => first.said(),
        (said) => new RegExp(`^checkpointed ${counting.id} 150$`, "m").test(said),
        "the first worker has counted beyond the jump",
      );
      await first.kill();
      expect(await counting.result({ timeout: "60s" })).toEqual({ counted: 200, worker: "second" });
      expect(Number(new RegExp(`^began ${counting.id} .*from=(\\d+)`, "m").exec(second.said())?.[1])).toBeGreaterThanOrEqual(150);

      const early = `SELECT t.id FROM leasehold.tasks t JOIN leasehold.finished_tasks f USING (shard, id) WHERE f.lease_time < t.schedule_time`;
      expect(await scene.rows(early)).toEqual([]);
      const runs = (id: string): number => (first.said() + second.said()).match(new RegExp(`^began ${id}`, "gm"))?.length ?? 0;
      for (const { id } of [...many, { id: taskId }, ...scheduled.map((one) => ({ id: one.taskId }))])
        expect([id, runs(id)]).toEqual([id, 1]);
      // Nothing expired but the lease of the worker that was killed, and nothing failed but what failed on purpose.
      const events =
        "SELECT type, count(*)::int AS n FROM leasehold.task_events WHERE type IN ('LEASE_LOST', 'ATTEMPT_FAILED') GROUP BY type ORDER BY type";
      expect(await scene.rows(events)).toEqual([
        { type: "ATTEMPT_FAILED", n: 2 },
        { type: "LEASE_LOST", n: 1 },
      ]);
    },
  );
});
