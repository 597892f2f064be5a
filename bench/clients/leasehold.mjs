// How is Leasehold used without an SDK? By the generated stubs: unary calls to submit, the worker's stream to work.
import { credentials } from "@grpc/grpc-js";
import { TaskServiceClient } from "@leasehold/proto/leasehold/v1/task_service";
import { VerdictCode, WorkerServiceClient } from "@leasehold/proto/leasehold/v1/worker_service";
import { TASK_NAME } from "../payload.mjs";
import { newTask } from "./leasehold-task.mjs";

const CONTENT = { data: Buffer.from("{}"), contentType: "" };

/** The producer's side; calls go to the addresses in turn. */
export function connectProducer({ addresses }) {
  const clients = addresses.map((address) => new TaskServiceClient(address, credentials.createInsecure()));
  let turn = 0;
  const call = (method, request) =>
    new Promise((resolve, reject) => {
      clients[turn++ % clients.length][method](request, (error) => (error ? reject(error) : resolve()));
    });
  return {
    submit: (more = {}) => call("submitTask", { task: { ...newTask(), ...more } }),
    submitBatch: (size) => call("submitTasks", { tasks: Array.from({ length: size }, newTask), atomic: undefined }),
  };
}

/** The worker's side: sessions are spread over the addresses, the slots are each one's own. */
export async function connectWorker({ addresses }, options, events) {
  const { sessions = addresses.length } = options;
  const opened = await Promise.all(
    Array.from({ length: sessions }, (_, index) => openSession(addresses[index % addresses.length], options, events)),
  );
  return {
    stop: async () => {
      await Promise.all(opened.map((session) => session.stop()));
    },
  };
}

function openSession(address, { slots, latency, checkpoints, name = TASK_NAME, queues = [] }, events) {
  const client = new WorkerServiceClient(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const stream = client.executeTasks();
  const report = checkpoints ? checkpoint : complete;
  let [received, beats] = [0, 0];
  let heartbeat;
  return new Promise((resolve, reject) => {
    const over = new Promise((ended) => stream.once("status", ended));
    const stop = async () => {
      if (checkpoints) stream.cancel();
      else stream.write({ reports: [], progress: [], drain: {} });
      await over;
      clearInterval(heartbeat);
      client.close();
    };
    stream.on("error", reject);
    stream.on("data", (message) => {
      if (message.welcome !== undefined) {
        heartbeat = setInterval(() => {
          stream.write({ heartbeat: { number: ++beats, leasesReceived: received }, reports: [], progress: [] });
        }, 1000);
        resolve({ stop });
      }
      received += message.leases.length;
      for (const { metadata } of message.leases) events.started(latency ? JSON.parse(metadata.data.toString()) : undefined);
      const recorded = message.verdicts.filter(({ code }) => code === VerdictCode.RECORDED);
      events.done(recorded.length);
      const reports = message.leases.map(({ leaseToken }) => report(leaseToken, 1));
      if (checkpoints) reports.push(...recorded.map(({ leaseToken, reportSeq }) => report(leaseToken, reportSeq + 1)));
      if (reports.length > 0) stream.write({ reports, progress: [] });
    });
    stream.write({ hello: hello(name, queues, slots), reports: [], progress: [] });
  });
}

function complete(leaseToken, reportSeq) {
  return { leaseToken, reportSeq, complete: { result: CONTENT } };
}

function checkpoint(leaseToken, reportSeq) {
  return { leaseToken, reportSeq, checkpoint: { executionMetadata: CONTENT } };
}

function hello(taskName, queues, slots) {
  return {
    workerName: "bench",
    sdk: "",
    language: "",
    queues,
    slots,
    handlers: [{ taskName }],
    labels: {},
    features: [],
    connection: 1,
    sessionId: "",
    heldLeaseTokens: [],
  };
}
