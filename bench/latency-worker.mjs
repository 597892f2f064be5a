// The worker of latency.mjs: notes when each lease arrives, completes it, and sends what it noted to its parent.

import { credentials } from "@grpc/grpc-js";
import { WorkerServiceClient } from "@leasehold/proto/leasehold/v1/worker_service";

const client = new WorkerServiceClient(process.argv[2], credentials.createInsecure());
const stream = client.executeTasks();
let received = 0;
let beats = 0;
let latencies = [];

stream.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
stream.on("data", (message) => {
  const now = process.hrtime.bigint();
  if (message.welcome) {
    process.send([]);
    setInterval(() => stream.write({ heartbeat: { number: ++beats, leasesReceived: received }, reports: [], progress: [] }), 2000);
  }
  const reports = message.leases.map((lease) => {
    received++;
    latencies.push(Number(now - BigInt(JSON.parse(Buffer.from(lease.metadata.data).toString()))) / 1e6);
    return { leaseToken: lease.leaseToken, reportSeq: 1, complete: {} };
  });
  if (reports.length > 0) stream.write({ reports, progress: [] });
});
stream.write({
  hello: {
    workerName: "bench",
    sdk: "",
    language: "",
    queues: [],
    slots: 100,
    handlers: [{ taskName: "bench.latency" }],
    labels: {},
    features: [],
    connection: 1,
    sessionId: "",
    heldLeaseTokens: [],
  },
  reports: [],
  progress: [],
});
setInterval(() => {
  process.send(latencies);
  latencies = [];
}, 500);
