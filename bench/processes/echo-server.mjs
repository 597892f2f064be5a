// How fast is grpc-js alone? A bare server that answers bytes with the same bytes, by single calls and on a stream.
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { answerWith } from "./answering.mjs";

const same = (bytes) => bytes;
const serializers = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const server = new Server();
server.addService(
  {
    unary: { path: "/bench.Echo/Unary", requestStream: false, responseStream: false, ...serializers },
    bidi: { path: "/bench.Echo/Bidi", requestStream: true, responseStream: true, ...serializers },
  },
  {
    unary: (call, callback) => callback(null, call.request),
    bidi(call) {
      call.on("data", (bytes) => call.write(bytes));
      call.on("end", () => call.end());
      call.on("error", () => undefined);
    },
  },
);

answerWith({
  listen: () =>
    new Promise((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve({ address: `127.0.0.1:${port}`, pid: process.pid });
        else reject(error);
      });
    }),
});
