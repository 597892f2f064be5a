// What becomes of a task that is cancelled while it runs, however its handler takes it? It never goes back to a queue, and never runs again.
import { VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect } from "vitest";
import { keepAlive } from "../support/raw-worker.js";
import { eventually, test } from "../support/scene.js";
import { createTaskClient } from "../support/task-client.js";
import { ending, quick } from "./programs/tasks.js";

describe.concurrent("a task cancelled while its handler", () => {
  test("ends in any way of its own is what the rules say, once", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const worker = await scene.worker({ addresses: [server.address], name: "obeying", sessionTtl: "20s" });
    const cancelled = { state: "cancelled", finishReason: "cancel_requested", reason: "superseded" };
    const expected = {
      abort: cancelled,
      own_error: cancelled,
      suspend: cancelled,
      fail: cancelled,
      cancel: cancelled,
      // A success within the grace counts, and so does a failure that cannot be tried again.
      result: { state: "completed", result: { finished: true } },
      fail_for_good: { state: "failed", finishReason: "not_retryable", error: { code: "given_up" } },
    } as const;
    const tasks = await Promise.all(
      Object.entries(expected).map(async ([how, outcome]) => {
        const task = await client.submit(ending, { how: how as keyof typeof expected }, { labels: { how } });
        await worker.hears("began", task.id);
        return { how, task, outcome, fencingToken: (await task.snapshot()).fencingToken };
      }),
    );
    await Promise.all(tasks.map(({ task }) => task.cancel({ reason: "superseded", grace: "20s" })));
    for (const { how, task, outcome, fencingToken } of tasks) {
      expect({ how, ...(await task.outcome({ timeout: "30s" })) }).toMatchObject({ how, ...outcome });
      expect(await worker.hears("signal", task.id)).toBe("cancelled");
      const snapshot = await task.snapshot();
      expect(snapshot).toMatchObject({ fencingToken, lostLeases: 0 });
      expect(worker.times("began", task.id)).toBe(1);
      for (const type of await scene.timeline(task.id)) expect(type).not.toMatch(/LEASE_LOST|RELEASED|ATTEMPT_FAILED|SUSPENDED/);
    }
    // The handler's own words are kept beside the caller's reason.
    const raw = createTaskClient(server.address);
    scene.undo(async () => raw.close());
    const spoken = await raw.get(tasks.find(({ how }) => how === "own_error")!.task.id);
    expect(spoken.error).toMatchObject({
      code: "CANCELLED",
      message: "superseded",
      cause: { message: "told to stop, and says so in its own words" },
    });
  });

  test("goes on regardless is CANCELLED at the end of the grace", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const worker = await scene.worker({ addresses: [server.address], name: "stubborn", sessionTtl: "20s" });
    const task = await client.submit(ending, { how: "never" });
    await worker.hears("began", task.id);
    const askedMs = performance.now();
    await task.cancel({ reason: "too slow", grace: "2s" });
    expect(await task.outcome({ timeout: "30s" })).toMatchObject({
      state: "cancelled",
      finishReason: "cancel_requested",
      reason: "too slow",
    });
    const tookMs = performance.now() - askedMs;
    expect(tookMs).toBeGreaterThan(1_900);
    expect(tookMs).toBeLessThan(8_000);
    expect(await worker.hears("signal", task.id)).toBe("cancelled");
    await eventually(
      () => {
        worker.signal("SIGUSR2");
        return worker.said();
      },
      (said) => said.includes('"stops":["cancelled","cancel_grace_ended"],"held":false'),
      "the worker knows that the lease is gone",
    );
  });

  test("dies with its process is CANCELLED when the lease is lost, not queued again", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const worker = await scene.worker({ addresses: [server.address], name: "dying" });
    await scene.worker({ addresses: [server.address], name: "free" });
    // Both workers have room; what counts is what the dying one got.
    const tasks = await Promise.all([1, 2, 3, 4].map(() => client.submit(ending, { how: "never" })));
    await eventually(
      () => Promise.all(tasks.map((task) => task.snapshot())),
      (snapshots) => snapshots.every(({ state }) => state === "running") && snapshots.some(({ workerName }) => workerName === "dying"),
      "all run",
    );
    for (const task of tasks) {
      if ((await task.snapshot()).workerName === "dying") await task.cancel({ reason: "superseded", grace: "30s" });
      else await task.cancel({ grace: 0 });
    }
    await worker.kill();
    for (const task of tasks) {
      expect(await task.outcome({ timeout: "30s" })).toMatchObject({ state: "cancelled" });
      expect((await task.snapshot()).attempt).toBe(1);
      expect(await scene.timeline(task.id)).not.toContain("LEASE_LOST");
    }
  });

  test.for([
    [
      "fail",
      {
        fail: {
          error: { code: "flaky", message: "again", stack: "", details: undefined },
          retryable: true,
          retryAfter: undefined,
          executionMetadata: undefined,
        },
      },
    ],
    ["release", { release: { retryAfter: undefined, executionMetadata: undefined } }],
  ] as const)("is told by a raw worker as %s is CANCELLED, not tried again", { timeout: 120_000 }, async ([, report], { scene }) => {
    const { address } = await scene.server();
    const client = scene.client(address);
    const task = await client.submit(quick, { n: 1 });
    const raw = scene.raw(address, [quick.name]);
    keepAlive(raw, 1_000);
    const lease = await raw.lease();
    await task.cancel({ reason: "superseded", grace: "20s" });
    const cancel = await raw.first(({ cancels }) => cancels[0], "cancel");
    expect(cancel).toMatchObject({ leaseToken: lease.leaseToken, reason: "superseded" });
    expect(Number(cancel.remainingGrace?.seconds)).toBeGreaterThan(10);
    raw.report(lease, 1, report as unknown as Parameters<typeof raw.report>[2]);
    expect((await raw.verdict(lease, 1)).code).toBe(VerdictCode.RECORDED);
    expect(await task.outcome({ timeout: "30s" })).toMatchObject({
      state: "cancelled",
      finishReason: "cancel_requested",
      reason: "superseded",
    });
    expect(raw.received.flatMap(({ leases }) => leases)).toHaveLength(1);
  });
});
