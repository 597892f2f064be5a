// Does a claim take the right tasks, in the right order, for the right sessions, and each only once?
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Submission } from "@leasehold/server/domain/new-task";
import { transition } from "@leasehold/server/domain/transition";
import type { LeasedTask } from "@leasehold/server/storage/storage";
import { claimOf, helloOf, itOverConnections, openTestStorage, payload, START, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;

let test: TestStorage;
beforeEach(async () => {
  test = await openTestStorage();
});
afterEach(() => test[Symbol.asyncDispose]());

const idsOf = (leased: readonly LeasedTask[]): string[] => leased.map(({ live }) => live.identity.id).sort();

/** Stores tasks and answers their ids by a mark. */
async function storeMarked(
  submissions: Readonly<Record<string, Partial<Submission>>>,
): Promise<(leased: readonly LeasedTask[]) => string[]> {
  const ids = await test.store(...Object.values(submissions));
  const marks = new Map(ids.map((id, at) => [id, Object.keys(submissions)[at] ?? ""]));
  return (leased) => leased.map(({ live }) => marks.get(live.identity.id) ?? "?").sort();
}

describe("a leased task", () => {
  it("is what the domain's leased event makes of it", async () => {
    const [id] = await test.store({
      deadlines: { queueUs: 9 * SECOND, attemptUs: 30 * SECOND, silenceUs: 20 * SECOND, totalUs: 99 * SECOND },
    });
    await test.advance(SECOND);
    const before = (await test.read(id!)).live;
    const session = await test.session();
    const [leased] = await test.lease(session);
    const { nonce } = leased!.live.lease!;
    const event = {
      kind: "leased",
      lease: { nonce, sessionId: session.id, epoch: 1 },
      workerName: `worker of ${session.id}`,
      fencingBase: 2 ** 40,
    } as const;
    const expected = transition(before, event, { nowUs: test.nowUs, chance: 0, executionMetadata: null, maxPayloadBytes: 0 });
    expect(expected).toMatchObject({ kind: "changed", task: leased!.live });
    expect((await test.read(id!)).live).toEqual(leased!.live);
  });

  it("comes with everything its worker needs", async () => {
    const traceContext = { traceparent: "00-1-2-01", tracestate: "", baggage: "" };
    await test.store({
      labels: new Map([["a", "b"]]),
      metadata: payload('{"x":1}'),
      executionMetadata: payload("y", "text/plain"),
      traceContext,
    });
    const [leased] = await test.lease(await test.session());
    expect(leased).toMatchObject({
      labels: new Map([["a", "b"]]),
      traceContext,
      metadata: payload('{"x":1}'),
      executionMetadata: payload("y", "text/plain"),
    });
  });

  it("comes without what is larger than 8 KiB, which is read by itself", async () => {
    const large = payload(new Uint8Array(8193).fill(7), "application/octet-stream");
    const fits = payload(new Uint8Array(8192).fill(7), "application/octet-stream");
    const [first, second] = await test.store({ metadata: large, executionMetadata: fits }, { metadata: fits, executionMetadata: large });
    const leased = new Map((await test.lease(await test.session())).map((task) => [task.live.identity.id, task]));
    expect(leased.get(first!)).toMatchObject({ metadata: null, executionMetadata: { contentType: fits.contentType } });
    expect(leased.get(second!)).toMatchObject({ metadata: { contentType: fits.contentType }, executionMetadata: null });
    const read = await test.storage.readPayloads("default", second!);
    expect(read?.metadata.data.byteLength).toBe(8192);
    expect(read?.executionMetadata?.data.byteLength).toBe(8193);
    expect(await test.storage.readPayloads("other", second!)).toBeNull();
  });

  it("has a higher fencing token with each lease, above the timeline of Postgres", async () => {
    const session = await test.session();
    const first = await test.running(session);
    const { identity } = first;
    expect(first.fencingToken).toBe(2 ** 40 + 1);
    await test.storage.applyDecisions([test.decision(first, { kind: "lease-returned" })]);
    const [again] = await test.lease(session, { groups: ({ name }) => name === identity.name });
    expect(again!.live).toMatchObject({ fencingToken: 2 ** 40 + 2, settledSeq: 0 });
    expect(again!.live.lease?.nonce).not.toBe(first.lease?.nonce);
  });
});

describe("the order within a queue", () => {
  it("is priority, then due time, whatever the name", async () => {
    const at = (seconds: number): Partial<Submission> => ({ scheduleUs: START + seconds * SECOND });
    const marks = await storeMarked({
      "5 late": { ...at(5), name: "a", priority: 5 },
      "5 early": { ...at(4), name: "b", priority: 5 },
      "9 late": { ...at(9), name: "b", priority: 9 },
      "0 earliest": { ...at(1), name: "a", priority: 0 },
      "5 middle": { ...at(4.5), name: "c", priority: 5 },
    });
    await test.advance(20 * SECOND);
    const session = await test.session();
    const taken: string[] = [];
    for (let turn = 0; turn < 5; turn++) taken.push(...marks(await test.lease(session, { most: 1 })));
    expect(taken).toEqual(["9 late", "5 early", "5 middle", "5 late", "0 earliest"]);
  });

  it("never has a task before it is due", async () => {
    await test.store({ scheduleUs: START + SECOND });
    const session = await test.session();
    await test.advance(SECOND - 1);
    expect(await test.lease(session)).toEqual([]);
    await test.advance(1);
    expect(await test.lease(session)).toHaveLength(1);
  });
});

describe("between queues", () => {
  it("claims take turns", async () => {
    await test.store(...Array.from({ length: 20 }, () => ({ queue: "a", name: "x" })));
    await test.store(...Array.from({ length: 2 }, () => ({ queue: "b", name: "y" })), { queue: "c", name: "z" });
    const queues = (await test.lease(await test.session(), { most: 8 })).map(({ live }) => live.queue).sort();
    expect(queues.join("")).toBe("aaaaabbc");
  });

  it("claims take turns also for one name, and for any priority", async () => {
    await test.store(...Array.from({ length: 20 }, () => ({ queue: "a", name: "x", priority: 9 })));
    await test.advance(SECOND);
    await test.store(...Array.from({ length: 20 }, () => ({ queue: "b", name: "x", priority: 0 })));
    const queues = (await test.lease(await test.session(), { most: 8 })).map(({ live }) => live.queue).sort();
    expect(queues.join("")).toBe("aaaabbbb");
  });

  it("a name with few slots leaves its queue's turn to the other names", async () => {
    await test.store(...Array.from({ length: 10 }, () => ({ queue: "a", name: "few", priority: 9 })));
    await test.store(
      ...Array.from({ length: 10 }, () => ({ queue: "a", name: "many" })),
      ...Array.from({ length: 10 }, () => ({ queue: "b", name: "many" })),
    );
    const leased = await test.lease(await test.session(), { most: 8, free: (name) => (name === "few" ? 1 : 8) });
    expect(leased.map(({ live }) => `${live.queue} ${live.identity.name}`).sort()).toEqual([
      "a few",
      ...Array.from({ length: 3 }, () => "a many"),
      ...Array.from({ length: 4 }, () => "b many"),
    ]);
  });
});

describe("slots", () => {
  it("of several sessions are filled by one claim, each with its own", async () => {
    await test.store(...Array.from({ length: 10 }, () => ({})));
    const sessions = await Promise.all([test.session(), test.session(), test.session()]);
    const leased = await test.lease(sessions, { most: 3 });
    const held = sessions.map(({ id }) => leased.filter(({ live }) => live.lease?.sessionId === id));
    expect(held.map((list) => list.length)).toEqual([3, 3, 3]);
    for (const list of held) expect(new Set(list.map(({ live }) => live.lease?.nonce)).size).toBe(1);
    expect(new Set(leased.map(({ live }) => live.lease?.nonce)).size).toBe(3);
    expect(new Set(idsOf(leased)).size).toBe(9);
  });

  it("of a name are never exceeded, over its queues and priorities", async () => {
    await test.store(
      ...["a", "b"].flatMap((queue) => [0, 5].flatMap((priority) => Array.from({ length: 5 }, () => ({ queue, priority, name: "few" })))),
    );
    await test.store(...Array.from({ length: 5 }, () => ({ name: "many" })));
    const leased = await test.lease(await test.session(), { most: 20, free: (name) => (name === "few" ? 3 : 20) });
    const names = leased.map(({ live }) => live.identity.name);
    expect([names.filter((name) => name === "few").length, names.filter((name) => name === "many").length]).toEqual([3, 5]);
  });
});

describe("a session", () => {
  it("that has expired gets nothing, also before it is ended", async () => {
    await test.store({});
    const session = await test.session({ ttlUs: 2 * SECOND });
    await test.advance(2 * SECOND);
    expect(await test.lease(session)).toEqual([]);
    await test.storage.endExpiredSessions();
    expect(await test.lease(session)).toEqual([]);
  });

  it("of an older epoch gets nothing", async () => {
    await test.store({});
    const session = await test.session();
    await test.storage.takeOverSession(session.id, helloOf({ connection: 2 }), []);
    expect(await test.lease(session)).toEqual([]);
    expect(await test.lease({ ...session, epoch: 2 })).toHaveLength(1);
  });

  it("that is dead leaves its slots to nobody and the others to the living", async () => {
    await test.store(...Array.from({ length: 9 }, () => ({})));
    const dead = await test.session({ ttlUs: 2 * SECOND });
    const alive = await test.session();
    await test.advance(5 * SECOND);
    const leased = await test.lease([dead, alive], { most: 3 });
    expect(leased.map(({ live }) => live.lease?.sessionId)).toEqual([alive.id, alive.id, alive.id]);
  });

  it("of another namespace gets nothing", async () => {
    await test.store({});
    const stranger = await test.storage.openSession(helloOf({ namespace: "other" }));
    expect(await test.lease(stranger)).toEqual([]);
  });
});

describe("two claims at once", () => {
  it("share no task, and together take all", async () => {
    await test.store(...Array.from({ length: 200 }, () => ({})));
    const other = await test.another();
    const [one, two] = [await test.session(), await test.session()];
    const leased: LeasedTask[] = [];
    while (leased.length < 200) {
      const claimed = await Promise.all([test.lease(one, { most: 20 }), test.lease(two, { most: 20, on: other })]);
      // One of the two finds work at least: the other may have wanted the same tasks.
      expect(claimed.flat()).not.toEqual([]);
      leased.push(...claimed.flat());
    }
    expect(new Set(idsOf(leased)).size).toBe(200);
  });

  it("of one task give it to one", async () => {
    const [id] = await test.store({});
    const other = await test.another();
    const [one, two] = [await test.session(), await test.session()];
    const claimed = (await Promise.all([test.lease(one), test.lease(two, { on: other })])).flat();
    expect(idsOf(claimed)).toEqual([id]);
    expect((await test.read(id!)).live.revision).toBe(2);
  });
});

describe("groups with work", () => {
  it("are told with the earliest due time of each, due or not", async () => {
    const later = START + 60 * SECOND;
    await test.store(
      { name: "a", scheduleUs: later },
      { name: "a", scheduleUs: later + 5 },
      { name: "a", priority: 3 },
      { name: "b", queue: "q" },
    );
    await test.running(await test.session(), { name: "c" });
    const groups = (await test.storage.groupsWithWork("default", 100)).map(({ queue, name, priority, earliestUs }) => [
      queue,
      name,
      priority,
      earliestUs,
    ]);
    expect(groups.sort()).toEqual([
      ["default", "a", 0, later],
      ["default", "a", 3, START],
      ["q", "b", 0, START],
    ]);
  });

  it("are those of one namespace, at most so many", async () => {
    await test.store(...Array.from({ length: 10 }, (_, at) => ({ name: `name ${String(at)}` })), { namespace: "other" });
    expect(await test.storage.groupsWithWork("default", 100)).toHaveLength(10);
    expect(await test.storage.groupsWithWork("default", 4)).toHaveLength(4);
    expect(await test.storage.groupsWithWork("other", 100)).toHaveLength(1);
    expect(await test.storage.groupsWithWork("none", 100)).toEqual([]);
  });

  it("are found by a claim whatever their names sort like", async () => {
    const names = ["a", "B", "ä", "Z", "_", "a.b", "a-b", "Ab", " ", "漢"];
    await test.store(...names.flatMap((name) => names.map((queue) => ({ name, queue }))));
    const groups = await test.storage.groupsWithWork("default", 1000);
    expect(new Set(groups.map(({ name, queue }) => `${name}/${queue}`)).size).toBe(100);
    const session = await test.session();
    expect((await test.storage.leaseTasks(claimOf([session], groups))).leased).toHaveLength(100);
  });
});

itOverConnections("a claim of one group goes on to the next tasks where another server is just taking the first", async () => {
  const session = await test.session();
  const ids = await test.store(...[1, 2, 3, 4].map((at) => ({ scheduleUs: START + at })));
  await test.advance(SECOND);
  const other = await test.connection();
  await other.query("BEGIN");
  await other.query("SELECT 1 FROM live_tasks WHERE id = ANY ($1) FOR UPDATE", [ids.slice(0, 2)]);
  expect(idsOf(await test.lease(session, { most: 2 }))).toEqual(ids.slice(2).sort());
  await other.query("ROLLBACK");
  expect(idsOf(await test.lease(session, { most: 9 }))).toEqual(ids.slice(0, 2).sort());
});
