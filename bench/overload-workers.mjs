// The workers of overload.mjs: each keeps the leases of bench.hold until it is told to finish, and completes every other task after a while with a
// checkpoint on the way. Sends its parent every second what heartbeats and reports took, and what it lost.

import { credentials } from "@grpc/grpc-js";
import { VerdictCode, WorkerServiceClient } from "@leasehold/proto/leasehold/v1/worker_service";

const [, , address, count] = process.argv;
const BEAT_MS = 500;
const WORK_MS = 250;
const noted = { beats: [], reports: [], revoked: 0, ended: 0, later: 0, refused: 0, held: 0 };
const held = [];

for (let index = 0; index < Number(count); index++) connect(index);

function connect(index) {
  const client = new WorkerServiceClient(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const stream = client.executeTasks();
  let received = 0;
  let number = 0;
  const beatsSent = new Map();
  const reportsSent = new Map();
  const beat = () => {
    beatsSent.set(String(++number), performance.now());
    stream.write({ heartbeat: { number, leasesReceived: received }, reports: [], progress: [] });
  };
  const report = (leaseToken, reportSeq, body, again = performance.now()) => {
    reportsSent.set(`${leaseToken} ${reportSeq}`, { atMs: again, send: () => report(leaseToken, reportSeq, body, again) });
    stream.write({ reports: [{ leaseToken, reportSeq, ...body }], progress: [] });
  };
  stream.on("error", (error) => {
    noted.ended++;
    console.error(error.message);
  });
  stream.on("data", (message) => {
    if (message.welcome) setInterval(beat, BEAT_MS);
    if (message.heartbeatAnswer) {
      for (const [sent, atMs] of beatsSent) {
        if (Number(sent) > Number(message.heartbeatAnswer.number)) break;
        noted.beats.push(performance.now() - atMs);
        beatsSent.delete(sent);
      }
    }
    for (const { leaseToken, name } of message.leases) {
      received++;
      if (name === "bench.hold") {
        noted.held++;
        held.push(() => report(leaseToken, 1, { complete: {} }));
        continue;
      }
      report(leaseToken, 1, { checkpoint: { executionMetadata: { data: Buffer.from("1"), contentType: "" } } });
      setTimeout(() => report(leaseToken, 2, { complete: {} }), WORK_MS);
    }
    for (const { leaseToken, reportSeq, code } of message.verdicts) {
      const key = `${leaseToken} ${reportSeq}`;
      const sent = reportsSent.get(key);
      if (code === VerdictCode.RETRY_LATER) {
        noted.later++;
        setTimeout(sent.send, 200);
        continue;
      }
      if (code !== VerdictCode.RECORDED) noted.refused++;
      noted.reports.push(performance.now() - sent.atMs);
      reportsSent.delete(key);
    }
    noted.revoked += message.revoked.length;
  });
  stream.write({
    hello: {
      ...{ workerName: `bench-${index}`, sdk: "", language: "", queues: [], slots: 8, labels: {}, features: [] },
      handlers: [{ taskName: "bench.load", slots: 4 }, { taskName: "bench.hold" }],
      ...{ connection: 1, sessionId: "", heldLeaseTokens: [], sessionTtl: { seconds: 5n, nanos: 0 } },
    },
    ...{ reports: [], progress: [] },
  });
}

process.on("message", () => {
  for (const finish of held.splice(0)) finish();
});
setInterval(() => {
  process.send(noted);
  noted.beats = [];
  noted.reports = [];
}, 1000);
