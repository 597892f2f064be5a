// What becomes of a worker whose handler does not stop? Its slot stays taken, it is named, and the next task goes to whoever can start it.
import { describe, expect } from "vitest";
import { eventually, test } from "../support/scene.js";
import { deaf, quick } from "./programs/tasks.js";

describe.concurrent("a handler that ignores its signal", () => {
  test("keeps its only slot after its lease is gone: another worker gets the next tasks", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const stuck = await scene.worker({ addresses: [server.address], name: "stuck", concurrency: 1, sessionTtl: "20s" });
    const first = await client.submit(deaf, { forMs: 14_000 });
    await stuck.hears("began", first.id);
    const free = await scene.worker({ addresses: [server.address], name: "free", concurrency: 1, sessionTtl: "20s" });
    await first.cancel({ grace: "1s" });
    expect(await stuck.hears("signal", first.id)).toBe("cancelled");
    expect(await first.outcome({ timeout: "30s" })).toMatchObject({ state: "cancelled", finishReason: "cancel_requested" });
    const ended = await first.snapshot();
    for (const n of [1, 2, 3]) expect(await (await client.submit(quick, { n })).result({ timeout: "30s" })).toEqual({ n, worker: "free" });
    expect(stuck.said().match(/^began /gm)).toHaveLength(1);
    stuck.signal("SIGUSR2");
    await stuck.waitFor(/^state .*"name":"e2e\.deaf".*"stops":\["cancelled","cancel_grace_ended"\],"held":false/m);
    await stuck.waitFor(
      /a handler was told to stop \(cancelled, cancel_grace_ended\) and runs on; it keeps its slot.*task=e2e\.deaf.*runningSeconds=1\d/,
    );

    // Its late result changes nothing, and then it takes work again.
    await stuck.hears("ended", first.id);
    expect((await first.snapshot()).etag).toBe(ended.etag);
    await free.kill();
    expect(await (await client.submit(quick, { n: 4 })).result({ timeout: "30s" })).toEqual({ n: 4, worker: "stuck" });
    expect(stuck.said()).not.toContain("running=2");
  });

  test(
    "beyond its attempt deadline: the next attempt and the next task run elsewhere, never two in one slot",
    { timeout: 120_000 },
    async ({ scene }) => {
      const server = await scene.server();
      const client = scene.client(server.address);
      const stuck = await scene.worker({ addresses: [server.address], name: "stuck", concurrency: 1, sessionTtl: "20s" });
      const retry = { maxAttempts: 2, delays: ["0s"] } as const;
      const task = await client.submit(deaf, { forMs: 8_000 }, { key: "only", deadlines: { attempt: "2s" }, retry });
      await stuck.hears("began", task.id);
      const free = await scene.worker({ addresses: [server.address], name: "free", concurrency: 1, sessionTtl: "20s" });
      expect(await stuck.hears("signal", task.id)).toBe("attempt_deadline");
      // The same task again, and not where its first handler still runs: that worker may be offered it, and gives it back.
      expect(await free.hears("began", task.id)).toMatch(/by=(?:retry|released) attempt=2/);
      expect(stuck.times("ended", task.id)).toBe(0);
      expect(await task.outcome({ timeout: "30s" })).toMatchObject({
        state: "failed",
        finishReason: "max_attempts",
        error: { code: "ATTEMPT_DEADLINE" },
      });
      // Both handlers end late, and neither result is taken.
      for (const worker of [stuck, free]) await worker.hears("ended", task.id);
      expect((await task.snapshot()).state).toBe("failed");
      const names = await Promise.all(
        [1, 2].map(async (n) => (await (await client.submit(quick, { n })).result({ timeout: "30s" })).worker),
      );
      expect(names.every((name) => ["stuck", "free"].includes(name))).toBe(true);
      for (const worker of [stuck, free]) expect(worker.said()).not.toContain("running=2");
    },
  );
});

describe.concurrent("a handler that blocks the event loop for longer than the session TTL", () => {
  test("is named, and its result counts while nobody else was given the task", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const worker = await scene.worker({ addresses: [server.address], name: "blocked" });
    const task = await client.submit(deaf, { forMs: 1_000, blockMs: 5_000 });
    await worker.hears("began", task.id);
    await eventually(
      () => task.snapshot(),
      ({ state }) => state === "pending",
      "the lease is lost",
    );
    await worker.waitFor(/the event loop was blocked for [45]\d{3} ms.*e2e\.deaf/);
    expect(await task.result({ timeout: "30s" })).toEqual({ worker: "blocked" });
    expect(await task.snapshot()).toMatchObject({ attempt: 1, lostLeases: 0 });
    expect(worker.times("began", task.id)).toBe(1);
  });

  test(
    "is told the truth when another got the task meanwhile: its lease is lost, and one result is recorded",
    { timeout: 120_000 },
    async ({ scene }) => {
      const server = await scene.server();
      const client = scene.client(server.address);
      const blocked = await scene.worker({ addresses: [server.address], name: "blocked" });
      const task = await client.submit(deaf, { forMs: 1_500, blockMs: 6_000 });
      await blocked.hears("began", task.id);
      const other = await scene.worker({ addresses: [server.address], name: "other", sessionTtl: "20s" });
      expect(await other.hears("began", task.id)).toContain("by=lease_lost");
      expect(await blocked.hears("signal", task.id)).toMatch(/^(?:lease_lost|disconnected)$/);
      expect(await task.result({ timeout: "30s" })).toEqual({ worker: "other" });
      await blocked.hears("ended", task.id);
      await blocked.waitFor(/(?:outcome was not recorded: LEASE_LOST|is not reported: its lease is gone)/);
      expect(await task.snapshot()).toMatchObject({ workerName: "other", attempt: 1 });
      expect((await scene.timeline(task.id)).filter((type) => type === "LEASE_LOST")).toHaveLength(1);
    },
  );
});
