// What does gRPC cost by itself here? A bare grpc-js server that answers messages of the same size.
import { Child } from "../children.mjs";
import { Scene } from "../scene.mjs";

/** The system. */
export default {
  name: "grpc-echo",
  cases: ["unary-64", "unary-256", "bidi-64"],
  absent: () => undefined,
  async start() {
    const server = new Child("echo-server.mjs");
    const { address, pid } = await server.ask("listen");
    return new Scene({ name: "grpc-echo", target: { addresses: [address] }, pids: () => [pid], close: () => server.stop() });
  },
};
