// Does WorkerService refuse what it cannot take? A bad hello ends the stream with the path of its field, a bad report gets a verdict and
// ends nothing, and neither troubles the worker beside it.
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { CancelTaskRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  LeaseTasksRequest,
  RenewLeasesRequest,
  Report,
  ReportTasksRequest,
  ReportTasksResponse,
  VerdictCode,
  WorkerMessage,
  WorkerServiceService,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type KeptLog, keptLog } from "../support/api-fakes.js";
import { badValues, type FieldKind, ODD_TEXTS, showValue, spoil, withValue } from "../support/bad-values.js";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, readRefusal, readStatus } from "../support/owner-calls.js";
import { outcomes, runNext } from "../support/raw-run.js";
import { keepAlive, openRawWorker, type RawWorker } from "../support/raw-worker.js";

let server: InProcessServer;
let owner: OwnerCalls;
let log: KeptLog;
let client: Client;
let neighbour: RawWorker;
let stopBeating: () => void;
beforeAll(async () => {
  log = keptLog();
  server = await startInProcess({}, undefined, log);
  owner = ownerCalls(server.address);
  client = new Client(server.address, credentials.createInsecure());
  neighbour = openRawWorker(server.address, ["neighbour"]);
  await neighbour.welcome();
  stopBeating = keepAlive(neighbour, 1000);
});
afterAll(async () => {
  expect(log.lines.filter(({ level }) => level === "error")).toEqual([]);
  const { task } = await owner.submit({ name: "neighbour" });
  expect((await neighbour.lease()).taskId).toBe(task.taskId);
  stopBeating();
  neighbour.close();
  owner.close();
  client.close();
  await server[Symbol.asyncDispose]();
});

const SESSION = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";
const same = (value: Buffer): Buffer => value;

/** Sends messages as bytes over a stream of their own; answers how it ended, and how many messages came. */
function stream(...messages: readonly object[]): Promise<{ error: ServiceError | null; answers: number }> {
  return new Promise((resolve) => {
    const call = client.makeBidiStreamRequest(WorkerServiceService.executeTasks.path, same, same);
    let answers = 0;
    call
      .on("data", () => answers++)
      .on("error", (error: ServiceError) => resolve({ error, answers }))
      .on("end", () => resolve({ error: null, answers }));
    for (const message of messages) call.write(spoil(WorkerMessage.encode(WorkerMessage.create(message)).finish()));
  });
}

interface Codec {
  create(fields: never): unknown;
  encode(message: never): { finish(): Uint8Array };
}

function unary(path: string, codec: Codec, request: object): Promise<{ error: ServiceError | null; answer: Buffer | undefined }> {
  const bytes = spoil(codec.encode(codec.create(request as never) as never).finish());
  return new Promise((resolve) => client.makeUnaryRequest(path, same, same, bytes, (error, answer) => resolve({ error, answer })));
}

async function expectRefused(kind: FieldKind, field: string, send: (value: unknown) => Promise<ServiceError | null>): Promise<void> {
  for (const value of badValues(kind)) {
    const error = await send(value);
    if (error === null) throw new Error(`${showValue(value)} was taken`);
    const { code, domain, fields } = readRefusal(error);
    expect([showValue(value), code, domain], error.details).toEqual([showValue(value), "INVALID_ARGUMENT", "leasehold"]);
    expect(
      fields.some((one) => one.startsWith(field.replace(/\[0\]$/, ""))),
      `${showValue(value)} names ${fields.join()}`,
    ).toBe(true);
  }
}

describe("a hello", () => {
  const good = { hello: { workerName: "w", slots: 1, connection: 1, handlers: [{ taskName: "a" }] } };
  const fields: readonly [string, FieldKind][] = [
    ["hello.worker_name", "required 128"],
    ["hello.sdk", "optional 128"],
    ["hello.language", "optional 128"],
    ["hello.queues", "names"],
    ["hello.slots", "small count"],
    ["hello.handlers[0].task_name", "name"],
    ["hello.handlers[0].slots", "small count"],
    ["hello.labels", "labels"],
    ["hello.session_ttl", "deadline"],
    ["hello.session_id", "optional uuid"],
  ];

  it.each(fields)("with a bad %s ends the stream with its path", async (field, kind) => {
    await expectRefused(kind, field, async (value) => (await stream(withValue(good, field, value))).error);
  });

  it.each([
    ["no handlers", { handlers: [] }, "hello.handlers"],
    ["501 handlers", { handlers: Array.from({ length: 501 }, (_, n) => ({ taskName: `n${n}` })) }, "hello.handlers"],
    ["one handler twice", { handlers: [{ taskName: "a" }, { taskName: "a" }] }, "hello.handlers[1].task_name"],
    ["no connection number", { connection: 0 }, "hello.connection"],
    ["a negative connection number", { connection: -1 }, "hello.connection"],
    ["33 features", { features: Array<string>(33).fill("f") }, "hello.features"],
    ["held leases of no session", { heldLeaseTokens: ["x"] }, "hello.held_lease_tokens"],
    ["10,001 held leases", { sessionId: SESSION, heldLeaseTokens: Array<string>(10_001).fill("x") }, "hello.held_lease_tokens"],
  ])("with %s is refused", async (_, hello, field) => {
    const { error } = await stream({ hello: { ...good.hello, ...hello } });
    expect(readRefusal(error!)).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
    expect(readRefusal(error!).fields).toContain(field);
  });

  it("that does not come first, or comes twice, ends the stream", async () => {
    expect(readRefusal((await stream({ heartbeat: { number: 1 } })).error!)).toMatchObject({ reason: "HELLO_EXPECTED" });
    expect(readRefusal((await stream(good, good)).error!)).toMatchObject({ code: "INVALID_ARGUMENT", reason: "HELLO_REPEATED" });
  });

  it("with garbage as held leases of an unknown session is welcome and holds none of them", async () => {
    const worker = openRawWorker(server.address, ["a"], {
      sessionId: SESSION,
      connection: 2,
      heldLeaseTokens: ["", "x", "\0", "x".repeat(5000)],
    });
    expect(await worker.welcome()).toMatchObject({ keptLeaseTokens: [] });
    worker.close();
  });
});

describe("a message after hello", () => {
  const odd: readonly [string, object][] = [
    ["a heartbeat of negative numbers", { heartbeat: { number: -1, leasesReceived: -2_147_483_648 } }],
    [
      "slots beyond every bound",
      {
        slots: {
          total: -5,
          handlers: [
            { taskName: "é", slots: -1 },
            { taskName: "x".repeat(5000), slots: 2_147_483_647 },
          ],
        },
      },
    ],
    [
      "progress of no lease and no number",
      { progress: [{ leaseToken: "x" }, { leaseToken: "", progress: { done: NaN, total: Infinity, message: "\0" } }] },
    ],
    ["an empty message", {}],
  ];

  it.each(odd)("that is %s ends nothing", async (_, message) => {
    const worker = openRawWorker(server.address, ["odd"]);
    await worker.welcome();
    worker.send(message);
    worker.send({ slots: { total: 1, handlers: [] } });
    const { task } = await owner.submit({ name: "odd" });
    expect((await worker.lease()).taskId).toBe(task.taskId);
    worker.report(await worker.lease(), 1, outcomes.complete);
    await worker.verdict(await worker.lease(), 1);
    worker.close();
  });
});

it("a worker that says nothing for three heartbeat intervals loses its stream", async () => {
  const worker = openRawWorker(server.address, ["silent"], { sessionTtl: { seconds: 2n, nanos: 0 } });
  await worker.welcome();
  expect(await worker.ended).toMatchObject({ reason: "WORKER_SILENT" });
  worker.close();
});

describe("a report", () => {
  const payload = (field: string): [string, string] => [field, "payload"];
  const cases: readonly [field: string, kind: string][] = [
    payload("complete.result"),
    payload("complete.execution_metadata"),
    payload("suspend.execution_metadata"),
    ["suspend.until_time", "time"],
    ["suspend.until_after", "duration"],
  ];

  it.each(cases)("with a bad %s ends the attempt as INVALID_REPORT, once and for all", async (field, kind) => {
    // One of each class of fault: the rest differ only in what the door has been asked already.
    for (const value of badValues(kind as FieldKind).slice(0, 4)) {
      const base = field === "suspend.execution_metadata" ? outcomes.suspend : {};
      const { task } = await owner.submit({ name: "reported" });
      const { verdict } = await runNext(server.address, "reported", withValue(base, field, value));
      expect(verdict.code, showValue(value)).toBe(VerdictCode.INVALID);
      expect(readStatus(verdict.status!)).toMatchObject({ reason: "INVALID_REPORT" });
      expect(readStatus(verdict.status!).fields[0]).toContain(field);
      expect((await owner.get({ taskId: task.taskId })).state).toBe(TaskState.FAILED);
    }
  });

  it.each([
    payload("fail.execution_metadata"),
    payload("cancel.execution_metadata"),
    payload("release.execution_metadata"),
    ["fail.retry_after", "duration"],
    payload("fail.error.details"),
  ])("with a bad %s is recorded without it", async (field, kind) => {
    for (const value of badValues(kind as FieldKind).slice(0, 3)) {
      await owner.submit({ name: "left", retryPolicy: { maxAttempts: 1 } });
      const base = field.startsWith("fail") ? outcomes.failOnce : {};
      const { verdict, lease } = await runNext(server.address, "left", withValue(base, field, value));
      expect(verdict.code, showValue(value)).toBe(VerdictCode.RECORDED);
      expect(readStatus(verdict.status!).fields[0]).toContain(field);
      if (field.startsWith("release"))
        await owner.call(TaskServiceService.cancelTask, CancelTaskRequest.create({ task: { taskId: lease.taskId } }));
    }
  });

  it("that is a bad checkpoint is refused and the lease goes on", async () => {
    await owner.submit({ name: "checked" });
    const bad = badValues("payload").slice(0, 3);
    const checkpoints = bad.map((value) => withValue({}, "checkpoint.execution_metadata", value) as Partial<Report>);
    const { verdict } = await runNext(server.address, "checked", outcomes.complete, ...checkpoints, {
      checkpoint: { executionMetadata: undefined },
    });
    expect(verdict.code).toBe(VerdictCode.RECORDED);
  });

  it("with odd or endless free text is recorded with the text cleaned and cut", async () => {
    for (const text of ODD_TEXTS) {
      const { task } = await owner.submit({ name: "odd-text" });
      let error = { code: text, message: text, details: undefined, stack: text, cause: undefined as object | undefined };
      for (let depth = 0; depth < 10; depth++) error = { ...error, cause: error };
      const { verdict } = await runNext(server.address, "odd-text", { fail: { ...outcomes.fail.fail, error } } as Partial<Report>);
      expect(verdict.code, showValue(text)).toBe(VerdictCode.RECORDED);
      expect((await owner.get({ taskId: task.taskId })).state).toBe(TaskState.FAILED);
    }
  });

  it("of no lease, no number, no kind or several kinds gets its verdict, and the stream goes on", async () => {
    const worker = openRawWorker(server.address, ["kinds"]);
    await worker.welcome();
    await owner.submit({ name: "kinds" });
    const lease = await worker.lease();
    for (const leaseToken of ["", "x", "\0", "x".repeat(43), lease.leaseToken.slice(0, -1), `${lease.leaseToken}A`]) {
      worker.send({ reports: [Report.create({ leaseToken, reportSeq: 1, complete: {} })] });
      const verdict = await worker.first(
        ({ verdicts }) => verdicts.find((one) => one.leaseToken === leaseToken),
        `verdict for ${leaseToken}`,
      );
      expect(verdict.code).toBe(VerdictCode.LEASE_LOST);
    }
    worker.report(lease, 1, {});
    expect((await worker.verdict(lease, 1)).code).toBe(VerdictCode.INVALID);
    worker.report(lease, 2, { ...outcomes.complete, ...outcomes.fail });
    expect((await worker.verdict(lease, 2)).code).toBe(VerdictCode.INVALID);
    for (const reportSeq of [-1, 0, 2_147_483_647]) {
      worker.report(lease, reportSeq, outcomes.complete);
      expect([VerdictCode.INVALID, VerdictCode.RETRY_LATER]).toContain((await worker.verdict(lease, reportSeq)).code);
    }
    worker.report(lease, 3, outcomes.complete);
    expect((await worker.verdict(lease, 3)).code).toBe(VerdictCode.RECORDED);
    worker.close();
  });
});

describe("calls without a stream", () => {
  const lease = { workerName: "w", maxTasks: 1, handlers: [{ taskName: "none" }] };
  const path = WorkerServiceService.leaseTasks.path;

  it.each<[string, FieldKind]>([
    ["worker_name", "required 128"],
    ["sdk", "optional 128"],
    ["language", "optional 128"],
    ["queues", "names"],
    ["handlers[0].task_name", "name"],
    ["handlers[0].slots", "small count"],
    ["max_tasks", "small count"],
    ["wait", "duration"],
    ["session_ttl", "deadline"],
  ])("LeaseTasks refuses a bad %s by its path", async (field, kind) => {
    await expectRefused(kind, field, async (value) => (await unary(path, LeaseTasksRequest, withValue(lease, field, value))).error);
  });

  it("RenewLeases refuses none, too many and odd sessions, and says of an unknown one that it is over", async () => {
    for (const sessionIds of [[], Array<string>(101).fill(SESSION), ["x"], ["\0"]]) {
      const { error } = await unary(WorkerServiceService.renewLeases.path, RenewLeasesRequest, { sessionIds });
      expect(readRefusal(error!)).toMatchObject({ code: "INVALID_ARGUMENT" });
      expect(readRefusal(error!).fields[0]).toContain("session_ids");
    }
    expect((await unary(WorkerServiceService.renewLeases.path, RenewLeasesRequest, { sessionIds: [SESSION] })).error).toBeNull();
  });

  it("ReportTasks refuses none and too many, and answers odd ones each by a verdict", async () => {
    for (const count of [0, 101]) {
      const reports = Array.from({ length: count }, () => ({ leaseToken: "x", reportSeq: 1, complete: {} }));
      const { error } = await unary(WorkerServiceService.reportTasks.path, ReportTasksRequest, { reports });
      expect(readRefusal(error!)).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["reports"] });
    }
    const reports = ["", "x", "\0", "x".repeat(5000)].map((leaseToken) => ({ leaseToken, reportSeq: -1, complete: {}, fail: {} }));
    const { error, answer } = await unary(WorkerServiceService.reportTasks.path, ReportTasksRequest, { reports });
    expect(error).toBeNull();
    expect(ReportTasksResponse.decode(answer!).verdicts.every(({ code }) => code === VerdictCode.LEASE_LOST)).toBe(true);
  });
});
