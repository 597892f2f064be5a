// Does `leasehold serve` stop in order, whoever started it and however it is asked? Real signals, through npm, through a shell, and as PID 1.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect } from "vitest";
import { environment, startProcess, type StartedProcess } from "../support/child-process.js";
import { eventually, isAlive, test, type Scene } from "../support/scene.js";
import { healthOf, watchHealth } from "../support/service-calls.js";
import { mark } from "./programs/tasks.js";

const COMMAND = join(import.meta.dirname, "../../cli/bin/leasehold.js");
const STOP_MS = 10_000;

/** Starts a program that is, or leads to, a server on the scene's database. */
function start(scene: Scene, program: string, args: readonly string[], changes: Record<string, string> = {}): StartedProcess {
  const env = environment({
    LEASEHOLD_DATABASE_URL: scene.databaseUrl,
    LEASEHOLD_LISTEN: "127.0.0.1:0",
    LEASEHOLD_DURABILITY: "unsafe",
    LEASEHOLD_LOG_FORMAT: "text",
    ...changes,
  });
  // A group of its own, as a terminal would give it.
  const started = startProcess(program, args, { env, cwd: scene.folder, detached: true });
  scene.undo(async () => {
    started.child.kill("SIGKILL");
    await started.ended;
  });
  return started;
}

async function addressOf(started: StartedProcess): Promise<string> {
  return (await started.waitFor(/Leasehold is ready on (\S+)/))[1] ?? "";
}

/** A worker with a task that is running, so that stopping is no matter of course. */
async function busy(scene: Scene, address: string): Promise<void> {
  const worker = await scene.worker({ addresses: [address], name: "busy", sessionTtl: "20s" });
  const { id } = await scene.client(address).submit(mark, { folder: scene.folder, forMs: 60_000 });
  await worker.hears("began", id);
}

async function expectStopped(started: StartedProcess, sinceMs: number): Promise<void> {
  expect(await started.ended).toBe(0);
  expect(performance.now() - sinceMs).toBeLessThan(STOP_MS);
  expect(started.said()).not.toMatch(/cut off|unhandled/i);
}

describe.concurrent("serve by node", () => {
  test.for(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
    "drains at %s and exits with 0, also with a task running",
    { timeout: 120_000 },
    async (signal, { scene }) => {
      const server = start(scene, process.execPath, [COMMAND, "serve"]);
      await busy(scene, await addressOf(server));
      const sinceMs = performance.now();
      server.child.kill(signal);
      await expectStopped(server, sinceMs);
      expect(server.said()).toContain(`stopping (${signal})`);
    },
  );

  test("exits at once at the second signal", { timeout: 120_000 }, async ({ scene }) => {
    const server = start(scene, process.execPath, [COMMAND, "serve"]);
    await busy(scene, await addressOf(server));
    server.child.kill("SIGTERM");
    await server.waitFor(/stopping \(SIGTERM\)/);
    server.child.kill("SIGTERM");
    expect(await server.ended).toBe(143);
  });

  test("says NOT_SERVING while it drains", { timeout: 120_000 }, async ({ scene }) => {
    const server = start(scene, process.execPath, [COMMAND, "serve"]);
    const address = await addressOf(server);
    await busy(scene, address);
    const watch = watchHealth(address);
    await eventually(watch.said, (said) => said.length > 0, "health is told");
    server.child.kill("SIGTERM");
    await watch.ended;
    expect(watch.said()).toEqual(["SERVING", "NOT_SERVING"]);
    expect(await server.ended).toBe(0);
    expect(await healthOf(address)).toBe("unreachable");
  });
});

describe.concurrent("serve through something else", () => {
  test.for([
    ["SIGTERM", "to npm alone"],
    ["SIGHUP", "to npm alone"],
    // As Ctrl-C does; npm passes its own on as well.
    ["SIGINT", "to its whole group"],
  ] as const)("by npm stops at %s %s, and leaves no process", { timeout: 120_000 }, async ([signal, whom], { scene }) => {
    const scripts = { start: `'${process.execPath}' '${COMMAND}' serve` };
    writeFileSync(join(scene.folder, "package.json"), JSON.stringify({ private: true, scripts }));
    const npm = start(scene, "npm", ["start", "--no-update-notifier"]);
    await addressOf(npm);
    const below = descendants(npm.pid);
    expect(below.length).toBeGreaterThan(0);
    const sinceMs = performance.now();
    process.kill(whom === "to npm alone" ? npm.pid : -npm.pid, signal);
    await npm.waitFor(/stopping \(/);
    await eventually(
      () => below.filter(isAlive),
      (alive) => alive.length === 0,
      "all of them have ended",
    );
    expect(performance.now() - sinceMs).toBeLessThan(STOP_MS);
    expect(npm.said()).not.toMatch(/cut off|unhandled/i);
  });

  test("by sh -c stops at SIGTERM and exits with 0", { timeout: 120_000 }, async ({ scene }) => {
    const shell = start(scene, "sh", ["-c", `exec '${process.execPath}' '${COMMAND}' serve`]);
    await addressOf(shell);
    const sinceMs = performance.now();
    shell.child.kill("SIGTERM");
    await expectStopped(shell, sinceMs);
  });

  test.for(["SIGTERM", "SIGINT"] as const)(
    "as PID 1 of a namespace stops at %s and exits with 0",
    { timeout: 120_000 },
    async (signal, { scene }) => {
      const namespace = ["--pid", "--fork", "--mount-proc", "--kill-child"];
      const permitted = spawnSync("unshare", [...namespace, "true"]).status === 0;
      if (!permitted)
        process.stderr.write("\n*** unshare is not permitted here: serve is tested as an ordinary process, NOT as PID 1 ***\n\n");
      const started = permitted
        ? start(scene, "unshare", [...namespace, process.execPath, COMMAND, "serve"])
        : start(scene, process.execPath, [COMMAND, "serve"]);
      await addressOf(started);
      const target = permitted ? descendants(started.pid)[0] : started.pid;
      if (permitted) expect(readFileSync(`/proc/${target}/status`, "utf8")).toMatch(/^NSpid:\t\d+\t1$/m);
      const sinceMs = performance.now();
      process.kill(target!, signal);
      await expectStopped(started, sinceMs);
    },
  );
});

/** Processes below one, nearest first. */
function descendants(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

describe.concurrent("a signal during the start", () => {
  test("at any moment ends it, and the next start migrates what is left to do", { timeout: 120_000 }, async ({ scene }) => {
    const fresh = { LEASEHOLD_PERSISTENCE_SCHEMA_NAME: "begun" };
    for (const delayMs of [150, 300, 450, 600]) {
      const server = start(scene, process.execPath, [COMMAND, "serve"], fresh);
      await sleep(delayMs);
      server.child.kill("SIGTERM");
      // Before node has read the first line of the command nobody listens for signals.
      expect(await server.ended).toBeOneOf([0, "SIGTERM"]);
    }
    const server = start(scene, process.execPath, [COMMAND, "serve"], fresh);
    const address = await addressOf(server);
    expect(await healthOf(address)).toBe("SERVING");
  });
});
