// What does a real server answer to what it cannot take? The right status with the field at fault, and the next caller notices nothing.
import { status } from "@grpc/grpc-js";
import { SubmitTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { Hello, type Lease, Report, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keepAlive, type RawWorker } from "../support/raw-worker.js";
import { openScene } from "../support/scene.js";
import { callWithBytes, healthOf, reflectedServices } from "../support/service-calls.js";
import type { ServerProcess } from "../support/server-process.js";
import { quick } from "./programs/tasks.js";

const TASKS = "/leasehold.v1.TaskService";
const MIB = 1024 * 1024;

let scene: Awaited<ReturnType<typeof openScene>>;
let server: ServerProcess;
beforeAll(async () => {
  scene = await openScene("refused calls");
  server = await scene.server();
});
afterAll(async () => {
  try {
    scene.check();
  } finally {
    await scene.close();
  }
});

/** A submission as bytes. */
function submission(bytes: number, name: string = quick.name): Buffer {
  const metadata = { data: Buffer.alloc(bytes, " ").fill("1", 0, 1), contentType: "" };
  return Buffer.from(SubmitTaskRequest.encode(SubmitTaskRequest.fromPartial({ task: { name, metadata } })).finish());
}

async function expectServing(): Promise<void> {
  expect(await healthOf(server.address)).toBe("SERVING");
  expect((await scene.client(server.address).submit(quick, { n: 1 }, { queue: "elsewhere" })).created).toBe(true);
}

describe("a unary call", () => {
  it.each([
    ["bytes that do not decode", `${TASKS}/SubmitTask`, Buffer.from([0x0a, 0x7f, 0x01]), "INVALID_ARGUMENT", "MALFORMED_MESSAGE", []],
    ["a task name with a blank", `${TASKS}/SubmitTask`, submission(10, "a b"), "INVALID_ARGUMENT", "INVALID_FIELD", ["task.name"]],
    ["metadata beyond its limit", `${TASKS}/SubmitTask`, submission(2 * MIB), "INVALID_ARGUMENT", "INVALID_FIELD", ["task.metadata"]],
    ["a message beyond its limit", `${TASKS}/SubmitTask`, submission(40 * MIB), "RESOURCE_EXHAUSTED", "", []],
    ["an unknown task", `${TASKS}/GetTask`, named("0191e3a0-0000-7000-8000-000000000000"), "NOT_FOUND", "TASK_NOT_FOUND", []],
    ["no task id at all", `${TASKS}/GetTask`, named("no uuid"), "INVALID_ARGUMENT", "INVALID_FIELD", ["task.task_id"]],
    ["a method that is not there", `${TASKS}/Nothing`, Buffer.alloc(0), "UNIMPLEMENTED", "", []],
    [
      "bytes to health that do not decode",
      "/grpc.health.v1.Health/Check",
      Buffer.from([0x0a]),
      "INVALID_ARGUMENT",
      "MALFORMED_MESSAGE",
      [],
    ],
  ])("with %s is refused by its code, and the server goes on", async (_what, method, bytes, code, reason, fields) => {
    const answer = await callWithBytes(server.address, method, bytes);
    if (Buffer.isBuffer(answer)) throw new Error("it was accepted");
    expect({ ...answer, code: status[answer.code] }).toMatchObject({ code, reason });
    expect(answer.fields.map((field) => field.replace(/\.data$/, ""))).toEqual(fields);
    await expectServing();
  });
});

// GetTaskRequest with a TaskReference, field 1 of field 1.
function named(taskId: string): Buffer {
  return Buffer.concat([Buffer.from([0x0a, taskId.length + 2, 0x0a, taskId.length]), Buffer.from(taskId)]);
}

describe("a worker's stream", () => {
  it.each<[string, Partial<Hello>, string]>([
    ["no handlers", { handlers: [] }, "hello.handlers"],
    ["a task name with a blank", { handlers: [{ taskName: "a b", slots: undefined }] }, "hello.handlers"],
    ["a session TTL of a second", { sessionTtl: { seconds: 1n, nanos: 0 } }, "hello.session_ttl"],
    ["no connection number", { connection: 0 }, "hello.connection"],
    ["more slots than there are", { slots: 10_001 }, "hello.slots"],
  ])("whose hello has %s ends with the field at fault", async (_what, hello, field) => {
    const raw = scene.raw(server.address, [quick.name], hello);
    const end = await raw.ended;
    expect(end).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "INVALID_FIELD" });
    expect(end.message).toContain(field);
    await expectServing();
  });

  it("goes on after bad reports, each with its verdict", { timeout: 120_000 }, async () => {
    const [raw, lease] = await leased();
    const nobody = { ...lease, leaseToken: "nobody's" };
    raw.report(nobody, 1, { complete: { result: undefined, executionMetadata: undefined } });
    expect((await raw.verdict(nobody, 1)).code).toBe(VerdictCode.LEASE_LOST);
    raw.report(lease, 1, { checkpoint: { executionMetadata: { data: Buffer.from("{"), contentType: "" } } });
    const refused = await raw.verdict(lease, 1);
    expect(refused.code).toBe(VerdictCode.INVALID);
    expect(refused.status?.message).toContain("execution_metadata");
    raw.report(lease, 2, { checkpoint: { executionMetadata: { data: Buffer.from('{"n":1}'), contentType: "" } } });
    expect(await raw.verdict(lease, 2)).toMatchObject({ code: VerdictCode.RECORDED, executionMetadataVersion: 1n });
    raw.report(lease, 3, { complete: { result: { data: Buffer.from([0xff, 0xfe]), contentType: "" }, executionMetadata: undefined } });
    const invalid = await raw.verdict(lease, 3);
    expect(invalid.code).toBe(VerdictCode.INVALID);
    expect(invalid.status?.message).toContain("result");
    const task = scene.client(server.address).handle({ id: lease.taskId });
    expect(await task.outcome({ timeout: "30s" })).toMatchObject({ state: "failed", finishReason: "invalid_report" });
    await expectServing();
  });

  it("without exactly one kind in a report gets INVALID and lives", { timeout: 120_000 }, async () => {
    const [raw, lease] = await leased();
    raw.send({ reports: [Report.create({ leaseToken: lease.leaseToken, reportSeq: 1 })] });
    expect((await raw.verdict(lease, 1)).code).toBe(VerdictCode.INVALID);
    keepAlive(raw, 1_000, 100);
    await raw.first(({ heartbeatAnswer }) => (heartbeatAnswer?.number ?? 0) >= 100 || undefined, "answer to a heartbeat");
  });

  it("whose second message is a hello again ends, and its leases live", { timeout: 120_000 }, async () => {
    const [raw, lease] = await leased();
    raw.send({ hello: Hello.create({ workerName: "again", connection: 2 }) });
    expect(await raw.ended).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "HELLO_REPEATED" });
    expect((await scene.client(server.address).handle({ id: lease.taskId }).snapshot()).state).toBe("running");
  });
});

let queues = 0;

/** A raw worker with a lease from a queue of its own. */
async function leased(): Promise<[RawWorker, Lease]> {
  queues += 1;
  const queue = `queue-${queues}`;
  await scene.client(server.address).submit(quick, { n: queues }, { queue });
  const raw = scene.raw(server.address, [quick.name], { queues: [queue], sessionTtl: { seconds: 20n, nanos: 0 } });
  keepAlive(raw, 5_000);
  return [raw, await raw.lease()];
}

describe("reflection", () => {
  it("lists the services of the contract", async () => {
    expect(await reflectedServices(server.address)).toEqual(
      expect.arrayContaining(["leasehold.v1.TaskService", "leasehold.v1.WorkerService"]),
    );
  });
});
