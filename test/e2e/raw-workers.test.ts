// Is the contract enough for a worker in another language? The raw workers of examples/, as processes, against real servers.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import { FinishReason, type Task, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { environment, startProcess, type StartedProcess } from "../support/child-process.js";
import { createTestDatabase, type TestDatabase } from "../support/postgres.js";
import { measure, missingTool, rawLanguages, type RawLanguage, type WorkerCommand } from "../support/raw-languages.js";
import { type ServerProcess, startServerProcess } from "../support/server-process.js";
import { createTaskClient, jsonOf, jsonPayload, type TaskClient } from "../support/task-client.js";
import { startTcpProxy } from "../support/tcp-proxy.js";

const atOnce = { delays: [{ seconds: 0n, nanos: 0 }] };
const isRunning = (task: Task): boolean => task.state === TaskState.RUNNING;

/** Tests of this file run side by side, and beside builds of other workers: what they wait for may be long in coming. */
const PATIENCE_MS = 90_000;

/** What a test has started on a database of its own, how it is ended, and what tells more of a failure. */
class Stage {
  readonly #ends: (() => unknown)[] = [];
  readonly #tellers: [who: string, said: () => string][] = [];

  private constructor(
    readonly database: TestDatabase,
    readonly language: RawLanguage,
    readonly command: WorkerCommand,
  ) {}

  static async open(language: RawLanguage, command: WorkerCommand): Promise<Stage> {
    return new Stage(await createTestDatabase(), language, command);
  }

  /** Everything that was said so far by what was started. */
  tell(): string {
    return this.#tellers.map(([who, said]) => `--- ${who} said:\n${said()}\n`).join("");
  }

  async close(): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end();
    await this.database.drop();
  }

  onClose(end: () => unknown): void {
    this.#ends.push(end);
  }

  async server(options: { listen?: string; env?: Record<string, string> } = {}): Promise<ServerProcess> {
    const server = await startServerProcess({ databaseUrl: this.database.url, ...options });
    this.onClose(() => server.kill());
    this.#tellers.push([`server ${server.address}`, () => server.log()]);
    return server;
  }

  worker(...addresses: string[]): StartedProcess {
    const { program, args, env } = this.command;
    const worker = startProcess(program, args, { env: environment({ ...env, LEASEHOLD_ADDRESS: addresses.join(",") }) });
    this.onClose(async () => {
      worker.child.kill("SIGKILL");
      await worker.ended;
    });
    this.#tellers.push([`worker ${worker.pid}`, worker.said]);
    return worker;
  }

  client(address: string): TaskClient {
    const client = createTaskClient(address);
    this.onClose(() => client.close());
    return { ...client, wait: (taskId, wanted) => client.wait(taskId, wanted, PATIENCE_MS) };
  }

  /** A server, a worker on it and a client. */
  async all(env: Record<string, string> = {}): Promise<{ server: ServerProcess; worker: StartedProcess; client: TaskClient }> {
    const server = await this.server({ env });
    return { server, worker: this.worker(server.address), client: this.client(server.address) };
  }

  /** Leases that were lost so far. */
  async leasesLost(): Promise<bigint> {
    const database = new pg.Client(this.database.url);
    await database.connect();
    const { rows } = await database.query<{ n: string }>("SELECT count(*) AS n FROM leasehold.task_events WHERE type = 'LEASE_LOST'");
    await database.end();
    return BigInt(rows[0]?.n ?? 0);
  }

  count(client: TaskClient, to: number, delayMs = 100): Promise<Task> {
    return client.submit({ name: `${this.language.prefix}.count`, metadata: jsonPayload({ to, delay_ms: delayMs }) });
  }
}

function hasCheckpoints(count: number): (task: Task) => boolean {
  return (task) => task.checkpointCount >= BigInt(count);
}

/** Expects that it was counted to the end, under the one lease that it had `before`. */
async function expectCountedUnderOneLease(client: TaskClient, before: Task, to: number): Promise<void> {
  const task = await client.wait(before.taskId);
  expect([TaskState[task.state], jsonOf(task.result)]).toEqual(["COMPLETED", { counted: to }]);
  expect([task.fencingToken, task.lostLeases, task.checkpointCount]).toEqual([before.fencingToken, 0, BigInt(to)]);
}

for (const language of rawLanguages) {
  const missing = missingTool(language);
  if (missing === undefined)
    describe.concurrent(`a raw worker in ${language.name}`, { timeout: 3 * PATIENCE_MS }, () => testWorker(language));
  else {
    process.stderr.write(`\n*** THE RAW WORKER IN ${language.name.toUpperCase()} IS NOT TESTED: there is no ${missing} ***\n\n`);
    it(`has no ${missing} here: THE RAW WORKER IN ${language.name.toUpperCase()} IS NOT TESTED`, () => expect(missing).toBeDefined());
  }
}

function testWorker(language: RawLanguage): void {
  let command: WorkerCommand;
  beforeAll(async () => {
    command = await language.build();
  }, 900_000);

  it(`needs fewer than ${language.machineryLimit} lines of machinery, none wider than 100 columns, formatted as is usual`, () => {
    const { machinery, wide } = measure(language);
    expect(machinery.length).toBeGreaterThan(20);
    expect(machinery.length).toBeLessThan(language.machineryLimit);
    expect(wide).toEqual([]);
    expect(language.unformatted()).toBe("");
  });

  describe("on a server that lives", () => testTasks(language, () => command));
  const staged: Staged = (title, body) =>
    it(title, async ({ onTestFailed }: TestContext) => {
      const stage = await Stage.open(language, command);
      onTestFailed(() => void process.stderr.write(stage.tell()));
      try {
        await body(stage);
      } finally {
        await stage.close();
      }
    });
  describe("that comes and goes", () => testComingAndGoing(language, staged));
  describe("when servers go", () => testServersGoing(staged));
}

/** Declares a test on a stage of its own. */
type Staged = (title: string, body: (stage: Stage) => Promise<void>) => void;

function testTasks(language: RawLanguage, command: () => WorkerCommand): void {
  const { prefix } = language;
  let stage: Stage;
  let client: TaskClient;

  beforeAll(async () => {
    stage = await Stage.open(language, command());
    const server = await stage.server();
    stage.worker(server.address);
    client = stage.client(server.address);
  });
  afterAll(() => stage.close());

  it("gets the bytes that were submitted and gives them back", async () => {
    const data = Buffer.from('{ "n" : 12345678901234567890, "ä" : [1.0, 1e2] }');
    const opaque = { data: Buffer.from([0, 255, 1, 254]), contentType: "application/x-test" };
    const json = await client.submit({ name: `${prefix}.echo`, metadata: { data } });
    const bytes = await client.submit({ name: `${prefix}.echo`, metadata: opaque });
    const [first, second] = [await client.wait(json.taskId), await client.wait(bytes.taskId)];
    expect([TaskState[first.state], first.result?.data.toString()]).toEqual(["COMPLETED", data.toString()]);
    expect([second.result?.data, second.result?.contentType]).toEqual([opaque.data, opaque.contentType]);
    expect(first.workerName).toMatch(new RegExp(`^${language.name.toLowerCase()}-`));
  });

  it("hands the trace context of the submission to the handler", async () => {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const { taskId } = await client.submit({ name: `${prefix}.trace`, traceContext: { traceparent } });
    const result = jsonOf((await client.wait(taskId)).result) as { traceparent: string };
    expect(result.traceparent).toContain("0af7651916cd43dd8448eb211c80319c");
  });

  it("reports progress on its way", async () => {
    const { taskId } = await stage.count(client, 60);
    const { progress } = await client.wait(taskId, (task) => (task.progress?.done ?? 0) >= 2);
    expect([progress?.total, progress?.message]).toEqual([60, "counted"]);
    await client.cancel(taskId);
    await client.wait(taskId);
  });

  it("suspends, and completes with what it is proceeded with", async () => {
    const { taskId } = await client.submit({ name: `${prefix}.approval`, executionMetadata: jsonPayload({ amount: 7 }) });
    await client.wait(taskId, ({ state }) => state === TaskState.SUSPENDED);
    await client.proceed(taskId, { update: { mergePatch: jsonPayload({ decision: "approve" }) }, note: "by phone" });
    const task = await client.wait(taskId);
    expect([TaskState[task.state], jsonOf(task.result)]).toEqual(["COMPLETED", { amount: 7, decision: "approve" }]);
  });

  it("fails with a code, is tried again and then failed", async () => {
    const retryPolicy = { ...atOnce, maxAttempts: 3 };
    const { taskId } = await client.submit({ name: `${prefix}.fail`, retryPolicy });
    const task = await client.wait(taskId);
    expect([TaskState[task.state], FinishReason[task.finishReason], task.attempt]).toEqual(["FAILED", "MAX_ATTEMPTS", 3]);
    expect([task.error?.code, task.error?.message]).toEqual(["boom", "attempt 3 failed, as asked"]);
  });

  it("is not tried again when it says so, nor when a handler raises and no attempt is left", async () => {
    const final = await client.submit({ name: `${prefix}.fail`, metadata: jsonPayload({ retryable: false }) });
    const raising = await client.submit({ name: `${prefix}.count`, metadata: jsonPayload({}), retryPolicy: { maxAttempts: 1 } });
    expect(FinishReason[(await client.wait(final.taskId)).finishReason]).toBe("NOT_RETRYABLE");
    expect((await client.wait(raising.taskId)).error?.code).toBe(language.unforeseen);
  });

  it("is told of a cancel within a second or so", async () => {
    const { taskId } = await client.submit({ name: `${prefix}.sleep` });
    await client.wait(taskId, isRunning);
    const begun = performance.now();
    await client.cancel(taskId, "not needed any more");
    const task = await client.wait(taskId);
    expect(performance.now() - begun).toBeLessThan(2_000);
    expect([TaskState[task.state], FinishReason[task.finishReason]]).toEqual(["CANCELLED", "CANCEL_REQUESTED"]);
  });
}

function testComingAndGoing({ prefix }: RawLanguage, staged: Staged): void {
  staged("resumes from the last checkpoint of a worker that was killed", async (stage) => {
    const { server, worker, client } = await stage.all({ LEASEHOLD_SESSION_TTL_DEFAULT: "6s" });
    const { taskId } = await stage.count(client, 30);
    const before = await client.wait(taskId, hasCheckpoints(3));
    worker.child.kill("SIGKILL");
    await worker.ended;
    stage.worker(server.address);
    const task = await client.wait(taskId);
    expect([TaskState[task.state], jsonOf(task.result)]).toEqual(["COMPLETED", { counted: 30 }]);
    // A lease for each that was lost: that of the killed worker, and of one that a busy machine kept from its heartbeats.
    const lost = await stage.leasesLost();
    expect(lost).toBeGreaterThan(0n);
    expect([task.attempt, task.fencingToken]).toEqual([1, before.fencingToken + lost]);
    expect(task.workerName).not.toBe(before.workerName);
    // Each number was saved once: what the first worker had counted was not counted again.
    expect(task.checkpointCount).toBe(30n);
  });

  staged("drains on SIGTERM: finishes what it holds, takes nothing more and ends with code 0", async (stage) => {
    const { worker, client } = await stage.all();
    const { taskId } = await stage.count(client, 15);
    await client.wait(taskId, hasCheckpoints(1));
    worker.child.kill("SIGTERM");
    // Some checkpoints later the drain has arrived: both travel on one stream, in order.
    const counting = await client.get(taskId);
    await client.wait(taskId, (task) => task.checkpointCount > counting.checkpointCount + 2n);
    const left = await client.submit({ name: `${prefix}.echo` });
    expect(await worker.ended).toBe(0);
    await expectCountedUnderOneLease(client, counting, 15);
    expect(TaskState[(await client.get(left.taskId)).state]).toBe("PENDING");
  });

  staged("ends at once on SIGTERM when it holds nothing, even without a server", async (stage) => {
    const { server, worker, client } = await stage.all();
    const { taskId } = await client.submit({ name: `${prefix}.echo` });
    await client.wait(taskId);
    await server.kill();
    await worker.waitFor(/connecting again/);
    worker.child.kill("SIGTERM");
    expect(await worker.ended).toBe(0);
  });
}

function testServersGoing(staged: Staged): void {
  staged("comes back to one that was killed and restarted, and the task completes once", async (stage) => {
    const { server, worker, client } = await stage.all();
    const { taskId } = await stage.count(client, 40);
    const task = await client.wait(taskId, hasCheckpoints(3));
    await server.kill();
    await worker.waitFor(/connecting again/);
    await stage.server({ listen: server.address });
    await expectCountedUnderOneLease(client, task, 40);
  });

  staged("keeps an outcome that nobody answered and sends it to the next server", async (stage) => {
    const { server, worker, client } = await stage.all();
    const { taskId } = await stage.count(client, 5, 200);
    const task = await client.wait(taskId, hasCheckpoints(1));
    await server.kill();
    // The handler ends while no server is there: five steps of 200 ms, a reconnect within a second each.
    await worker.waitFor(/(?:connecting again[^]*){4}/);
    await stage.server({ listen: server.address });
    await expectCountedUnderOneLease(client, task, 5);
  });

  staged("goes on through the second of two with the same lease while the first drains", async (stage) => {
    const [first, second] = [await stage.server(), await stage.server()];
    stage.worker(first.address, second.address);
    const client = stage.client(second.address);
    const { taskId } = await stage.count(client, 40);
    const task = await client.wait(taskId, hasCheckpoints(3));
    expect(await first.stop()).toBe(0);
    await expectCountedUnderOneLease(client, task, 40);
  });

  staged("leaves a server that is silent for three intervals, with the same lease", async (stage) => {
    // A handler stops one interval after the silence is noticed, less what had passed since the last heartbeat: long enough to connect again.
    const env = { LEASEHOLD_SESSION_TTL_DEFAULT: "16s" };
    const [first, second] = [await stage.server({ env }), await stage.server({ env })];
    const proxy = await startTcpProxy({ host: "127.0.0.1", port: Number(first.address.split(":").at(-1)) });
    stage.onClose(() => proxy.close());
    const worker = stage.worker(proxy.address, second.address);
    const client = stage.client(second.address);
    const { taskId } = await stage.count(client, 160);
    const task = await client.wait(taskId, hasCheckpoints(2));
    proxy.freeze();
    await worker.waitFor(/connecting again/);
    await expectCountedUnderOneLease(client, task, 160);
  });
}
