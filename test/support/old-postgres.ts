// Where do tests get a Postgres on which a guard in a CTE alone is walked through? From 17.6: until 17.7 a TID scan rechecked nothing after a
// concurrent update, so what the embedded one forgives shows here. Fetched once by npm into a cache, started like the embedded one; the
// globalSetup of the vitest project `postgres-17`.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { platformPackage } from "../../cli/src/embedded-postgres/binaries.js";
import { sharedPostgres } from "./global-postgres.js";
import { startOwnPostgres } from "./own-postgres.js";

const VERSION = "17.6.0-beta.15";
const CACHE = join(import.meta.dirname, "../../node_modules/.cache/leasehold-postgres-17");
const FETCH_LIMIT_MS = 110_000;

/** The folder of the package with the old Postgres, fetched if it is not there yet. */
async function oldPackage(): Promise<string> {
  const name = platformPackage();
  const folder = join(CACHE, "node_modules", name);
  if (!existsSync(join(folder, "package.json"))) await fetchPackage(`${name}@${VERSION}`);
  return folder;
}

// The embedded Postgres makes the library links itself, so no install script needs to run.
async function fetchPackage(spec: string): Promise<void> {
  mkdirSync(CACHE, { recursive: true });
  writeFileSync(join(CACHE, "package.json"), '{ "private": true }\n');
  const quiet = ["--ignore-scripts", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"];
  try {
    await promisify(execFile)("npm", ["install", "--prefix", CACHE, ...quiet, spec], { timeout: FETCH_LIMIT_MS });
  } catch (error) {
    throw new Error(
      `THE OLD POSTGRES IS MISSING: ${spec} could not be fetched into ${CACHE}, so nothing was proven on a server that does not recheck ` +
        "what a TID scan found. Give npm a registry, or run the other projects alone: npx vitest run --project '!postgres-17'.",
      { cause: error },
    );
  }
}

export default sharedPostgres("17", async () => startOwnPostgres({ packageDir: await oldPackage() }));
