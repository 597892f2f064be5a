// Does a process stop in order when it is asked to, however the request reaches it? Real processes and real signals.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { childrenOf } from "../../cli/src/embedded-postgres/processes.js";
import { environment, startProcess, startTypescript, typescriptArguments, until, type StartedProcess } from "../support/child-process.js";

const file = "stopping-process.ts";
const slowMs = 5_000;
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "leasehold-stop-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

async function ready(...args: readonly (string | number)[]): Promise<StartedProcess> {
  const started = startTypescript(file, args.map(String));
  await started.waitFor(/ready/);
  return started;
}

function shellLine(...args: readonly string[]): string {
  return [process.execPath, ...typescriptArguments(file, ...args)].map((word) => `'${word}'`).join(" ");
}

describe("a request to stop", () => {
  it.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("by %s stops in order and exits with 0", async (signal) => {
    const process = await ready();
    process.child.kill(signal);
    expect(await process.ended).toBe(0);
    expect(process.said()).toContain(`stopping (${signal})`);
    expect(process.said().match(/stopped/g)).toHaveLength(1);
  });

  it.each([
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const)("by %s a second time exits at once with %i", async (signal, code) => {
    const process = await ready(slowMs);
    process.child.kill(signal);
    await process.waitFor(/stopping/);
    process.child.kill(signal);
    expect(await process.ended).toBe(code);
    expect(process.said()).not.toContain("stopped");
  });

  it("by SIGHUP again and again does not cut the stop short, as a closing terminal sends several", async () => {
    const process = await ready(300);
    process.child.kill("SIGHUP");
    await process.waitFor(/stopping/);
    process.child.kill("SIGHUP");
    expect(await process.ended).toBe(0);
  });

  it("during the start is honoured", async () => {
    const process = startTypescript(file, ["0", "60000"]);
    await process.waitFor(/starting/);
    process.child.kill("SIGTERM");
    expect(await process.ended).toBe(0);
  });

  it("that cannot be met exits with 1 and says why", async () => {
    const process = await ready(-1);
    process.child.kill("SIGTERM");
    expect(await process.ended).toBe(1);
    expect(process.said()).toContain("stopping failed: cannot stop");
  });
});

describe("a process whose reader has left", () => {
  it("goes on working and stops in order", async () => {
    const trace = join(folder, "reader");
    const process = await ready(0, 0, trace);
    process.child.stdout?.destroy();
    process.child.stderr?.destroy();
    // Long enough for several writes into the broken pipe: it writes every 50 ms.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(process.child.exitCode).toBeNull();
    process.child.kill("SIGTERM");
    expect(await process.ended).toBe(0);
    expect(existsSync(trace)).toBe(true);
  });
});

describe("a wrapper", () => {
  it("of npm that dies without passing the signal on stops the process in order, also behind a shell", async () => {
    const trace = join(folder, "wrapper");
    const wrapper = startProcess("/bin/sh", ["-c", `${shellLine("0", "0", trace)}; true`], {
      env: environment({ npm_lifecycle_event: "start" }),
    });
    await wrapper.waitFor(/ready/);
    wrapper.child.kill("SIGKILL");
    await until(() => existsSync(trace), "the process has stopped");
  });

  it("that is no npm may leave: daemons outlive what started them", async () => {
    const trace = join(folder, "daemon");
    const wrapper = startProcess("/bin/sh", ["-c", `${shellLine("0", "0", trace)}; true`], { env: environment() });
    const [, pid] = await wrapper.waitFor(/starting (\d+)[^]*ready/);
    wrapper.child.kill("SIGKILL");
    // Twice as long as the death of a parent can go unnoticed.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(existsSync(trace)).toBe(false);
    process.kill(Number(pid), "SIGTERM");
    await until(() => existsSync(trace), "the process has stopped");
  });

  it.each(["SIGTERM", "SIGHUP", "SIGINT"] as const)("npm run: %s to npm stops the process in order", async (signal) => {
    const project = mkdtempSync(join(folder, "npm-"));
    const trace = join(project, "trace");
    writeFileSync(join(project, "package.json"), JSON.stringify({ name: "wrapped", scripts: { start: shellLine("100", "0", trace) } }));
    const npm = startProcess("npm", ["start"], { cwd: project, env: environment() });
    await npm.waitFor(/ready/);
    npm.child.kill(signal);
    // A shell between npm and the process may keep a SIGINT to itself until the process ends; a terminal signals all of them.
    if (signal === "SIGINT") {
      const [, pid] = await npm.waitFor(/starting (\d+)/);
      process.kill(Number(pid), signal);
    }
    await until(() => existsSync(trace), "the process has stopped");
    expect(readFileSync(trace, "utf8")).toBe("stopped\n");
  });
});

// Only where the system lets us make a process namespace: as root, or with user namespaces.
const unshare = [
  ["--pid", "--fork", "--mount-proc"],
  ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"],
].find((flags) => spawnSync("unshare", [...flags, "true"]).status === 0);
describe("as PID 1", () => {
  it.each(unshare === undefined ? [] : (["SIGTERM", "SIGINT", "SIGHUP"] as const))("%s is not ignored", async (signal) => {
    const trace = join(folder, `pid-1-${signal}`);
    const outside = startProcess("unshare", [...(unshare ?? []), process.execPath, ...typescriptArguments(file, "0", "0", trace)], {
      env: environment(),
    });
    await outside.waitFor(/starting 1\n[^]*ready/);
    const [inside = 0] = childrenOf(outside.pid);
    process.kill(inside, signal);
    expect(await outside.ended).toBe(0);
    expect(existsSync(trace)).toBe(true);
  });
});
