// How does a test put a pooler between servers and Postgres? A real PgBouncer in transaction mode, from Debian's packages.
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environment, startProcess } from "./child-process.js";
import { debianProgram } from "./debian-programs.js";
import { freePort } from "./prometheus.js";

/** A pooler that runs. */
export interface PgBouncer {
  /** The connection string that leads through it. */
  readonly url: string;
  /** Kills it and starts it again on the same port. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A user that may run it where the test is root: it refuses to be root. */
const NOBODY = 65_534;

/** Starts one in front of the database of this connection string. `settings`: lines of its own for the section `pgbouncer`. */
export async function startPgBouncer(databaseUrl: string, settings: readonly string[]): Promise<PgBouncer> {
  const program = await debianProgram({ packages: ["pgbouncer", "libc-ares2", "libevent-2.1-7"], program: "usr/sbin/pgbouncer" });
  const folder = await mkdtemp(join(tmpdir(), "leasehold-pgbouncer-"));
  await chmod(folder, 0o755);
  const target = new URL(databaseUrl);
  const host = target.searchParams.get("host") ?? decodeURIComponent(target.hostname);
  const port = await freePort();
  const user = decodeURIComponent(target.username);
  await writeFile(join(folder, "users.txt"), `"${user}" ""\n`);
  await writeFile(
    join(folder, "pgbouncer.ini"),
    [
      "[databases]",
      `* = host=${host} port=${target.searchParams.get("port") ?? (target.port || "5432")}`,
      "[pgbouncer]",
      ...["listen_addr = 127.0.0.1", `listen_port = ${String(port)}`, "unix_socket_dir ="],
      ...["auth_type = trust", `auth_file = ${join(folder, "users.txt")}`, "pool_mode = transaction"],
      ...settings,
    ].join("\n"),
  );
  const asRoot = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  const start = async (): Promise<() => Promise<void>> => {
    const started = startProcess(program.path, [join(folder, "pgbouncer.ini")], { env: environment(program.env), ...asRoot });
    await started.waitFor(/process up/);
    return async () => {
      started.child.kill("SIGKILL");
      await started.ended;
    };
  };
  let kill = await start();
  const url = new URL(`postgres://${encodeURIComponent(user)}@127.0.0.1:${String(port)}`);
  url.pathname = target.pathname;
  url.searchParams.set("sslmode", "disable");
  return {
    url: url.href,
    restart: async () => {
      await kill();
      kill = await start();
    },
    stop: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
