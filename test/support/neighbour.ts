// Does an honest client notice what others do to its server? One that submits, reads and works beside an abuse, and compares with before.
import { readFileSync } from "node:fs";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { expect } from "vitest";
import { keepAlive, openRawWorker } from "./raw-worker.js";
import { eventually, isAlive } from "./scene.js";
import type { ServerProcess } from "./server-process.js";
import { createTaskClient } from "./task-client.js";

/** An honest client and worker of one server. */
export interface Neighbour {
  /**
   * Works before, during and after an abuse, and expects that the neighbour lost nothing, was answered in time and without error, and that the
   * server is the same process, said nothing of a bug and gave its memory back: at most `growthMiB` more than before.
   */
  during<T>(abuse: () => Promise<T>, growthMiB?: number): Promise<T>;
  close(): void;
}

const NAME = "neighbour";
const CALLS_BEFORE = 20;
const CALLS_AFTER = 5;
/** No call may take longer; the median may grow to this many times of before and these milliseconds more. */
const MOST_MS = 5_000;
const TIMES = 20;
const MORE_MS = 300;
const STACK_TRACE = /unhandled|uncaught|\n\s+at .+:\d+:\d+|\\n\s+at /i;

/** Resident memory of a process in MiB. */
export function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

/** Connects to a server and waits until the worker is welcome. */
export async function startNeighbour(server: ServerProcess): Promise<Neighbour> {
  const client = createTaskClient(server.address);
  const worker = openRawWorker(server.address, [NAME], { queues: [NAME], slots: 4, sessionTtl: { seconds: 20n, nanos: 0 } });
  keepAlive(worker, 2_000);
  await worker.welcome();
  worker.call.on("data", ({ leases }: { leases: Parameters<typeof worker.report>[0][] }) => {
    for (const lease of leases) worker.report(lease, 1, { complete: { result: undefined, executionMetadata: undefined } });
  });

  /** Submits a task and reads it; the longer of the two calls in milliseconds. */
  const work = async (submitted: string[]): Promise<number> => {
    const times: number[] = [];
    let fromMs = performance.now();
    const { taskId } = await client.submit({ name: NAME, queue: NAME });
    times.push(performance.now() - fromMs);
    submitted.push(taskId);
    fromMs = performance.now();
    await client.get(taskId);
    times.push(performance.now() - fromMs);
    return Math.max(...times);
  };
  const works = async (submitted: string[], times: number[], more: () => boolean): Promise<void> => {
    while (more()) {
      times.push(await work(submitted));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  const expectNothingLost = async (submitted: readonly string[]): Promise<void> => {
    for (const taskId of submitted) {
      const { state, attempt, lostLeases } = await client.wait(taskId);
      expect({ state: TaskState[state], attempt, lostLeases }).toEqual({ state: "COMPLETED", attempt: 1, lostLeases: 0 });
    }
    const verdicts = worker.received.flatMap((message) => message.verdicts);
    expect(verdicts.filter(({ code }) => code !== VerdictCode.RECORDED)).toEqual([]);
    expect(worker.received.filter(({ revoked }) => revoked.length > 0)).toEqual([]);
  };

  return {
    during: async (abuse, growthMiB = 150) => {
      const submitted: string[] = [];
      const before: number[] = [];
      const beside: number[] = [];
      await works(submitted, before, () => before.length < CALLS_BEFORE);
      const memoryBefore = residentMiB(server.pid);
      let over = false;
      let left = CALLS_AFTER;
      const working = works(submitted, beside, () => !over || left-- > 0);
      // Heard of below, also when the abuse fails first.
      working.catch(() => undefined);
      const result = await abuse().finally(() => (over = true));
      await working;
      await expectNothingLost(submitted);
      expect(Math.max(...beside)).toBeLessThan(MOST_MS);
      expect(median(beside)).toBeLessThan(median(before) * TIMES + MORE_MS);
      expect(isAlive(server.pid)).toBe(true);
      expect(server.log()).not.toMatch(STACK_TRACE);
      const returned = (memory: number): boolean => memory <= Math.max(memoryBefore, BASE_MIB) + growthMiB;
      await eventually(() => residentMiB(server.pid), returned, `the memory returns to ${memoryBefore} + ${growthMiB} MiB`);
      return result;
    },
    close: () => {
      worker.close();
      client.close();
    },
  };
}

/** What a server has that was used a little. */
const BASE_MIB = 150;

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
