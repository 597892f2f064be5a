// Where do tests get a Postgres with pg_dump and pg_restore, which the embedded one lacks? From Debian's packages: PostgreSQL 15, laid out as the
// embedded one is, so that it is started in the same way.
import { existsSync } from "node:fs";
import { rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { environment, startProcess } from "./child-process.js";
import { debianProgram } from "./debian-programs.js";
import { startOwnPostgres, type OwnPostgres } from "./own-postgres.js";

const MAJOR = "15";
/** Leaves out `--set name=value`, which this initdb does not know yet. */
const INITDB = `#!/bin/sh
for word; do
  shift
  if [ -n "$left" ]; then left=; elif [ "$word" = --set ]; then left=1; else set -- "$@" "$word"; fi
done
exec "$(dirname "$0")/initdb.${MAJOR}" "$@"
`;

/** A Postgres and the programs that came with it. */
export interface DebianPostgres extends OwnPostgres {
  /** Runs one of its programs, as `pg_dump`, to its end; rejects with what it said when that was not good. */
  tool(name: string, ...args: readonly string[]): Promise<string>;
}

/** Starts one. */
export async function startDebianPostgres(): Promise<DebianPostgres> {
  const packages = [`postgresql-${MAJOR}`, `postgresql-client-${MAJOR}`, "libpq5"];
  const marker = "package.json";
  const { folder } = await debianProgram({ packages, program: "." });
  const native = join(folder, "native");
  if (!existsSync(join(folder, marker))) {
    // Its programs find what they need by where they lie to each other, so the tree stays whole.
    if (!existsSync(native)) await rename(join(folder, "usr"), native);
    if (!existsSync(join(native, "bin"))) await symlink(`lib/postgresql/${MAJOR}/bin`, join(native, "bin"));
    const initdb = join(native, "bin/initdb");
    if (!existsSync(`${initdb}.${MAJOR}`)) await rename(initdb, `${initdb}.${MAJOR}`);
    await writeFile(initdb, INITDB, { mode: 0o755 });
    await writeFile(join(native, "pg-symlinks.json"), "[]");
    await writeFile(join(folder, marker), JSON.stringify({ version: `${MAJOR}.0.0` }));
  }
  const postgres = await startOwnPostgres({ packageDir: folder });
  return {
    ...postgres,
    tool: async (name, ...args) => {
      const run = startProcess(join(native, "bin", name), args, { env: environment() });
      if ((await run.ended) !== 0) throw new Error(`${name} ${args.join(" ")} said:\n${run.said()}`);
      return run.said();
    },
  };
}
