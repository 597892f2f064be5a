// Does each filter find what it asks for and nothing else, in lists and in counts alike, also where no index serves it?
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Submission } from "@leasehold/server/domain/new-task";
import type { ListFilter, ListOrder } from "@leasehold/server/storage/queries";
import { COUNT_LIMIT } from "@leasehold/server/storage/list-tasks";
import { bodies } from "../../support/domain.js";
import { listQuery, walk } from "../../support/reading.js";
import { openTestStorage, payload, START, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;
let test: TestStorage;
/** Names of the tasks by their ids. */
const called = new Map<string, string>();

/** Stores a task that is called so, and makes of it what `become` says. */
async function make(
  name: string,
  submission: Partial<Submission>,
  become: "pending" | "running" | "suspended" | "completed" | "failed" | "retry",
): Promise<void> {
  await test.advance(SECOND);
  const [id] = await test.store(submission);
  called.set(id!, name);
  if (become === "pending") return;
  const groups = (group: { name: string; queue: string }): boolean => group.name === submission.name && group.queue === submission.queue;
  const [leased] = await test.lease(await test.session(), { most: 1, groups });
  const { live } = leased!;
  expect(live.identity.id).toBe(id);
  await test.advance(SECOND);
  const error = { code: `${name}.broken`, message: "no" };
  const body = {
    running: null,
    suspended: bodies.suspendFor,
    completed: bodies.complete,
    failed: { ...bodies.fail, error, retryable: false },
    retry: { ...bodies.fail, error, retryable: true },
  }[become];
  if (body !== null) expect(await test.storage.applyDecisions([test.report(live, body)])).toEqual([true]);
}

const labels = (...pairs: [string, string][]): ReadonlyMap<string, string> => new Map(pairs);

beforeAll(async () => {
  test = await openTestStorage();
  const json = (text: string) => ({ metadata: payload(text) });
  await make("one", { name: "a", queue: "fast", key: "k1", ...json('{"user":{"id":9007199254740993},"tags":["x","y"]}') }, "pending");
  await make(
    "two",
    { name: "a", queue: "slow", labels: labels(["tenant", "t1"], ["tier", "gold"]), ...json('{"user":{"id":7}}') },
    "running",
  );
  await make("three", { name: "b", queue: "fast", key: "k1", labels: labels(["tenant", "t1"]) }, "suspended");
  await make("four", { name: "b", queue: "slow", labels: labels(["tenant", "t2"]), executionMetadata: payload('{"step":2}') }, "completed");
  await make("five", { name: "c", queue: "fast", ...json('"\\ud800"') }, "failed");
  await make("six", { name: "c", queue: "slow", metadata: payload('{"user":{"id":7}}', "text/plain") }, "retry");
  await make("seven", { name: "d", scheduleUs: START + 3600 * SECOND, executionMetadata: payload('{"step":2,"of":[1]}') }, "pending");
});
afterAll(() => test[Symbol.asyncDispose]());

const CASES: readonly (readonly [string, Partial<ListFilter>, readonly string[]])[] = [
  ["nothing", {}, ["one", "two", "three", "four", "five", "six", "seven"]],
  ["a name", { names: ["a"] }, ["one", "two"]],
  ["names, one of them twice", { names: ["a", "b", "a"] }, ["one", "two", "three", "four"]],
  ["a queue", { queues: ["fast", "fast"] }, ["one", "three", "five"]],
  ["a name and a queue", { names: ["b"], queues: ["slow"] }, ["four"]],
  ["more names than there are sources for", { names: ["a", "x1", "x2", "x3", "x4"] }, ["one", "two"]],
  ["more queues than there are sources for", { queues: ["slow", "x1", "x2", "x3"] }, ["two", "four", "six"]],
  ["states", { states: ["RUNNING", "SUSPENDED", "COMPLETED"] }, ["two", "three", "four"]],
  ["a state that nothing has", { states: ["CANCELLED"] }, []],
  ["pending reasons", { pendingReasons: ["RETRY", "SCHEDULED"] }, ["six", "seven"]],
  ["a pending reason of a state that excludes it", { pendingReasons: ["NEW"], states: ["RUNNING"] }, []],
  ["a key of any name", { key: "k1" }, ["one", "three"]],
  ["a key of a name", { key: "k1", names: ["b", "z"] }, ["three"]],
  ["a key and a state", { key: "k1", states: ["PENDING"] }, ["one"]],
  ["a label", { labels: labels(["tenant", "t1"]) }, ["two", "three"]],
  ["two labels", { labels: labels(["tenant", "t1"], ["tier", "gold"]) }, ["two"]],
  ["a label and a state", { labels: labels(["tenant", "t1"]), states: ["SUSPENDED"] }, ["three"]],
  ["a label and a key", { labels: labels(["tenant", "t1"]), key: "k1" }, ["three"]],
  ["an error code of an end", { errorCodes: ["five.broken", "none"] }, ["five"]],
  ["an error code of a last failure", { errorCodes: ["six.broken"] }, ["six"]],
  ["metadata that contains", { names: ["a"], metadataContains: '{"user":{}}' }, ["one", "two"]],
  ["a number to its last digit", { states: ["PENDING"], metadataContains: '{"user":{"id":9007199254740993}}' }, ["one"]],
  ["a number that differs in its last digit", { states: ["PENDING"], metadataContains: '{"user":{"id":9007199254740992}}' }, []],
  ["an element", { names: ["a"], metadataContains: '{"tags":["y"]}' }, ["one"]],
  ["what is opaque or cannot be parsed, which nothing contains", { names: ["c"], metadataContains: '{"user":{"id":7}}' }, []],
  ["execution metadata that contains", { states: ["PENDING", "COMPLETED"], executionMetadataContains: '{"step":2}' }, ["four", "seven"]],
  ["execution metadata of a name", { names: ["d"], executionMetadataContains: '{"of":[1]}' }, ["seven"]],
  ["created from and before", { createFromUs: START + 2 * SECOND, createBeforeUs: START + 4 * SECOND }, ["two"]],
  ["a label, created before", { labels: labels(["tenant", "t1"]), createBeforeUs: START + 4 * SECOND }, ["two"]],
  ["finished from", { finishFromUs: START + 9 * SECOND }, ["five"]],
  ["finished before", { finishBeforeUs: START + 9 * SECOND }, ["four"]],
  ["due or waking from", { runFromUs: START + 60 * SECOND }, ["three", "seven"]],
  ["due before", { runBeforeUs: START + 2 * SECOND }, ["one"]],
];

describe("a filter by", () => {
  it.each(CASES)("%s finds exactly that, and counts it", async (_, filter, expected) => {
    const newest = await walk(test.storage, filter, "NEWEST_FIRST", 3);
    expect(newest.map(({ id }) => called.get(id)).toReversed()).toEqual(expected);
    const oldest = await walk(test.storage, filter, "OLDEST_FIRST", 1);
    expect(oldest.map(({ id }) => called.get(id))).toEqual(expected);
    const whole = listQuery(filter).filter;
    expect(await test.storage.countTasks("default", whole)).toEqual({ count: expected.length, more: false });
    expect(await test.storage.countTasks("other", whole)).toEqual({ count: 0, more: false });
  });

  it("ids keeps to the other conditions and to its namespace", async () => {
    const taskIds = [...called.keys(), "0190b6f2-ffff-7fff-bfff-ffffffffffff"];
    const names = async (filter: Partial<ListFilter>, order: ListOrder = "OLDEST_FIRST") =>
      (await walk(test.storage, { taskIds, ...filter }, order, 2)).map(({ id }) => called.get(id));
    expect(await names({})).toEqual([...called.values()]);
    expect(await names({ queues: ["fast"], states: ["PENDING", "FAILED"] })).toEqual(["one", "five"]);
    expect(await names({}, "FINISHED_LAST_FIRST")).toEqual(["five", "four"]);
    expect(await names({}, "WAITING_LONGEST_FIRST")).toEqual(["three"]);
    expect((await test.storage.listTasks(listQuery({ taskIds }, { namespace: "other" }))).tasks).toEqual([]);
  });

  it("what only some orders have: finished last, waiting longest", async () => {
    const names = async (filter: Partial<ListFilter>, order: ListOrder) =>
      (await walk(test.storage, filter, order, 1)).map(({ id }) => called.get(id));
    expect(await names({}, "FINISHED_LAST_FIRST")).toEqual(["five", "four"]);
    expect(await names({ states: ["FAILED"], finishFromUs: START }, "FINISHED_LAST_FIRST")).toEqual(["five"]);
    expect(await names({ names: ["b"], labels: labels(["tenant", "t2"]) }, "FINISHED_LAST_FIRST")).toEqual(["four"]);
    expect(await names({ key: "k1" }, "WAITING_LONGEST_FIRST")).toEqual(["three"]);
    expect(await names({ queues: ["slow"] }, "WAITING_LONGEST_FIRST")).toEqual([]);
  });
});

describe("among 25,000 tasks", () => {
  // Only what lists and counts read: submissions and their rows.
  beforeAll(async () => {
    await test.rows(`
      INSERT INTO tasks (shard, namespace, id, name, create_time, metadata, metadata_type, metadata_searchable, retry_policy)
      SELECT 0, 'many', md5(i::text)::uuid, 'm', timestamptz '2026-01-01 00:00:00+00' + i / 10 * interval '1 second',
        convert_to('{"n":' || i || '}', 'UTF8'), '', true, '{}' FROM generate_series(1, 25000) i`);
    await test.rows(`
      INSERT INTO live_tasks (shard, namespace, id, queue, name, priority, state, pending_reason, create_time, run_at, revision)
      SELECT 0, 'many', md5(i::text)::uuid, CASE WHEN i % 2500 = 0 THEN 'rare' WHEN i <= 10004 THEN 'half' ELSE 'q' END, 'm', 0, 0, 1,
        timestamptz '2026-01-01 00:00:00+00' + i / 10 * interval '1 second', timestamptz '2026-01-01 00:00:00+00', 1
      FROM generate_series(1, 25000) i`);
  });
  const page = (filter: Partial<ListFilter>, after: { timeUs: number; id: string } | null) =>
    test.storage.listTasks(listQuery(filter, { namespace: "many", after, pageSize: 100 }));
  const count = (filter: Partial<ListFilter>) => test.storage.countTasks("many", listQuery(filter).filter);

  it("a count says 10,000 and that there are more, never 10,001", async () => {
    expect(await count({})).toEqual({ count: COUNT_LIMIT, more: true });
    expect(await count({ names: ["m"], states: ["PENDING"] })).toEqual({ count: COUNT_LIMIT, more: true });
    expect(await count({ queues: ["half"] })).toEqual({ count: COUNT_LIMIT, more: false });
    expect(await count({ queues: ["rare"] })).toEqual({ count: 10, more: false });
    expect(await count({ names: ["m"], queues: ["rare"], states: ["PENDING"] })).toEqual({ count: 10, more: false });
  });

  it("every count takes less than a second", async () => {
    for (const filter of [{}, { names: ["m"], metadataContains: '{"n":5}' }, { names: ["m"], errorCodes: ["none"] }, { key: "none" }]) {
      // The best of three: what it takes by itself, whatever else the machine does.
      const tookMs: number[] = [];
      for (let turn = 0; turn < 3; turn++) {
        const began = test.clock.monotonicMs();
        await count(filter);
        tookMs.push(test.clock.monotonicMs() - began);
      }
      expect(Math.min(...tookMs)).toBeLessThan(1000);
    }
  });

  it.each([
    ["a queue beside a name", { names: ["m"], queues: ["rare"], states: ["PENDING" as const] }, 10],
    ["containment", { states: ["PENDING" as const], metadataContains: '{"n":17}' }, 1],
  ])("a page of %s ends at its bound and the walk goes on from there", async (_, filter, expected) => {
    const ids: string[] = [];
    let pages = 0;
    let after: { timeUs: number; id: string } | null = null;
    do {
      const found = await page(filter, after);
      ids.push(...found.tasks.map(({ id }) => id));
      expect(found.scanLimitReached).toBe(found.next !== null);
      after = found.next;
      pages++;
    } while (after !== null);
    expect([new Set(ids).size, ids.length]).toEqual([expected, expected]);
    expect(pages).toBeGreaterThan(1);
  });
});
