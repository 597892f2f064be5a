// What becomes of tasks whose worker is killed or frozen? They go on elsewhere from the last acknowledged checkpoint, and no attempt is used.
import { writeFileSync } from "node:fs";
import { describe, expect } from "vitest";
import { eventually, test } from "../support/scene.js";
import { count, ending, mark, phases, quick } from "./programs/tasks.js";

describe.concurrent("a worker killed in the middle of a task", () => {
  test("is followed by another process, which goes on from the last acknowledged checkpoint", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const first = await scene.worker({ addresses: [server.address], name: "first" });
    const task = await client.submit(count, { to: 20, stepMs: 50 });
    await first.waitFor(new RegExp(`^checkpointed ${task.id} 10$`, "m"));
    await first.kill();
    const acknowledged = first.times("checkpointed", task.id);

    const second = await scene.worker({ addresses: [server.address], name: "second" });
    const lost = await eventually(
      () => task.snapshot(),
      (snapshot) => snapshot.lostLeases === 1 || snapshot.state === "completed",
      "the lease is lost",
    );
    // Seen only between the loss and the next checkpoint; the timeline keeps it.
    expect(lost.attempt).toBe(1);
    const began = await second.hears("began", task.id);
    const from = Number(/from=(\d+)/.exec(began)?.[1]);
    // The one checkpoint under way at the kill may be stored without its worker knowing.
    expect(from - acknowledged).toBeOneOf([0, 1]);
    expect(began).toContain("by=lease_lost");
    expect(await task.result({ timeout: "30s" })).toEqual({ counted: 20, worker: "second" });
    const finished = await task.snapshot();
    expect(finished).toMatchObject({ state: "completed", attempt: 1, lostLeases: 0, workerName: "second" });
    expect(finished.checkpointCount).toBe(20n);
    expect(await scene.timeline(task.id)).toEqual(expect.arrayContaining(["LEASE_LOST"]));
  });

  test("five times in a long task costs neither its attempts nor its budget for lost leases", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const task = await client.submit(phases, { phaseMs: 150 });
    let worker = await scene.worker({ addresses: [server.address], name: "worker-0" });
    for (const phase of [2, 4, 6, 8, 10]) {
      await proceedUntil(`phase ${task.id} ${phase}`, () => worker.said());
      await worker.kill();
      worker = await scene.worker({ addresses: [server.address], name: `worker-${phase}` });
    }
    await proceedUntil(`phase ${task.id} 12`, () => worker.said());
    expect(await task.result({ timeout: "30s" })).toEqual({ sum: 78 });
    expect(await task.snapshot()).toMatchObject({ state: "completed", attempt: 1, lostLeases: 0 });
    // After phase 6 it suspends; whether the kill comes before that is chance.
    expect((await scene.timeline(task.id)).filter((type) => type === "LEASE_LOST").length).toBeGreaterThanOrEqual(4);

    async function proceedUntil(line: string, said: () => string): Promise<void> {
      await eventually(
        async () => {
          if ((await task.snapshot()).state === "suspended") await task.proceed();
          return said();
        },
        (text) => text.includes(`${line}\n`),
        line,
      );
    }
  });

  test(
    "leaves its tasks to those who handle them: names that nobody handles wait and block nobody",
    { timeout: 120_000 },
    async ({ scene }) => {
      const server = await scene.server();
      const client = scene.client(server.address);
      const knowing = await scene.worker({ addresses: [server.address], name: "knowing", tasks: [count.name] });
      const other = await scene.worker({ addresses: [server.address], name: "other", tasks: [quick.name] });
      const counted = await client.submitMany(
        count,
        Array.from({ length: 5 }, () => ({ metadata: { to: 40, stepMs: 100 } })),
      );
      for (const { id } of counted) await knowing.hears("checkpointed", id);
      const unknown = await client.submitMany(
        mark,
        Array.from({ length: 5 }, () => ({ metadata: { folder: scene.folder } })),
      );
      await knowing.kill();
      for (const task of counted) {
        const lost = await eventually(
          () => task.snapshot(),
          ({ state }) => state === "pending",
          "the lease is lost",
        );
        expect(lost).toMatchObject({ pendingReason: "lease_lost", attempt: 1, lostLeases: 1 });
      }
      // Work that somebody handles is not held up by what waits.
      const neighbour = await client.submit(quick, { n: 1 });
      expect(await neighbour.result({ timeout: "30s" })).toEqual({ n: 1, worker: "other" });
      for (const task of unknown)
        expect(await task.snapshot()).toMatchObject({ state: "pending", pendingReason: "new", fencingToken: 0n, lostLeases: 0 });
      expect(other.said()).not.toContain(unknown[0]!.id);

      await scene.worker({ addresses: [server.address], name: "third", tasks: [count.name, mark.name] });
      for (const task of unknown) expect((await task.result({ timeout: "30s" })).worker).toBe("third");
      for (const task of counted) await task.cancel({ grace: 0 });
    },
  );

  test("by its task, every time, is no victim for long: the task is POISONED after its budget", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const retry = { maxLostLeases: 2, lostLeaseDelays: ["0s"] } as const;
    const poison = await client.submit(ending, { how: "never" }, { retry });
    const names: string[] = [];
    for (const name of ["victim-1", "victim-2", "victim-3"]) {
      const victim = await scene.worker({ addresses: [server.address], name });
      await victim.hears("began", poison.id);
      names.push(name);
      await victim.kill();
    }
    const survivor = await scene.worker({ addresses: [server.address], name: "survivor" });
    expect(await poison.outcome({ timeout: "30s" })).toMatchObject({ state: "failed", finishReason: "poisoned" });
    const snapshot = await poison.snapshot();
    expect(snapshot).toMatchObject({ attempt: 1, lostLeases: 3, maxLostLeases: 2, workerName: names.at(-1) });
    expect(survivor.times("began", poison.id)).toBe(0);
    // Others of its name are none the worse.
    const other = await client.submit(ending, { how: "abort" });
    await survivor.hears("began", other.id);
    await other.cancel({ grace: "10s" });
    expect(await other.outcome({ timeout: "30s" })).toMatchObject({ state: "cancelled" });
  });
});

describe.concurrent("a worker frozen for longer than its session TTL", () => {
  test(
    "finds that its leases are another's: its outcomes are refused and its handlers are told to stop",
    { timeout: 120_000 },
    async ({ scene }) => {
      const server = await scene.server();
      const client = scene.client(server.address);
      const frozen = await scene.worker({ addresses: [server.address], name: "frozen" });
      const short = await client.submit(mark, { folder: scene.folder, forMs: 1_000 });
      const long = await client.submit(ending, { how: "result" });
      const firstBegan = await frozen.hears("began", short.id);
      await frozen.hears("began", long.id);
      frozen.signal("SIGSTOP");
      const second = await scene.worker({ addresses: [server.address], name: "second" });
      expect(fencing(await second.hears("began", short.id))).toBeGreaterThan(fencing(firstBegan));
      await second.hears("began", long.id);
      expect((await short.result({ timeout: "30s" })).worker).toBe("second");
      const before = [await short.snapshot(), await long.snapshot()];
      expect(before).toMatchObject([{ state: "completed" }, { state: "running", workerName: "second" }]);

      frozen.signal("SIGCONT");
      // Whether the clock or the server says it first is a matter of milliseconds.
      expect(await frozen.hears("signal", long.id)).toMatch(/^(?:lease_lost|disconnected)$/);
      await frozen.hears("ended", long.id);
      for (const { id } of [short, long]) {
        await frozen.waitFor(new RegExp(`(?:outcome was not recorded: LEASE_LOST|is not reported: its lease is gone).*taskId=${id}`));
      }
      const after = [await short.snapshot(), await long.snapshot()];
      expect(after.map(({ etag }) => etag)).toEqual(before.map(({ etag }) => etag));
      expect(after[0]).toMatchObject({ result: { worker: "second" }, workerName: "second" });
      // It is a worker like any other again.
      await second.kill();
      const next = await client.submit(quick, { n: 2 });
      expect(await next.result({ timeout: "30s" })).toEqual({ n: 2, worker: "frozen" });
    },
  );

  test("goes on with what nobody took meanwhile", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const worker = await scene.worker({ addresses: [server.address], name: "alone" });
    const gate = `${scene.folder}/gate`;
    const task = await client.submit(mark, { folder: scene.folder, gate });
    await worker.hears("began", task.id);
    worker.signal("SIGSTOP");
    await eventually(
      () => task.snapshot(),
      ({ state }) => state === "pending",
      "the lease is lost",
    );
    worker.signal("SIGCONT");
    await eventually(
      () => task.snapshot(),
      ({ state }) => state === "running",
      "the lease is the worker's again",
    );
    writeFileSync(gate, "");
    expect(await task.outcome({ timeout: "30s" })).toMatchObject({ state: "completed" });
    expect(await task.snapshot()).toMatchObject({ attempt: 1, lostLeases: 0 });
    expect(worker.times("began", task.id)).toBe(1);
  });
});

function fencing(began: string): bigint {
  return BigInt(/fencing=(\d+)/.exec(began)?.[1] ?? "0");
}
