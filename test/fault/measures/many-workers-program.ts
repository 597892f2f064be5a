// Many light workers of the SDK in one process: the first argument is JSON with `addresses`, `count` and `prefix`. Says `try` for each connection
// that is tried and `logged` for each line that would be logged, with the time since the epoch in milliseconds.
import { createWorker, handle, type Logger } from "../../../client/src/index.js";
import { createClient } from "../../../client/src/client.js";
import { createGrpcTransport } from "../../../client/src/grpc-transport.js";
import type { Transport } from "../../../client/src/transport.js";
import { quick } from "../../e2e/programs/tasks.js";

function say(word: string): void {
  process.stdout.write(`${word} ${Date.now()}\n`);
}

function telling(transport: Transport): Transport {
  return {
    ...transport,
    stream: (method, events) => {
      say("try");
      return transport.stream(method, events);
    },
  };
}

const { addresses, count, prefix } = JSON.parse(process.argv[2] ?? "{}") as { addresses: string[]; count: number; prefix: string };
const line = (): void => say("logged");
const logger: Logger = { debug: () => {}, info: line, warn: line, error: line };
const workers = Array.from({ length: count }, (_, index) => {
  const name = `${prefix}-${index}`;
  const client = createClient({ transport: telling(createGrpcTransport({ addresses })), logger });
  return createWorker({ client, name, logger, grace: 0, handlers: [handle(quick, ({ metadata: { n } }) => ({ n, worker: name }))] });
});
const runs = workers.map((worker) => worker.run());
await Promise.all(workers.map((worker) => worker.ready()));
say("ready");
await Promise.all(runs);
