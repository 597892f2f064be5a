// Do deep backlogs share a worker? On a whole server with one worker that has fewer slots than any of them would fill.
import { setTimeout as pause } from "node:timers/promises";
import type { Lease, ServerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, type Submission } from "../support/owner-calls.js";
import { openRawWorker } from "../support/raw-worker.js";

const DEEP = 1_000;
const LOOKED_AT = 400;

let server: InProcessServer;
let owner: OwnerCalls;
beforeEach(async () => {
  server = await startInProcess();
  owner = ownerCalls(server.address);
});
afterEach(async () => {
  owner.close();
  await server[Symbol.asyncDispose]();
});

async function store(tasks: readonly NonNullable<Submission>[]): Promise<void> {
  for (let from = 0; from < tasks.length; from += 500) await owner.submitMany(tasks.slice(from, from + 500));
}

/** The first leases that a worker gets which completes each at once. */
async function firstLeases(names: readonly string[], slots: number, count: number): Promise<Lease[]> {
  const worker = openRawWorker(server.address, names, { slots });
  const leases: Lease[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      void worker.ended.then(() => reject(new Error("the stream ended")));
      worker.call.on("data", (message: ServerMessage) => {
        for (const lease of message.leases) {
          leases.push(lease);
          worker.report(lease, 1, { complete: { result: undefined, executionMetadata: undefined } });
        }
        if (leases.length >= count) resolve();
      });
    });
  } finally {
    worker.close();
  }
  return leases.slice(0, count);
}

function shareOf(leases: readonly Lease[], has: (lease: Lease) => boolean): number {
  return leases.filter(has).length / leases.length;
}

describe("a worker with few slots", () => {
  it("makes progress in two deep queues, whichever was filled first", async () => {
    for (const queue of ["first", "second"]) await store(Array.from({ length: DEEP }, () => ({ name: "deep", queue })));
    const leases = await firstLeases(["deep"], 20, LOOKED_AT);
    const share = shareOf(leases, ({ queue }) => queue === "second");
    expect(share).toBeGreaterThan(0.3);
    expect(share).toBeLessThan(0.7);
  });

  it("makes progress in two deep names of one queue that were submitted in turn", async () => {
    await store(Array.from({ length: 2 * DEEP }, (_, n) => ({ name: n % 2 === 0 ? "even" : "odd" })));
    const leases = await firstLeases(["even", "odd"], 20, LOOKED_AT);
    const share = shareOf(leases, ({ name }) => name === "odd");
    expect(share).toBeGreaterThan(0.3);
    expect(share).toBeLessThan(0.7);
  });

  it("takes one queue by priority, then by due time", async () => {
    // What is due in the past is due when it is stored.
    const dueSeconds = BigInt(Math.floor(Date.now() / 1_000) + 3);
    const order = Array.from({ length: 200 }, (_, place) => ({ priority: (place * 7) % 10, at: (place * 37) % 200 }));
    await store(
      order.map(({ priority, at }) => ({
        name: "ordered",
        priority,
        scheduleTime: { seconds: dueSeconds, nanos: at * 1_000_000 },
        labels: { place: `${9 - priority} ${String(at).padStart(3, "0")}` },
      })),
    );
    await pause(Number(dueSeconds) * 1_000 + 500 - Date.now());
    const places = (await firstLeases(["ordered"], 10, order.length)).map(({ labels }) => labels["place"]);
    expect(places).toEqual(places.toSorted());
  });
});
