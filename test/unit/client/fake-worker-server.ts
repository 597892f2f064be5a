// What does a scripted server look like to a worker? It welcomes, leases, answers, and lets the test decide everything else.
import { type ClientOptions, createWorker, LeaseholdError, type TaskHandler, type Worker, type WorkerOptions } from "@leasehold/client";
import type { Lease } from "@leasehold/proto/leasehold/v1/worker_service";
import { type Hello, type Report, ServerMessage, VerdictCode, type WorkerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import { type FakeClock, settle } from "./fake-clock.js";
import { fakeClient, type FakeStream, type FakeTransport } from "./fake-transport.js";

type ServerFields = Parameters<typeof ServerMessage.create>[0];
type LeaseFields = Parameters<typeof Lease.create>[0];
type WorkerStream = FakeStream<WorkerMessage, ServerMessage>;

/** 5 s, as a duration. */
export function ms(value: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(value / 1_000)), nanos: (value % 1_000) * 1_000_000 };
}

const started: FakeWorkerServer[] = [];

/** Ends every worker that a test has started; for `afterEach`. */
export async function stopWorkers(): Promise<void> {
  for (const server of started.splice(0)) {
    void server.worker.drain({ grace: 0 });
    await server.clock.advance(60_000);
    await server.running;
  }
}

/** A worker on a scripted server. */
export class FakeWorkerServer {
  /** Fields of the next welcomes. */
  welcome: NonNullable<NonNullable<ServerFields>["welcome"]> = {
    sessionId: "session-1",
    heartbeatInterval: ms(5_000),
    sessionTtl: ms(20_000),
  };
  readonly worker: Worker;
  readonly running: Promise<void>;
  readonly clock: FakeClock;
  readonly transport: FakeTransport;
  readonly lines: string[];
  readonly client: ReturnType<typeof fakeClient>["client"];
  /** How `run` ended, if it did by an error. */
  error: LeaseholdError | undefined;

  constructor(handlers: readonly TaskHandler[], options: Partial<WorkerOptions> = {}, clientOptions: ClientOptions = {}) {
    const { client, transport, clock, lines } = fakeClient(clientOptions);
    this.client = client;
    this.transport = transport;
    this.clock = clock;
    this.lines = lines;
    this.worker = createWorker({ client, handlers, name: "w", ...options });
    started.push(this);
    this.running = this.worker.run().catch((error: unknown) => void (this.error = LeaseholdError.from(error)));
  }

  /** A worker that was welcomed. */
  static async start(
    handlers: readonly TaskHandler[],
    options: Partial<WorkerOptions> = {},
    clientOptions: ClientOptions = {},
  ): Promise<FakeWorkerServer> {
    const server = new FakeWorkerServer(handlers, options, clientOptions);
    await settle();
    await server.greet();
    return server;
  }

  /** The newest stream. */
  get stream(): WorkerStream {
    const stream = this.transport.streams.at(-1);
    if (stream === undefined) throw new Error("no stream was opened");
    return stream as unknown as WorkerStream;
  }

  /** The hello of each stream so far. */
  get hellos(): Hello[] {
    return this.transport.streams
      .map((stream) => (stream as unknown as WorkerStream).received[0]?.hello)
      .filter((hello) => hello !== undefined);
  }

  /** All reports on the newest stream. */
  get reports(): Report[] {
    return this.stream.received.flatMap(({ reports }) => reports);
  }

  /** What kinds of reports came on the newest stream, as `1 checkpoint`. */
  get kinds(): string[] {
    return this.reports.map((report) => `${String(report.reportSeq)} ${kindOf(report)}`);
  }

  /** Welcomes the newest stream. */
  async greet(fields: ServerFields = {}): Promise<void> {
    await this.send({ welcome: this.welcome, ...fields });
  }

  async send(fields: ServerFields): Promise<void> {
    this.stream.send(ServerMessage.create(fields));
    await settle();
  }

  /** Sends a lease; its token is its task's id. */
  async lease(taskId: string, fields: LeaseFields = {}, also: ServerFields = {}): Promise<void> {
    await this.send({
      ...also,
      leases: [{ leaseToken: taskId, taskId, name: "t", attempt: 1, maxAttempts: 5, fencingToken: 1n, ...fields }],
    });
  }

  /** Answers a report. */
  async verdict(leaseToken: string, reportSeq: number, code = VerdictCode.RECORDED, fields: object = {}): Promise<void> {
    await this.send({ verdicts: [{ leaseToken, reportSeq, code, ...fields }] });
  }

  /** Answers the newest heartbeat of the newest stream. */
  async answerHeartbeat(): Promise<void> {
    const number = this.stream.received.findLast(({ heartbeat }) => heartbeat !== undefined)?.heartbeat?.number;
    if (number !== undefined) await this.send({ heartbeatAnswer: { number } });
  }

  /** Moves time second by second while the server answers heartbeats. */
  async live(forMs: number): Promise<void> {
    for (let passedMs = 0; passedMs < forMs; passedMs += 1_000) {
      await this.clock.advance(1_000);
      await this.answerHeartbeat();
    }
  }

  /** Ends the stream and moves time until the worker has opened the next one. */
  async breakStream(error?: LeaseholdError): Promise<void> {
    const before = this.transport.streams.length;
    this.stream.close(error);
    for (let tries = 0; tries < 60 && this.transport.streams.length === before; tries += 1) await this.clock.advance(500);
  }
}

/** Which of a report's kinds is present. */
export function kindOf(report: Report): string {
  const kinds = (["checkpoint", "complete", "fail", "suspend", "cancel", "release"] as const).filter((kind) => report[kind] !== undefined);
  return kinds.join("+");
}

/** A promise with its ends in hand. */
export function gate<T = void>(): { promise: Promise<T>; open: (value: T) => void; fail: (error: unknown) => void } {
  let open: (value: T) => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}
