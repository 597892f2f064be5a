// How does a worker leave? It finishes what it can within its grace, gives the rest back with what was saved, and uses no attempt.
import { describe, expect } from "vitest";
import { eventually, test } from "../support/scene.js";
import { count, deaf, quick } from "./programs/tasks.js";

describe.concurrent("a worker asked to stop by SIGTERM", () => {
  test("finishes what it runs within the grace, takes nothing more, and exits with 0", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const leaving = await scene.worker({ addresses: [server.address], name: "leaving", grace: "20s", sessionTtl: "10s" });
    const task = await client.submit(count, { to: 15, stepMs: 100 });
    await leaving.hears("checkpointed", task.id);
    leaving.signal("SIGTERM");
    await eventually(
      () => {
        leaving.signal("SIGUSR2");
        return leaving.said();
      },
      (said) => said.includes('"status":"draining"') || said.includes("stopped\n"),
      "the worker drains",
    );
    const later = await client.submit(quick, { n: 1 });
    expect(await task.result({ timeout: "30s" })).toEqual({ counted: 15, worker: "leaving" });
    expect(await leaving.ended).toBe(0);
    expect(leaving.times("signal", task.id)).toBe(0);
    expect(leaving.times("began", later.id)).toBe(0);
    expect(await later.snapshot()).toMatchObject({ state: "pending", fencingToken: 0n });
  });

  test("releases at the end of the grace with the last checkpoint, and another goes on", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const leaving = await scene.worker({ addresses: [server.address], name: "leaving", grace: "1s", sessionTtl: "10s" });
    const task = await client.submit(count, { to: 60, stepMs: 100 });
    await leaving.waitFor(new RegExp(`^checkpointed ${task.id} 3$`, "m"));
    leaving.signal("SIGTERM");
    expect(await leaving.hears("signal", task.id)).toBe("shutdown");
    expect(await leaving.ended).toBe(0);
    const saved = leaving.times("checkpointed", task.id);
    const released = await task.snapshot();
    expect(released).toMatchObject({ state: "pending", pendingReason: "released", attempt: 1, lostLeases: 0 });
    expect(released.executionMetadata).toEqual({ offset: saved });
    expect(await scene.timeline(task.id)).toEqual(["RELEASED"]);

    const next = await scene.worker({ addresses: [server.address], name: "next" });
    expect(await next.hears("began", task.id)).toContain(`from=${saved}`);
    expect(await next.hears("began", task.id)).toContain("by=released");
    expect(await task.result({ timeout: "30s" })).toEqual({ counted: 60, worker: "next" });
    expect(await task.snapshot()).toMatchObject({ attempt: 1, lostLeases: 0 });
  });

  test("releases also what does not heed its signal", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const leaving = await scene.worker({ addresses: [server.address], name: "leaving", grace: 0, sessionTtl: "10s" });
    const task = await client.submit(deaf, { forMs: 60_000 });
    await leaving.hears("began", task.id);
    leaving.signal("SIGTERM");
    await leaving.waitFor(/a handler did not end within the grace; its task was released/);
    await leaving.waitFor(/^stopped$/m);
    expect(await task.snapshot()).toMatchObject({ state: "pending", pendingReason: "released", attempt: 1, lostLeases: 0 });
    await task.cancel();
  });
});
