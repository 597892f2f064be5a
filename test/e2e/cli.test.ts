// Does every verb do what it says, as a process against a real server process on a real Postgres?
import type { SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startDemoWorker } from "../../cli/src/demo-worker.js";
import { environment, startProcess, type StartedProcess } from "../support/child-process.js";
import { createTestDatabase, type TestDatabase } from "../support/postgres.js";

const bin = join(import.meta.dirname, "../../cli/bin/leasehold.js");
const unknownId = "0197d0c2-0000-7000-8000-000000000000";

let database: TestDatabase;
let server: StartedProcess;
let address: string;
let worker: { stop(): Promise<void> } | undefined;

function start(
  args: readonly string[],
  changes: Readonly<Record<string, string | undefined>> = {},
  options: SpawnOptions = {},
): StartedProcess {
  const own = { LEASEHOLD_ADDRESS: address, LEASEHOLD_DURABILITY: undefined, NO_COLOR: undefined };
  return startProcess(process.execPath, [bin, ...args], { env: environment({ ...own, ...changes }), ...options });
}

/** Runs a verb to its end. */
async function run(...args: string[]): Promise<{ code: number | string; said: string }> {
  const started = start(args);
  return { code: await started.ended, said: started.said() };
}

function serverSettings(url: string): Record<string, string> {
  return { LEASEHOLD_DATABASE_URL: url, LEASEHOLD_LISTEN: "127.0.0.1:0", LEASEHOLD_DURABILITY: "unsafe", LEASEHOLD_LOG_LEVEL: "error" };
}

async function submit(...args: string[]): Promise<string> {
  const { code, said } = await run("submit", ...args);
  expect({ code, said }).toEqual({ code: 0, said: expect.stringMatching(/^[0-9a-f-]{36}\n$/) as string });
  return said.trim();
}

beforeAll(async () => {
  database = await createTestDatabase();
  // A shell that names a server for the client verbs must be able to start one as well.
  server = start(["serve"], { ...serverSettings(database.url), LEASEHOLD_ADDRESS: "elsewhere:1", LEASEHOLD_NAMESPACE: "other" });
  address = (await server.waitFor(/Leasehold is ready on (\S+)/))[1]!;
  worker = await startDemoWorker(address);
});
afterAll(async () => {
  await worker?.stop();
  server.child.kill("SIGTERM");
  await server.ended;
  await database.drop();
});

describe("submit", () => {
  it("passes the metadata through byte for byte, also from standard input", async () => {
    const metadata = '{ "n": 12345678901234567890.10,\t"n": 1e2, "to": 1 }\n';
    const fromArgument = await submit("demo.approval", "--metadata", metadata);
    expect((await run("get", fromArgument, "--only", "metadata")).said).toBe(metadata);
    const started = start(["submit", "demo.approval", "-m", "-"], {}, { stdio: ["pipe", "pipe", "pipe"] });
    started.child.stdin!.end(metadata);
    expect(await started.ended).toBe(0);
    expect((await run("get", started.said().trim(), "--only", "metadata")).said).toBe(metadata);
  });

  it("with --watch shows each step, prints the result, and ends with 0", async () => {
    const { code, said } = await run("submit", "demo.count", "--metadata", '{"to":3,"delayMs":300}', "--watch");
    expect(code).toBe(0);
    expect(said).toMatch(
      /^submitted [0-9a-f-]{36}\n[^]*RUNNING attempt 1 of 5 on [^]*checkpoint [^]*progress \d of 3 [^]*COMPLETED after [^]*\n\{"counted":3\}\n$/,
    );
  });

  it("with --watch ends with 1 when the task does not complete", async () => {
    const { code, said } = await run("submit", "demo.count", "--metadata", '{"to":"x"}', "--watch");
    expect(code).toBe(1);
    expect(said).toMatch(/FAILED \(NOT_RETRYABLE\) after .*: invalid_metadata: /);
  });

  it("is safe to repeat with the same id, and refused with other content", async () => {
    const id = "01990000-0000-7000-8000-000000000001";
    const first = ["submit", "none.here", "--id", id, "--metadata", "[1]"];
    expect((await run(...first)).said).toBe(`${id}\n`);
    const again = await run(...first);
    expect(again.code).toBe(0);
    expect(again.said).toContain("exists already and is PENDING (NEW)");
    expect((await run("submit", "none.here", "--id", id, "--metadata", "[2]")).code).toBe(4);
  });

  it("shows the path of each invalid field and ends with 2", async () => {
    const { code, said } = await run("submit", "bad name", "--metadata", "{");
    expect(code).toBe(2);
    expect(said).toMatch(/^leasehold: The request is not valid:\n {2}task\.name: .*\n {2}task\.metadata\.data: /);
  });
});

describe("get and list", () => {
  it("show a task to people and to programs", async () => {
    const id = await submit(
      "none.get",
      "-m",
      '{"big":9007199254740993}',
      "-q",
      "slow",
      "-p",
      "7",
      "-l",
      "tenant=acme",
      "-l",
      "of=get",
      "--schedule-time",
      "+1h",
    );
    expect((await run("get", id)).said).toMatch(
      /queue +slow\nstate +PENDING \(SCHEDULED\)\npriority +7\nlabels +of=get tenant=acme[^]*created +\d{4}-\d\d-\d\dT[\d:.]+Z[^]*\{"big":9007199254740993\}/,
    );
    const { said } = await run("get", id, "-o", "json");
    expect(said).toContain('"metadata": {"big":9007199254740993}');
    expect(JSON.parse(said)).toMatchObject({ taskId: id, state: "PENDING", pendingReason: "SCHEDULED", labels: { tenant: "acme" } });
  });

  it("end with 3 for a task that is not there, and with 2 for what is no id", async () => {
    expect(await run("get", unknownId)).toEqual({ code: 3, said: expect.stringContaining("There is no") as string });
    expect((await run("get", "nonsense")).code).toBe(2);
  });

  it("filter by state, name, queue and label, and walk all pages", async () => {
    const ids = [];
    for (let at = 0; at < 3; at += 1) ids.push(await submit("none.list", "-q", "lists", "-l", "batch=a"));
    const listed = async (...args: string[]): Promise<string[]> => {
      const { said } = await run("list", "-o", "json", ...args);
      const lines = said.split("\n").filter((line) => line !== "");
      return lines.map((line) => (JSON.parse(line) as { taskId: string }).taskId);
    };
    expect(await listed("--name", "none.list", "--state", "pending,running")).toEqual([...ids].reverse());
    expect(await listed("--queue", "lists", "--oldest-first", "--all")).toEqual(ids);
    expect(await listed("--label", "batch=a", "--limit", "2")).toHaveLength(2);
    expect(await listed("--label", "batch=b")).toEqual([]);
    const { said } = await run("list", "--queue", "lists", "--limit", "2");
    expect(said).toMatch(/^ID +NAME +QUEUE[^]*There are more/);
  });
});

describe("proceed", () => {
  it("lets a suspended task go on with a patch, and is refused once it is finished", async () => {
    const id = await submit("demo.approval", "-m", '{"question":"Ship it?"}');
    const watch = start(["watch", id]);
    await watch.waitFor(/SUSPENDED until somebody proceeds it/);
    const { code, said } = await run("proceed", id, "--patch", '{"decision":"yes"}', "--note", "by phone");
    expect({ code, said }).toEqual({ code: 0, said: expect.stringContaining("The task goes on") as string });
    expect(await watch.ended).toBe(0);
    expect(watch.said()).toMatch(/\{"decision":"yes"\}\n$/);
    expect(await run("proceed", id)).toEqual({ code: 4, said: "leasehold: The task is finished. (TASK_FINISHED)\n" });
  });

  it("is remembered by a task that is not suspended yet, and says so", async () => {
    const id = await submit("demo.approval", "--schedule-time", "+1h");
    expect(await run("proceed", id, "--patch", '{"decision":"early"}')).toEqual({
      code: 0,
      said: expect.stringContaining("Remembered") as string,
    });
  });
});

describe("cancel and watch", () => {
  it("tell the running handler, and end with 1 because the task did not complete", async () => {
    const id = await submit("demo.count", "-m", '{"to":100000}');
    const watch = start(["watch", id]);
    await watch.waitFor(/RUNNING/);
    const { code, said } = await run("cancel", id, "--reason", "no longer wanted", "--grace", "20s");
    expect({ code, said }).toEqual({ code: 0, said: expect.stringContaining("told to stop") as string });
    expect(await watch.ended).toBe(1);
    expect(watch.said()).toMatch(/CANCELLED \(CANCEL_REQUESTED\)[^]*no longer wanted/);
  });

  it("follow several tasks, and end with 3 when one is unknown", async () => {
    const id = await submit("demo.count", "-m", '{"to":1,"delayMs":1}');
    const { code, said } = await run("watch", id, unknownId);
    expect(code).toBe(3);
    expect(said).toContain(`There is no task ${unknownId}`);
    expect(said).toMatch(new RegExp(`${id.slice(-8)} {2}COMPLETED`));
  });

  it("stop watching at Ctrl-C with 130, and the task goes on", async () => {
    const id = await submit("demo.approval");
    const watch = start(["watch", id]);
    await watch.waitFor(/SUSPENDED/);
    watch.child.kill("SIGINT");
    expect(await watch.ended).toBe(130);
    expect(watch.said()).toContain("the task goes on");
    expect(JSON.parse((await run("get", id, "-o", "json")).said)).toMatchObject({ state: "SUSPENDED" });
  });
});

describe("serve and migrate", () => {
  it("refuse wrong settings with a sentence each and exit code 2", async () => {
    const started = start(["serve"], { LEASEHOLD_DATABASE_URL: undefined, LEASEHOLD_LISTEN: "0.0.0.0:0", LEASEHOLD_LISTNE: "x" });
    expect(await started.ended).toBe(2);
    expect(started.said()).toMatch(/LEASEHOLD_LISTNE is no setting; did you mean LEASEHOLD_LISTEN\?/);
    expect(started.said()).toMatch(/LEASEHOLD_DATABASE_URL is required/);
    expect(started.said()).not.toMatch(/^\s+at /m);
  });

  it("say in a sentence that the port is taken or the database is not there", async () => {
    const taken = start(["serve", "--listen", address], serverSettings(database.url));
    expect(await taken.ended).toBe(4);
    expect(taken.said()).toMatch(/leasehold: The server cannot listen at .*another process listens there/);
    const gone = start(["migrate"], serverSettings("postgresql://nobody@127.0.0.1:1/none"));
    expect(await gone.ended).toBe(5);
    expect(gone.said()).toBe("leasehold: Cannot use the database of LEASEHOLD_DATABASE_URL: nothing listens there.\n");
  });

  it("migrate says what was applied, and that there is nothing left to do", async () => {
    const settings = { ...serverSettings(database.url), LEASEHOLD_PERSISTENCE_SCHEMA_NAME: "fresh" };
    const [first, second] = [start(["migrate"], settings), start(["migrate"], settings)];
    expect([await first.ended, await second.ended]).toEqual([0, 0]);
    expect(first.said() + second.said()).toMatch(/applied 0001-[^]*Schema "fresh" is at version \d+/);
    const third = start(["migrate"], settings);
    expect(await third.ended).toBe(0);
    expect(third.said()).toMatch(/^Schema "fresh" is at version \d+; there was nothing to do\.\n$/);
  });

  it("stop in order at SIGTERM, with exit code 0, on the address that was asked for", async () => {
    const started = start(["serve", "--listen", "[::1]:0"], serverSettings(database.url));
    const [, at] = await started.waitFor(/Leasehold is ready on (\S+)/);
    expect(at).toMatch(/^\[::1\]:\d+$/);
    started.child.kill("SIGTERM");
    expect(await started.ended).toBe(0);
  });
});

describe("a reader that leaves", () => {
  it("does not make a verb fail", async () => {
    const started = start(["list"]);
    started.child.stdout!.destroy();
    const [code] = (await once(started.child, "exit")) as [number | null];
    expect(code).toBe(0);
  });
});
