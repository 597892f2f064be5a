// How does a test speak the worker protocol itself, message by message? From the generated stubs, without the SDK.
import { credentials, type ClientDuplexStream, type ServiceError, type status } from "@grpc/grpc-js";
import { Status } from "@leasehold/proto/google/rpc/status";
import { ErrorInfo } from "@leasehold/proto/google/rpc/error_details";
import {
  Hello,
  type Lease,
  Report,
  type ServerMessage,
  type Verdict,
  type Welcome,
  WorkerMessage,
  WorkerServiceClient,
} from "@leasehold/proto/leasehold/v1/worker_service";

/** How a stream ended. */
export interface StreamEnding {
  readonly code: status;
  /** The ErrorInfo reason, as SESSION_TAKEN; empty with OK. */
  readonly reason: string;
  readonly message: string;
}

/** One stream of a worker that does only what the test says; it sends no heartbeat by itself. */
export interface RawWorker {
  readonly call: ClientDuplexStream<WorkerMessage, ServerMessage>;
  /** Everything that came, oldest first. */
  readonly received: readonly ServerMessage[];
  /** How it ended; never rejects. */
  readonly ended: Promise<StreamEnding>;
  send(message: Partial<WorkerMessage>): void;
  /** Sends one report. */
  report(lease: Lease, reportSeq: number, body: Partial<Report>): void;
  /** The first value that `pick` finds in what came or will come; rejects when the stream ends first or 15 s have passed. */
  first<T>(pick: (message: ServerMessage) => T | undefined, what: string): Promise<T>;
  /** The welcome. */
  welcome(): Promise<Welcome>;
  /** The n-th lease of this stream, from 0. */
  lease(index?: number): Promise<Lease>;
  /** The verdict on a report of a lease. */
  verdict(lease: Lease, reportSeq: number): Promise<Verdict>;
  /** Ends the call and its connection. */
  close(): void;
}

const PATIENCE_MS = 15_000;

/** Opens a stream and says hello. What is left out of the hello: one slot, connection 1, TTL 5 s. */
export function openRawWorker(address: string, taskNames: readonly string[], hello: Partial<Hello> = {}): RawWorker {
  const raw = openRawStream(address);
  raw.send({
    hello: Hello.create({
      workerName: "raw",
      language: "none",
      slots: 1,
      handlers: taskNames.map((taskName) => ({ taskName, slots: undefined })),
      sessionTtl: { seconds: 5n, nanos: 0 },
      connection: 1,
      ...hello,
    }),
  });
  return raw;
}

/** Opens a stream and says nothing. */
export function openRawStream(address: string): RawWorker {
  // A connection of its own, so that ending one stream says nothing about another.
  const client = new WorkerServiceClient(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const call = client.executeTasks();
  const received: ServerMessage[] = [];
  const listeners = new Set<() => void>();
  call.on("data", (message: ServerMessage) => {
    received.push(message);
    for (const listener of listeners) listener();
  });
  call.on("error", () => undefined);
  const ended = new Promise<StreamEnding>((resolve) => call.once("status", (end: ServiceError) => resolve(endingOf(end))));
  const first = <T>(pick: (message: ServerMessage) => T | undefined, what: string): Promise<T> =>
    new Promise((resolve, reject) => {
      const settle = (finish: () => void): void => {
        clearTimeout(timer);
        listeners.delete(look);
        finish();
      };
      const timer = setTimeout(() => settle(() => reject(new Error(`no ${what} within ${PATIENCE_MS} ms`))), PATIENCE_MS);
      const look = (): void => {
        for (const message of received) {
          const found = pick(message);
          if (found === undefined) continue;
          settle(() => resolve(found));
          return;
        }
      };
      listeners.add(look);
      look();
      void ended.then(({ reason, message }) => settle(() => reject(new Error(`no ${what}: the stream ended (${reason} ${message})`))));
    });
  return {
    call,
    received,
    ended,
    send: (message) => void call.write(WorkerMessage.create(message)),
    report: ({ leaseToken }, reportSeq, body) =>
      void call.write(WorkerMessage.create({ reports: [Report.create({ leaseToken, reportSeq, ...body })] })),
    first,
    welcome: () => first(({ welcome }) => welcome, "welcome"),
    lease: (index = 0) => first(() => received.flatMap(({ leases }) => leases)[index], `lease ${index}`),
    verdict: (lease, reportSeq) =>
      first(
        ({ verdicts }) => verdicts.find((verdict) => verdict.leaseToken === lease.leaseToken && verdict.reportSeq === reportSeq),
        `verdict on report ${reportSeq}`,
      ),
    close: () => {
      call.cancel();
      client.close();
    },
  };
}

/** Code, reason and message of a gRPC status with details. */
export function endingOf(end: ServiceError): StreamEnding {
  const [trailer] = end.metadata.get("grpc-status-details-bin");
  const details = trailer instanceof Buffer ? Status.decode(trailer).details : [];
  const found = details.find(({ typeUrl }) => typeUrl.endsWith("google.rpc.ErrorInfo"));
  return { code: end.code, reason: found === undefined ? "" : ErrorInfo.decode(found.value).reason, message: end.details };
}

/** Says that the worker lives, every `intervalMs`, until stopped; counts the leases that came. */
export function keepAlive(raw: RawWorker, intervalMs: number, firstNumber = 1): () => void {
  let number = firstNumber;
  const beat = (): void => {
    const leasesReceived = raw.received.reduce((sum, { leases }) => sum + leases.length, 0);
    raw.send({ heartbeat: { number: number++, leasesReceived } });
  };
  beat();
  const timer = setInterval(beat, intervalMs);
  void raw.ended.then(() => clearInterval(timer));
  return () => clearInterval(timer);
}
