// What becomes of connections that hold on to a server without ever asking for something, or ask too slowly? Each ends within a bound.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { status } from "@grpc/grpc-js";
import { WatchTasksRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { startNeighbour, type Neighbour } from "../support/neighbour.js";
import {
  callHeaders,
  FLAG,
  FRAME,
  frame,
  grpcFrame,
  openRawConnection,
  openSession,
  PREFACE,
  request,
  type RawConnection,
} from "../support/raw-http2.js";
import { keepAlive } from "../support/raw-worker.js";
import { eventually, openScene } from "../support/scene.js";
import { healthOf } from "../support/service-calls.js";
import type { ServerProcess } from "../support/server-process.js";
import { createTaskClient, type TaskClient } from "../support/task-client.js";

const SUBMIT = "/leasehold.v1.TaskService/SubmitTask";
const MOST_CONNECTIONS = 50;

let scene: Awaited<ReturnType<typeof openScene>>;
let server: ServerProcess;
let neighbour: Neighbour;
let owner: TaskClient;
beforeAll(async () => {
  scene = await openScene("connections");
  server = await scene.server({
    env: {
      LEASEHOLD_LIMIT_HANDSHAKE_TIME: "2s",
      LEASEHOLD_LIMIT_REQUEST_TIME: "2s",
      LEASEHOLD_LIMIT_CONNECTIONS: String(MOST_CONNECTIONS),
    },
  });
  neighbour = await startNeighbour(server);
  owner = createTaskClient(server.address);
});
afterAll(async () => {
  try {
    scene.check();
  } finally {
    owner.close();
    neighbour.close();
    await scene.close();
  }
});

const pause = (forMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, forMs));
const SETTINGS = frame(FRAME.SETTINGS, FLAG.NONE, 0);

const PING = frame(FRAME.PING, FLAG.NONE, 0, Buffer.alloc(8));

async function openAndSay(bytes: Buffer): Promise<RawConnection> {
  const connection = await openRawConnection(server.address, false);
  await connection.write(bytes);
  return connection;
}

/** Connections on which nothing happens, each through a proxy: a worker with a TTL of 10 minutes, a watch of a task, and no call at all. */
async function quietLines(): Promise<{ what: string; open: () => number; longestSilenceMs: () => number }[]> {
  const { taskId } = await owner.submit({ name: "nothing", queue: "nobody" });
  const worker = async (address: string): Promise<void> => {
    const raw = scene.raw(address, ["nothing"], { queues: ["empty"], sessionTtl: { seconds: 600n, nanos: 0 } });
    const { heartbeatInterval } = await raw.welcome();
    keepAlive(raw, Number(heartbeatInterval?.seconds) * 1_000);
  };
  const watch = async (address: string): Promise<void> => {
    const message = grpcFrame(WatchTasksRequest.encode(WatchTasksRequest.fromPartial({ taskIds: [taskId] })).finish());
    const session = openSession(address);
    scene.undo(async () => session.destroy());
    void request(session, callHeaders("/leasehold.v1.TaskService/WatchTasks"), [message]);
  };
  const nothing = async (address: string): Promise<void> => {
    const session = openSession(address);
    scene.undo(async () => session.destroy());
    expect(await request(session, callHeaders("/grpc.health.v1.Health/Check"), [grpcFrame(Buffer.alloc(0))])).toMatchObject({ code: 0 });
  };
  return Promise.all(
    Object.entries({ worker, watch, nothing }).map(async ([what, begin]) => {
      const proxy = await scene.proxy(server.address);
      await begin(proxy.address);
      const last = { "to-target": 0, "to-client": 0 };
      const atMs = { "to-target": performance.now(), "to-client": performance.now() };
      let longestMs = 0;
      const look = (): void => {
        for (const direction of ["to-target", "to-client"] as const) {
          longestMs = Math.max(longestMs, performance.now() - atMs[direction]);
          if (proxy.passed(direction) === last[direction]) continue;
          last[direction] = proxy.passed(direction);
          atMs[direction] = performance.now();
        }
      };
      const timer = setInterval(look, 100);
      scene.undo(async () => clearInterval(timer));
      return { what, open: proxy.open, longestSilenceMs: () => longestMs };
    }),
  );
}

describe("a connection", () => {
  it("that says nothing, half a preface, no settings or half of them is closed", { timeout: 60_000 }, async () => {
    const said = [Buffer.alloc(0), PREFACE.subarray(0, 10), PREFACE, Buffer.concat([PREFACE, SETTINGS.subarray(0, 5)])];
    await neighbour.during(async () => {
      const fromMs = performance.now();
      for (const closed of said.map(openAndSay)) await (await closed).closed;
      // Long before a ping would find that nobody is there.
      expect(performance.now() - fromMs).toBeLessThan(20_000);
    });
  });

  it(
    "that stops within a frame, or stays after it was dismissed, is closed; quiet ones live, with bytes in both directions",
    { timeout: 90_000 },
    async () => {
      const quiet = openSession(server.address);
      let [answered, dismissed] = [0, false];
      quiet.once("goaway", () => (dismissed = true)).once("close", () => (dismissed = true));
      const lines = await quietLines();
      await neighbour.during(async () => {
        const stops = await openRawConnection(server.address);
        await stops.write(PING.subarray(0, 12));
        const stays = await openRawConnection(server.address);
        await stays.write(frame(FRAME.DATA, FLAG.NONE, 1, Buffer.alloc(1 << 20)));
        for (let sent = 0; !(stops.isClosed() && stays.isClosed()); sent++) {
          // Ten a second for a while, then one.
          quiet.ping((error) => (answered += error === null ? 1 : 0));
          await pause(sent < 40 ? 100 : 1_000);
        }
      });
      await eventually(
        () => answered,
        (count) => count >= 40,
        "every ping is answered",
      );
      expect(dismissed).toBe(false);
      quiet.destroy();
      for (const { what, open, longestSilenceMs } of lines) {
        expect(open(), what).toBe(1);
        expect(longestSilenceMs(), what).toBeLessThan(30_000);
      }
    },
  );

  it("beyond the limit is closed at once, and room is made by those that go", { timeout: 60_000 }, async () => {
    await neighbour.during(async () => {
      const connections = await Promise.all(Array.from({ length: MOST_CONNECTIONS + 20 }, () => openRawConnection(server.address)));
      const refused = (): number => connections.filter((connection) => connection.isClosed()).length;
      // The neighbour has some as well.
      await eventually(refused, (count) => count >= 20, "20 are closed");
      expect(refused()).toBeLessThan(30);
      for (const { socket } of connections) socket.destroy();
      await eventually(
        () => healthOf(server.address),
        (health) => health === "SERVING",
        "there is room again",
      );
    });
    expect(server.log()).toContain("too many connections");
  });
});

describe("a request", () => {
  it("that trickles in is refused with REQUEST_TOO_SLOW when its time is over", { timeout: 60_000 }, async () => {
    await neighbour.during(async () => {
      const session = openSession(server.address);
      const trickling = request(session, callHeaders(SUBMIT), [grpcFrame(Buffer.alloc(0), 0, 1000)], false);
      const drops = setInterval(() => {
        if (trickling.stream.writable) trickling.stream.write(Buffer.alloc(1));
      }, 50);
      expect(await trickling).toMatchObject({ http: 200, code: status.DEADLINE_EXCEEDED, reason: "REQUEST_TOO_SLOW" });
      clearInterval(drops);
      session.destroy();
    });
  });

  it("whose end never comes is refused too, also without a message", { timeout: 60_000 }, async () => {
    const session = openSession(server.address);
    const whole = request(session, callHeaders(SUBMIT), [grpcFrame(Buffer.alloc(0))], false);
    const nothing = request(session, callHeaders(SUBMIT), [], false);
    for (const answer of [await whole, await nothing])
      expect(answer).toMatchObject({ code: status.DEADLINE_EXCEEDED, reason: "REQUEST_TOO_SLOW" });
    session.destroy();
  });

  it("that was answered before its end is not read for ever", { timeout: 60_000 }, async () => {
    await neighbour.during(async () => {
      const session = openSession(server.address);
      const endless = ["/leasehold.v1.TaskService/Nothing", "/leasehold.v1.WorkerService/ExecuteTasks"].map((path) => {
        const call = request(session, callHeaders(path), [grpcFrame(Buffer.from([0x0a, 0x7f]))], false);
        const more = setInterval(() => {
          if (call.stream.writable && !call.stream.writableNeedDrain) call.stream.write(grpcFrame(Buffer.alloc(10_000)));
        }, 1);
        void call.then(() => clearInterval(more));
        return call;
      });
      const [unknown, hello] = await Promise.all(endless);
      expect(unknown).toMatchObject({ code: status.UNIMPLEMENTED });
      expect(hello).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "MALFORMED_MESSAGE" });
      session.destroy();
    });
  });
});
