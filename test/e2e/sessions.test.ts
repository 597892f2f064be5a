// Whose leases are they when streams meet, fall silent or are not read? A session's, not a stream's: the protocol's rules, spoken message by message.
import { status } from "@grpc/grpc-js";
import { type Lease, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect } from "vitest";
import { keepAlive, type RawWorker } from "../support/raw-worker.js";
import { eventually, test, type Scene } from "../support/scene.js";
import { quick } from "./programs/tasks.js";

const TTL_SECONDS = 5;
const INTERVAL_MS = (TTL_SECONDS * 1_000) / 4;
const complete = { complete: { result: { data: Buffer.from('{"n":1,"worker":"raw"}'), contentType: "" }, executionMetadata: undefined } };

interface Held {
  readonly raw: RawWorker;
  readonly address: string;
  readonly sessionId: string;
  readonly leases: readonly Lease[];
}

/** A raw worker that holds this many leases, at a server of its own. */
async function holding(scene: Scene, leaseCount: number): Promise<Held> {
  const { address } = await scene.server();
  const client = scene.client(address);
  for (let n = 1; n <= leaseCount; n += 1) await client.submit(quick, { n });
  const raw = scene.raw(address, [quick.name], { slots: leaseCount });
  keepAlive(raw, INTERVAL_MS);
  const { sessionId } = await raw.welcome();
  const leases: Lease[] = [];
  for (let index = 0; index < leaseCount; index += 1) leases.push(await raw.lease(index));
  return { raw, address, sessionId, leases };
}

function tokens(leases: readonly Lease[]): string[] {
  return leases.map(({ leaseToken }) => leaseToken);
}

describe.concurrent("a worker that does not read its stream", () => {
  test("loses what it did not read, at no cost for the task, and is told so", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server();
    const client = scene.client(server.address);
    const raw = scene.raw(server.address, [quick.name], { slots: 2 });
    const read = await client.submit(quick, { n: 1 });
    await raw.lease();
    raw.call.pause();
    // Its heartbeats go on counting one lease.
    keepAlive(raw, INTERVAL_MS);
    const unread = await client.submit(quick, { n: 2 });
    await eventually(
      () => unread.snapshot(),
      ({ state }) => state === "running",
      "the lease is on its way",
    );
    const back = await eventually(
      () => unread.snapshot(),
      ({ state }) => state === "pending",
      "the lease goes back",
    );
    expect(back).toMatchObject({ pendingReason: "released", attempt: 1, lostLeases: 0 });
    raw.call.resume();
    expect(await raw.ended).toMatchObject({ code: status.ABORTED, reason: "WORKER_NOT_READING" });
    // What it had read is its own until its session falls silent.
    expect(await read.snapshot()).toMatchObject({ state: "running" });
    const other = scene.raw(server.address, [quick.name]);
    expect((await other.lease()).taskId).toBe(unread.id);
  });
});

describe.concurrent("a session that expired under a living stream", () => {
  test("is told so, and goes on under a new one with what it holds", { timeout: 120_000 }, async ({ scene }) => {
    const { address } = await scene.server();
    const client = scene.client(address);
    const task = await client.submit(quick, { n: 1 });
    const raw = scene.raw(address, [quick.name]);
    const { sessionId } = await raw.welcome();
    const lease = await raw.lease();
    // It speaks, but never says that it lives.
    const talk = setInterval(() => raw.send({ slots: { total: 0, handlers: [] } }), 500);
    const lost = await eventually(
      () => task.snapshot(),
      ({ state }) => state === "pending",
      "the session expires",
    );
    clearInterval(talk);
    expect(lost).toMatchObject({ pendingReason: "lease_lost", lostLeases: 1 });
    raw.send({ heartbeat: { number: 1, leasesReceived: 1 } });
    expect(await raw.ended).toMatchObject({ code: status.ABORTED, reason: "SESSION_EXPIRED" });

    const again = scene.raw(address, [quick.name], { slots: 0, connection: 2, sessionId, heldLeaseTokens: [lease.leaseToken] });
    const welcome = await again.welcome();
    expect(welcome.sessionId).not.toBe(sessionId);
    expect(welcome).toMatchObject({ keptLeaseTokens: [lease.leaseToken], droppedLeaseTokens: [] });
    expect(await task.snapshot()).toMatchObject({ state: "running", attempt: 1, lostLeases: 0 });
    again.report(lease, 1, complete);
    expect(await again.verdict(lease, 1)).toMatchObject({ code: VerdictCode.RECORDED });
  });
});

describe.concurrent("a session that is taken over", () => {
  test("ends the older stream, keeps what is listed and gives back the rest", { timeout: 120_000 }, async ({ scene }) => {
    const { raw, address, sessionId, leases } = await holding(scene, 2);
    const [kept, left] = leases as [Lease, Lease];
    const newer = scene.raw(address, [quick.name], { slots: 1, connection: 2, sessionId, heldLeaseTokens: [kept.leaseToken] });
    const welcome = await newer.welcome();
    expect(welcome).toMatchObject({ sessionId, keptLeaseTokens: [kept.leaseToken], droppedLeaseTokens: [] });
    expect(await raw.ended).toMatchObject({ code: status.ABORTED, reason: "SESSION_TAKEN" });
    const client = scene.client(address);
    expect(await client.handle({ id: left.taskId }).snapshot()).toMatchObject({
      state: "pending",
      pendingReason: "released",
      attempt: 1,
      lostLeases: 0,
    });
    expect(await scene.timeline(left.taskId)).toEqual(["RELEASED"]);
    newer.report(kept, 1, complete);
    expect(await newer.verdict(kept, 1)).toMatchObject({ code: VerdictCode.RECORDED });
    newer.report(left, 1, complete);
    expect(await newer.verdict(left, 1)).toMatchObject({ code: VerdictCode.LEASE_LOST });
  });

  test("at another server ends the older stream as well", { timeout: 120_000 }, async ({ scene }) => {
    const { raw, sessionId, leases } = await holding(scene, 1);
    const other = await scene.server();
    const newer = scene.raw(other.address, [quick.name], { connection: 2, sessionId, heldLeaseTokens: tokens(leases) });
    keepAlive(newer, INTERVAL_MS, 1_000);
    expect(await newer.welcome()).toMatchObject({ sessionId, keptLeaseTokens: tokens(leases) });
    expect(await raw.ended).toMatchObject({ code: status.ABORTED, reason: "SESSION_TAKEN" });
    newer.report(leases[0]!, 1, complete);
    expect(await newer.verdict(leases[0]!, 1)).toMatchObject({ code: VerdictCode.RECORDED });
  });

  test.for([1, 2])(
    "refuses a hello that comes late (connection %i after 2), and that hello releases nothing",
    { timeout: 120_000 },
    async (connection, { scene }) => {
      const { address, sessionId, leases } = await holding(scene, 2);
      const newer = scene.raw(address, [quick.name], { slots: 2, connection: 2, sessionId, heldLeaseTokens: tokens(leases) });
      keepAlive(newer, INTERVAL_MS, 1_000);
      await newer.welcome();
      // It lists nothing: were it heard, both leases would go back.
      const stale = scene.raw(address, [quick.name], { connection, sessionId });
      expect(await stale.ended).toMatchObject({ code: status.ABORTED, reason: "STALE_HELLO" });
      for (const lease of leases) {
        newer.report(lease, 1, complete);
        expect(await newer.verdict(lease, 1)).toMatchObject({ code: VerdictCode.RECORDED });
        expect(await scene.timeline(lease.taskId)).toEqual([]);
      }
    },
  );
});
