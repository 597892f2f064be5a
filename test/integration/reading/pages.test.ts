// Does a walk through pages show what stood unchanged exactly once, whatever the order, the page size and the server, while other tasks come and go?
import { status } from "@grpc/grpc-js";
import { TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import { TaskOrder } from "@leasehold/proto/leasehold/v1/task_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serveApi, type ServedApi } from "../../support/api-fakes.js";
import { bodies } from "../../support/domain.js";
import { type OwnerCalls, ownerCalls, refused } from "../../support/owner-calls.js";
import { listPage, walkServers } from "../../support/reading.js";
import { openTestStorage, payload, type TestStorage } from "../../support/storage.js";

const BATCH = 120;
let test: TestStorage;
const served: ServedApi[] = [];
let owners: OwnerCalls[];
const ids = { all: [] as string[], finished: [] as string[], suspended: [] as string[] };

/** Leases some tasks and ends them all in one transaction. */
async function end(count: number, body: typeof bodies.complete | typeof bodies.suspendFor): Promise<string[]> {
  const leased = await test.lease(await test.session({ slots: count }), { most: count });
  expect(leased).toHaveLength(count);
  await test.storage.applyDecisions(leased.map(({ live }) => test.report(live, body)));
  return leased.map(({ live }) => live.identity.id);
}

beforeAll(async () => {
  test = await openTestStorage();
  // Three batches of one create time each; a microsecond lies between the second and the third.
  for (const stepUs of [0, 1_000_000, 1]) {
    await test.advance(stepUs);
    const batch = Array.from({ length: BATCH }, (_, at) => ({
      name: `walk.${String(at % 3)}`,
      queue: `q${String(at % 2)}`,
      priority: at % 10,
    }));
    ids.all.push(...(await test.store(...batch)));
  }
  ids.finished = await end(60, bodies.complete);
  ids.suspended = await end(40, bodies.suspendFor);
  for (const storage of [test.storage, await test.another()]) served.push(await serveApi({ storage }));
  owners = served.map(({ address }) => ownerCalls(address));
});
afterAll(async () => {
  for (const owner of owners) owner.close();
  for (const api of served) await api[Symbol.asyncDispose]();
  await test[Symbol.asyncDispose]();
});

describe.each([1, 7, 50, 1_000])("in pages of %i, from one server after the other,", (pageSize) => {
  it.each([
    ["newest first", TaskOrder.NEWEST_FIRST],
    ["oldest first", TaskOrder.OLDEST_FIRST],
  ])("%s, every task comes once and in order", async (_, order) => {
    const found = await walkServers(owners, { order, pageSize });
    expect(found).toHaveLength(ids.all.length);
    expect(new Set(found)).toEqual(new Set(ids.all));
    const batches = found.map((id) => Math.floor(ids.all.indexOf(id) / BATCH));
    expect(batches).toEqual([...batches].sort((a, b) => (order === TaskOrder.OLDEST_FIRST ? a - b : b - a)));
    const filtered = await walkServers(owners, {
      order,
      pageSize,
      filter: { names: ["walk.1"], queues: ["q0"], states: [TaskState.PENDING] },
    });
    const gone = new Set([...ids.finished, ...ids.suspended]);
    expect(new Set(filtered)).toEqual(
      new Set(ids.all.filter((id, at) => (at % BATCH) % 3 === 1 && (at % BATCH) % 2 === 0 && !gone.has(id))),
    );
    expect(filtered).toEqual(found.filter((id) => filtered.includes(id)));
  });

  it("by the time that they ended or have waited since, with one instant for all, every task comes once", async () => {
    const finished = await walkServers(owners, { order: TaskOrder.FINISHED_LAST_FIRST, pageSize });
    expect([...finished].sort()).toEqual([...ids.finished].sort());
    const waiting = await walkServers(owners, { order: TaskOrder.WAITING_LONGEST_FIRST, pageSize });
    expect([...waiting].sort()).toEqual([...ids.suspended].sort());
  });
});

describe("while a walk goes on", () => {
  it("what stands unchanged comes exactly once, though tasks are stored, finished, removed and retried", async () => {
    const session = await test.session({ slots: 1000 });
    const changed = new Set<string>();
    let turn = 0;
    const found = await walkServers(owners, { pageSize: 7 }, async (soFar) => {
      turn++;
      const stored = await test.store({ name: "walk.new" });
      changed.add(stored[0]!);
      const [leased] = await test.lease(session, { most: 1 });
      if (leased !== undefined) {
        changed.add(leased.live.identity.id);
        await test.storage.applyDecisions([test.report(leased.live, turn % 2 === 0 ? bodies.complete : bodies.cancel)]);
      }
      // The very task that the token stands on.
      const last = soFar.at(-1)!;
      const state = (await test.storage.readTask({ namespace: "default", id: last }, false))?.state;
      if (state === "COMPLETED") await test.storage.deleteTask({ namespace: "default", id: last });
      if (state === "CANCELLED")
        await test.storage.retryTask(
          { namespace: "default", id: last },
          { resetAttempts: true, keepExecutionMetadata: true, runAtUs: null },
        );
      if (state === "COMPLETED" || state === "CANCELLED") changed.add(last);
    });
    expect(new Set(found).size).toBe(found.length);
    const unchanged = ids.all.filter((id) => !changed.has(id));
    expect(unchanged.length).toBeGreaterThan(100);
    expect(found.filter((id) => !changed.has(id))).toHaveLength(unchanged.length);
    expect(unchanged.filter((id) => !found.includes(id))).toEqual([]);
  });

  it("by state, what leaves the state or enters it leaves the others alone", async () => {
    const filter = { states: [TaskState.PENDING], names: ["walk.2"] };
    const before = new Set(await walkServers(owners, { filter, pageSize: 1000 }));
    const changed = new Set<string>();
    const session = await test.session({ slots: 1000 });
    const found = await walkServers(owners, { filter, pageSize: 5, order: TaskOrder.OLDEST_FIRST }, async () => {
      for (const { live } of await test.lease(session, { most: 1, groups: ({ name }) => name === "walk.2" })) changed.add(live.identity.id);
    });
    expect(new Set(found).size).toBe(found.length);
    for (const id of before) if (!changed.has(id)) expect(found).toContain(id);
  });
});

describe("a token", () => {
  it("of another query, cut, changed by a bit or made up is refused with its path, and never as a bug", async () => {
    const request = { pageSize: 7, filter: { names: ["walk.1"] } };
    const { nextPageToken } = await listPage(owners[0]!, request);
    const bent = Buffer.from(nextPageToken, "base64url");
    bent[5]! ^= 4;
    const cases: readonly (readonly [Parameters<typeof listPage>[1], string])[] = [
      [{ filter: { names: ["walk.2"] } }, nextPageToken],
      [{ order: TaskOrder.OLDEST_FIRST }, nextPageToken],
      [{}, nextPageToken.slice(0, -1)],
      [{}, bent.toString("base64url")],
      [{}, "x"],
      [{}, "A".repeat(100_000)],
    ];
    for (const [changes, pageToken] of cases) {
      const refusal = await refused(listPage(owners[1]!, { ...request, ...changes, pageToken }));
      expect(refusal).toMatchObject({ code: status[status.INVALID_ARGUMENT], reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] });
    }
    const same = await listPage(owners[1]!, { ...request, pageSize: 3, view: TaskView.FULL, pageToken: nextPageToken });
    expect(same.tasks).toHaveLength(3);
  });
});

describe("a page in FULL view", () => {
  it("ends before the answer grows too large for a message, and the largest task fits", async () => {
    const large = payload(`"${"x".repeat(1_048_574)}"`);
    const stored = await test.store(
      ...Array.from({ length: 9 }, () => ({ name: "walk.large", metadata: large, executionMetadata: large })),
    );
    const request = { filter: { names: ["walk.large"] }, view: TaskView.FULL, pageSize: 50 };
    const first = await listPage(owners[0]!, request);
    expect(first.tasks.length).toBeLessThan(9);
    expect(first.tasks.length).toBeGreaterThan(0);
    expect((await walkServers(owners, request)).sort()).toEqual([...stored].sort());
  });
});
