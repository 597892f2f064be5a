// What does the demo play on? A temporary folder with a Postgres and a CSV file, a server in this process on a free port, and a client.
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type Client } from "@leasehold/client";
import { loadConfig } from "@leasehold/server/config";
import { startServer } from "@leasehold/server/main";
import { startEmbeddedPostgres } from "../embedded-postgres/start.js";
import { generateCsv } from "./generate-csv.js";

/** What takes a part down again. */
export type Undo = () => Promise<void>;

/** The parts that the demo plays with. */
export interface Stage {
  readonly address: string;
  readonly client: Client;
  /** Text of the file that is imported. */
  readonly csv: string;
  readonly csvPath: string;
  /** Folder that the rows are written to. */
  readonly outputPath: string;
}

/** Silence after which a worker counts as dead: short, so that nobody waits long. In production it is 20 s. */
export const demoSessionTtl = "3s";

/** Starts the parts in order; what takes each down again is pushed as soon as it is up. */
export async function setStage(narrate: (line: string) => void, undo: Undo[], signal: AbortSignal): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-demo-"));
  undo.push(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // Below root's account Postgres runs as another user, who must be able to pass.
  await chmod(folder, 0o755);
  const postgres = await startEmbeddedPostgres({ dataDir: join(folder, "postgres"), log: narrate, signal });
  undo.push(() => postgres.stop());
  narrate(`a Postgres of its own is up in ${folder}`);
  signal.throwIfAborted();
  // Only what stands here: the settings of a real server in the environment are none of the demo's business.
  const config = loadConfig({
    LEASEHOLD_DATABASE_URL: postgres.url,
    LEASEHOLD_LISTEN: "127.0.0.1:0",
    LEASEHOLD_SESSION_TTL_DEFAULT: demoSessionTtl,
    LEASEHOLD_LOG_LEVEL: "error",
  });
  const server = await startServer(config);
  undo.push(() => server.stop());
  narrate(`a server listens on ${server.address}; a worker that is silent for ${demoSessionTtl} loses its leases`);
  signal.throwIfAborted();
  const client = createClient({ address: server.address });
  undo.push(async () => client.close());
  const [csv, csvPath] = [generateCsv(), join(folder, "readings.csv")];
  await writeFile(csvPath, csv);
  return { address: server.address, client, csv, csvPath, outputPath: join(folder, "imported") };
}
