// What happens when three times as much comes as the database takes? The submissions of a real server are slowed by a proxy, so that a small machine is
// enough: the rest is refused with a delay, workers notice nothing, and what was acknowledged is stored and nothing else.
import { randomUUID } from "node:crypto";
import { credentials, Metadata, status, type ServiceError } from "@grpc/grpc-js";
import { RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { SubmitTaskRequest, TaskServiceClient } from "@leasehold/proto/leasehold/v1/task_service";
import { CompleteReport, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect } from "vitest";
import { endingOf, keepAlive } from "../support/raw-worker.js";
import { test, type Scene } from "../support/scene.js";
import { startSlowLanes } from "../support/slow-lanes.js";
import { createTaskClient, jsonPayload } from "../support/task-client.js";

/** Some 200 submissions a second through two lanes. */
const BYTES_PER_SECOND = 50_000;
const DEADLINE_MS = 20_000;

interface Outcome {
  readonly taskId: string;
  readonly code: status;
  readonly reason: string;
  /** Of RetryInfo; 0 without. */
  readonly retryMs: number;
  readonly tookMs: number;
  /** Answered while the load lasted. */
  readonly inTime: boolean;
}

interface Load {
  readonly outcomes: readonly Outcome[];
  /** Acknowledged submissions a second while it lasted. */
  readonly goodput: number;
}

function retryMsOf(error: ServiceError): number {
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  const details = trailer instanceof Buffer ? Status.decode(trailer).details : [];
  const found = details.find(({ typeUrl }) => typeUrl.endsWith("google.rpc.RetryInfo"));
  const delay = found === undefined ? undefined : RetryInfo.decode(found.value).retryDelay;
  return delay === undefined ? 0 : Number(delay.seconds) * 1000 + delay.nanos / 1e6;
}

/** A submitter over connections of its own. */
function submitter(scene: Scene, address: string) {
  const clients = [0, 1].map(() => new TaskServiceClient(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 }));
  scene.undo(async () => {
    for (const client of clients) client.close();
  });
  let turn = 0;
  const submit = (endMs: number): Promise<Outcome> => {
    const taskId = randomUUID();
    const request = SubmitTaskRequest.create({ task: { taskId, name: "flood", metadata: jsonPayload("x".repeat(200)) } });
    const sentMs = performance.now();
    return new Promise((resolve) => {
      clients[turn++ % clients.length]!.submitTask(request, new Metadata(), { deadline: Date.now() + DEADLINE_MS }, (error) => {
        const nowMs = performance.now();
        const { code, reason } = error === null ? { code: status.OK, reason: "" } : endingOf(error);
        resolve({ taskId, code, reason, retryMs: error === null ? 0 : retryMsOf(error), tookMs: nowMs - sentMs, inTime: nowMs <= endMs });
      });
    });
  };
  const loadOf = (outcomes: readonly Outcome[], seconds: number): Load => ({
    outcomes,
    goodput: outcomes.filter(({ code, inTime }) => code === status.OK && inTime).length / seconds,
  });
  return {
    /** Keeps so many calls open. */
    keep: async (open: number, seconds: number): Promise<Load> => {
      const outcomes: Outcome[] = [];
      const endMs = performance.now() + seconds * 1000;
      const one = async (): Promise<void> => {
        while (performance.now() < endMs) outcomes.push(await submit(endMs));
      };
      await Promise.all(Array.from({ length: open }, one));
      return loadOf(outcomes, seconds);
    },
    /** Sends so many a second, whatever becomes of them. */
    flood: async (rate: number, seconds: number): Promise<Load> => {
      const sent: Promise<Outcome>[] = [];
      const startMs = performance.now();
      const endMs = startMs + seconds * 1000;
      for (let nextMs = startMs; nextMs < endMs; nextMs += 1000 / rate) {
        if (nextMs > performance.now()) await new Promise((resolve) => setTimeout(resolve, nextMs - performance.now()));
        sent.push(submit(endMs));
      }
      return loadOf(await Promise.all(sent), seconds);
    },
  };
}

describe("three times what the database takes", () => {
  test(
    "is stored as fast as once, the rest is refused with a delay, and no worker loses a lease",
    { timeout: 120_000 },
    async ({ scene }) => {
      const lanes = await startSlowLanes(scene.databaseUrl, /^leasehold submits/);
      scene.undo(() => lanes.close());
      const server = await scene.server({ databaseUrl: lanes.url });
      const owner = createTaskClient(server.address);
      scene.undo(async () => owner.close());

      const worker = scene.raw(server.address, ["held"], { slots: 2, sessionTtl: { seconds: 5n, nanos: 0 } });
      await worker.welcome();
      const stopBeats = keepAlive(worker, 500);
      const held = [await owner.submit({ name: "held" }), await owner.submit({ name: "held" })];
      const leases = [await worker.lease(0), await worker.lease(1)];
      const beats = (): number => worker.received.filter(({ heartbeatAnswer }) => heartbeatAnswer !== undefined).length;

      lanes.setBytesPerSecond(BYTES_PER_SECOND);
      const submit = submitter(scene, server.address);
      const capacity = (await submit.keep(40, 4)).goodput;
      const beatsBefore = beats();
      const { outcomes, goodput } = await submit.flood(3 * capacity, 8);
      expect(beats() - beatsBefore).toBeGreaterThan(4);

      const refused = outcomes.filter(({ code }) => code !== status.OK);
      expect(goodput / capacity).toBeGreaterThan(0.6);
      expect(refused.length).toBeGreaterThan(outcomes.length / 4);
      expect(new Set(refused.map(({ code, reason }) => `${status[code]} ${reason}`))).toEqual(new Set(["RESOURCE_EXHAUSTED OVERLOADED"]));
      expect(Math.min(...refused.map(({ retryMs }) => retryMs))).toBeGreaterThanOrEqual(100);
      expect(new Set(refused.map(({ retryMs }) => retryMs)).size).toBeGreaterThan(refused.length / 10);
      // At once: the accepted ones wait in the meantime.
      const median = (of: readonly Outcome[]): number => of.map(({ tookMs }) => tookMs).sort((a, b) => a - b)[Math.floor(of.length / 2)]!;
      const accepted = outcomes.filter(({ code }) => code === status.OK);
      expect(median(refused)).toBeLessThan(Math.max(median(accepted), 500));

      // What was acknowledged is there, and nothing that was refused.
      const stored = new Set((await scene.rows("SELECT id::text FROM leasehold.tasks WHERE name = 'flood'")).map(({ id }) => id));
      expect(accepted.filter(({ taskId }) => !stored.has(taskId))).toEqual([]);
      expect(refused.filter(({ taskId }) => stored.has(taskId))).toEqual([]);

      // All is normal: one after another is accepted, and the worker goes on with what it held all the time.
      const calm = await submit.keep(1, 1);
      expect(calm.outcomes.every(({ code }) => code === status.OK)).toBe(true);
      for (const [index, lease] of leases.entries()) {
        worker.report(lease, 1, { complete: CompleteReport.create() });
        expect(await worker.verdict(lease, 1)).toMatchObject({ code: VerdictCode.RECORDED });
        expect(await owner.get(held[index]!.taskId)).toMatchObject({ attempt: 1, lostLeases: 0 });
      }
      stopBeats();
      expect(worker.received.flatMap(({ revoked }) => revoked)).toEqual([]);
    },
  );
});
