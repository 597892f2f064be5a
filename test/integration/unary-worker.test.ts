// Can a worker live without a stream? One made of single calls, as grpcurl or a serverless function would make them.
import { credentials, status, type ServiceError } from "@grpc/grpc-js";
import { setTimeout as pause } from "node:timers/promises";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  LeaseTasksRequest,
  type LeaseTasksResponse,
  RenewLeasesRequest,
  type RenewLeasesResponse,
  Report,
  ReportTasksRequest,
  type ReportTasksResponse,
  VerdictCode,
  WorkerServiceClient,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { createTaskClient, jsonOf, jsonPayload, type TaskClient } from "../support/task-client.js";

let server: InProcessServer;
let tasks: TaskClient;
let worker: WorkerServiceClient;

beforeEach(async () => {
  server = await startInProcess();
  tasks = createTaskClient(server.address);
  worker = new WorkerServiceClient(server.address, credentials.createInsecure());
});

afterEach(async () => {
  tasks.close();
  worker.close();
  await server[Symbol.asyncDispose]();
});

function lease(request: Partial<LeaseTasksRequest> = {}): Promise<LeaseTasksResponse> {
  const whole = LeaseTasksRequest.create({ workerName: "curl", maxTasks: 10, handlers: [{ taskName: "a" }], ...request });
  return new Promise((resolve, reject) => worker.leaseTasks(whole, (error, answer) => (error ? reject(error) : resolve(answer))));
}

function renew(...sessionIds: string[]): Promise<RenewLeasesResponse> {
  const whole = RenewLeasesRequest.create({ sessionIds });
  return new Promise((resolve, reject) => worker.renewLeases(whole, (error, answer) => (error ? reject(error) : resolve(answer))));
}

function report(...reports: Parameters<typeof Report.create>[0][]): Promise<ReportTasksResponse> {
  const whole = ReportTasksRequest.create({ reports: reports.map((one) => Report.create(one)) });
  return new Promise((resolve, reject) => worker.reportTasks(whole, (error, answer) => (error ? reject(error) : resolve(answer))));
}

const codes = (answer: ReportTasksResponse): VerdictCode[] => answer.verdicts.map((verdict) => verdict.code);

describe("a worker of single calls", () => {
  it("leases, checkpoints, completes and is answered the same when it repeats itself", async () => {
    const { taskId } = await tasks.submit({ name: "a", metadata: jsonPayload({ n: 1 }) });
    const answer = await lease({ wait: { seconds: 5n, nanos: 0 } });
    expect(answer.leases.map((one) => [one.taskId, jsonOf(one.metadata)])).toEqual([[taskId, { n: 1 }]]);
    const leaseToken = answer.leases[0]?.leaseToken ?? "";
    const checkpoint = { leaseToken, reportSeq: 1, checkpoint: { executionMetadata: jsonPayload({ at: 1 }) } };
    const complete = { leaseToken, reportSeq: 2, complete: { result: jsonPayload("done") } };
    expect(codes(await report(checkpoint, complete))).toEqual([VerdictCode.RECORDED, VerdictCode.RECORDED]);
    expect(codes(await report(checkpoint, complete))).toEqual([VerdictCode.ALREADY_RECORDED, VerdictCode.ALREADY_RECORDED]);
    const task = await tasks.get(taskId);
    expect([task.state, jsonOf(task.result), jsonOf(task.executionMetadata), task.workerName]).toEqual([
      TaskState.COMPLETED,
      "done",
      { at: 1 },
      "curl",
    ]);
  });

  it("waits for a task that is submitted meanwhile, and is answered with nothing when none comes", async () => {
    const waiting = lease({ wait: { seconds: 20n, nanos: 0 } });
    const { taskId } = await tasks.submit({ name: "a" });
    expect((await waiting).leases.map((one) => one.taskId)).toEqual([taskId]);
    const nothing = await lease({ wait: { seconds: 0n, nanos: 200_000_000 } });
    expect([nothing.sessionId, nothing.leases]).toEqual(["", []]);
  });

  it("makes each answer a session of its own, renewed apart", async () => {
    await tasks.submit({ name: "a" });
    await tasks.submit({ name: "a" });
    const wait = { seconds: 5n, nanos: 0 };
    const [first, second] = [await lease({ maxTasks: 1, wait }), await lease({ maxTasks: 1, wait })];
    expect(new Set([first.sessionId, second.sessionId]).size).toBe(2);
    const { renewals } = await renew(first.sessionId, second.sessionId, "00000000-0000-4000-8000-000000000000");
    expect(renewals.map(({ expiresIn, error }) => [expiresIn?.seconds !== undefined, error?.code])).toEqual([
      [true, undefined],
      [true, undefined],
      [false, status.ABORTED],
    ]);
  });

  it("loses the leases of an answer that nobody renews, and its late outcome still counts until somebody else has the task", async () => {
    const { taskId } = await tasks.submit({ name: "a" });
    const answer = await lease({ wait: { seconds: 5n, nanos: 0 }, sessionTtl: { seconds: 2n, nanos: 0 } });
    await tasks.wait(taskId, (task) => task.state === TaskState.PENDING && task.lostLeases === 1);
    expect((await renew(answer.sessionId)).renewals[0]?.error?.code).toBe(status.ABORTED);
    const leaseToken = answer.leases[0]?.leaseToken ?? "";
    expect(codes(await report({ leaseToken, reportSeq: 1, complete: {} }))).toEqual([VerdictCode.RECORDED]);
    expect((await tasks.get(taskId)).state).toBe(TaskState.COMPLETED);
  });

  it("is refused once the task has another lease", async () => {
    const { taskId } = await tasks.submit({ name: "a" });
    const first = await lease({ wait: { seconds: 5n, nanos: 0 }, sessionTtl: { seconds: 2n, nanos: 0 } });
    const second = await lease({ wait: { seconds: 20n, nanos: 0 } });
    expect(second.leases[0]?.taskId).toBe(taskId);
    const late = { leaseToken: first.leases[0]?.leaseToken ?? "", reportSeq: 1, complete: {} };
    const newest = { leaseToken: second.leases[0]?.leaseToken ?? "", reportSeq: 1, complete: { result: jsonPayload(2) } };
    expect(codes(await report(late, newest))).toEqual([VerdictCode.LEASE_LOST, VerdictCode.RECORDED]);
    expect(second.leases[0]?.fencingToken).toBeGreaterThan(first.leases[0]?.fencingToken ?? 0n);
  });

  it("hears of cancels, and of leases that were taken away, when it renews", async () => {
    const { taskId } = await tasks.submit({ name: "a" });
    const answer = await lease({ wait: { seconds: 5n, nanos: 0 } });
    await tasks.cancel(taskId, "no longer needed");
    const { cancels } = await renew(answer.sessionId);
    expect(cancels.map(({ leaseToken, reason }) => [leaseToken, reason])).toEqual([[answer.leases[0]?.leaseToken, "no longer needed"]]);
    expect(codes(await report({ leaseToken: answer.leases[0]?.leaseToken ?? "", reportSeq: 1, cancel: {} }))).toEqual([
      VerdictCode.RECORDED,
    ]);
    expect((await tasks.get(taskId)).state).toBe(TaskState.CANCELLED);
  });

  it("gives back what it claimed when the caller hangs up", async () => {
    const request = LeaseTasksRequest.create({
      workerName: "gone",
      maxTasks: 1,
      handlers: [{ taskName: "a" }],
      wait: { seconds: 20n, nanos: 0 },
    });
    const call = worker.leaseTasks(request, () => undefined);
    await pause(200);
    call.cancel();
    const { taskId } = await tasks.submit({ name: "a" });
    expect((await lease({ wait: { seconds: 10n, nanos: 0 } })).leases.map((one) => one.taskId)).toEqual([taskId]);
  });

  it("names the field of whatever is wrong", async () => {
    const refused = (call: Promise<unknown>): Promise<ServiceError> =>
      call.then(
        () => Promise.reject(new Error("accepted")),
        (error: unknown) => error as ServiceError,
      );
    const errors = await Promise.all([
      refused(lease({ maxTasks: 0 })),
      refused(lease({ maxTasks: 101 })),
      refused(lease({ workerName: "" })),
      refused(lease({ wait: { seconds: 31n, nanos: 0 } })),
      refused(renew()),
      refused(renew("nonsense")),
      refused(report()),
    ]);
    expect(errors.map((error) => error.code)).toEqual(errors.map(() => status.INVALID_ARGUMENT));
    const fields = ["max_tasks", "max_tasks", "worker_name", "wait", "session_ids", "session_ids[0]", "reports"];
    errors.forEach((error, index) => expect(error.details).toContain(fields[index]));
  });
});
