// How is the bare echo called? With bytes of the size of a SubmitTask, by single calls or on one stream.
import { Client, credentials } from "@grpc/grpc-js";
import { SubmitTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { newTask } from "./leasehold-task.mjs";

const same = (bytes) => bytes;

/** The producer's side. */
export function connectProducer({ addresses: [address] }) {
  const client = new Client(address, credentials.createInsecure());
  const bytes = Buffer.from(SubmitTaskRequest.encode(SubmitTaskRequest.fromPartial({ task: newTask() })).finish());
  const waiting = [];
  let stream;
  return {
    submit: () =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest("/bench.Echo/Unary", same, same, bytes, (error) => (error ? reject(error) : resolve()));
      }),
    /** One message there and back on the stream; answers come in order. */
    send() {
      if (stream === undefined) {
        stream = client.makeBidiStreamRequest("/bench.Echo/Bidi", same, same);
        stream.on("data", () => waiting.shift().resolve());
        stream.on("error", (error) => waiting.splice(0).forEach(({ reject }) => reject(error)));
      }
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        stream.write(bytes);
      });
    },
  };
}
