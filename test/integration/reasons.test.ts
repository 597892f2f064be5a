// Is every reason of docs/errors.md raised for what it says? Each that TaskService can raise is raised here over the wire; where the others
// are raised is said beside them, so that none is forgotten.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { Any } from "@leasehold/proto/google/protobuf/any";
import { ErrorInfo, PreconditionFailure, ResourceInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import {
  CancelTaskRequest,
  GetTaskRequest,
  KeyConflictPolicy,
  ListTasksRequest,
  TaskServiceService,
  WaitTarget,
  WaitTaskRequest,
} from "@leasehold/proto/leasehold/v1/task_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { REASONS, type Reason } from "@leasehold/server/api/reasons";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, readRefusal, refused } from "../support/owner-calls.js";
import { outcomes, runNext } from "../support/raw-run.js";
import { openRawWorker } from "../support/raw-worker.js";
import { jsonPayload } from "../support/task-client.js";

let server: InProcessServer;
let owner: OwnerCalls;
let client: Client;
beforeAll(async () => {
  server = await startInProcess();
  owner = ownerCalls(server.address);
  client = new Client(server.address, credentials.createInsecure());
});
afterAll(async () => {
  owner.close();
  client.close();
  await server[Symbol.asyncDispose]();
});

const ROOT = join(import.meta.dirname, "../..");
const UNKNOWN = { taskId: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e" };
const { REJECT, REPLACE_PENDING } = KeyConflictPolicy;
const service = TaskServiceService;
let names = 0;
const freshName = (): string => `reason.${String(++names)}`;

async function finished(name: string, how: keyof typeof outcomes = "complete", more: object = {}): Promise<string> {
  const { task } = await owner.submit({ name, ...more });
  await runNext(server.address, name, outcomes[how]);
  return task.taskId;
}

/** A task that runs under a worker which says nothing. */
async function running(name: string): Promise<string> {
  const { task } = await owner.submit({ name });
  const worker = openRawWorker(server.address, [name]);
  await worker.lease();
  worker.close();
  return task.taskId;
}

function sendBytes(path: string, bytes: Buffer, metadata = new Metadata()): Promise<Buffer | undefined> {
  const same = (value: Buffer): Buffer => value;
  return new Promise((resolve, reject) =>
    client.makeUnaryRequest(path, same, same, bytes, metadata, (error, answer) => (error === null ? resolve(answer) : reject(error))),
  );
}

/** Raises each reason of TaskService. */
const RAISED: Partial<Record<Reason, () => Promise<unknown>>> = {
  INVALID_FIELD: () => owner.submit({ name: "no name" }),
  MALFORMED_MESSAGE: () => sendBytes(service.getTask.path, Buffer.from([0x0a, 0xff, 0xff, 0xff])),
  INVALID_PAGE_TOKEN: () => owner.call(service.listTasks, ListTasksRequest.create({ pageToken: "x" })),
  NAMESPACE_DENIED: () => {
    const metadata = new Metadata();
    metadata.set("leasehold-namespace", "other");
    return sendBytes(service.getTask.path, Buffer.from(GetTaskRequest.encode(GetTaskRequest.create({ task: UNKNOWN })).finish()), metadata);
  },
  TASK_NOT_FOUND: () => owner.get(UNKNOWN),
  TASK_REMOVED: async () => {
    const taskId = await finished(freshName());
    const { etag } = await owner.get({ taskId });
    const request = WaitTaskRequest.create({ task: { taskId }, target: WaitTarget.CHANGED, etag });
    const waiting = owner.call(service.waitTask, request);
    // The wait is at the server before the removal is: both go over one connection, in this order.
    await owner.remove({ task: { taskId } });
    return waiting;
  },
  TASK_ID_CONFLICT: async () => {
    await owner.submit({ name: "a", ...UNKNOWN, taskId: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6f" });
    return owner.submit({ name: "b", taskId: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6f" });
  },
  KEY_EXISTS: async () => {
    const name = freshName();
    await owner.submit({ name, key: "k" });
    return owner.submit({ name, key: "k", keyConflictPolicy: REJECT });
  },
  KEY_TAKEN: async () => {
    const name = freshName();
    const taskId = await finished(name, "fail", { key: "k" });
    await owner.submit({ name, key: "k" });
    return owner.retry({ task: { taskId } });
  },
  KEY_METADATA_MISMATCH: async () => {
    const name = freshName();
    await owner.submit({ name, key: "k" });
    return owner.submit({ name, key: "k", metadata: jsonPayload(1) });
  },
  KEY_TASK_STARTED: async () => {
    const name = freshName();
    await owner.submit({ name, key: "k" });
    await runNext(server.address, name, outcomes.suspend);
    return owner.submit({ name, key: "k", keyConflictPolicy: REPLACE_PENDING });
  },
  KEY_HELD: async () => {
    const name = freshName();
    await finished(name, "complete", { key: "k", keyHold: { seconds: 60n } });
    return owner.submit({ name, key: "k", keyConflictPolicy: REPLACE_PENDING });
  },
  TASK_FINISHED: async () => owner.proceed({ task: { taskId: await finished(freshName()) } }),
  TASK_NOT_FINISHED: async () => owner.remove({ task: { taskId: (await owner.submit({ name: freshName() })).task.taskId } }),
  TASK_NOT_PENDING: async () => owner.update({ task: { taskId: await running(freshName()) }, updateMask: ["priority"] }),
  TASK_NOT_SUSPENDED: async () => owner.proceed({ task: { taskId: await running(freshName()) }, update: { replace: jsonPayload(1) } }),
  CANCEL_REQUESTED: async () => {
    const taskId = await running(freshName());
    await owner.call(service.cancelTask, CancelTaskRequest.create({ task: { taskId } }));
    return owner.proceed({ task: { taskId } });
  },
  MULTIPLE_TASKS: async () => {
    const name = freshName();
    await owner.submitMany([{ name }, { name }]);
    return owner.proceed({ filter: { names: [name] } });
  },
  REQUEST_ID_REUSED: async () => {
    const taskId = await running(freshName());
    await owner.proceed({ task: { taskId }, requestId: "r" });
    return owner.proceed({ task: { taskId }, requestId: "r", note: "another" });
  },
  PATCH_NOT_APPLICABLE: async () => {
    const name = freshName();
    const executionMetadata = { data: Buffer.from([0]), contentType: "application/x-secret" };
    const { task } = await owner.submit({ name, executionMetadata });
    await runNext(server.address, name, outcomes.suspend);
    return owner.proceed({ task: { taskId: task.taskId }, update: { mergePatch: jsonPayload({}) } });
  },
  TOO_MANY_PROCEEDS: async () => {
    const taskId = await running(freshName());
    for (let one = 0; one < 16; one++) await owner.proceed({ task: { taskId } });
    return owner.proceed({ task: { taskId } });
  },
  ETAG_MISMATCH: async () => owner.proceed({ task: { taskId: await running(freshName()) }, etag: "1" }),
};

/** Where the others are raised. */
const ELSEWHERE: Partial<Record<Reason, string>> = {
  METADATA_TOO_LARGE: "test/abuse/requests.test.ts",
  REQUEST_TOO_SLOW: "test/abuse/connections.test.ts",
  INVALID_REPORT: "test/integration/bad-worker-input.test.ts",
  HELLO_EXPECTED: "test/integration/bad-worker-input.test.ts",
  HELLO_REPEATED: "test/integration/bad-worker-input.test.ts",
  WORKER_SILENT: "test/integration/bad-worker-input.test.ts",
  CONFLICT: "test/unit/server/status.test.ts",
  OVERLOADED: "test/unit/server/status.test.ts",
  DATABASE_UNAVAILABLE: "test/unit/server/status.test.ts",
  DATABASE_UNFIT: "test/integration/conditions-change.test.ts",
  SERVER_DRAINING: "test/unit/server/api-over-sockets.test.ts",
  SESSION_TAKEN: "test/e2e/sessions.test.ts",
  STALE_HELLO: "test/e2e/sessions.test.ts",
  SESSION_EXPIRED: "test/e2e/sessions.test.ts",
  WORKER_NOT_READING: "test/e2e/sessions.test.ts",
  NOT_IMPLEMENTED: "test/unit/server/call.test.ts",
  INTERNAL: "test/unit/server/call.test.ts",
};

describe("every reason", () => {
  it.each(Object.keys(RAISED) as Reason[])("%s is raised, with its code", async (reason) => {
    const refusal = await refused(RAISED[reason]!());
    expect(refusal).toMatchObject({ reason, domain: "leasehold" });
    expect(refusal.code).toBe(codeName(reason));
    if (refusal.code === "FAILED_PRECONDITION") expect(refusal.precondition ?? reason).toBe(reason);
  });

  it("is raised here or in the file that is named here", () => {
    expect([...Object.keys(RAISED), ...Object.keys(ELSEWHERE)].sort()).toEqual(Object.keys(REASONS).sort());
    for (const [reason, path] of Object.entries(ELSEWHERE)) expect(readFileSync(join(ROOT, path), "utf8"), reason).toContain(reason);
  });
});

describe("the trailer grpc-status-details-bin", () => {
  it("is a google.rpc.Status of the same code and message, whose details any client can read", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, key: "k" });
    const error = await owner.submit({ name, key: "k", metadata: jsonPayload(1) }).then(
      () => null,
      (thrown: unknown) => thrown as ServiceError,
    );
    const [trailer] = error!.metadata.get("grpc-status-details-bin");
    const { code, message, details } = Status.decode(trailer as Buffer);
    expect([code, message]).toEqual([error!.code, error!.details]);
    const decode = <T>(type: string, codec: { decode(bytes: Uint8Array): T }): T | undefined => {
      const found = details.map((detail) => Any.create(detail)).find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${type}`);
      return found && codec.decode(found.value);
    };
    expect(decode("ErrorInfo", ErrorInfo)).toEqual({
      reason: "KEY_METADATA_MISMATCH",
      domain: "leasehold",
      metadata: { resource: task.taskId },
    });
    expect(decode("ResourceInfo", ResourceInfo)).toMatchObject({ resourceType: "leasehold.v1.Task", resourceName: task.taskId });
    expect(decode("PreconditionFailure", PreconditionFailure)?.violations).toMatchObject([
      { type: "KEY_METADATA_MISMATCH", subject: task.taskId },
    ]);
    expect(readRefusal(error!).fields).toEqual(["task.key"]);
  });
});

function codeName(reason: Reason): string {
  const names: Record<number, string> = {
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
  };
  return names[REASONS[reason].code] ?? "";
}
