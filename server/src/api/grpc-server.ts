// What does the gRPC server consist of? Our services with health and reflection beside them, bounds on everything a client may use up, and
// a shutdown that ends: grpc-js alone would wait for ever on open streams.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { ChannelOptions } from "@grpc/grpc-js";
import { Server, ServerCredentials, setLogger } from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation } from "grpc-health-check";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { Log } from "../telemetry/log.js";
import type { WrappedService } from "./call.js";
import { guardConnections } from "./connection-guard.js";
import { createDraining } from "./draining.js";
import { safeAdder } from "./foreign-services.js";
import { listen, ListenError } from "./listen.js";

/** A gRPC server that is built and may listen. */
export interface GrpcServer {
  /** Starts to listen. Answers the real addresses. Throws a `ListenError` with one sentence. */
  listen(): Promise<string[]>;
  /** What health checks are told, for the server and each of its services. NOT_SERVING until the first call. */
  setServing(serving: boolean): void;
  /** Ends long calls with UNAVAILABLE, lets the others finish, and after the limit ends them too. Streams of workers end by the dispatcher before. */
  shutdown(limitMs: number): Promise<void>;
}

/** Pings to a silent peer, so that a frozen one is noticed; the peer may ping every 10 s or less. */
const KEEPALIVE_MS = 20_000;
const KEEPALIVE_WAIT_MS = 10_000;
const MIB = 1024 * 1024;

/** Builds the server around services. */
export function grpcServer(parts: {
  readonly services: readonly WrappedService[];
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
}): GrpcServer {
  const { services, config, clock, log } = parts;
  // It would print to the console what listen.ts already says in a sentence.
  setLogger({ error: (said: unknown) => log.debug({ said: String(said) }, "grpc-js reported something") });
  const server = new Server(optionsOf(config));
  for (const { definition, implementation } of services) server.addService(definition, implementation);

  const draining = createDraining();
  const adder = safeAdder(server, draining, log);
  const names = ["", ...services.map(({ name }) => name)];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, "NOT_SERVING" as const])));
  health.addToServer(adder);
  reflection().addToServer(adder);

  const streams = new Set(
    services.flatMap(({ definition }) => Object.values(definition)).flatMap((m) => (m.requestStream ? [m.path] : [])),
  );
  const guard = guardConnections(server, (path) => streams.has(path) || path.startsWith("/grpc.reflection."), config, clock, log);

  return {
    listen: () =>
      listen(server, config.listen, credentialsOf(config), () => {
        guard.attach();
      }),
    setServing: (serving) => {
      for (const name of names) health.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
    },
    shutdown: async (limitMs) => {
      for (const service of services) service.drain();
      draining.begin();
      await new Promise<void>((resolve) => {
        const timer = clock.after(limitMs, () => {
          log.warn({ limitMs }, "calls did not finish in time and are cut off");
          server.forceShutdown();
          resolve();
        });
        server.tryShutdown(() => {
          timer.cancel();
          resolve();
        });
      });
      guard.stop();
    },
  };
}

function optionsOf({ limits }: Config): ChannelOptions {
  return {
    "grpc.max_receive_message_length": limits.messageBytes,
    "grpc.max_concurrent_streams": limits.streamsPerConnection,
    "grpc-node.max_session_memory": Math.ceil(limits.connectionBytes / MIB),
    "grpc.keepalive_time_ms": KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_WAIT_MS,
    "grpc.enable_channelz": 0,
  };
}

function credentialsOf({ tls }: Config): ServerCredentials {
  if (tls === null) return ServerCredentials.createInsecure();
  try {
    return ServerCredentials.createSsl(null, [{ cert_chain: readFileSync(tls.certFile), private_key: readFileSync(tls.keyFile) }]);
  } catch (error) {
    throw new ListenError("cannot read LEASEHOLD_TLS_CERT_FILE or LEASEHOLD_TLS_KEY_FILE", { cause: error });
  }
}

function reflection(): ReflectionService {
  const path = createRequire(import.meta.url).resolve("@leasehold/proto/leasehold.binpb");
  return new ReflectionService(loadFileDescriptorSetFromBuffer(readFileSync(path)));
}
