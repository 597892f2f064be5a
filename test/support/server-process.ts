// How does a test run a server that it can kill? As a process of its own: the real `leasehold serve`, as it was built last.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { environment, startProcess } from "./child-process.js";

const ROOT = join(import.meta.dirname, "../..");
const COMMAND = join(ROOT, "cli/bin/leasehold.js");
const BUILT = ["cli/dist/main.js", "server/dist/main.js"];

/** How a server is started. */
export interface ServerProcessOptions {
  /** Connection string of its database; see `createTestDatabase`. */
  readonly databaseUrl: string;
  /** Where it listens; default a free port of 127.0.0.1. */
  readonly listen?: string;
  /** Further settings, LEASEHOLD_*. */
  readonly env?: Readonly<Record<string, string>>;
  /** Another `leasehold` command than the one of this repository. */
  readonly command?: string;
}

/** A server in a process of its own. */
export interface ServerProcess {
  /** Where it listens, `127.0.0.1:40123`: also the `listen` of a server that takes its place. */
  readonly address: string;
  readonly pid: number;
  /** Asks it to drain and waits until it is gone. Answers its exit code; for one that is gone already, that of its end. */
  stop(): Promise<number>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Everything it wrote so far. */
  log(): string;
}

/** Starts a server and waits until it is ready. Rejects with all it wrote when it ends before or 45 s have passed. */
export async function startServerProcess(options: ServerProcessOptions): Promise<ServerProcess> {
  const missing = BUILT.filter((file) => !existsSync(join(ROOT, file)));
  if (missing.length > 0) throw new Error(`${missing.join(", ")} is not built: run npm run build first`);
  const server = startProcess(process.execPath, [options.command ?? COMMAND, "serve"], { env: settings(options) });
  const end = async (signal: "SIGTERM" | "SIGKILL"): Promise<number | string> => {
    server.child.kill(signal);
    return server.ended;
  };
  try {
    const [, address = ""] = await server.waitFor(/Leasehold is ready on (\S+)/);
    return {
      address,
      pid: server.pid,
      stop: async () => {
        const how = await end("SIGTERM");
        return typeof how === "number" ? how : Number.NaN;
      },
      kill: async () => {
        await end("SIGKILL");
      },
      log: server.said,
    };
  } catch (error) {
    await end("SIGKILL");
    throw error;
  }
}

function settings({ databaseUrl, listen = "127.0.0.1:0", env }: ServerProcessOptions): Record<string, string | undefined> {
  // Settings of whoever runs the tests are none of theirs.
  const inherited = Object.entries(environment()).filter(([name]) => !name.startsWith("LEASEHOLD_"));
  return {
    ...Object.fromEntries(inherited),
    LEASEHOLD_DATABASE_URL: databaseUrl,
    LEASEHOLD_LISTEN: listen,
    // The Postgres of the tests runs without fsync.
    LEASEHOLD_DURABILITY: "unsafe",
    ...env,
  };
}
