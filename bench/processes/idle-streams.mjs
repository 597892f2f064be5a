// Who holds ten thousand streams open? Workers with one slot each for a name that nobody submits, which only heartbeat.
import { credentials } from "@grpc/grpc-js";
import { WorkerServiceClient } from "@leasehold/proto/leasehold/v1/worker_service";
import { answerWith } from "./answering.mjs";

/** Fewer than the server allows on one connection. */
const STREAMS_PER_CONNECTION = 500;
const OPENING_AT_ONCE = 50;

const streams = [];

function open(client) {
  const stream = client.executeTasks();
  let number = 0;
  return new Promise((resolve, reject) => {
    stream.on("error", reject);
    stream.on("data", ({ welcome }) => {
      if (welcome === undefined) return;
      const intervalMs = Number(welcome.heartbeatInterval.seconds) * 1000 + welcome.heartbeatInterval.nanos / 1e6;
      setInterval(() => stream.write({ heartbeat: { number: ++number, leasesReceived: 0 }, reports: [], progress: [] }), intervalMs);
      resolve();
    });
    stream.write({ hello: HELLO, reports: [], progress: [] });
    streams.push(stream);
  });
}

const HELLO = {
  workerName: "idle",
  sdk: "",
  language: "",
  queues: [],
  slots: 1,
  handlers: [{ taskName: "bench.nobody-submits" }],
  labels: {},
  features: [],
  connection: 1,
  sessionId: "",
  heldLeaseTokens: [],
};

answerWith({
  async open({ address, count }) {
    let client;
    for (let opened = 0; opened < count; opened += OPENING_AT_ONCE) {
      if (opened % STREAMS_PER_CONNECTION === 0)
        client = new WorkerServiceClient(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
      await Promise.all(Array.from({ length: Math.min(OPENING_AT_ONCE, count - opened) }, () => open(client)));
    }
    return streams.length;
  },
});
