// Can a worker's stream, or one that pretends to be, cost a server more than it is allowed? It ends with its reason, and the neighbours go on.
import { status } from "@grpc/grpc-js";
import { TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import { WatchTasksRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { Hello, Report, VerdictCode, WorkerMessage, WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNeighbour, type Neighbour } from "../support/neighbour.js";
import { callHeaders, grpcFrame, openSession, request } from "../support/raw-http2.js";
import { openRawStream } from "../support/raw-worker.js";
import { eventually, openScene } from "../support/scene.js";
import type { ServerProcess } from "../support/server-process.js";
import { createTaskClient, jsonPayload, type TaskClient } from "../support/task-client.js";

const EXECUTE = WorkerServiceService.executeTasks.path;

let scene: Awaited<ReturnType<typeof openScene>>;
let server: ServerProcess;
let neighbour: Neighbour;
let owner: TaskClient;
beforeAll(async () => {
  scene = await openScene("worker streams");
  server = await scene.server();
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

const say = (message: Parameters<typeof WorkerMessage.fromPartial>[0]): Buffer =>
  grpcFrame(WorkerMessage.encode(WorkerMessage.fromPartial(message)).finish());
const hello = (workerName: string, queue: string, seconds = 60n): Hello =>
  Hello.fromPartial({
    workerName,
    slots: 1_000,
    queues: [queue],
    handlers: [{ taskName: "abuse" }],
    sessionTtl: { seconds },
    connection: 1,
  });
const pause = (forMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, forMs));

describe("a stream", () => {
  it("without a hello ends, and so does one whose first message is empty", { timeout: 60_000 }, async () => {
    await neighbour.during(async () => {
      const silent = openRawStream(server.address);
      const empty = openRawStream(server.address);
      empty.send({});
      for (const raw of [silent, empty]) {
        expect(await raw.ended).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "HELLO_EXPECTED" });
        raw.close();
      }
    });
  });

  it("that goes on talking after a bad hello is ended all the same", { timeout: 60_000 }, async () => {
    await neighbour.during(async () => {
      const session = openSession(server.address);
      const bad = say({ hello: { workerName: "w" } });
      const call = request(session, callHeaders(EXECUTE), [bad], false);
      const more = setInterval(() => {
        if (call.stream.writable && !call.stream.writableNeedDrain)
          call.stream.write(Buffer.concat(Array.from({ length: 100 }, () => bad)));
      }, 1);
      expect(await call).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "INVALID_FIELD" });
      clearInterval(more);
      session.destroy();
    });
  });

  it(
    "of 100,000 empty messages, and of 10,000 heartbeats a second, stores a few and answers the newest",
    { timeout: 120_000 },
    async () => {
      await neighbour.during(async () => {
        const session = openSession(server.address);
        const call = request(session, callHeaders(EXECUTE), [say({ hello: hello("busy", "nobody") })], false);
        let cameBytes = 0;
        call.stream.on("data", (chunk: Buffer) => (cameBytes += chunk.length));
        await eventually(
          () => cameBytes,
          (bytes) => bytes > 0,
          "it is welcome",
        );
        call.stream.write(Buffer.concat(Array.from({ length: 100_000 }, () => say({}))));
        const fromMs = performance.now();
        let number = 0;
        for (let turn = 0; turn < 20; turn++) {
          const beats = Array.from({ length: 1_000 }, () => say({ heartbeat: { number: ++number, leasesReceived: 0 } }));
          call.stream.write(Buffer.concat(beats));
          await pause(100);
        }
        const stored = async (): Promise<unknown> =>
          (await scene.rows("SELECT heartbeat_number FROM leasehold.sessions WHERE worker_name = 'busy'"))[0];
        await eventually(stored, (row) => JSON.stringify(row).includes(String(number)), "the newest is stored");
        // Each answer has at least 10 bytes, and one is given each 100 ms.
        expect(cameBytes / 10).toBeLessThan((performance.now() - fromMs) / 10 + 200);
        session.destroy();
      });
    },
  );

  it("with 20,000 reports in a message gets a verdict for each", { timeout: 120_000 }, async () => {
    await neighbour.during(async () => {
      const raw = scene.raw(server.address, ["abuse"], { queues: ["nobody"], sessionTtl: { seconds: 60n, nanos: 0 } });
      await raw.welcome();
      const reports = Array.from({ length: 20_000 }, (_, index) =>
        Report.create({ leaseToken: "nobody's", reportSeq: index + 1, complete: { result: undefined, executionMetadata: undefined } }),
      );
      raw.send({ reports });
      const verdicts = (): VerdictCode[] => raw.received.flatMap((message) => message.verdicts.map(({ code }) => code));
      await eventually(
        () => verdicts().length,
        (count) => count === reports.length,
        "each has its verdict",
      );
      expect(new Set(verdicts())).toEqual(new Set([VerdictCode.LEASE_LOST]));
      raw.close();
    }, 250);
  });
});

describe("a reader that does not read", () => {
  it("of a worker's stream loses its leases to one that does, as WORKER_NOT_READING", { timeout: 120_000 }, async () => {
    const queue = "unread";
    const metadata = { data: Buffer.alloc(30_000, " ").fill("1", 0, 1) };
    await neighbour.during(async () => {
      const taskIds: string[] = [];
      for (let task = 0; task < 100; task++) taskIds.push((await owner.submit({ name: "abuse", queue, metadata })).taskId);
      const session = openSession(server.address, { settings: { initialWindowSize: 0 } });
      const call = request(session, callHeaders(EXECUTE), [say({ hello: hello("deaf", queue, 4n) })], false);
      let number = 0;
      const beats = setInterval(() => {
        if (call.stream.writable) call.stream.write(say({ heartbeat: { number: ++number, leasesReceived: 0 } }));
      }, 1_000);
      await owner.wait(taskIds[0] ?? "", ({ state }) => state === TaskState.RUNNING);
      // Its status waits behind what it does not read, so it is its tasks that tell.
      const reader = scene.raw(server.address, ["abuse"], { queues: [queue], slots: 1_000, sessionTtl: { seconds: 60n, nanos: 0 } });
      const leased = (): number => reader.received.flatMap(({ leases }) => leases).length;
      await eventually(leased, (count) => count === taskIds.length, "another worker has all of them");
      clearInterval(beats);
      session.destroy();
      reader.close();
    });
  });

  it("of WatchTasks costs the newest state of its tasks, whatever happens to them", { timeout: 120_000 }, async () => {
    await neighbour.during(async () => {
      const tasks = await Promise.all(
        Array.from({ length: 20 }, () => owner.submit({ name: "abuse", queue: "nobody", metadata: jsonPayload("x".repeat(30_000)) })),
      );
      const session = openSession(server.address, { settings: { initialWindowSize: 0 } });
      const watch = grpcFrame(
        WatchTasksRequest.encode(
          WatchTasksRequest.fromPartial({ taskIds: tasks.map(({ taskId }) => taskId), view: TaskView.FULL }),
        ).finish(),
      );
      const watching = Array.from({ length: 10 }, () => request(session, callHeaders(TaskServiceService.watchTasks.path), [watch]));
      for (let round = 0; round < 20; round++)
        await Promise.all(tasks.map(({ taskId }) => owner.proceed(taskId, { note: String(round) }).catch(() => undefined)));
      for (const { taskId } of tasks) await owner.cancel(taskId);
      session.destroy();
      await Promise.all(watching);
    });
  });
});
