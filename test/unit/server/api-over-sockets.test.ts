// Does whatever a caller or a handler does end in a status that can be read, with the process alive? A real gRPC server, nothing behind it.
import { Client, credentials, Metadata, status } from "@grpc/grpc-js";
import type { MethodDefinition, ServiceError } from "@grpc/grpc-js";
import { TaskServiceClient, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import type { NewTask, SubmitTaskResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { NewTask as NewTaskCodec, SubmitTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import type { ServerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import { WorkerMessage, WorkerServiceClient, WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import { BadRequest, ErrorInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { afterEach, describe, expect, it } from "vitest";
import { isWrapped } from "@leasehold/server/api/call";
import type { ConnectedWorker, WorkerSessions } from "@leasehold/server/dispatch/dispatch";
import type { WorkerHello, WorkerMessage as Received, WorkerStream } from "@leasehold/server/dispatch/messages";
import { DatabaseFault } from "@leasehold/server/storage/faults";
import type { Behind, ServedApi } from "../../support/api-fakes.js";
import { serveApi, standIn, storedTask } from "../../support/api-fakes.js";

const METHODS = [...Object.entries(TaskServiceService), ...Object.entries(WorkerServiceService)] as [
  string,
  MethodDefinition<unknown, unknown>,
][];
const HELLO = WorkerMessage.create({ hello: { workerName: "w", slots: 1, connection: 1, handlers: [{ taskName: "a" }] } });

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

interface Served extends ServedApi {
  readonly raw: Client;
  readonly tasks: TaskServiceClient;
  readonly workers: WorkerServiceClient;
}

async function serve(behind: Behind = {}): Promise<Served> {
  const api = await serveApi(behind);
  const [raw, tasks, workers] = [Client, TaskServiceClient, WorkerServiceClient].map(
    (Kind) => new Kind(api.address, credentials.createInsecure()),
  ) as [Client, TaskServiceClient, WorkerServiceClient];
  open.push(
    () => api.server.shutdown(0),
    () => [raw, tasks, workers].forEach((client) => client.close()),
  );
  return Object.assign(api, { raw, tasks, workers });
}

/** Sends bytes to a method and answers how it ended. */
function sendBytes(client: Client, method: MethodDefinition<unknown, unknown>, bytes: Buffer): Promise<ServiceError | null> {
  const same = (value: Buffer): Buffer => value;
  return new Promise((resolve) => {
    if (!method.requestStream && !method.responseStream) {
      client.makeUnaryRequest(method.path, same, same, bytes, (error) => resolve(error));
      return;
    }
    const both = method.requestStream ? client.makeBidiStreamRequest(method.path, same, same) : null;
    const call = both ?? client.makeServerStreamRequest(method.path, same, same, bytes);
    call
      .on("data", () => {})
      .on("error", (error: ServiceError) => resolve(error))
      .on("end", () => resolve(null));
    both?.write(bytes);
  });
}

function submit(tasks: TaskServiceClient, task: Partial<NewTask>, metadata = new Metadata()): Promise<SubmitTaskResponse> {
  return new Promise((resolve, reject) =>
    tasks.submitTask(SubmitTaskRequest.create({ task: NewTaskCodec.create(task) }), metadata, (error, answer) =>
      error === null ? resolve(answer) : reject(error),
    ),
  );
}

interface Read {
  readonly code: number;
  readonly reason: string;
  readonly domain: string;
  readonly fields: string[];
  readonly retries: boolean;
}

/** Reads the details of an error as any client may. */
function read(error: ServiceError | null): Read {
  if (error === null) throw new Error("the call succeeded");
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const message = Status.decode(bytes as Buffer);
  const find = (type: string): Buffer | undefined =>
    message.details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${type}`)?.value;
  const { reason, domain } = ErrorInfo.decode(find("ErrorInfo") ?? Buffer.alloc(0));
  const bad = find("BadRequest");
  expect(message.code).toBe(error.code);
  expect(message.message).toBe(error.details);
  return {
    code: error.code,
    reason,
    domain,
    fields: bad === undefined ? [] : BadRequest.decode(bad).fieldViolations.map(({ field }) => field),
    retries: find("RetryInfo") !== undefined,
  };
}

async function refusal(call: Promise<unknown>): Promise<Read> {
  return call.then(
    () => read(null),
    (error: unknown) => read(error as ServiceError),
  );
}

describe("every method", () => {
  it("is registered through the wrapper", async () => {
    const { services } = await serve();
    const registered = services.flatMap(({ implementation }) => Object.entries(implementation));
    expect(registered.map(([name]) => name).sort()).toEqual(METHODS.map(([name]) => name).sort());
    for (const [, handler] of registered) expect(isWrapped(handler)).toBe(true);
  });

  it.each(METHODS)("%s answers INVALID_ARGUMENT to bytes that do not decode", async (_, method) => {
    const { raw, log } = await serve();
    const error = await sendBytes(raw, method, Buffer.from([0x0a, 0xff, 0xff, 0xff]));
    expect(read(error)).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "MALFORMED_MESSAGE", domain: "leasehold" });
    expect(log.lines).toEqual([]);
  });

  it.each(METHODS)("%s refuses another namespace", async (_, method) => {
    const { raw } = await serve();
    const metadata = new Metadata();
    metadata.set("leasehold-namespace", "other");
    const same = (value: Buffer): Buffer => value;
    const error = await new Promise<ServiceError>((resolve) => {
      if (method.requestStream) {
        raw
          .makeBidiStreamRequest(method.path, same, same, metadata)
          .on("data", () => {})
          .on("error", (fault) => resolve(fault as ServiceError));
      } else if (method.responseStream) {
        raw
          .makeServerStreamRequest(method.path, same, same, Buffer.alloc(0), metadata)
          .on("data", () => {})
          .on("error", (fault) => resolve(fault as ServiceError));
      } else raw.makeUnaryRequest(method.path, same, same, Buffer.alloc(0), metadata, (fault) => resolve(fault!));
    });
    expect([status.PERMISSION_DENIED]).toContain(read(error).code);
  });
});

describe("a handler that fails", () => {
  it.each([
    ["rejects", () => Promise.reject(new Error("secret detail"))],
    [
      "throws at once",
      () => {
        throw new Error("secret detail");
      },
    ],
    ["rejects with no error", () => Promise.reject(undefined as unknown as Error)],
  ])("and %s is answered INTERNAL with a reference, and the next call works", async (_, submitOnce) => {
    let calls = 0;
    const { tasks, log } = await serve({
      commands: {
        submit: (task) =>
          calls++ === 0 ? submitOnce() : Promise.resolve({ kind: "created", createTimeUs: task.live.identity.createTimeUs }),
      },
    });
    const failed = await refusal(submit(tasks, { name: "a" }));
    expect(failed).toMatchObject({ code: status.INTERNAL, reason: "INTERNAL" });
    expect(log.lines).toHaveLength(1);
    expect((await submit(tasks, { name: "a" })).created).toBe(true);
  });

  it("tells nothing of the cause", async () => {
    const { tasks } = await serve({ commands: { submit: () => Promise.reject(new Error("secret detail")) } });
    await expect(submit(tasks, { name: "a" })).rejects.toThrow(/Reference [0-9a-f]{8}/);
    await expect(submit(tasks, { name: "a" })).rejects.not.toThrow(/secret/);
  });

  it.each([
    ["unavailable", true, status.UNAVAILABLE, "DATABASE_UNAVAILABLE", true],
    ["overloaded", false, status.RESOURCE_EXHAUSTED, "OVERLOADED", true],
    ["overloaded", true, status.UNAVAILABLE, "DATABASE_UNAVAILABLE", true],
    ["conflict", false, status.ABORTED, "CONFLICT", false],
    ["invalid-value", false, status.INVALID_ARGUMENT, "INVALID_FIELD", false],
    ["unexpected", false, status.INTERNAL, "INTERNAL", false],
  ] as const)("because the database is %s (outcome unknown: %s) says so", async (kind, outcomeUnknown, code, reason, retries) => {
    const { tasks } = await serve({
      commands: { submit: () => Promise.reject(new DatabaseFault(kind, "driver text", outcomeUnknown, null)) },
    });
    expect(await refusal(submit(tasks, { name: "a" }))).toMatchObject({ code, reason, retries });
    await expect(submit(tasks, { name: "a" })).rejects.not.toThrow(/driver text/);
  });
});

describe("submissions over the wire", () => {
  it("answer the stored task", async () => {
    const { tasks } = await serve({
      commands: { submit: () => Promise.resolve({ kind: "created", createTimeUs: 1_700_000_000_123_456 }) },
    });
    const { task, created } = await submit(tasks, { name: "a", labels: { constructor: "x" } });
    expect(created).toBe(true);
    expect(task).toMatchObject({
      name: "a",
      queue: "default",
      labels: { constructor: "x" },
      createTime: { seconds: 1_700_000_000n, nanos: 123_456_000 },
      metadataBytes: 4,
      attempt: 1,
      maxAttempts: 5,
    });
  });

  it("refuse a label named __proto__ with its path, where a decoder would have lost it", async () => {
    const { raw } = await serve();
    const label = Buffer.concat([Buffer.from([0x0a, 9]), Buffer.from("__proto__"), Buffer.from([0x12, 1]), Buffer.from("x")]);
    const task = Buffer.concat([Buffer.from([0x12, 1]), Buffer.from("a"), Buffer.from([0x32, label.length]), label]);
    const error = await sendBytes(
      raw,
      TaskServiceService.submitTask as MethodDefinition<unknown, unknown>,
      Buffer.concat([Buffer.from([0x0a, task.length]), task]),
    );
    expect(read(error)).toMatchObject({ code: status.INVALID_ARGUMENT, fields: ['task.labels["__proto__"]'] });
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  it("over the message limit are refused by gRPC itself, and the connection lives", async () => {
    const { tasks } = await serve({ commands: { submit: () => Promise.resolve({ kind: "created", createTimeUs: 1 }) } });
    const error = await submit(tasks, { name: "a", metadata: { data: Buffer.alloc(5 * 1024 * 1024, " "), contentType: "" } }).catch(
      (fault: unknown) => fault as ServiceError,
    );
    expect((error as ServiceError).code).toBe(status.RESOURCE_EXHAUSTED);
    expect((await submit(tasks, { name: "a" })).created).toBe(true);
  });

  it("of a mixed batch are answered one by one with atomic = false, and store nothing otherwise", async () => {
    let stored = 0;
    const { tasks } = await serve({ commands: { submit: () => (stored++, Promise.resolve({ kind: "created", createTimeUs: 1 })) } });
    const items = Array.from({ length: 20 }, (_, index) =>
      NewTaskCodec.create(index === 7 ? { name: "a", scheduleTime: { seconds: 0n, nanos: -1 } } : { name: "a" }),
    );
    const results = await new Promise<{ error: Status | undefined }[]>((resolve, reject) =>
      tasks.submitTasks({ tasks: items, atomic: false }, (error, answer) => (error ? reject(error) : resolve(answer.results))),
    );
    expect(results.map(({ error }) => error?.code ?? 0)).toEqual(Array.from({ length: 20 }, (_, index) => (index === 7 ? 3 : 0)));
    expect(stored).toBe(19);
    const error = await new Promise<ServiceError | null>((resolve) => tasks.submitTasks({ tasks: items, atomic: undefined }, resolve));
    expect(read(error)).toMatchObject({ code: status.INVALID_ARGUMENT, fields: ["tasks[7].schedule_time.nanos"] });
    expect(stored).toBe(19);
  });

  it("of one id with other content conflict, with equal content answer the task that is there", async () => {
    const known = storedTask();
    const { tasks } = await serve({
      commands: { submit: (task) => Promise.resolve({ kind: "id-exists", sameContent: task.submission.name === "a" }) },
      storage: { readTask: () => Promise.resolve(known) },
    });
    expect(await submit(tasks, { name: "a", taskId: known.id.toUpperCase() })).toMatchObject({
      created: false,
      task: { taskId: known.id },
    });
    expect(await refusal(submit(tasks, { name: "b", taskId: known.id }))).toMatchObject({
      code: status.ALREADY_EXISTS,
      reason: "TASK_ID_CONFLICT",
      fields: ["task.task_id"],
    });
  });

  it("of one id twice in a call are one task, and with other content name both", async () => {
    const known = storedTask();
    const taskId = known.id;
    const { tasks } = await serve({
      commands: {
        submitAtomic: ([, second]) =>
          Promise.resolve([
            { kind: "created", createTimeUs: 1 },
            { kind: "id-exists", sameContent: second?.submission.priority === 0 },
          ]),
      },
      storage: { listTasks: () => Promise.resolve({ tasks: [known], next: null, scanLimitReached: false }) },
    });
    const submitBoth = (second: Partial<NewTask>): Promise<{ created: boolean }[]> =>
      new Promise((resolve, reject) => {
        const items = [NewTaskCodec.create({ name: "a", taskId }), NewTaskCodec.create({ name: "a", taskId, ...second })];
        tasks.submitTasks({ tasks: items, atomic: true }, (error, answer) => (error === null ? resolve(answer.results) : reject(error)));
      });
    expect((await submitBoth({})).map(({ created }) => created)).toEqual([true, false]);
    const refused = submitBoth({ priority: 1 });
    expect(await refusal(refused)).toMatchObject({ reason: "TASK_ID_CONFLICT", fields: ["tasks[1].task_id"] });
    await expect(refused).rejects.toThrow("tasks[0]");
  });
});

describe("a worker's stream", () => {
  interface Connected {
    hello?: WorkerHello;
    stream?: WorkerStream;
    readonly received: Received[];
    closed: number;
    arrived: () => void;
  }

  function fakeSessions(): { connected: Connected; sessions: Partial<WorkerSessions> } {
    const connected: Connected = { received: [], closed: 0, arrived: () => {} };
    const worker = standIn<ConnectedWorker>({
      receive: (message) => {
        connected.received.push(message);
        connected.arrived();
      },
      streamClosed: () => {
        connected.closed++;
        connected.arrived();
      },
    });
    const connect = (_: string, hello: WorkerHello, stream: WorkerStream): Promise<ConnectedWorker> => {
      Object.assign(connected, { hello, stream });
      stream.send({ welcome: { sessionId: "s", heartbeatIntervalUs: 5_000_000, ttlUs: 20_000_000, keptTokens: [], droppedTokens: [] } });
      return Promise.resolve(worker);
    };
    return { connected, sessions: { connect } };
  }

  /** Opens a stream and collects what comes. */
  function openStream(workers: WorkerServiceClient): {
    call: ReturnType<WorkerServiceClient["executeTasks"]>;
    messages: ServerMessage[];
    next: () => Promise<ServerMessage>;
    ended: Promise<ServiceError | null>;
  } {
    const call = workers.executeTasks();
    const messages: ServerMessage[] = [];
    let wake = (): void => {};
    let seen = 0;
    call.on("data", (message: ServerMessage) => {
      messages.push(message);
      wake();
    });
    const ended = new Promise<ServiceError | null>((resolve) =>
      call.on("error", (error: ServiceError) => resolve(error)).on("end", () => resolve(null)),
    );
    const next = async (): Promise<ServerMessage> => {
      while (messages.length <= seen) await new Promise<void>((resolve) => (wake = resolve));
      return messages[seen++]!;
    };
    return { call, messages, next, ended };
  }

  async function until(connected: Connected, done: () => boolean): Promise<void> {
    while (!done()) await new Promise<void>((resolve) => (connected.arrived = resolve));
  }

  it("begins with hello and welcome, and hands on what follows", async () => {
    const { connected, sessions } = fakeSessions();
    const { workers } = await serve({ sessions });
    const { call, next } = openStream(workers);
    call.write({ ...HELLO, heartbeat: { number: 1, leasesReceived: 0 } });
    call.write(WorkerMessage.create({ heartbeat: { number: 2, leasesReceived: 0 } }));
    expect((await next()).welcome).toMatchObject({
      sessionId: "s",
      sessionTtl: { seconds: 20n },
      serverVersion: "1.2.3",
      limits: { maxPayloadBytes: 1024 ** 2 },
    });
    await until(connected, () => connected.received.length === 2);
    expect(connected.received.map(({ heartbeat }) => heartbeat?.number)).toEqual([1, 2]);
    expect(connected.hello).toMatchObject({ workerName: "w", handlers: [{ taskName: "a", slots: null }], sessionId: null });
    call.cancel();
    await until(connected, () => connected.closed > 0);
  });

  it("is not left when the worker ends its sending", async () => {
    const { connected, sessions } = fakeSessions();
    const { workers } = await serve({ sessions });
    const { call, next } = openStream(workers);
    call.write(HELLO);
    await next();
    call.end();
    connected.stream!.send({
      verdicts: [
        { leaseToken: "t", seq: 1, code: "RECORDED", violations: [], retryAfterUs: null, executionMetadataVersion: 3, state: "RUNNING" },
      ],
    });
    expect((await next()).verdicts).toMatchObject([{ leaseToken: "t", reportSeq: 1, executionMetadataVersion: 3n }]);
    expect(connected.closed).toBe(0);
    call.cancel();
  });

  it("tells a slow reader from a fast one, and says each time when it has read", async () => {
    const { connected, sessions } = fakeSessions();
    const { workers } = await serve({ sessions });
    const { call, next, messages } = openStream(workers);
    call.write(HELLO);
    await next();
    let drained = (): void => {};
    connected.stream!.onDrained(() => drained());
    const reason = "r".repeat(30_000);
    for (let round = 0; round < 2; round++) {
      const again = new Promise<void>((resolve) => (drained = resolve));
      call.pause();
      let sent = 0;
      while (connected.stream!.send({ cancels: [{ token: "t", reason, remainingGraceUs: 1 }] })) {
        // The socket takes what it can in a later turn; a reader that stands still fills every buffer in the end.
        if (++sent % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      const before = messages.length;
      call.resume();
      await again;
      while (messages.length <= before) await next();
    }
    call.cancel();
  });

  it("sends what was written before it ends, and nothing after", async () => {
    const { connected, sessions } = fakeSessions();
    const { workers } = await serve({ sessions });
    const { call, messages, next, ended } = openStream(workers);
    call.write(HELLO);
    await next();
    for (let number = 1; number <= 50; number++) connected.stream!.send({ heartbeatAnswer: { number, expiresInUs: 1 } });
    connected.stream!.end("SERVER_DRAINING");
    connected.stream!.send({ drain: { reconnectAfterUs: 1 } });
    expect(read(await ended)).toMatchObject({ code: status.UNAVAILABLE, reason: "SERVER_DRAINING", retries: true });
    expect(messages).toHaveLength(51);
    expect(messages.some(({ drain }) => drain !== undefined)).toBe(false);
  });

  it.each([
    ["without hello first", WorkerMessage.create({ heartbeat: { number: 1 } }), "HELLO_EXPECTED", []],
    [
      "with a bad name",
      WorkerMessage.create({ hello: { workerName: "w", connection: 1, handlers: [{ taskName: "a b" }] } }),
      "INVALID_FIELD",
      ["hello.handlers[0].task_name"],
    ],
  ])("%s is refused", async (_, message, reason, fields) => {
    const { workers } = await serve();
    const { call, ended } = openStream(workers);
    call.write(message);
    expect(read(await ended)).toMatchObject({ code: status.INVALID_ARGUMENT, reason, fields });
  });

  it("without hello yet does not hold up a shutdown", async () => {
    const { workers, server } = await serve();
    const { call, ended } = openStream(workers);
    await new Promise<void>((resolve) => {
      call.on("metadata", () => {});
      workers.waitForReady(Infinity, () => resolve());
    });
    const stopped = server.shutdown(20_000);
    expect((await ended)?.code).toBe(status.UNAVAILABLE);
    workers.close();
    await stopped;
  });

  it("with a second hello is refused, and the dispatcher hears that it is gone", async () => {
    const { connected, sessions } = fakeSessions();
    const { workers } = await serve({ sessions });
    const { call, ended } = openStream(workers);
    call.write(HELLO);
    call.write(HELLO);
    expect(read(await ended)).toMatchObject({ reason: "HELLO_REPEATED" });
    await until(connected, () => connected.closed > 0);
  });

  it("ends where the dispatcher throws, and the process lives", async () => {
    const { sessions } = fakeSessions();
    const { workers, log } = await serve({
      sessions: { ...sessions, connect: () => Promise.resolve(standIn<ConnectedWorker>({ streamClosed: () => {} })) },
    });
    const { call, ended } = openStream(workers);
    call.write(HELLO);
    expect(read(await ended)).toMatchObject({ code: status.INTERNAL });
    expect(log.lines).toHaveLength(1);
  });

  it("that may not connect ends with the dispatcher's reason", async () => {
    const { workers } = await serve({ sessions: { connect: () => Promise.resolve({ refused: "STALE_HELLO" }) } });
    const { call, ended } = openStream(workers);
    call.write(HELLO);
    expect(read(await ended)).toMatchObject({ code: status.ABORTED, reason: "STALE_HELLO" });
  });

  it("keeps leases below a message's size and behind control", async () => {
    const { connected, sessions } = fakeSessions();
    const { workers } = await serve({ sessions });
    const { call, next, messages } = openStream(workers);
    call.write(HELLO);
    await next();
    const { live } = storedTask();
    const lease = (token: string, bytes: number) => {
      const metadata = { data: Buffer.alloc(bytes, "1"), contentType: "" };
      return {
        token,
        leased: { live, labels: new Map<string, string>(), traceContext: null, metadata: null, executionMetadata: null },
        payloads: { metadata, executionMetadata: null },
        attemptRemainingUs: null,
      };
    };
    const sizes = [10_000, 10_000, 10_000, 10_000, 1_000_000, 10];
    connected.stream!.send({
      leases: sizes.map((bytes, index) => lease(String(index), bytes)),
      cancels: [{ token: "c", reason: "r", remainingGraceUs: 1_500_000 }],
    });
    while (messages.flatMap(({ leases }) => leases).length < sizes.length) await next();
    const [first, ...others] = messages.slice(1);
    expect(first!.cancels).toMatchObject([{ leaseToken: "c", remainingGrace: { seconds: 1n, nanos: 500_000_000 } }]);
    expect([first!, ...others].map(({ leases }) => leases.map(({ leaseToken }) => leaseToken))).toEqual([
      ["0", "1", "2"],
      ["3"],
      ["4"],
      ["5"],
    ]);
    call.cancel();
  });
});
