// What becomes of running tasks when their server is killed without a word? Nothing is lost, nothing ends twice, and workers come back by themselves.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { eventually, test } from "../support/scene.js";
import { mark } from "./programs/tasks.js";

const TASKS = 50;

describe("a server killed while fifty tasks run", () => {
  test("finds all of them completed once after its restart on the same port", { timeout: 120_000 }, async ({ scene }) => {
    const first = await scene.server();
    const client = scene.client(first.address);
    const names = ["one", "two"];
    const workers = await Promise.all(
      names.map((name) => scene.worker({ addresses: [first.address], name, concurrency: TASKS / 2, sessionTtl: "60s" })),
    );
    // Some end before the kill, some while there is no server, some after.
    const tasks = await client.submitMany(
      mark,
      Array.from({ length: TASKS }, (_, n) => ({ metadata: { folder: scene.folder, forMs: 1_000 + n * 150 } })),
    );
    for (const { id } of tasks)
      await eventually(
        () => began(id),
        (times) => times === 1,
        "every task runs",
      );
    await first.kill();
    const second = await scene.server({ listen: first.address });
    expect(second.address).toBe(first.address);

    for (const task of tasks) {
      expect(await task.outcome({ timeout: "60s" })).toMatchObject({ state: "completed" });
      const snapshot = await task.snapshot();
      expect(snapshot).toMatchObject({ state: "completed", attempt: 1, lostLeases: 0, finishReason: undefined });
      expect(readFileSync(join(scene.folder, task.id), "utf8")).toBe(`${snapshot.workerName}\n`);
      expect(began(task.id)).toBe(1);
    }
    expect(await scene.rows("SELECT count(*)::int AS count FROM leasehold.finished_tasks")).toEqual([{ count: TASKS }]);
    expect(await scene.rows("SELECT count(*)::int AS count FROM leasehold.live_tasks")).toEqual([{ count: 0 }]);
    expect(await scene.rows("SELECT type FROM leasehold.task_events WHERE type IN ('LEASE_LOST', 'RELEASED')")).toEqual([]);
    // Their sessions are the old ones.
    expect(await scene.rows("SELECT epoch::int AS epoch FROM leasehold.sessions ORDER BY epoch")).toEqual([{ epoch: 2 }, { epoch: 2 }]);

    function began(id: string): number {
      return workers.reduce((sum, worker) => sum + worker.times("began", id), 0);
    }
  });
});
