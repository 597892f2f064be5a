// What do thousands of workers cost that have nothing to do? So much memory a stream as docs/limits.md says, and the neighbours nothing.
// LEASEHOLD_TEST_IDLE_STREAMS=10000 npx vitest run --reporter verbose test/abuse/idle-streams.test.ts looks at more of them.
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { WorkerMessage, WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, expect, it } from "vitest";
import { residentMiB, startNeighbour, type Neighbour } from "../support/neighbour.js";
import { callHeaders, grpcFrame, openRawConnection, openSession, request, type RawConnection } from "../support/raw-http2.js";
import { eventually, openScene } from "../support/scene.js";
import type { ServerProcess } from "../support/server-process.js";

const STREAMS = Number(process.env["LEASEHOLD_TEST_IDLE_STREAMS"] ?? 2_000);
const PER_CONNECTION = 20;
const OPENED_AT_ONCE = 100;
/** What docs/limits.md says, with room for what the collector has not taken yet. */
const MOST_KIB_A_STREAM = 60;

let scene: Awaited<ReturnType<typeof openScene>>;
let server: ServerProcess;
let neighbour: Neighbour;
beforeAll(async () => {
  scene = await openScene("idle streams");
  server = await scene.server();
  neighbour = await startNeighbour(server);
});
afterAll(async () => {
  try {
    scene.check();
  } finally {
    neighbour.close();
    await scene.close();
  }
});

const say = (message: Parameters<typeof WorkerMessage.fromPartial>[0]): Buffer =>
  grpcFrame(WorkerMessage.encode(WorkerMessage.fromPartial(message)).finish());

it(`${STREAMS} idle workers cost less than ${MOST_KIB_A_STREAM} KiB each, and give it back`, { timeout: 600_000 }, async ({ annotate }) => {
  await neighbour.during(async () => {
    const before = residentMiB(server.pid);
    const sessions: ClientHttp2Session[] = [];
    const streams: ClientHttp2Stream[] = [];
    let welcome = 0;
    const hello = say({
      hello: {
        workerName: "idle",
        slots: 1,
        queues: ["empty"],
        handlers: [{ taskName: "idle" }],
        connection: 1,
        sessionTtl: { seconds: 600n },
      },
    });
    let number = 0;
    const beats = setInterval(() => {
      number += 1;
      for (const stream of streams) stream.write(say({ heartbeat: { number, leasesReceived: 0 } }));
    }, 10_000);
    for (let opened = 0; opened < STREAMS; opened++) {
      if (opened % PER_CONNECTION === 0) sessions.push(openSession(server.address));
      const { stream } = request(sessions.at(-1)!, callHeaders(WorkerServiceService.executeTasks.path), [hello], false);
      stream.once("data", () => (welcome += 1));
      streams.push(stream);
      if (opened % OPENED_AT_ONCE === 0)
        await eventually(
          () => welcome,
          (count) => count >= opened - OPENED_AT_ONCE,
          "those before are welcome",
        );
    }
    await eventually(
      () => welcome,
      (count) => count === STREAMS,
      "all are welcome",
    );
    const kibEach = ((residentMiB(server.pid) - before) * 1024) / STREAMS;
    await annotate(`${STREAMS} idle streams on ${sessions.length} connections: ${kibEach.toFixed(1)} KiB each`);
    expect(kibEach).toBeLessThan(MOST_KIB_A_STREAM);
    clearInterval(beats);
    for (const session of sessions) session.destroy();
  }, 200);
});

it("2000 connections without a call cost less than 100 KiB each, and give it back", { timeout: 120_000 }, async ({ annotate }) => {
  await neighbour.during(async () => {
    const before = residentMiB(server.pid);
    const connections: RawConnection[] = [];
    for (let opened = 0; opened < 2_000; opened += OPENED_AT_ONCE)
      connections.push(...(await Promise.all(Array.from({ length: OPENED_AT_ONCE }, () => openRawConnection(server.address)))));
    // The server's settings say that it has made a session of it.
    await eventually(
      () => connections.filter(({ frames }) => frames().length > 0).length,
      (count) => count === 2_000,
      "all are taken",
    );
    const kibEach = ((residentMiB(server.pid) - before) * 1024) / connections.length;
    await annotate(`2000 idle connections: ${kibEach.toFixed(1)} KiB each`);
    expect(kibEach).toBeLessThan(100);
    for (const { socket } of connections) socket.destroy();
  }, 200);
});
