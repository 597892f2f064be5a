// What is answered to requests that no client library would send? A status that names the fault, never INTERNAL or UNKNOWN, from a server that
// goes on as before.
import { gzipSync, constants } from "node:zlib";
import { status } from "@grpc/grpc-js";
import { SubmitTaskRequest, TaskServiceService, WaitTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ClientHttp2Session, constants as http2 } from "node:http2";
import { startNeighbour, type Neighbour } from "../support/neighbour.js";
import { callHeaders, grpcFrame, openSession, request, type Answered } from "../support/raw-http2.js";
import { eventually, openScene } from "../support/scene.js";
import type { ServerProcess } from "../support/server-process.js";
import { createTaskClient } from "../support/task-client.js";

const SUBMIT = TaskServiceService.submitTask.path;
const HEALTH = "/grpc.health.v1.Health/Check";
const MIB = 1024 * 1024;
const METHODS = [...Object.values(TaskServiceService), ...Object.values(WorkerServiceService)].map(({ path }) => path);

let scene: Awaited<ReturnType<typeof openScene>>;
let server: ServerProcess;
let neighbour: Neighbour;
let session: ClientHttp2Session;
beforeAll(async () => {
  scene = await openScene("requests");
  server = await scene.server();
  neighbour = await startNeighbour(server);
  session = openSession(server.address);
});
afterAll(async () => {
  try {
    scene.check();
  } finally {
    session.destroy();
    neighbour.close();
    await scene.close();
  }
});

const valid = grpcFrame(SubmitTaskRequest.encode(SubmitTaskRequest.fromPartial({ task: { name: "abuse", queue: "abuse" } })).finish());

/** A submission whose message has exactly this many bytes; what is too much for a payload is in labels that nobody reads. */
function messageOf(bytes: number): Buffer {
  const unknownField = (size: number): Buffer => {
    // Field 1000, length-delimited, with a length of five bytes.
    const head = Buffer.from([0xc2, 0x3e, 0x80, 0x80, 0x80, 0x80, 0x00]);
    for (let place = 0, rest = size; place < 5; place++, rest = Math.floor(rest / 128))
      head[2 + place] = (rest % 128) | (place < 4 ? 0x80 : 0);
    return Buffer.concat([head, Buffer.alloc(size)]);
  };
  const task = valid.subarray(5);
  return Buffer.concat([task, unknownField(bytes - task.length - 7)]);
}

function call(path: string, chunks: readonly Buffer[], headers: Record<string, string> = {}): Promise<Answered> {
  return request(session, callHeaders(path, headers), chunks);
}

describe("a message", () => {
  it.each(METHODS)("that does not decode is MALFORMED_MESSAGE to %s", async (path) => {
    expect(await call(path, [grpcFrame(Buffer.from([0x0a, 0xff, 0xff, 0xff]))])).toMatchObject({
      code: status.INVALID_ARGUMENT,
      reason: "MALFORMED_MESSAGE",
    });
  });

  it.each<[string, readonly Buffer[], status]>([
    ["of exactly the limit", [grpcFrame(messageOf(4 * MIB))], status.OK],
    ["of one byte more", [grpcFrame(messageOf(4 * MIB + 1))], status.RESOURCE_EXHAUSTED],
    ["that claims 2^32 - 1 bytes", [grpcFrame(Buffer.alloc(10), 0, 0xffffffff)], status.RESOURCE_EXHAUSTED],
    ["that claims more than it has", [grpcFrame(Buffer.alloc(10), 0, 100)], status.UNIMPLEMENTED],
    ["that claims less than it has", [grpcFrame(valid.subarray(5), 0, valid.length - 6)], status.INVALID_ARGUMENT],
    ["cut within its prefix", [valid.subarray(0, 3)], status.UNIMPLEMENTED],
    ["that never came", [], status.UNIMPLEMENTED],
    ["that came twice", [valid, valid], status.UNIMPLEMENTED],
    ["in single bytes", [...valid].map((byte) => Buffer.from([byte])), status.OK],
  ])("%s has its status", async (_what, chunks, code) => {
    expect(await call(SUBMIT, chunks)).toMatchObject({ http: 200, code });
  });

  it.each<[string, Buffer, string | null, status]>([
    ["compressed as said", grpcFrame(gzipSync(valid.subarray(5)), 1), "gzip", status.OK],
    ["that is not what it is said to be", grpcFrame(Buffer.alloc(100, 7), 1), "gzip", status.INVALID_ARGUMENT],
    ["broken off", grpcFrame(gzipSync(valid.subarray(5)).subarray(0, -9), 1), "gzip", status.INVALID_ARGUMENT],
    ["that is no deflate either", grpcFrame(Buffer.alloc(100, 7), 1), "deflate", status.INVALID_ARGUMENT],
    ["compressed without a word of how", grpcFrame(gzipSync(valid.subarray(5)), 1), null, status.INVALID_ARGUMENT],
    ["compressed in an unknown way", grpcFrame(Buffer.alloc(10), 1), "snappy", status.UNIMPLEMENTED],
    ["with a flag that means nothing", grpcFrame(valid.subarray(5), 7), null, status.OK],
  ])("%s has its status", async (_what, message, encoding, code) => {
    const answer = await call(SUBMIT, [message], encoding === null ? {} : { "grpc-encoding": encoding });
    expect(answer).toMatchObject({ http: 200, code });
    if (code === status.INVALID_ARGUMENT) expect(answer.reason).toBe("MALFORMED_MESSAGE");
  });

  it("broken on a worker's stream ends it with the same status", async () => {
    const answer = await call(WorkerServiceService.executeTasks.path, [grpcFrame(Buffer.alloc(100, 7), 1)], { "grpc-encoding": "gzip" });
    expect(answer).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "MALFORMED_MESSAGE" });
  });

  it("that would inflate to a gigabyte is not inflated", { timeout: 120_000 }, async () => {
    const bomb = grpcFrame(gzipSync(Buffer.alloc(1024 * MIB), { level: constants.Z_BEST_SPEED }).subarray(0, 4 * MIB - 5), 1);
    const explode = async (): Promise<void> => {
      const bombs = Array.from({ length: 20 }, () => call(SUBMIT, [bomb], { "grpc-encoding": "gzip" }));
      for (const answer of await Promise.all(bombs)) expect(answer.code).toBe(status.RESOURCE_EXHAUSTED);
    };
    // 20 messages of 4 MiB, as they came and inflated so far. What the allocator keeps of that is used again.
    await neighbour.during(explode, 400);
    await neighbour.during(explode, 150);
  });
});

describe("headers", () => {
  it.each<[string, Record<string, string>, object]>([
    ["a path that is no method", { ":path": "/leasehold.v1.TaskService/Nothing" }, { code: status.UNIMPLEMENTED }],
    ["a path that is no service", { ":path": "/nobody/Nothing" }, { code: status.UNIMPLEMENTED }],
    ["a path like a member of objects", { ":path": "/__proto__/constructor" }, { code: status.UNIMPLEMENTED }],
    ["the root as path", { ":path": "/" }, { code: status.UNIMPLEMENTED }],
    ["another content type", { "content-type": "application/json" }, { http: 415, code: null }],
    ["no content type", { "content-type": "" }, { http: 415, code: null }],
    ["another method of HTTP", { ":method": "PUT" }, { http: 405, code: null }],
    ["a time-out without a unit", { "grpc-timeout": "10" }, { code: status.INVALID_ARGUMENT, reason: "INVALID_FIELD" }],
    ["a time-out of words", { "grpc-timeout": "soon" }, { code: status.INVALID_ARGUMENT, reason: "INVALID_FIELD" }],
    ["a negative time-out", { "grpc-timeout": "-1S" }, { code: status.INVALID_ARGUMENT, reason: "INVALID_FIELD" }],
    ["a time-out of nine digits", { "grpc-timeout": "999999999n" }, { code: status.INVALID_ARGUMENT, reason: "INVALID_FIELD" }],
    ["the longest time-out", { "grpc-timeout": "99999999H" }, { code: status.OK }],
    ["a time-out just beyond 2^31 ms", { "grpc-timeout": "2147484S" }, { code: status.OK }],
    ["a namespace of blanks", { "leasehold-namespace": "a b" }, { code: status.PERMISSION_DENIED, reason: "NAMESPACE_DENIED" }],
    ["a binary key that is no base64", { "x-bin": "%%%" }, { code: status.OK }],
    ["a broken traceparent", { traceparent: "00-zz" }, { code: status.OK }],
  ])("with %s have their status", async (_what, headers, expected) => {
    expect(await call(SUBMIT, [valid], headers)).toMatchObject(expected);
  });

  it("with a time-out of nothing are DEADLINE_EXCEEDED, or served before", async () => {
    expect([status.DEADLINE_EXCEEDED, status.OK]).toContain((await call(SUBMIT, [valid], { "grpc-timeout": "0S" })).code);
  });

  it("up to 16 KiB are taken", async () => {
    expect(await call(HEALTH, [grpcFrame(Buffer.alloc(0))], { x: "y".repeat(15 * 1024) })).toMatchObject({ code: status.OK });
  });

  it("of GET, which no gRPC client sends, are refused by HTTP", async () => {
    expect(await request(session, { ...callHeaders(HEALTH), ":method": "GET" }, [])).toMatchObject({ http: 405 });
  });

  it.each<[string, Record<string, string>]>([
    ["17 KiB", { x: "y".repeat(17 * 1024) }],
    ["60 KiB", { x: "y".repeat(60 * 1024) }],
    ["more entries than there may be", Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`x-${index}`, "y".repeat(150)]))],
    ["a thousand entries", Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`x-${index}`, "y"]))],
  ])("of %s are refused, before and after the limit is known", async (_what, headers) => {
    await neighbour.during(async () => {
      const early = openSession(server.address, { maxSendHeaderBlockLength: 2 * MIB });
      const first = request(early, callHeaders(SUBMIT, headers), [valid]);
      expectTooLarge(await first);
      expectTooLarge(await request(early, callHeaders(SUBMIT, headers), [valid]));
      expect(await request(early, callHeaders(SUBMIT), [valid])).toMatchObject({ code: status.OK });
      early.destroy();
    });
  });

  it("of a megabyte end their connection only", async () => {
    await neighbour.during(async () => {
      const early = openSession(server.address, { maxSendHeaderBlockLength: 2 * MIB });
      await request(early, callHeaders(SUBMIT, { x: "y".repeat(MIB) }), [valid]);
      early.destroy();
    });
  });
});

/** METADATA_TOO_LARGE by our status, or ENHANCE_YOUR_CALM by HTTP/2, which clients show as RESOURCE_EXHAUSTED too. */
function expectTooLarge({ code, reason, reset }: Answered): void {
  if (code === null) expect(reset).toBe(11);
  else expect({ code, reason }).toEqual({ code: status.RESOURCE_EXHAUSTED, reason: "METADATA_TOO_LARGE" });
}

describe("answers that nobody reads", () => {
  it("end the connection that holds the most of them", { timeout: 120_000 }, async () => {
    const small = await scene.server({ env: { LEASEHOLD_LIMIT_HELD_BYTES: "64MiB" } });
    const beside = await startNeighbour(small);
    const data = Buffer.alloc(MIB, " ").fill("1", 0, 1);
    const owner = createTaskClient(small.address);
    const { taskId } = await owner.submit({ name: "abuse", queue: "abuse", metadata: { data } });
    const wait = WaitTaskRequest.fromPartial({ task: { taskId }, timeout: { seconds: 50n } });
    await beside.during(async () => {
      const deaf = openSession(small.address, { settings: { initialWindowSize: 0 } });
      const message = grpcFrame(WaitTaskRequest.encode(wait).finish());
      const calls = Array.from({ length: 100 }, () => request(deaf, callHeaders(TaskServiceService.waitTask.path), [message]));
      await owner.cancel(taskId);
      const answers = await Promise.all(calls);
      expect(answers.filter(({ body }) => body.length > 0)).toEqual([]);
      deaf.destroy();
    }, 400);
    owner.close();
    expect(small.log()).toContain("unread answers");
    beside.close();
  });
});

describe("requests whose answers are not read", () => {
  it("are not read either: reflection answers 30 kB to 40 bytes", { timeout: 120_000 }, async () => {
    await neighbour.during(async () => {
      const deaf = openSession(server.address, { settings: { initialWindowSize: 0 } });
      // Field 4, file_containing_symbol.
      const symbol = Buffer.from("leasehold.v1.TaskService");
      const ask = grpcFrame(Buffer.concat([Buffer.from([0x22, symbol.length]), symbol]));
      const call = request(deaf, callHeaders("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), [], false);
      let asked = 0;
      for (let turn = 0; turn < 500 && !call.stream.writableNeedDrain; turn++) {
        call.stream.write(Buffer.concat(Array.from({ length: 100 }, () => ask)));
        asked += 100;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      expect(asked).toBeLessThan(50_000);
      expect(asked).toBeGreaterThan(100);
      deaf.destroy();
      await call;
    });
  });
});

describe("requests that are never whole", () => {
  const almost = grpcFrame(Buffer.alloc(4 * MIB - 10), 0, 4 * MIB);

  it("keep further calls off their connection when they hold too much", { timeout: 120_000 }, async () => {
    await neighbour.during(async () => {
      const mute = openSession(server.address);
      const held = Array.from({ length: 10 }, () => request(mute, callHeaders(SUBMIT), [almost], false));
      const refusal = async (): Promise<string> => (await request(mute, callHeaders(SUBMIT), [valid])).reason;
      await eventually(refusal, (reason) => reason === "OVERLOADED", "a call is refused");
      // With any other code Node's client first sends all that waits, without end where the server does not take it.
      for (const { stream } of held) stream.close(http2.NGHTTP2_CANCEL);
      await eventually(refusal, (reason) => reason === "", "calls are taken again");
      mute.destroy();
    }, 300);
  });

  it("end the connection that holds the most of them", { timeout: 120_000 }, async () => {
    const small = await scene.server({ env: { LEASEHOLD_LIMIT_HELD_BYTES: "64MiB" } });
    const beside = await startNeighbour(small);
    await beside.during(async () => {
      const mute = openSession(small.address);
      const streams = Array.from({ length: 60 }, (_, index) =>
        request(mute, callHeaders(index % 2 === 0 ? SUBMIT : WorkerServiceService.executeTasks.path), [almost], false),
      );
      for (const answer of await Promise.all(streams)) expect(answer.code).not.toBe(status.OK);
      mute.destroy();
    }, 400);
    expect(small.log()).toContain("unfinished requests");
    beside.close();
  });
});
