// What becomes of reports when the connection breaks around them? Each is recorded once, whichever of its bytes or of its answer's were lost.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { eventually, test, type Scene, type WorkerProcess } from "../support/scene.js";
import type { ServerProcess } from "../support/server-process.js";
import type { Direction, TcpProxy } from "../support/tcp-proxy.js";
import { count, mark } from "./programs/tasks.js";

interface Stage {
  readonly server: ServerProcess;
  readonly proxy: TcpProxy;
  readonly worker: WorkerProcess;
}

/** A worker that reaches its server through a proxy; the test's own client does not. */
async function behindProxy(scene: Scene): Promise<Stage> {
  const server = await scene.server();
  const proxy = await scene.proxy(server.address);
  const worker = await scene.worker({ addresses: [proxy.address], name: "proxied", sessionTtl: "12s" });
  return { server, proxy, worker };
}

/** Submits a task that runs until its gate opens, and waits until it runs. */
async function running(scene: Scene, { server, worker }: Stage): Promise<{ id: string; open: () => void }> {
  const gate = join(scene.folder, `gate-${String(Math.random()).slice(2)}`);
  const { id } = await scene.client(server.address).submit(mark, { folder: scene.folder, gate });
  await worker.hears("began", id);
  return { id, open: () => writeFileSync(gate, "") };
}

async function state(scene: Scene, { server }: Stage, id: string): Promise<string> {
  return (await scene.client(server.address).handle({ id }).snapshot()).state;
}

/** The task ended once, by its first lease, and its worker knows. */
async function expectOnce(scene: Scene, stage: Stage, id: string): Promise<void> {
  const task = scene.client(stage.server.address).handle(mark, { id });
  expect((await task.result({ timeout: "30s" })).worker).toBe("proxied");
  const snapshot = await task.snapshot();
  expect(snapshot).toMatchObject({ state: "completed", attempt: 1, lostLeases: 0 });
  expect(stage.worker.times("began", id)).toBe(1);
  expect(readFileSync(join(scene.folder, id), "utf8")).toBe("proxied\n");
  expect((await scene.timeline(id)).filter((type) => type === "LEASE_LOST" || type === "RELEASED")).toEqual([]);
  await eventually(
    () => unacknowledged(stage.worker),
    (counts) => counts === 0,
    "the worker knows its verdicts",
  );
  // What came twice changed nothing.
  expect((await task.snapshot()).etag).toBe(snapshot.etag);
}

/** How many reports the worker keeps for want of a verdict. */
async function unacknowledged(worker: WorkerProcess): Promise<number> {
  const before = worker.said().length;
  worker.signal("SIGUSR2");
  const line = await eventually(
    () => /^state (.*)$/m.exec(worker.said().slice(before)),
    (match) => match !== null,
    "the worker says its state",
  );
  return (JSON.parse(line?.[1] ?? "{}") as { unacknowledgedReports: number }).unacknowledgedReports;
}

describe.concurrent("an outcome whose verdict is lost with the stream", () => {
  test("is recorded before, and recognized when it is sent again", { timeout: 120_000 }, async ({ scene }) => {
    const stage = await behindProxy(scene);
    const { id, open } = await running(scene, stage);
    stage.proxy.blackHole("to-client");
    open();
    await eventually(
      () => state(scene, stage, id),
      (found) => found === "completed",
      "the outcome is stored",
    );
    expect(await unacknowledged(stage.worker)).toBe(1);
    stage.proxy.heal();
    stage.proxy.reset();
    await expectOnce(scene, stage, id);
  });

  test("is noticed although nothing is reset: silence ends the stream", { timeout: 120_000 }, async ({ scene }) => {
    const stage = await behindProxy(scene);
    const { id, open } = await running(scene, stage);
    stage.proxy.blackHole("to-client");
    open();
    await eventually(
      () => state(scene, stage, id),
      (found) => found === "completed",
      "the outcome is stored",
    );
    // Connections made from now on would be swallowed as well; only the old one stays dead.
    await stage.worker.waitFor(/nothing heard for/);
    stage.proxy.heal();
    await expectOnce(scene, stage, id);
  });
});

describe.concurrent("an outcome that never reached its server", () => {
  test("is sent again after the reconnect", { timeout: 120_000 }, async ({ scene }) => {
    const stage = await behindProxy(scene);
    const { id, open } = await running(scene, stage);
    const reached = stage.proxy.passed("to-target");
    stage.proxy.blackHole("to-target");
    open();
    await eventually(
      async () => (existsSync(join(scene.folder, id)) ? unacknowledged(stage.worker) : 0),
      (found) => found === 1,
      "the outcome waits for its verdict",
    );
    expect(stage.proxy.passed("to-target")).toBe(reached);
    expect(await state(scene, stage, id)).toBe("running");
    stage.proxy.heal();
    stage.proxy.reset();
    await expectOnce(scene, stage, id);
  });
});

describe.concurrent("a connection that is cut in the middle", () => {
  test.for<[Direction, number[]]>([
    ["to-target", [1, 30, 120, 250]],
    ["to-client", [1, 20, 60, 140]],
  ])("of what goes %s costs no report and records none twice", { timeout: 120_000 }, async ([direction, cuts], { scene }) => {
    const stage = await behindProxy(scene);
    for (const bytes of cuts) {
      const { id, open } = await running(scene, stage);
      stage.proxy.cutAfter(direction, bytes);
      open();
      await expectOnce(scene, stage, id);
    }
  });

  test("again and again costs no checkpoint", { timeout: 120_000 }, async ({ scene }) => {
    const stage = await behindProxy(scene);
    stage.proxy.delay("to-client", 30);
    const task = await scene.client(stage.server.address).submit(count, { to: 30, stepMs: 40 });
    for (const offset of [5, 12, 20]) {
      await stage.worker.waitFor(new RegExp(`^checkpointed ${task.id} ${offset}$`, "m"));
      stage.proxy.reset();
    }
    expect(await task.result({ timeout: "40s" })).toEqual({ counted: 30, worker: "proxied" });
    expect((await task.snapshot()).checkpointCount).toBe(30n);
    expect(stage.worker.times("began", task.id)).toBe(1);
  });
});
