// Do people and clients see what is stored: each filter, every page, each byte?
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ListFilter, ListQuery } from "@leasehold/server/storage/queries";
import { NO_FILTER } from "@leasehold/server/storage/queries";
import type { ListPage, StoredTask } from "@leasehold/server/storage/storage";
import { bodies } from "../../support/domain.js";
import { openTestStorage, payload, START, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;
let test: TestStorage;
beforeEach(async () => {
  test = await openTestStorage();
});
afterEach(() => test[Symbol.asyncDispose]());

function page(filter: Partial<ListFilter> = {}, query: Partial<ListQuery> = {}): Promise<ListPage> {
  const newest = { namespace: "default", order: "NEWEST_FIRST", after: null, pageSize: 100, withPayloads: false } as const;
  return test.storage.listTasks({ ...newest, ...query, filter: { ...NO_FILTER, ...filter } });
}

async function list(filter: Partial<ListFilter> = {}, query: Partial<ListQuery> = {}): Promise<readonly StoredTask[]> {
  return (await page(filter, query)).tasks;
}

const idsOf = (tasks: readonly StoredTask[]): string[] => tasks.map(({ id }) => id);

describe("a list", () => {
  it("shows what each filter asks for, finished or not", async () => {
    const session = await test.session();
    const running = await test.running(session, { name: "run", queue: "fast" });
    const completed = await test.running(session, { name: "done", queue: "fast" });
    await test.storage.applyDecisions([test.report(completed, bodies.complete)]);
    const [waiting, scheduled] = await test.store({ name: "wait" }, { name: "later", scheduleUs: START + SECOND });
    const [a, b] = [running.identity.id, completed.identity.id];
    const expected: [Partial<ListFilter>, string[]][] = [
      [{}, [a, b, waiting!, scheduled!]],
      [{ names: ["run", "done", "none"] }, [a, b]],
      [{ queues: ["fast"] }, [a, b]],
      [{ queues: ["default"] }, [waiting!, scheduled!]],
      [{ states: ["RUNNING"] }, [a]],
      [{ states: ["COMPLETED", "FAILED", "CANCELLED"] }, [b]],
      [{ states: ["PENDING"] }, [waiting!, scheduled!]],
      [{ pendingReasons: ["SCHEDULED"] }, [scheduled!]],
      [{ pendingReasons: ["NEW"] }, [waiting!]],
      [{ taskIds: [a, scheduled!], states: ["PENDING"] }, [scheduled!]],
      [{ names: ["none"] }, []],
    ];
    for (const [filter, ids] of expected) expect([filter, idsOf(await list(filter)).sort()]).toEqual([filter, ids.sort()]);
  });

  it("finds a label by its key and value, and by nothing that only looks alike", async () => {
    const [tenant] = await test.store(
      {
        labels: new Map([
          ["tenant", "acme"],
          ["acme", "1"],
          ['"q', "\\"],
        ]),
      },
      { labels: new Map([["x", "y"]]) },
      {},
    );
    const found = async (...labels: [string, string][]) => idsOf(await list({ labels: new Map(labels) }));
    expect(await found(["tenant", "acme"])).toEqual([tenant]);
    expect(await found(["tenant", "acme"], ['"q', "\\"])).toEqual([tenant]);
    expect(await found(["tenant", "acme"], ["x", "y"])).toEqual([]);
    expect(await found(["acme", "tenant"])).toEqual([]);
    expect(await found(["tenant", "tenant"])).toEqual([]);
    expect(await found(["tenant", "1"])).toEqual([]);
    expect(await found(["tenant", ""])).toEqual([]);
  });

  it("is of one namespace", async () => {
    await test.store({}, { namespace: "other" });
    expect(await list()).toHaveLength(1);
    expect(await list({}, { namespace: "other" })).toHaveLength(1);
  });

  it("is bounded by time of creation, from and before", async () => {
    const [first] = await test.store({});
    await test.advance(1);
    const [second] = await test.store({});
    expect(idsOf(await list({ createFromUs: START + 1 }))).toEqual([second]);
    expect(idsOf(await list({ createBeforeUs: START + 1 }))).toEqual([first]);
    expect(idsOf(await list({ createFromUs: START, createBeforeUs: START + 2 }, { order: "OLDEST_FIRST" }))).toEqual([first, second]);
  });

  it("has no payloads unless asked, but their sizes", async () => {
    await test.store({ metadata: payload("12345"), executionMetadata: payload("123") });
    const [small] = await list();
    expect(small).toMatchObject({ metadata: null, executionMetadata: null, metadataBytes: 5, live: { executionMetadataBytes: 3 } });
    const [large] = await list({}, { withPayloads: true });
    expect(large).toMatchObject({ metadata: payload("12345"), executionMetadata: payload("123") });
  });
});

describe("pages", () => {
  it.each(["NEWEST_FIRST", "OLDEST_FIRST"] as const)("drop and repeat nothing, with ties and microseconds between: %s", async (order) => {
    const stored: string[] = [];
    for (const [step, count] of [
      [0, 7],
      [1, 5],
      [998, 1],
      [1, 6],
      [SECOND, 4],
    ] as const) {
      await test.advance(step);
      stored.push(...(await test.store(...Array.from({ length: count }, () => ({})))));
    }
    const walked: string[] = [];
    let after: ListQuery["after"] = null;
    do {
      const { tasks, next }: ListPage = await page({}, { order, after, pageSize: 3 });
      expect(tasks.length).toBeLessThanOrEqual(3);
      walked.push(...idsOf(tasks));
      after = next;
    } while (after !== null);
    expect(walked).toHaveLength(stored.length);
    expect(new Set(walked)).toEqual(new Set(stored));
    const whole = idsOf(await list({}, { order }));
    expect(walked).toEqual(whole);
    expect(idsOf(await list({}, { order: order === "NEWEST_FIRST" ? "OLDEST_FIRST" : "NEWEST_FIRST" }))).toEqual(whole.toReversed());
  });

  it("tell whether there are more", async () => {
    await test.store({}, {}, {});
    expect((await page({}, { pageSize: 2 })).next).not.toBeNull();
    expect((await page({}, { pageSize: 3 })).tasks).toHaveLength(3);
    expect((await page({}, { pageSize: 4 })).next).toBeNull();
  });
});

describe("progress", () => {
  const progress = (task: { identity: { id: string } }, done: number, updateUs = test.nowUs) =>
    test.storage.storeProgress([{ taskId: task.identity.id, progress: { done, total: null, message: `${String(done)}é`, updateUs } }]);

  it("is shown while the task runs, newest only, without a new revision", async () => {
    const task = await test.running(await test.session());
    await progress(task, 1);
    await progress(task, 2.5);
    const stored = await test.read(task.identity.id);
    expect(stored.progress).toEqual({ done: 2.5, total: null, message: "2.5é", updateUs: test.nowUs });
    expect(stored.live).toEqual(task);
    await test.storage.applyDecisions([test.report(task, bodies.complete)]);
    expect((await test.read(task.identity.id)).progress).toBeNull();
  });

  it("of an earlier lease is not shown as that of the next", async () => {
    const session = await test.session();
    const task = await test.running(session);
    await progress(task, 1);
    await test.storage.applyDecisions([test.report(task, bodies.release)]);
    await test.advance(SECOND);
    await test.lease(session);
    const again = await test.read(task.identity.id);
    expect([again.state, again.progress]).toEqual(["RUNNING", null]);
  });

  it("of what does not run is not stored", async () => {
    const [id] = await test.store({});
    await progress({ identity: { id: id! } }, 1);
    expect(await test.rows("SELECT 1 FROM task_progress")).toEqual([]);
  });
});

describe("changes", () => {
  it("are told by revision, and null for what is gone", async () => {
    const task = await test.running(await test.session());
    const [same] = await test.store({});
    const gone = "0190b6f2-ffff-7fff-bfff-ffffffffffff";
    const known = [
      { id: task.identity.id, revision: 1, progressUs: null },
      { id: same!, revision: 1, progressUs: null },
      { id: gone, revision: 4, progressUs: null },
    ];
    expect(await test.storage.readChanged(known)).toEqual([
      { id: task.identity.id, revision: 2 },
      { id: gone, revision: null },
    ]);
    await test.storage.applyDecisions([test.report(task, bodies.complete)]);
    expect(await test.storage.readChanged(known.slice(0, 1))).toEqual([{ id: task.identity.id, revision: 3 }]);
  });
});

describe("payloads", () => {
  const corpus: readonly string[] = [
    "0",
    "-0",
    "9007199254740993",
    "1.10",
    "1E400",
    "1e131072",
    "1e131000",
    "0.1000000000000000055511151231257827",
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"😀\\ud83d\\ude00"',
    '"\\/\\b\\f"',
    ' { "b" : 1 , "a" : 2 , "b" : 3 }\n',
    '{"__proto__":{"x":1},"":""}',
    "[".repeat(64) + "]".repeat(64),
    '"\u2028\u2029\u007f"',
    "null",
    `"${"x".repeat(20_000)}"`,
  ];

  it("are kept byte for byte, from submission over checkpoint to result", async () => {
    const session = await test.session();
    for (const text of corpus) {
      const task = await test.running(session, { metadata: payload(text), executionMetadata: payload(text) });
      const saved = test.report(task, { kind: "checkpoint", executionMetadata: payload(`${text} `) });
      await test.storage.applyDecisions([saved]);
      await test.storage.applyDecisions([
        test.report(saved.answer.task, { kind: "complete", result: payload(text), executionMetadata: null }),
      ]);
      const stored = await test.read(task.identity.id);
      const read = [stored.metadata, stored.executionMetadata, stored.finish?.result].map((one) => Buffer.from(one?.data ?? []).toString());
      expect(read).toEqual([text, `${text} `, text]);
    }
  });

  it("of any bytes and content type are kept as they are", async () => {
    const bytes = payload(
      Uint8Array.from({ length: 256 }, (_, at) => at),
      'application/x-protobuf; messageType="é"',
    );
    const [id, empty] = await test.store({ metadata: bytes, executionMetadata: bytes }, { metadata: payload("", "text/plain") });
    expect(await test.read(id!)).toMatchObject({
      metadata: { ...bytes, data: Buffer.from(bytes.data) },
      executionMetadata: { contentType: bytes.contentType },
    });
    expect((await test.read(empty!)).metadata).toEqual({ data: Buffer.alloc(0), contentType: "text/plain" });
  });

  it("are marked as searchable only where Postgres can parse them", async () => {
    const ids = await test.store(...corpus.map((text) => ({ metadata: payload(text) })));
    const marked = await test.rows<{ id: string }>("SELECT id FROM tasks WHERE metadata_searchable");
    expect(marked.length).toBeGreaterThan(8);
    await test.rows("SELECT convert_from(metadata, 'UTF8')::jsonb FROM tasks WHERE metadata_searchable");
    for (const unholdable of ["1e131000", "1e131072", '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"']) {
      expect(marked.map(({ id }) => id)).not.toContain(ids[corpus.indexOf(unholdable)]);
    }
  });
});
