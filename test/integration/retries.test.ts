// When does a task run again, and when is its time over? What SimulateRetry says against what happens, and each deadline with a real worker.
import { setTimeout as pause } from "node:timers/promises";
import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import { FinishReason, PendingReason, RetryAction, type RetryPolicy, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { SimulateRetryRequest, type SimulateRetryResponse, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { RevocationReason, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls } from "../support/owner-calls.js";
import { outcomes, runNext } from "../support/raw-run.js";
import { keepAlive, openRawWorker } from "../support/raw-worker.js";
import { jsonPayload } from "../support/task-client.js";

let server: InProcessServer;
let owner: OwnerCalls;
beforeAll(async () => {
  server = await startInProcess();
  owner = ownerCalls(server.address);
});
afterAll(async () => {
  owner.close();
  await server[Symbol.asyncDispose]();
});

const ms = (milliseconds: number): Duration => ({
  seconds: BigInt(Math.floor(milliseconds / 1000)),
  nanos: (milliseconds % 1000) * 1_000_000,
});
const inMs = (duration: Duration | undefined): number => Number(duration?.seconds ?? 0n) * 1000 + (duration?.nanos ?? 0) / 1_000_000;
/** How late a lease may be: other tests run on the same machine. */
const LATE_MS = 1500;
/** What Date.now() cuts off, and the shortest way to the database. */
const CUT_MS = 2;

let names = 0;
const freshName = (): string => `retries.${String(++names)}`;

interface Failure {
  readonly errorCode: string;
  readonly retryable?: boolean;
  readonly retryAfter?: Duration;
}

const failWith = ({ errorCode, retryable, retryAfter }: Failure) => ({
  fail: { ...outcomes.fail.fail, error: { ...outcomes.fail.fail.error, code: errorCode }, retryable, retryAfter },
});

function simulate(calls: OwnerCalls, retryPolicy: object | undefined, failures: readonly object[]): Promise<SimulateRetryResponse> {
  return calls.call(
    TaskServiceService.simulateRetry,
    SimulateRetryRequest.create({ ...(retryPolicy && { retryPolicy }), failures: failures.map((failure) => failure) }),
  );
}

/** Fails a task again and again as told; every lease must come when the simulation says. */
async function failsAsSimulated(
  at: InProcessServer,
  calls: OwnerCalls,
  retryPolicy: object | undefined,
  failures: readonly Failure[],
): Promise<void> {
  const simulated = await simulate(calls, retryPolicy, failures);
  const name = freshName();
  const worker = openRawWorker(at.address, [name]);
  const { task } = await calls.submit({ name, ...(retryPolicy && { retryPolicy }) });
  for (const [index, attempt] of simulated.attempts.entries()) {
    const lease = await worker.lease(index);
    expect(lease).toMatchObject({ attempt: index + 1, maxAttempts: simulated.retryPolicy?.maxAttempts });
    const sentMs = Date.now();
    worker.report(lease, 1, failWith(failures[index]!));
    await worker.verdict(lease, 1);
    const recordedMs = Date.now();
    if (attempt.state === TaskState.FAILED) break;
    expect((await calls.get({ taskId: task.taskId })).attempt).toBe(attempt.attempt);
    await worker.lease(index + 1);
    expect(Date.now() - sentMs).toBeGreaterThanOrEqual(inMs(attempt.earliest) - CUT_MS);
    expect(Date.now() - recordedMs).toBeLessThanOrEqual(inMs(attempt.latest) + LATE_MS);
  }
  const end = await calls.get({ taskId: task.taskId });
  const last = simulated.attempts.at(-1);
  expect([end.state, end.finishReason]).toEqual([last?.state, last?.finishReason]);
  expect(end.retryPolicy).toEqual(simulated.retryPolicy);
  expect(worker.received.flatMap(({ leases }) => leases)).toHaveLength(simulated.attempts.length);
  worker.close();
}

describe("a task that fails", () => {
  const broken: Failure = { errorCode: "broken" };
  const five: readonly Failure[] = Array<Failure>(5).fill(broken);
  const backoff = { initial: ms(200), factor: 2, jitter: 0 };

  it.each<[string, object, readonly Failure[]]>([
    ["growing delays", { maxAttempts: 4, backoff: { initial: ms(100), factor: 2, jitter: 0.5 } }, five],
    ["delays that stay", { maxAttempts: 4, backoff: { initial: ms(200), factor: 1, jitter: 0 } }, five],
    ["a maximum below the first delay", { maxAttempts: 3, backoff: { initial: ms(5000), max: ms(200), jitter: 0 } }, five],
    ["a list of delays, its last one again and again", { maxAttempts: 5, delays: [ms(100), ms(100), ms(400)] }, five],
    ["a single attempt", { maxAttempts: 1 }, five],
    ["a delay of the worker's choice, once", { maxAttempts: 4, backoff }, [broken, { ...broken, retryAfter: ms(700) }, broken, broken]],
    [
      "a rule that fails at once",
      { backoff, rules: [{ errorCodes: ["gone"], action: RetryAction.FAIL }] },
      [broken, broken, { errorCode: "gone" }],
    ],
    [
      "a rule with delays of its own",
      { maxAttempts: 3, backoff, rules: [{ errorCodes: ["busy"], delays: [ms(50), ms(600)] }] },
      [broken, { errorCode: "busy" }, broken],
    ],
    ["a worker that says that it is of no use", { backoff }, [broken, { ...broken, retryable: false }]],
  ])("runs again as simulated with %s", async (_, retryPolicy, failures) => {
    await failsAsSimulated(server, owner, retryPolicy, failures);
  });

  it("runs one time more than the origin's MaxRetryCount says", async () => {
    await using apart = await startInProcess({ LEASEHOLD_EXECUTION_MAX_RETRY_COUNT: "2", LEASEHOLD_EXECUTION_RETRY_INITIAL: "50ms" });
    const calls = ownerCalls(apart.address);
    await failsAsSimulated(apart, calls, undefined, five);
    const { attempts, retryPolicy } = await simulate(calls, undefined, five);
    expect(attempts).toHaveLength(3);
    expect(retryPolicy).toMatchObject({ maxAttempts: 3, backoff: { initial: ms(50), factor: 2, max: ms(300_000), jitter: 0.5 } });
    calls.close();
  });

  it("starts counting anew when it suspends", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, retryPolicy: { maxAttempts: 2, delays: [ms(0)] } });
    for (let cycle = 0; cycle < 4; cycle++) {
      expect((await runNext(server.address, name, outcomes.failOnce)).lease.attempt).toBe(1);
      expect((await runNext(server.address, name, outcomes.suspend)).lease.attempt).toBe(2);
      expect(await owner.get({ taskId: task.taskId })).toMatchObject({ state: TaskState.SUSPENDED, attempt: 1 });
      await owner.proceed({ task: { taskId: task.taskId } });
    }
  });
});

describe("a simulation", () => {
  it("counts lost leases apart, and says nothing beyond the end", async () => {
    const lost = { leaseLost: true };
    const { attempts } = await simulate(owner, undefined, [lost, lost, lost, { errorCode: "x" }, lost, lost, lost, lost, lost]);
    expect(attempts.map(({ attempt, latest }) => [attempt, inMs(latest)])).toEqual([
      [1, 0],
      [1, 10_000],
      [1, 60_000],
      [2, 1000],
      [2, 0],
      [2, 10_000],
      [2, 60_000],
      [0, 0],
    ]);
    expect(attempts.at(-1)).toMatchObject({ state: TaskState.FAILED, finishReason: FinishReason.POISONED, earliest: undefined });
  });
});

describe("deadlines", () => {
  it("show in the task: all of them as submitted, and the nearest as a time", async () => {
    const name = freshName();
    const deadlines = { queue: ms(3_600_000), attempt: ms(60_000), silence: ms(30_000), total: ms(7_200_000) };
    const { task } = await owner.submit({ name, deadlines });
    const { createTime, ...shown } = await owner.get({ taskId: task.taskId });
    expect(shown).toMatchObject({ deadlines, deadlineTime: { seconds: createTime!.seconds + 3600n, nanos: createTime!.nanos } });
    expect(task.deadlineTime).toEqual(shown.deadlineTime);
    const worker = openRawWorker(server.address, [name]);
    const lease = await worker.lease();
    expect(inMs(lease.attemptDeadlineRemaining)).toBeGreaterThan(50_000);
    const { leaseTime, deadlineTime } = await owner.get({ taskId: task.taskId });
    expect(deadlineTime).toEqual({ seconds: leaseTime!.seconds + 30n, nanos: leaseTime!.nanos });
    worker.report(lease, 1, outcomes.suspend);
    await worker.verdict(lease, 1);
    expect((await owner.get({ taskId: task.taskId })).deadlineTime).toEqual({
      seconds: createTime!.seconds + 7200n,
      nanos: createTime!.nanos,
    });
    worker.close();
  });

  it("end a task that nobody leases in time", async () => {
    const { task } = await owner.submit({ name: freshName(), deadlines: { queue: ms(300) } });
    await expect.poll(async () => (await owner.get({ taskId: task.taskId })).state, { timeout: 10_000 }).toBe(TaskState.FAILED);
    const end = await owner.get({ taskId: task.taskId });
    expect(end).toMatchObject({ finishReason: FinishReason.QUEUE_DEADLINE, error: { code: "QUEUE_DEADLINE" }, deadlineTime: undefined });
  });

  it("count from when a scheduled task is due, and start anew when it is moved", async () => {
    const later = { seconds: 4_000_000_000n, nanos: 0 };
    const { task } = await owner.submit({ name: freshName(), scheduleTime: later, deadlines: { queue: ms(60_000) } });
    expect(task.deadlineTime).toEqual({ seconds: later.seconds + 60n, nanos: 0 });
    const moved = { seconds: 4_100_000_000n, nanos: 0 };
    const after = await owner.update({ task: { taskId: task.taskId }, updateMask: ["schedule_time"], scheduleTime: moved });
    expect(after.deadlineTime).toEqual({ seconds: moved.seconds + 60n, nanos: 0 });
  });

  it("revoke the lease of an attempt that takes too long, and the next one begins", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, deadlines: { attempt: ms(300) }, retryPolicy: { maxAttempts: 2, delays: [ms(0)] } });
    const worker = openRawWorker(server.address, [name]);
    const lease = await worker.lease();
    const revoked = await worker.first(({ revoked: all }) => all.find(({ leaseToken }) => leaseToken === lease.leaseToken), "revocation");
    expect(revoked.reason).toBe(RevocationReason.ATTEMPT_DEADLINE);
    const next = await worker.lease(1);
    expect(next).toMatchObject({ attempt: 2, previousError: { code: "ATTEMPT_DEADLINE" }, resumption: { reason: PendingReason.RETRY } });
    worker.report(lease, 1, outcomes.complete);
    expect((await worker.verdict(lease, 1)).code).toBe(VerdictCode.LEASE_LOST);
    await expect.poll(async () => (await owner.get({ taskId: task.taskId })).state, { timeout: 10_000 }).toBe(TaskState.FAILED);
    const end = await owner.get({ taskId: task.taskId });
    expect(end).toMatchObject({ finishReason: FinishReason.MAX_ATTEMPTS, error: { code: "ATTEMPT_DEADLINE" }, attempt: 2 });
    worker.close();
  });

  it("revoke the lease of an attempt that says nothing, but not of one that checkpoints or shows progress", async () => {
    const name = freshName();
    const silence = { deadlines: { silence: ms(3000) }, retryPolicy: { maxAttempts: 1 } };
    const { task } = await owner.submit({ name, ...silence });
    const worker = openRawWorker(server.address, [name]);
    keepAlive(worker, 1000);
    const lease = await worker.lease();
    worker.report(lease, 1, { checkpoint: { executionMetadata: { ...jsonPayload(1), contentType: "" } } });
    const begun = Date.now();
    for (let done = 0; Date.now() - begun < 4500; done++) {
      worker.send({
        progress: [{ leaseToken: lease.leaseToken, progress: { done, total: undefined, message: "", updateTime: undefined } }],
      });
      await pause(300);
    }
    expect(await owner.get({ taskId: task.taskId })).toMatchObject({ state: TaskState.RUNNING, error: undefined });
    const revoked = await worker.first(({ revoked: all }) => all[0], "revocation");
    expect(revoked.reason).toBe(RevocationReason.SILENCE_DEADLINE);
    expect(await owner.get({ taskId: task.taskId })).toMatchObject({ state: TaskState.FAILED, error: { code: "SILENCE_DEADLINE" } });
    worker.close();
  });

  it.each(["running", "suspended"])("end a task that is %s when its whole time is over", async (standing) => {
    const name = freshName();
    const { task } = await owner.submit({ name, deadlines: { total: ms(1500) } });
    const worker = openRawWorker(server.address, [name]);
    const lease = await worker.lease();
    if (standing === "suspended") worker.report(lease, 1, outcomes.suspend);
    else {
      const revoked = await worker.first(({ revoked: all }) => all[0], "revocation");
      expect(revoked).toEqual({ leaseToken: lease.leaseToken, reason: RevocationReason.TOTAL_DEADLINE });
    }
    await expect.poll(async () => (await owner.get({ taskId: task.taskId })).state, { timeout: 10_000 }).toBe(TaskState.FAILED);
    expect(await owner.get({ taskId: task.taskId })).toMatchObject({
      finishReason: FinishReason.TOTAL_DEADLINE,
      error: { code: "TOTAL_DEADLINE" },
    });
    worker.close();
  });
});

it("GetTask shows the policy with every default filled in", async () => {
  const { task } = await owner.submit({
    name: freshName(),
    retryPolicy: { maxAttempts: 7, rules: [{ errorCodes: ["a"], action: RetryAction.FAIL }] },
  });
  const expected: RetryPolicy = {
    maxAttempts: 7,
    backoff: { initial: ms(1000), factor: 2, max: ms(300_000), jitter: 0.5 },
    delays: [],
    rules: [{ errorCodes: ["a"], action: RetryAction.FAIL, delays: [] }],
    maxLostLeases: 3,
    lostLeaseDelays: [ms(0), ms(10_000), ms(60_000)],
  };
  expect(await owner.get({ taskId: task.taskId })).toMatchObject({ retryPolicy: expected, maxAttempts: 7, maxLostLeases: 3 });
  expect(task).toMatchObject({ retryPolicy: undefined, maxAttempts: 7, maxLostLeases: 3 });
});
