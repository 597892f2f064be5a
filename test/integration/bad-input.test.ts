// Does every field of every request of TaskService refuse what it cannot take, by its path, and does the server go on? Against a real one,
// with raw bytes where an encoder would not let a value through.
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import {
  CancelTaskRequest,
  CountTasksRequest,
  DeleteTaskRequest,
  ExplainTaskRequest,
  GetTaskRequest,
  ListTaskEventsRequest,
  ListTasksRequest,
  ProceedTaskRequest,
  RetryTaskRequest,
  SimulateRetryRequest,
  SubmitTaskRequest,
  SubmitTasksRequest,
  TaskServiceService,
  UpdateTaskRequest,
  WaitTaskRequest,
  WatchTasksRequest,
} from "@leasehold/proto/leasehold/v1/task_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type KeptLog, keptLog } from "../support/api-fakes.js";
import { badValues, type FieldKind, ODD_TEXTS, showValue, spoil, withValue } from "../support/bad-values.js";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, readRefusal, refused } from "../support/owner-calls.js";

let server: InProcessServer;
let owner: OwnerCalls;
let log: KeptLog;
let client: Client;
beforeAll(async () => {
  log = keptLog();
  server = await startInProcess({ LEASEHOLD_LIMIT_MESSAGE_BYTES: "8MiB" }, undefined, log);
  owner = ownerCalls(server.address);
  client = new Client(server.address, credentials.createInsecure());
});
afterAll(async () => {
  // Whatever was sent, the server met no bug and goes on.
  expect(log.lines.filter(({ level }) => level === "error")).toEqual([]);
  expect(await owner.submit({ name: "a" })).toMatchObject({ created: true });
  owner.close();
  client.close();
  await server[Symbol.asyncDispose]();
});

const UNKNOWN = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";

interface Codec {
  create(fields: never): unknown;
  encode(message: never): { finish(): Uint8Array };
}

/** A rpc with a good request, and what each of its fields holds. */
interface Rpc {
  readonly path: string;
  readonly codec: Codec;
  readonly good: object;
  readonly stream?: true;
  readonly fields: Readonly<Record<string, FieldKind>>;
}

const SUBMISSION: Readonly<Record<string, FieldKind>> = {
  task_id: "optional uuid",
  name: "name",
  queue: "optional name",
  metadata: "payload",
  execution_metadata: "payload",
  labels: "labels",
  priority: "small count",
  schedule_time: "time",
  "deadlines.queue": "deadline",
  "deadlines.attempt": "deadline",
  "deadlines.silence": "deadline",
  "deadlines.total": "deadline",
  "retry_policy.max_attempts": "small count",
  "retry_policy.backoff.initial": "duration",
  "retry_policy.backoff.max": "duration",
  "retry_policy.backoff.factor": "factor",
  "retry_policy.backoff.jitter": "share",
  "retry_policy.delays[0]": "duration",
  "retry_policy.rules[0].error_codes[0]": "required 128",
  "retry_policy.rules[0].action": "enum",
  "retry_policy.rules[0].delays[0]": "duration",
  "retry_policy.max_lost_leases": "small count",
  "retry_policy.lost_lease_delays[0]": "duration",
  key: "optional key",
  key_conflict_policy: "enum",
  key_hold: "duration",
};
const GOOD_TASK = { name: "a", key: "k", retryPolicy: { rules: [{ errorCodes: ["e"] }] } };
const REFERENCE: Readonly<Record<string, FieldKind>> = { "task.task_id": "uuid" };
const FILTER: Readonly<Record<string, FieldKind>> = {
  "filter.task_ids": "uuids",
  "filter.names": "names",
  "filter.queues": "names",
  "filter.states": "enums",
  "filter.pending_reasons": "enums",
  "filter.key": "optional key",
  "filter.labels": "labels",
  "filter.metadata_contains": "json",
  "filter.execution_metadata_contains": "json",
  "filter.create_time_from": "time",
  "filter.create_time_before": "time",
  "filter.finish_time_from": "time",
  "filter.finish_time_before": "time",
  "filter.run_time_from": "time",
  "filter.run_time_before": "time",
  "filter.error_codes[0]": "required 128",
};
const task = { taskId: UNKNOWN };
const filter = { names: ["a"], errorCodes: ["e"] };
const under = (prefix: string, fields: Readonly<Record<string, FieldKind>>): Record<string, FieldKind> =>
  Object.fromEntries(Object.entries(fields).map(([field, kind]) => [`${prefix}.${field}`, kind]));
const service = TaskServiceService;

const RPCS: Readonly<Record<string, Rpc>> = {
  SubmitTask: { path: service.submitTask.path, codec: SubmitTaskRequest, good: { task: GOOD_TASK }, fields: under("task", SUBMISSION) },
  SubmitTasks: {
    path: service.submitTasks.path,
    codec: SubmitTasksRequest,
    good: { tasks: [{ name: "a" }, GOOD_TASK] },
    fields: under("tasks[1]", SUBMISSION),
  },
  GetTask: { path: service.getTask.path, codec: GetTaskRequest, good: { task }, fields: { ...REFERENCE, view: "enum" } },
  "GetTask by key": {
    path: service.getTask.path,
    codec: GetTaskRequest,
    good: { task: { name: "a", key: "k" } },
    fields: { "task.name": "name", "task.key": "key" },
  },
  ListTasks: {
    path: service.listTasks.path,
    codec: ListTasksRequest,
    good: { filter },
    fields: { ...FILTER, order: "enum", page_size: "page size", page_token: "page token", view: "enum" },
  },
  CountTasks: { path: service.countTasks.path, codec: CountTasksRequest, good: { filter }, fields: FILTER },
  WaitTask: {
    path: service.waitTask.path,
    codec: WaitTaskRequest,
    good: { task, timeout: { seconds: 0n, nanos: 0 } },
    fields: { ...REFERENCE, target: "enum", timeout: "duration", view: "enum" },
  },
  WatchTasks: {
    path: service.watchTasks.path,
    codec: WatchTasksRequest,
    good: { taskIds: [UNKNOWN] },
    stream: true,
    fields: { task_ids: "uuids", view: "enum" },
  },
  ProceedTask: {
    path: service.proceedTask.path,
    codec: ProceedTaskRequest,
    good: { task },
    fields: {
      ...REFERENCE,
      "update.merge_patch": "payload",
      "update.replace": "payload",
      schedule_time: "time",
      request_id: "optional 128",
    },
  },
  "ProceedTask by filter": { path: service.proceedTask.path, codec: ProceedTaskRequest, good: { filter }, fields: FILTER },
  CancelTask: { path: service.cancelTask.path, codec: CancelTaskRequest, good: { task }, fields: { ...REFERENCE, grace: "duration" } },
  RetryTask: { path: service.retryTask.path, codec: RetryTaskRequest, good: { task }, fields: { ...REFERENCE, schedule_time: "time" } },
  UpdateTask: {
    path: service.updateTask.path,
    codec: UpdateTaskRequest,
    good: { task, updateMask: ["priority", "schedule_time", "queue"], priority: 1, queue: "a" },
    fields: { ...REFERENCE, priority: "small count", schedule_time: "time", queue: "name" },
  },
  DeleteTask: { path: service.deleteTask.path, codec: DeleteTaskRequest, good: { task }, fields: REFERENCE },
  ExplainTask: { path: service.explainTask.path, codec: ExplainTaskRequest, good: { task }, fields: REFERENCE },
  SimulateRetry: {
    path: service.simulateRetry.path,
    codec: SimulateRetryRequest,
    good: { retryPolicy: { rules: [{ errorCodes: ["e"] }] }, failures: [{ errorCode: "e" }] },
    fields: {
      ...Object.fromEntries(Object.entries(SUBMISSION).filter(([field]) => field.startsWith("retry_policy"))),
      "failures[0].error_code": "optional 128",
      "failures[0].retry_after": "duration",
    },
  },
  ListTaskEvents: {
    path: service.listTaskEvents.path,
    codec: ListTaskEventsRequest,
    good: { task },
    fields: { ...REFERENCE, page_size: "page size", page_token: "page token" },
  },
};

/** Sends a request as bytes; answers how it ended. */
function send({ path, codec, stream }: Rpc, request: object): Promise<ServiceError | null> {
  const bytes = spoil(codec.encode(codec.create(request as never) as never).finish());
  const same = (value: Buffer): Buffer => value;
  return new Promise((resolve) => {
    if (stream === undefined) client.makeUnaryRequest(path, same, same, bytes, (error) => resolve(error));
    else {
      client
        .makeServerStreamRequest(path, same, same, bytes)
        .on("data", () => undefined)
        .on("error", (error: ServiceError) => resolve(error))
        .on("end", () => resolve(null));
    }
  });
}

const FIELDS = Object.entries(RPCS).flatMap(([name, rpc]) =>
  Object.entries(rpc.fields).map(([field, kind]) => [name, field, kind] as const),
);

describe("a bad value", () => {
  it.each(FIELDS)("of %s in %s is refused by its path", async (name, field, kind) => {
    const rpc = RPCS[name]!;
    for (const value of badValues(kind)) {
      const error = await send(rpc, withValue(rpc.good, field, value));
      if (error === null) throw new Error(`${showValue(value)} was taken`);
      const { code, domain, fields, reason } = readRefusal(error);
      const path = field.replace(/\[0\]$/, "");
      expect([showValue(value), code, domain], `${reason} ${error.details}`).toEqual([showValue(value), "INVALID_ARGUMENT", "leasehold"]);
      // A reference without its id is missing as a whole.
      const expected = value === "" && field === "task.task_id" ? "task" : path;
      expect(
        fields.some((one) => one.startsWith(expected)),
        `${showValue(value)} names ${fields.join()}`,
      ).toBe(true);
    }
  });

  it.each(Object.entries(RPCS).filter(([name]) => !/^(ListTasks|CountTasks|SimulateRetry)$/.test(name)))(
    "of nothing at all in %s is refused",
    async (_, rpc) => {
      const error = await send(rpc, {});
      expect(readRefusal(error!).code).toBe("INVALID_ARGUMENT");
    },
  );
});

describe("odd text for people", () => {
  it.each([
    ["CancelTask", "reason"],
    ["ProceedTask", "note"],
  ])("is cleaned by %s, not refused", async (name, field) => {
    for (const text of ODD_TEXTS) {
      const { task: stored } = await owner.submit({ name: "odd" });
      const rpc = RPCS[name]!;
      expect(await send(rpc, withValue({ task: { taskId: stored.taskId } }, field, text)), showValue(text)).toBeNull();
    }
  });
});

describe("an etag that no task has", () => {
  it.each(["ProceedTask", "RetryTask", "UpdateTask", "DeleteTask"])("is refused by %s, whatever it is", async (name) => {
    for (const etag of ["zz", "-1", "1e9", ...ODD_TEXTS]) {
      const error = await send(RPCS[name]!, withValue(RPCS[name]!.good, "etag", etag));
      expect(error?.code, showValue(etag)).toBe(status.NOT_FOUND);
    }
  });
});

describe("a task that nobody knows", () => {
  it.each([
    "GetTask",
    "GetTask by key",
    "WaitTask",
    "ProceedTask",
    "CancelTask",
    "RetryTask",
    "UpdateTask",
    "DeleteTask",
    "ExplainTask",
    "ListTaskEvents",
  ])("is NOT_FOUND for %s", async (name) => {
    const error = await send(RPCS[name]!, RPCS[name]!.good);
    expect(readRefusal(error!)).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
  });
});

describe("a page token", () => {
  it("of another query, or changed in one bit, is refused", async () => {
    for (let one = 0; one < 3; one++) await owner.submit({ name: "paged" });
    const request = { filter: { names: ["paged"] }, pageSize: 1 };
    const { nextPageToken } = await owner.call(service.listTasks, ListTasksRequest.create(request));
    expect(nextPageToken).not.toBe("");
    const changed = Buffer.from(nextPageToken, "base64url");
    changed[3]! ^= 1;
    const spoiled: [string, { filter: { names: string[] }; order?: number }][] = [
      [nextPageToken, { ...request, filter: { names: ["other"] } }],
      [nextPageToken, { ...request, order: 2 }],
      [changed.toString("base64url"), request],
      [nextPageToken.slice(0, -1), request],
      [`${nextPageToken}=`, request],
    ];
    for (const [pageToken, query] of spoiled) {
      const refusal = await refused(owner.call(service.listTasks, ListTasksRequest.create({ ...query, pageSize: 1, pageToken })));
      expect(refusal).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] });
    }
  });
});

describe("a batch", () => {
  it("of none or too many is refused", async () => {
    for (const count of [0, 1001]) {
      const items = Array.from({ length: count }, () => ({ name: "batch" }));
      for (const atomic of [true, false])
        expect(await refused(owner.submitMany(items, atomic))).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["tasks"] });
    }
  });

  it("of 1,000 with one bad task names it and stores nothing; each by itself stores the others", async () => {
    const items = Array.from({ length: 1000 }, (_, index) => ({ name: "thousand", priority: index === 617 ? 10 : 0 }));
    expect(await refused(owner.submitMany(items))).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["tasks[617].priority"] });
    const list = ListTasksRequest.create({ filter: { names: ["thousand"] }, pageSize: 1000 });
    expect((await owner.call(service.listTasks, list)).tasks).toEqual([]);
    const results = await owner.submitMany(items, false);
    expect(results.flatMap(({ created }, index) => (created ? [] : [index]))).toEqual([617]);
    expect(results[617]?.error?.code).toBe(status.INVALID_ARGUMENT);
    expect((await owner.call(service.listTasks, list)).tasks).toHaveLength(999);
  });

  it("whose answer would not fit a message is refused before anything is stored", async () => {
    await using small = await startInProcess({
      LEASEHOLD_LIMIT_PAYLOAD_BYTES: "1KiB",
      LEASEHOLD_LIMIT_ERROR_BYTES: "4KiB",
      LEASEHOLD_LIMIT_MESSAGE_BYTES: "512KiB",
    });
    const calls = ownerCalls(small.address);
    const items = Array.from({ length: 1000 }, () => ({ name: "a" }));
    expect(await refused(calls.submitMany(items))).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["tasks"] });
    expect((await calls.call(service.listTasks, ListTasksRequest.create({}))).tasks).toEqual([]);
    expect(await calls.submitMany(items.slice(0, 400))).toHaveLength(400);
    calls.close();
  });

  it("of tasks that exist with the largest labels, and of tasks that are all bad, is answered within a message", async () => {
    const label = (n: number): [string, string] => [`${n}`.padEnd(128, "k"), "v".repeat(128)];
    const labels = Object.fromEntries(Array.from({ length: 16 }, (_, n) => label(n)));
    const items = Array.from({ length: 1000 }, (_, index) => ({ name: "labelled", key: `k${index}` }));
    for (let from = 0; from < 1000; from += 250) await owner.submitMany(items.slice(from, from + 250).map((item) => ({ ...item, labels })));
    const results = await owner.submitMany(items);
    expect(results.every(({ created, task: shown }) => !created && shown?.taskId !== "")).toBe(true);
    expect((await owner.get({ name: "labelled", key: "k7" })).labels).toEqual(labels);
    const bad = items.map(() => ({ name: "é", queue: "é", priority: -1, labels: { ["x".repeat(129)]: "y".repeat(129) }, taskId: "x" }));
    const errors = await owner.submitMany(bad, false);
    expect(errors.every(({ error }) => error?.code === status.INVALID_ARGUMENT)).toBe(true);
  });
});
