// Are tasks stored together or apart as asked, once for each id, and exactly as they were submitted?
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Submission } from "@leasehold/server/domain/new-task";
import { newTask } from "@leasehold/server/domain/new-task";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import type { Inserted } from "@leasehold/server/storage/storage";
import { openTestStorage, payload, START, submissionOf, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;
const ID = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";
const hash = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

let test: TestStorage;
beforeEach(async () => {
  test = await openTestStorage();
});
afterEach(() => test[Symbol.asyncDispose]());

function insert(submissions: readonly Partial<Submission>[], atomic = false): Promise<Inserted[]> {
  return test.storage.insertTasks(
    submissions.map((fields) => newTask(submissionOf(fields), test.nowUs)),
    atomic,
  );
}

async function count(table: string): Promise<number> {
  const [row] = await test.rows<{ count: string }>(`SELECT count(*) FROM ${table}`);
  return Number(row?.count);
}

describe("a stored task", () => {
  it("is what was submitted, to the last field", async () => {
    const retryPolicy = {
      ...DEFAULT_RETRY_POLICY,
      factor: 1.5,
      delaysUs: [1, 2],
      rules: [{ errorCodes: ["a", "b"], action: "FAIL" as const, delaysUs: [] }],
      lostLeaseDelaysUs: [],
    };
    const submission = submissionOf({
      id: ID,
      name: "report.render",
      queue: "reports",
      metadata: payload('{"n":9007199254740993}'),
      executionMetadata: payload(new Uint8Array([0, 255, 10]), "application/octet-stream"),
      labels: new Map([
        ["tenant", "acme"],
        ["a", ""],
      ]),
      priority: 9,
      scheduleUs: START + 90 * SECOND + 1,
      deadlines: { queueUs: 60 * SECOND, attemptUs: 30 * SECOND, silenceUs: 20 * SECOND, totalUs: 500 * SECOND },
      retryPolicy,
      traceContext: { traceparent: "00-1-2-01", tracestate: "x=y", baggage: "" },
    });
    expect(await test.storage.insertTasks([newTask(submission, START)], false)).toEqual([{ kind: "created", createTimeUs: START }]);
    const stored = await test.read(ID);
    expect(stored.live).toEqual(newTask(submission, START).live);
    expect(stored).toMatchObject({
      state: "PENDING",
      finish: null,
      scheduleUs: START + 90 * SECOND + 1,
      traceContext: submission.traceContext,
    });
    expect(stored.labels).toEqual(new Map([...submission.labels].sort()));
    expect(Buffer.from(stored.metadata!.data)).toEqual(submission.metadata.data);
    expect(stored.executionMetadata).toMatchObject({ contentType: "application/octet-stream", data: Buffer.from([0, 255, 10]) });
  });

  it("begins when the database stores it, whatever the server's clock says", async () => {
    await test.storage.insertTasks(
      [
        newTask(
          submissionOf({ id: ID, deadlines: { queueUs: SECOND, attemptUs: null, silenceUs: null, totalUs: 2 * SECOND } }),
          START - 9999,
        ),
      ],
      false,
    );
    const { live } = await test.read(ID);
    expect(live).toMatchObject({ runAtUs: START, queueDeadlineUs: START + SECOND, totalDeadlineUs: START + 2 * SECOND });
    expect(live.identity.createTimeUs).toBe(START);
  });

  it("is due at once where its schedule time is over", async () => {
    const [id] = await test.store({ scheduleUs: START - SECOND });
    expect((await test.read(id!)).live).toMatchObject({ runAtUs: START, pendingReason: "NEW" });
  });

  it.each([
    ["quotes and brackets", `a'b"c\\d{e},f;--`],
    ["every script", "zażółć 漢字 🏳️‍🌈 \u202eעברית"],
    ["what looks like null", "NULL"],
    ["white space", " \t\n "],
    ["much text", "x".repeat(250)],
  ])("keeps odd text: %s", async (_, text) => {
    const [id] = await test.store({ name: text, queue: text, labels: new Map([[text, text]]) });
    const stored = await test.read(id!);
    expect([stored.live.identity.name, stored.live.queue, [...stored.labels][0]]).toEqual([text, text, [text, text]]);
  });

  it("is found by each of its labels", async () => {
    const [id] = await test.store(
      {
        labels: new Map([
          ["a", "1"],
          ["b", "2"],
        ]),
      },
      {},
    );
    const rows = await test.rows<{ key: string; value: string }>("SELECT key, value FROM task_labels WHERE id = $1 ORDER BY key", id);
    expect(rows).toEqual([
      { key: "a", value: "1" },
      { key: "b", value: "2" },
    ]);
  });

  it("has a row of execution metadata only where there is some", async () => {
    await test.store({}, { executionMetadata: payload("1") });
    expect(await count("execution_metadata")).toBe(1);
  });
});

describe("a batch", () => {
  it("is stored whole, and answered in the order given", async () => {
    const ids = Array.from({ length: 1000 }, (_, at) => `0190b6f2-3c1e-7b7a-9d3e-${((at * 7919) % 1000).toString(16).padStart(12, "0")}`);
    const inserted = await insert(ids.map((id) => ({ id })));
    expect(inserted.every(({ kind }) => kind === "created")).toBe(true);
    expect(await count("live_tasks")).toBe(1000);
  });

  it("of nothing is nothing", async () => {
    expect(await insert([])).toEqual([]);
    expect(await insert([], true)).toEqual([]);
  });

  it("stores the first of two with one id and says whether the second is the same", async () => {
    const same = { id: ID, contentHash: hash(1) };
    expect(await insert([same, { contentHash: hash(3) }, { ...same, queue: "other", contentHash: hash(2) }, same])).toMatchObject([
      { kind: "created" },
      { kind: "created" },
      { kind: "id-exists", sameContent: false },
      { kind: "id-exists", sameContent: true },
    ]);
    expect((await test.read(ID)).live.queue).toBe("default");
  });

  it("answers an id that exists by whether the content is the same, finished or not", async () => {
    const first = { id: ID, contentHash: hash(1) };
    await insert([first]);
    expect(await insert([first])).toMatchObject([{ kind: "id-exists", sameContent: true }]);
    expect(await insert([{ ...first, contentHash: hash(2) }])).toMatchObject([{ kind: "id-exists", sameContent: false }]);
    await test.storage.decide({ namespace: "default", id: ID }, { kind: "cancel-requested", reason: "", graceUs: 0 });
    expect(await insert([first])).toMatchObject([{ kind: "id-exists", sameContent: true }]);
    expect(await count("live_tasks")).toBe(0);
  });

  it("takes no task of another namespace for the same", async () => {
    const first = { id: ID, contentHash: hash(1) };
    await insert([first]);
    expect(await insert([{ ...first, namespace: "other" }])).toMatchObject([{ kind: "id-exists", sameContent: false }]);
  });

  it("that is not atomic stores what it can beside an id that exists with other content", async () => {
    await insert([{ id: ID, contentHash: hash(1) }]);
    expect(await insert([{}, { id: ID, contentHash: hash(2) }, {}])).toMatchObject([
      { kind: "created" },
      { kind: "id-exists" },
      { kind: "created" },
    ]);
    expect(await count("tasks")).toBe(3);
  });

  it("that is atomic stores nothing beside an id that exists with other content", async () => {
    await insert([{ id: ID, contentHash: hash(1) }]);
    const answers = await insert([{}, { id: ID, contentHash: hash(2) }, {}], true);
    expect(answers[1]).toMatchObject({ kind: "id-exists", sameContent: false });
    expect([await count("tasks"), await count("live_tasks")]).toEqual([1, 1]);
  });

  it("that is atomic stores the others beside an id that exists with the same content", async () => {
    await insert([{ id: ID, contentHash: hash(1) }]);
    expect(await insert([{}, { id: ID, contentHash: hash(1) }], true)).toMatchObject([
      { kind: "created" },
      { kind: "id-exists", sameContent: true },
    ]);
    expect(await count("tasks")).toBe(2);
  });

  it("stores one task of one id when two servers submit it at once", async () => {
    const other = await test.another();
    const tasks = [newTask(submissionOf({ id: ID, contentHash: hash(1) }), START)];
    const answers = (await Promise.all([test.storage, other, test.storage, other].map((one) => one.insertTasks(tasks, false)))).flat();
    expect(answers.map(({ kind }) => kind).sort()).toEqual(["created", "id-exists", "id-exists", "id-exists"]);
    expect(answers.every((answer) => answer.kind === "created" || (answer.kind === "id-exists" && answer.sameContent))).toBe(true);
  });
});
