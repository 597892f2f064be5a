// The submitters of overload.mjs: sends by schedule whatever becomes of what was sent, or keeps so many calls open. What it is told to do comes from
// its parent, what became of each call goes back: [milliseconds since the start, milliseconds it took, gRPC code, milliseconds of RetryInfo,
// milliseconds that it was sent after its time].

import { credentials, Metadata, status } from "@grpc/grpc-js";
import { RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { TaskServiceClient } from "@leasehold/proto/leasehold/v1/task_service";

const CONNECTIONS = 8;
const DEADLINE_MS = 5000;
const address = process.argv[2];
const clients = Array.from(
  { length: CONNECTIONS },
  () => new TaskServiceClient(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 }),
);
const metadata = { data: Buffer.from(JSON.stringify("x".repeat(200))), contentType: "" };
let turn = 0;

process.on("message", async ({ rate, open, seconds, name }) => {
  const outcomes = [];
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  const pending = [];
  const send = async (dueMs) => {
    const atMs = performance.now();
    const [code, retryMs] = await submit(name);
    outcomes.push([atMs - startMs, performance.now() - atMs, code, retryMs, atMs - dueMs]);
  };
  if (open !== undefined) {
    const again = async () => {
      while (performance.now() < endMs) await send(performance.now());
    };
    for (let index = 0; index < open; index++) pending.push(again());
  } else {
    for (let nextMs = startMs; nextMs < endMs; nextMs += 1000 / rate) {
      const waitMs = nextMs - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      pending.push(send(nextMs));
    }
  }
  process.send("sent");
  await Promise.all(pending);
  process.send(outcomes);
});

function submit(name) {
  const task = { name, metadata, labels: {}, queue: "", taskId: "", priority: 0, key: "", keyConflictPolicy: 0 };
  const request = { task: { ...task, metadataFingerprint: Buffer.alloc(0) } };
  return new Promise((resolve) => {
    clients[turn++ % CONNECTIONS].submitTask(request, new Metadata(), { deadline: Date.now() + DEADLINE_MS }, (error) =>
      resolve(error === null ? [status.OK, 0] : [error.code, retryMsOf(error)]),
    );
  });
}

function retryMsOf(error) {
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  const found = trailer === undefined ? undefined : Status.decode(trailer).details.find(({ typeUrl }) => typeUrl.endsWith("RetryInfo"));
  if (found === undefined) return 0;
  const { retryDelay } = RetryInfo.decode(found.value);
  return Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6;
}

process.send("ready");
