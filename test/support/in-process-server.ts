// How does a test get a whole server without a process of its own? startServer on a database of its own, on a port that is free.
import { loadConfig } from "@leasehold/server/config";
import { startServer, type RunningServer } from "@leasehold/server/main";
import type { Log } from "@leasehold/server/telemetry/log";
import { createTestDatabase } from "./postgres.js";

/** A server of a test; disposing of it stops it and drops its database if it made it. */
export interface InProcessServer extends AsyncDisposable {
  readonly address: string;
  readonly databaseUrl: string;
}

const SILENT: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

/** Starts a server. `env` adds settings; `databaseUrl` makes it a second server on the database of another; `log` hears what it logs. */
export async function startInProcess(env: Record<string, string> = {}, databaseUrl?: string, log: Log = SILENT): Promise<InProcessServer> {
  const database = databaseUrl === undefined ? await createTestDatabase() : null;
  const url = databaseUrl ?? database?.url ?? "";
  // The Postgres of the tests runs without fsync.
  const settings = {
    LEASEHOLD_DURABILITY: "unsafe",
    LEASEHOLD_DATABASE_URL: url,
    LEASEHOLD_LISTEN: "127.0.0.1:0",
    LEASEHOLD_DRAIN_TIMEOUT: "1s",
    ...env,
  };
  const server: RunningServer = await startServer(loadConfig(settings), log);
  return {
    address: server.address,
    databaseUrl: url,
    [Symbol.asyncDispose]: async () => {
      await server.stop();
      await database?.drop();
    },
  };
}
