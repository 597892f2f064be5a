// Does the health port tell a worker that takes tasks from one that is alive and deaf?
import { createWorker, defineTask, handle, type } from "@leasehold/client";
import { RevocationReason } from "@leasehold/proto/leasehold/v1/worker_service";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { settle } from "./fake-clock.js";
import { fakeClient, failure, rejection } from "./fake-transport.js";
import { FakeWorkerServer, gate, stopWorkers } from "./fake-worker-server.js";

const task = defineTask({ name: "t", metadata: type<unknown>() });

afterEach(stopWorkers);

/** A port that nobody uses. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function ask(port: number, path: string): Promise<[number, string]> {
  const answer = await fetch(`http://127.0.0.1:${String(port)}${path}`);
  return [answer.status, (await answer.text()).trim()];
}

describe("the health of a worker", () => {
  it("is ready while it takes tasks, and says why when it does not; it is alive all the time", async () => {
    const port = await freePort();
    const end = gate();
    const health = { port, host: "127.0.0.1" };
    const server = new FakeWorkerServer([handle(task, () => end.promise)], { health, concurrency: 1, grace: "1h" });
    // Its port opens before it connects.
    while (server.transport.streams.length === 0) await settle();
    expect(await ask(port, "/readyz")).toEqual([503, "connecting: no connection yet"]);
    await server.greet();
    expect([await ask(port, "/readyz"), await ask(port, "/livez"), (await ask(port, "/other"))[0]]).toEqual([
      [200, "ok"],
      [200, "ok"],
      404,
    ]);

    await server.breakStream(failure({ code: "UNAVAILABLE", message: "postgres is away" }));
    expect(await ask(port, "/readyz")).toEqual([503, "disconnected: UNAVAILABLE: postgres is away"]);
    expect(await ask(port, "/livez")).toEqual([200, "ok"]);
    await server.greet();
    expect((await ask(port, "/readyz"))[0]).toBe(200);

    await server.lease("a");
    expect((await ask(port, "/readyz"))[0]).toBe(200);
    await server.send({ revoked: [{ leaseToken: "a", reason: RevocationReason.ATTEMPT_DEADLINE }] });
    expect(await ask(port, "/readyz")).toEqual([503, "every slot is kept by a handler that was told to stop and runs on: t a"]);
    expect(server.worker.state).toMatchObject({ status: "ready", notReady: expect.stringContaining("t a") as string });
    end.open();
    await settle();
    expect((await ask(port, "/readyz"))[0]).toBe(200);

    void server.worker.drain();
    await settle();
    expect([await ask(port, "/readyz"), await ask(port, "/livez")]).toEqual([
      [503, "draining"],
      [200, "ok"],
    ]);
  });

  it("without its port does not run at all, and says which port", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as AddressInfo;
    const { client, transport } = fakeClient();
    const worker = createWorker({ client, handlers: [handle(task, () => undefined)], health: { port, host: "127.0.0.1" } });
    const error = await rejection(worker.run());
    expect(error).toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(error.message).toContain(`127.0.0.1:${String(port)}`);
    expect([worker.state.status, transport.streams.length]).toEqual(["stopped", 0]);
    expect((await rejection(worker.ready())).code).toBe("FAILED_PRECONDITION");
    taken.close();
    expect(() => createWorker({ client, handlers: [handle(task, () => undefined)], health: { port: 0 } })).toThrow("health.port");
  });
});
