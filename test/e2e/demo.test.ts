// Does the demo show what it promises, in less than a minute, and leave nothing behind?
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { environment, startProcess, until, type StartedProcess } from "../support/child-process.js";

const bin = join(import.meta.dirname, "../../cli/bin/leasehold.js");
const limitMs = 60_000;

function startDemo(): StartedProcess {
  // A shell that is set up for another server must not confuse it.
  return startProcess(process.execPath, [bin, "demo"], {
    env: environment({ LEASEHOLD_ADDRESS: "elsewhere:1", LEASEHOLD_LISTEN: "nonsense" }),
  });
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("the demo", () => {
  it(
    "kills a worker half way, loses nothing, prints the table and ends with 0",
    async () => {
      const demo = startDemo();
      const began = performance.now();
      expect(await demo.ended).toBe(0);
      expect(performance.now() - began).toBeLessThan(limitMs);
      const said = demo.said();
      expect(said).toMatch(/killed worker-1 with SIGKILL half way/);
      expect(said).toMatch(/worker-2 goes on with readings\.import from row [\d,]+, the last checkpoint \(lease lost\)/);
      expect(said).toMatch(/^TASK +STATE +ATTEMPTS +WORKER +DURATION/m);
      expect(said).toMatch(/^readings\.import +COMPLETED +1 +worker-1, worker-2 +[\d.]+m?s +25,000 rows, each once/m);
      expect(said).toMatch(/^invoice\.approve +COMPLETED +1 +worker-2 /m);
      expect(said).toMatch(/^mail\.send +COMPLETED +3 +worker-2 /m);
      expect(said).toMatch(/all of it was true; everything is stopped and removed\n$/);
      expect(existsSync(/is up in (\S+)/.exec(said)![1]!)).toBe(false);
    },
    limitMs + 10_000,
  );

  it("takes everything down at Ctrl-C and does not claim success", async () => {
    const demo = startDemo();
    const [, folder] = await demo.waitFor(/is up in (\S+)/);
    const [, pid] = await demo.waitFor(/worker-1 is a process of its own, pid (\d+)/);
    demo.child.kill("SIGINT");
    expect(await demo.ended).toBe(130);
    expect(existsSync(folder!)).toBe(false);
    await until(() => !alive(Number(pid)), "the worker process has ended");
  });
});
