// Which server runs in an environment? The rooms of the real one, wired as in production, over a storage in the process and without a port.

import { randomUUID } from "node:crypto";
import type { WrappedService } from "@leasehold/server/api/call";
import type { Clock } from "@leasehold/server/clock";
import { type Config, loadConfig } from "@leasehold/server/config";
import type { EmbeddedDatabase } from "@leasehold/server/storage/embedded-database";
import { openEmbeddedStorage } from "@leasehold/server/storage/embedded-storage";
import { createLog } from "@leasehold/server/telemetry/log";
import { SERVER_VERSION, servicesOf, wire } from "@leasehold/server/main";

/** A server without a network. */
export interface InProcessServer {
  readonly services: readonly WrappedService[];
  /** Has it look for whatever it was not told of. */
  lookAgain(): void;
  /** Ends what it does because time passes, and its sessions. */
  stop(): Promise<void>;
}

/** Settings of the server by their names, as `LEASEHOLD_RETENTION_COMPLETED`. */
export type ServerSettings = Readonly<Record<string, string>>;

/** Starts a server on a schema. Throws the server's `ConfigError` for a setting that it refuses. */
export async function startServer(
  database: EmbeddedDatabase,
  schema: string,
  clocks: { readonly server: Clock; readonly storage: Clock },
  settings: ServerSettings,
): Promise<InProcessServer> {
  const config: Config = loadConfig({ LEASEHOLD_DATABASE_URL: "postgres://embedded", ...settings });
  const serverId = randomUUID();
  const { payloadBytes } = config.limits;
  const storage = await openEmbeddedStorage(
    database,
    { schema, maxPayloadBytes: payloadBytes, serverId, serverAddress: "in the test process", serverVersion: SERVER_VERSION },
    clocks.storage,
  );
  // What the server would log as an error is a bug in it, and worth a line in any test's output.
  const log = createLog({ level: "error", format: "text" });
  const parts = wire(config, clocks.server, storage, serverId, log);
  const services = servicesOf(parts, { config, clock: clocks.server, storage, log, observed: null, durability: () => "UNSAFE" });
  parts.start();
  return {
    services,
    lookAgain: () => {
      storage.lookAgain();
    },
    stop: async () => {
      parts.dispatcher.stop();
      parts.unary.drain();
      for (const service of services) service.drain();
      await parts.workers.drain();
      await parts.upkeep.stop();
      await storage.close();
    },
  };
}
