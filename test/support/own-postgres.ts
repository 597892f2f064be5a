// Where does a test get a Postgres of its own, to crash, restart or fill up? A real one in a temporary folder, which goes with it.
// Most tests want a database in the shared one instead: see postgres.ts.
import { readdirSync, rmSync, statfsSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findRunningInstance, startEmbeddedPostgres, type EmbeddedPostgres } from "../../cli/src/embedded-postgres/start.js";

/** How a test's own Postgres differs from the usual. */
export interface OwnPostgresOptions {
  /** True: keeps what it acknowledges, like in production. Default false: as fast as it gets, and a crash of the machine may lose data. */
  durable?: boolean;
  /** Postgres settings on top. */
  settings?: Record<string, string>;
  /** A package with the programs of another version; default the installed one. */
  packageDir?: string;
  /** A folder to start on again; default a new temporary one, removed by `remove()`. */
  dataDir?: string;
}

/** A Postgres and the end of it. */
export interface OwnPostgres extends EmbeddedPostgres {
  /** Stops it and removes its folder. */
  remove(): Promise<void>;
}

// What only a crash of the machine, not of Postgres, could tell apart: transactions, locks and WAL work as ever. A server that checks
// durability at its start refuses these, as it should.
const fast = { fsync: "off", full_page_writes: "off" };
// A Postgres that a test kills for good would leave its segments in /dev/shm; as files they go with its folder.
const tidy = { dynamic_shared_memory_type: "mmap" };

const prefix = "leasehold-test-";
// A run keeps a few hundred MB; with less to spare the disk is the better place.
const roomyBytes = 4 * 1024 ** 3;
const abandonedMs = 3_600_000;

// In memory a test database is cloned in 40 ms, on a busy disk in 300 ms. What is to be durable goes to the disk.
function temporaryRoot(durable: boolean): string {
  if (durable || process.platform !== "linux") return tmpdir();
  try {
    const { bavail, bsize } = statfsSync("/dev/shm");
    return bavail * bsize > roomyBytes ? "/dev/shm" : tmpdir();
  } catch {
    return tmpdir();
  }
}

// A run that was killed could not remove its folder, and memory is dear.
function removeAbandoned(root: string): void {
  for (const name of readdirSync(root).filter((entry) => entry.startsWith(prefix))) {
    const folder = join(root, name);
    const ageMs = Date.now() - (statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? Infinity);
    if (ageMs > abandonedMs && findRunningInstance({ dataDir: folder }) === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

async function temporaryFolder(durable: boolean): Promise<string> {
  const root = temporaryRoot(durable);
  removeAbandoned(root);
  return mkdtemp(join(root, prefix));
}

/** Starts one. @throws EmbeddedPostgresError as `startEmbeddedPostgres` does. */
export async function startOwnPostgres(options: OwnPostgresOptions = {}): Promise<OwnPostgres> {
  const dataDir = options.dataDir ?? (await temporaryFolder(options.durable === true));
  const settings = { max_connections: "200", ...tidy, ...(options.durable === true ? {} : fast), ...options.settings };
  const { packageDir } = options;
  const postgres = await startEmbeddedPostgres({ dataDir, settings, ...(packageDir === undefined ? {} : { packageDir }) });
  return {
    ...postgres,
    remove: async () => {
      await postgres.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
