// What are very many workers that come back at the same moment? Streams with nothing behind them: each says hello, and again when it was broken.
import { Client, credentials } from "@grpc/grpc-js";
import { Hello, type ServerMessage, WorkerMessage, WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";

/** A crowd of workers. */
export interface Crowd {
  /** Waits until each has a welcome on a stream that it opened since the last question, or for this long; answers how many have. */
  welcomed(patienceMs: number): Promise<number>;
  close(): void;
}

const PER_CONNECTION = 100;

/** Opens as many workers, spread over the servers; they handle a name that nobody submits. */
export function openCrowd(addresses: readonly string[], count: number): Crowd {
  const clients = Array.from({ length: Math.ceil(count / PER_CONNECTION) }, (_, index) => {
    const options = { "grpc.use_local_subchannel_pool": 1, "grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 500 };
    return new Client(addresses[index % addresses.length] ?? "", credentials.createInsecure(), options);
  });
  let closed = false;
  let fresh = new Set<number>();
  let listen = (): void => undefined;
  const open = (index: number, sessionId: string, connection: number): void => {
    if (closed) return;
    const { path, requestSerialize, responseDeserialize } = WorkerServiceService.executeTasks;
    const call = clients[index % clients.length]!.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    let session = sessionId;
    call.on("data", ({ welcome }: ServerMessage) => {
      if (welcome === undefined) return;
      session = welcome.sessionId;
      fresh.add(index);
      listen();
    });
    call.on("error", () => undefined);
    call.once("status", () => setTimeout(() => open(index, session, connection + 1), 20 + ((index * 7) % 200)));
    const hello = {
      ...{ workerName: `crowd-${index}`, language: "none", slots: 1, connection, sessionId },
      handlers: [{ taskName: "fault.crowd", slots: undefined }],
      sessionTtl: { seconds: 60n, nanos: 0 },
    };
    call.write(WorkerMessage.create({ hello: Hello.create(hello) }));
  };
  for (let index = 0; index < count; index++) open(index, "", 1);
  return {
    welcomed: (patienceMs) =>
      new Promise((resolve) => {
        const settle = (): void => {
          clearTimeout(timer);
          listen = () => undefined;
          const { size } = fresh;
          fresh = new Set();
          resolve(size);
        };
        const timer = setTimeout(settle, patienceMs);
        listen = () => {
          if (fresh.size === count) settle();
        };
        listen();
      }),
    close: () => {
      closed = true;
      for (const client of clients) client.close();
    },
  };
}
