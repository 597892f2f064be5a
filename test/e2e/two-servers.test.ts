// What do workers and callers notice of two servers on one database? A worker moves between them with its leases; what is said at one is heard at the other.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import type { Client } from "@leasehold/client";
import { describe, expect } from "vitest";
import { startDatabaseProxy } from "../support/database-proxy.js";
import { eventually, test, type Scene, type WorkerProcess } from "../support/scene.js";
import type { ServerProcess } from "../support/server-process.js";
import { ending, mark, quick } from "./programs/tasks.js";

interface Pair {
  /** The server that the worker is connected to. */
  readonly first: ServerProcess;
  readonly second: ServerProcess;
  readonly worker: WorkerProcess;
}

/** Two servers and one worker that knows both. */
async function pair(scene: Scene, sessionTtl: `${number}s` = "15s"): Promise<Pair> {
  const [one, other] = await Promise.all([scene.server(), scene.server()]);
  const worker = await scene.worker({ addresses: [one.address, other.address], name: "mover", sessionTtl });
  const [row] = await scene.rows("SELECT s.server_id::text AS id FROM leasehold.sessions s");
  const home = one.log().includes(String(row?.["id"])) ? one : other;
  return { first: home, second: home === one ? other : one, worker };
}

/** Five tasks that run until the gate opens. */
async function gated(scene: Scene, client: Client, worker: WorkerProcess): Promise<{ ids: string[]; gate: string }> {
  const gate = join(scene.folder, "gate");
  const tasks = await client.submitMany(
    mark,
    Array.from({ length: 5 }, () => ({ metadata: { folder: scene.folder, gate } })),
  );
  for (const { id } of tasks) await worker.hears("began", id);
  return { ids: tasks.map(({ id }) => id), gate };
}

async function expectUndisturbed(scene: Scene, client: Client, worker: WorkerProcess, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const task = client.handle(mark, { id });
    expect(await task.outcome({ timeout: "30s" })).toMatchObject({ state: "completed" });
    expect(await task.snapshot()).toMatchObject({ attempt: 1, lostLeases: 0 });
    expect(worker.times("began", id)).toBe(1);
    expect(worker.times("signal", id)).toBe(0);
    expect(readFileSync(join(scene.folder, id), "utf8")).toBe("mover\n");
    // The plain path writes no entry at all: nothing was lost, released or attested anew.
    expect(await scene.timeline(id)).not.toContain("LEASE_LOST");
    expect(await scene.timeline(id)).not.toContain("RELEASED");
  }
}

/** Waits until the worker's session belongs to the server. */
async function moved(scene: Scene, to: ServerProcess): Promise<void> {
  await eventually(
    () => scene.rows("SELECT s.server_id::text AS id, s.epoch::int AS epoch FROM leasehold.sessions s WHERE s.end_time IS NULL"),
    ([session]) => to.log().includes(String(session?.["id"])),
    "the worker has moved",
  );
}

describe.concurrent("a worker that knows two servers", () => {
  test("keeps its leases when its server drains, and runs nothing twice", { timeout: 120_000 }, async ({ scene }) => {
    const { first, second, worker } = await pair(scene);
    const client = scene.client(second.address);
    const { ids, gate } = await gated(scene, client, worker);
    expect(await first.stop()).toBe(0);
    await moved(scene, second);
    // It takes new work there while it holds the old.
    const next = await client.submit(quick, { n: 1 });
    expect(await next.result({ timeout: "30s" })).toEqual({ n: 1, worker: "mover" });
    writeFileSync(gate, "");
    await expectUndisturbed(scene, client, worker, ids);
  });

  test("keeps its leases when its server is killed, and runs nothing twice", { timeout: 120_000 }, async ({ scene }) => {
    const { first, second, worker } = await pair(scene);
    const client = scene.client(second.address);
    const { ids, gate } = await gated(scene, client, worker);
    await first.kill();
    await moved(scene, second);
    writeFileSync(gate, "");
    await expectUndisturbed(scene, client, worker, ids);
  });

  test("has what it finished during the move recorded once", { timeout: 120_000 }, async ({ scene }) => {
    const { first, second, worker } = await pair(scene);
    const client = scene.client(second.address);
    const { ids, gate } = await gated(scene, client, worker);
    // The handlers end while there is no connection.
    const killed = first.kill();
    writeFileSync(gate, "");
    await killed;
    await expectUndisturbed(scene, client, worker, ids);
  });
});

describe.concurrent("a worker that comes while its server goes", () => {
  test("is sent elsewhere at once, and holds nothing up", { timeout: 120_000 }, async ({ scene }) => {
    const { proxy, url } = await startDatabaseProxy(scene.databaseUrl);
    scene.undo(() => proxy.close());
    const server = await scene.server({ databaseUrl: url });
    // Its hello is with the database when the drain begins.
    proxy.delay("to-client", 400);
    const asked = proxy.passed("to-target");
    const raw = scene.raw(server.address, [quick.name]);
    await eventually(
      () => proxy.passed("to-target") - asked,
      (bytes) => bytes > 300,
      "the hello is on its way to the database",
    );
    const sinceMs = performance.now();
    const stopped = server.stop();
    expect(await raw.ended).toMatchObject({ code: status.UNAVAILABLE, reason: "SERVER_DRAINING" });
    expect(performance.now() - sinceMs).toBeLessThan(6_000);
    expect(await stopped).toBe(0);
    expect(performance.now() - sinceMs).toBeLessThan(9_000);
    expect(server.log()).not.toContain("cut off");
  });
});

describe.concurrent("what is said at one of two servers", () => {
  test("is heard at the other: a cancel reaches the handler, and its end the waiter", { timeout: 120_000 }, async ({ scene }) => {
    // Its heartbeats are 15 s apart: what it hears before comes from the other server's hint.
    const { first, second, worker } = await pair(scene, "60s");
    const here = scene.client(first.address);
    const there = scene.client(second.address);
    const task = await here.submit(ending, { how: "abort" });
    await worker.hears("began", task.id);
    const ended = there.handle(ending, { id: task.id }).outcome({ timeout: "30s" });
    const askedMs = performance.now();
    await there.handle({ id: task.id }).cancel({ reason: "superseded", grace: "20s" });
    expect(await worker.hears("signal", task.id)).toBe("cancelled");
    expect(performance.now() - askedMs).toBeLessThan(5_000);
    expect(await ended).toMatchObject({ state: "cancelled", finishReason: "cancel_requested", reason: "superseded" });
  });

  test("wakes a worker at the other", { timeout: 120_000 }, async ({ scene }) => {
    const { second, worker } = await pair(scene);
    const client = scene.client(second.address);
    for (const n of [1, 2, 3, 4, 5])
      expect(await (await client.submit(quick, { n })).result({ timeout: "30s" })).toEqual({ n, worker: worker.name });
  });
});
