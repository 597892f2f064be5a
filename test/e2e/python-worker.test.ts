// Is the contract enough for a worker in another language? The raw Python worker of examples/, as a process, against real servers.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFailed } from "vitest";
import { FinishReason, type Task, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { environment, startProcess, type StartedProcess } from "../support/child-process.js";
import { createTestDatabase, type TestDatabase } from "../support/postgres.js";
import { preparePython, pythonWorkerFolder, type Python } from "../support/python.js";
import { type ServerProcess, startServerProcess } from "../support/server-process.js";
import { createTaskClient, jsonOf, jsonPayload, type TaskClient } from "../support/task-client.js";

const program = join(pythonWorkerFolder, "worker.py");
const atOnce = { delays: [{ seconds: 0n, nanos: 0 }] };

let python: Python;
let database: TestDatabase;
const servers: ServerProcess[] = [];
const workers: StartedProcess[] = [];
const clients: TaskClient[] = [];

beforeAll(async () => {
  python = await preparePython();
}, 600_000);

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const worker of workers.splice(0)) {
    worker.child.kill("SIGKILL");
    await worker.ended;
  }
  for (const server of servers.splice(0)) await server.kill();
  await database.drop();
});

async function startServer(options: { listen?: string; env?: Record<string, string> } = {}): Promise<ServerProcess> {
  const server = await startServerProcess({ databaseUrl: database.url, ...options });
  servers.push(server);
  tellIfFailed(`server ${server.address}`, () => server.log());
  return server;
}

function startWorker(...addresses: string[]): StartedProcess {
  const env = environment({ PYTHONPATH: python.stubs, PYTHONUNBUFFERED: "1", LEASEHOLD_ADDRESS: addresses.join(",") });
  const worker = startProcess(python.interpreter, [program], { env });
  workers.push(worker);
  tellIfFailed(`worker ${worker.pid}`, worker.said);
  return worker;
}

function tellIfFailed(who: string, said: () => string): void {
  onTestFailed(() => void process.stderr.write(`--- ${who} said:\n${said()}\n`));
}

function connect(address: string): TaskClient {
  const client = createTaskClient(address);
  clients.push(client);
  return client;
}

/** A server, a worker on it and a client. */
async function startAll(env: Record<string, string> = {}): Promise<{ server: ServerProcess; worker: StartedProcess; client: TaskClient }> {
  const server = await startServer({ env });
  return { server, worker: startWorker(server.address), client: connect(server.address) };
}

function submitCount(client: TaskClient, to: number, delayMs = 100): Promise<Task> {
  return client.submit({ name: "py.count", metadata: jsonPayload({ to, delay_ms: delayMs }) });
}

function hasCheckpoints(count: number): (task: Task) => boolean {
  return (task) => task.checkpointCount >= BigInt(count);
}

const isRunning = (task: Task): boolean => task.state === TaskState.RUNNING;

/** Expects that it was counted to the end, under the one lease that it had `before`. */
async function expectCountedUnderOneLease(client: TaskClient, before: Task, to: number): Promise<void> {
  const task = await client.wait(before.taskId);
  expect([TaskState[task.state], jsonOf(task.result)]).toEqual(["COMPLETED", { counted: to }]);
  expect([task.fencingToken, task.lostLeases, task.checkpointCount]).toEqual([before.fencingToken, 0, BigInt(to)]);
}

describe("a raw Python worker", () => {
  it("needs fewer than 60 lines of machinery", () => {
    const text = readFileSync(program, "utf8");
    const machinery = /# --- machinery begins\n(.*)\n# --- machinery ends/s.exec(text)?.[1] ?? "";
    const lines = machinery.split("\n").filter((line) => !/^\s*(?:#.*)?$/.test(line));
    expect(lines.length).toBeGreaterThan(20);
    expect(lines.length).toBeLessThan(60);
    expect(text.split("\n").filter((line) => line.length > 100)).toEqual([]);
    expect(lines.filter((line) => line.includes(";"))).toEqual([]);
  });

  it("gets the bytes that were submitted and gives them back", async () => {
    const { client } = await startAll();
    const data = Buffer.from('{ "n" : 12345678901234567890, "ä" : [1.0, 1e2] }');
    const opaque = { data: Buffer.from([0, 255, 1, 254]), contentType: "application/x-test" };
    const json = await client.submit({ name: "py.echo", metadata: { data } });
    const bytes = await client.submit({ name: "py.echo", metadata: opaque });
    const [first, second] = [await client.wait(json.taskId), await client.wait(bytes.taskId)];
    expect([TaskState[first.state], first.result?.data.toString()]).toEqual(["COMPLETED", data.toString()]);
    expect([second.result?.data, second.result?.contentType]).toEqual([opaque.data, opaque.contentType]);
    expect(first.workerName).toMatch(/^python-/);
  });

  it("hands the trace context of the submission to the handler", async () => {
    const { client } = await startAll();
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const { taskId } = await client.submit({ name: "py.trace", traceContext: { traceparent } });
    const result = jsonOf((await client.wait(taskId)).result) as { traceparent: string };
    expect(result.traceparent).toContain("0af7651916cd43dd8448eb211c80319c");
  });

  it("resumes from the last checkpoint of a worker that was killed", async () => {
    const { server, worker, client } = await startAll({ LEASEHOLD_SESSION_TTL_DEFAULT: "2s" });
    const { taskId } = await submitCount(client, 30);
    const before = await client.wait(taskId, hasCheckpoints(3));
    worker.child.kill("SIGKILL");
    await worker.ended;
    startWorker(server.address);
    const task = await client.wait(taskId);
    expect([TaskState[task.state], jsonOf(task.result)]).toEqual(["COMPLETED", { counted: 30 }]);
    expect([task.attempt, task.fencingToken]).toEqual([1, before.fencingToken + 1n]);
    expect(task.workerName).not.toBe(before.workerName);
    // Each number was saved once: what the first worker had counted was not counted again.
    expect(task.checkpointCount).toBe(30n);
  });

  it("reports progress on its way", async () => {
    const { client } = await startAll();
    const { taskId } = await submitCount(client, 60);
    const { progress } = await client.wait(taskId, (task) => (task.progress?.done ?? 0) >= 2);
    expect([progress?.total, progress?.message]).toEqual([60, "counted"]);
    await client.cancel(taskId);
    await client.wait(taskId);
  });

  it("suspends, and completes with what it is proceeded with", async () => {
    const { client } = await startAll();
    const { taskId } = await client.submit({ name: "py.approval", executionMetadata: jsonPayload({ amount: 7 }) });
    await client.wait(taskId, ({ state }) => state === TaskState.SUSPENDED);
    await client.proceed(taskId, { update: { mergePatch: jsonPayload({ decision: "approve" }) }, note: "by phone" });
    const task = await client.wait(taskId);
    expect([TaskState[task.state], jsonOf(task.result)]).toEqual(["COMPLETED", { amount: 7, decision: "approve" }]);
  });

  it("fails with a code, is tried again and then failed", async () => {
    const { client } = await startAll();
    const retryPolicy = { ...atOnce, maxAttempts: 3 };
    const { taskId } = await client.submit({ name: "py.fail", retryPolicy });
    const task = await client.wait(taskId);
    expect([TaskState[task.state], FinishReason[task.finishReason], task.attempt]).toEqual(["FAILED", "MAX_ATTEMPTS", 3]);
    expect([task.error?.code, task.error?.message]).toEqual(["boom", "attempt 3 failed, as asked"]);
  });

  it("is not tried again when it says so, nor when a handler raises and no attempt is left", async () => {
    const { client } = await startAll();
    const final = await client.submit({ name: "py.fail", metadata: jsonPayload({ retryable: false }) });
    const raising = await client.submit({ name: "py.count", metadata: jsonPayload({}), retryPolicy: { maxAttempts: 1 } });
    expect(FinishReason[(await client.wait(final.taskId)).finishReason]).toBe("NOT_RETRYABLE");
    expect((await client.wait(raising.taskId)).error?.code).toBe("KeyError");
  });

  it("is told of a cancel within a second or so", async () => {
    const { client } = await startAll();
    const { taskId } = await client.submit({ name: "py.sleep" });
    await client.wait(taskId, isRunning);
    const begun = performance.now();
    await client.cancel(taskId, "not needed any more");
    const task = await client.wait(taskId);
    expect(performance.now() - begun).toBeLessThan(2_000);
    expect([TaskState[task.state], FinishReason[task.finishReason]]).toEqual(["CANCELLED", "CANCEL_REQUESTED"]);
  });

  it("drains on SIGTERM: finishes what it holds, takes nothing more and ends with code 0", async () => {
    const { worker, client } = await startAll();
    const { taskId } = await submitCount(client, 15);
    await client.wait(taskId, hasCheckpoints(1));
    worker.child.kill("SIGTERM");
    // Some checkpoints later the drain has arrived: both travel on one stream, in order.
    const counting = await client.get(taskId);
    await client.wait(taskId, (task) => task.checkpointCount > counting.checkpointCount + 2n);
    const left = await client.submit({ name: "py.echo" });
    expect(await worker.ended).toBe(0);
    await expectCountedUnderOneLease(client, counting, 15);
    expect(TaskState[(await client.get(left.taskId)).state]).toBe("PENDING");
  });

  it("ends at once on SIGTERM when it holds nothing, even without a server", async () => {
    const { server, worker, client } = await startAll();
    const { taskId } = await client.submit({ name: "py.echo" });
    await client.wait(taskId);
    await server.kill();
    await worker.waitFor(/connecting again/);
    worker.child.kill("SIGTERM");
    expect(await worker.ended).toBe(0);
  });
});

describe("when servers go", () => {
  it("comes back to one that was killed and restarted, and the task completes once", async () => {
    const { server, worker, client } = await startAll();
    const { taskId } = await submitCount(client, 40);
    const task = await client.wait(taskId, hasCheckpoints(3));
    await server.kill();
    await worker.waitFor(/connecting again/);
    await startServer({ listen: server.address });
    await expectCountedUnderOneLease(client, task, 40);
  });

  it("keeps an outcome that nobody answered and sends it to the next server", async () => {
    const { server, worker, client } = await startAll();
    const { taskId } = await submitCount(client, 5, 200);
    const task = await client.wait(taskId, hasCheckpoints(1));
    await server.kill();
    // The handler ends while no server is there: five steps of 200 ms, a reconnect within a second each.
    await worker.waitFor(/(?:connecting again[^]*){4}/);
    await startServer({ listen: server.address });
    await expectCountedUnderOneLease(client, task, 5);
  });

  it("goes on through the second of two with the same lease while the first drains", async () => {
    const [first, second] = [await startServer(), await startServer()];
    startWorker(first.address, second.address);
    const client = connect(second.address);
    const { taskId } = await submitCount(client, 40);
    const task = await client.wait(taskId, hasCheckpoints(3));
    expect(await first.stop()).toBe(0);
    await expectCountedUnderOneLease(client, task, 40);
  });
});
