// Is a task that is stored with a reserved slot leased by the same statement, and only if its session may have it?
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Submission } from "@leasehold/server/domain/new-task";
import { newTask, storedTask } from "@leasehold/server/domain/new-task";
import { transition } from "@leasehold/server/domain/transition";
import type { ClaimingSession, Inserted, OpenSession } from "@leasehold/server/storage/storage";
import { claimParts } from "../../support/claim-parts.js";
import { itOverConnections, openTestStorage, START, submissionOf, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;
const NONCE = "0123456789abcdef0123456789abcdef";

let test: TestStorage;
beforeEach(async () => {
  test = await openTestStorage();
});
afterEach(() => test[Symbol.asyncDispose]());

const claiming = ({ id, epoch }: OpenSession): ClaimingSession => ({ id, epoch, nonce: NONCE, workerName: "worker-1" });

/** Stores tasks, the first of which have a slot of the session. */
function insert(session: ClaimingSession, submissions: readonly Partial<Submission>[], slots = submissions.length): Promise<Inserted[]> {
  const tasks = submissions.map((fields) => newTask(submissionOf(fields), test.nowUs));
  const sessionOf = new Map(tasks.slice(0, slots).map((task) => [task.submission.id, 0]));
  return test.storage.insertTasks(tasks, false, undefined, { sessions: [session], sessionOf });
}

const stateOf = async (id: string): Promise<string> => (await test.read(id)).state;

describe("a task stored with a slot", () => {
  it("is what a lease makes of it right after it was stored", async () => {
    const session = await test.session();
    const deadlines = { queueUs: 9 * SECOND, attemptUs: 30 * SECOND, silenceUs: 20 * SECOND, totalUs: 99 * SECOND };
    const task = newTask(submissionOf({ deadlines }), START - 7);
    const { id } = task.submission;
    const slots = { sessions: [claiming(session)], sessionOf: new Map([[id, 0]]) };
    const [inserted] = await test.storage.insertTasks([task], false, undefined, slots);
    const event = {
      kind: "leased",
      lease: { nonce: NONCE, sessionId: session.id, epoch: 1 },
      workerName: "worker-1",
      fencingBase: 2 ** 40,
    } as const;
    const context = { nowUs: START, chance: 0, executionMetadata: null, maxPayloadBytes: 0 };
    const expected = transition(storedTask(task, START), event, context);
    const { live } = await test.read(id);
    expect(expected).toMatchObject({ kind: "changed", task: live });
    expect(inserted).toEqual({ kind: "created", createTimeUs: START, leased: { task: live, isCurrent: true } });
  });

  it("can be completed with the copy that the answer carries", async () => {
    const [inserted] = await insert(claiming(await test.session()), [{}]);
    const leased = inserted?.kind === "created" ? inserted.leased?.task : undefined;
    const result = { data: Buffer.from("1"), contentType: "" };
    const decision = test.report(leased!, { kind: "complete", result, executionMetadata: null });
    expect(await test.storage.applyDecisions([decision])).toEqual([true]);
    expect(await stateOf(leased!.identity.id)).toBe("COMPLETED");
  });

  it("leaves those without a slot to be claimed", async () => {
    const session = await test.session();
    const inserted = await insert(claiming(session), [{}, {}, {}], 2);
    expect(inserted.map((one) => one.kind === "created" && one.leased !== undefined)).toEqual([true, true, false]);
    expect(await test.lease(session)).toHaveLength(1);
  });

  it.each<[string, (session: OpenSession) => Promise<ClaimingSession>]>([
    ["was taken over", async (session) => (await test.storage.takeOverSession(session.id, helloAgain, []), claiming(session))],
    ["ended", async (session) => (await test.storage.endSession(session.id), claiming(session))],
    ["expired", async (session) => (await test.advance(61 * SECOND), claiming(session))],
    ["is of another namespace", async () => claiming(await test.session({ namespace: "other" }))],
  ])("waits when its session %s", async (_why, meanwhile) => {
    const session = await meanwhile(await test.session({ ttlUs: 60 * SECOND }));
    const id = submissionOf().id;
    expect(await insert(session, [{ id }])).toEqual([{ kind: "created", createTimeUs: test.nowUs }]);
    expect(await stateOf(id)).toBe("PENDING");
    expect(await test.storage.groupsWithWork("default", 10)).toHaveLength(1);
  });

  it("waits when it is not due", async () => {
    const id = submissionOf().id;
    await insert(claiming(await test.session()), [{ id, scheduleUs: START + SECOND }]);
    expect(await stateOf(id)).toBe("PENDING");
  });

  it("is not leased a second time when it is submitted again", async () => {
    const session = claiming(await test.session());
    const submission = { id: submissionOf().id, contentHash: Buffer.alloc(32, 1) };
    await insert(session, [submission]);
    const before = await test.read(submission.id);
    expect(await insert({ ...session, nonce: NONCE.replace("0", "f") }, [submission])).toMatchObject([{ kind: "id-exists" }]);
    expect(await test.read(submission.id)).toEqual(before);
  });

  it("with a key takes the slot only if the key was free", async () => {
    const session = claiming(await test.session());
    expect(await insert(session, [{ key: "k" }])).toMatchObject([
      { kind: "created", leased: { task: { state: "RUNNING" }, isCurrent: true } },
    ]);
    expect(await insert(session, [{ key: "k" }])).toMatchObject([{ kind: "key-taken" }]);
  });
});

const helloAgain = {
  ...{ namespace: "default", workerName: "worker-1", sdk: "", language: "", queues: [], handlers: [], labels: new Map<string, string>() },
  ...{ slots: 1, ownSlots: new Map<string, number>(), ttlUs: 60 * SECOND, connection: 2, unary: false },
};

describe("a session that is read again after the commit", () => {
  it("and lives on is current", async () => {
    const session = await test.session();
    expect(await insert(claiming(session), [{}])).toMatchObject([{ kind: "created", leased: { isCurrent: true } }]);
  });

  const cases: [string, boolean | null, (session: OpenSession) => Promise<unknown>][] = [
    ["was taken over meanwhile is not", false, (session) => test.storage.takeOverSession(session.id, helloAgain, [])],
    ["ended meanwhile is not", false, (session) => test.storage.endSession(session.id)],
    ["could not be read is unknown, and its task stored all the same", null, () => Promise.reject(new Error("away"))],
  ];
  for (const [what, isCurrent, between] of cases)
    itOverConnections(`and ${what}`, async () => {
      const session = await test.session();
      const task = newTask(submissionOf({}), test.nowUs);
      const parts = await claimParts(test.url);
      const slots = { sessions: [claiming(session)], sessionOf: new Map([[task.submission.id, 0]]) };
      expect(await parts.insert([task], slots, () => between(session))).toMatchObject([{ kind: "created", leased: { isCurrent } }]);
      await parts.close();
    });
});

describe("a claim that begins at a watermark", () => {
  it("finds what is due from there on, and what is due before only from the beginning", async () => {
    const session = await test.session();
    await test.store({ scheduleUs: START + SECOND }, { scheduleUs: START + 3 * SECOND });
    await test.advance(10 * SECOND);
    const groups = await test.storage.groupsWithWork("default", 10);
    const claim = (fromUs: number | null) =>
      test.storage.leaseTasks({
        ...{ namespace: "default", suspects: false, sessions: [claiming(session)], slots: [0, 0] },
        groups: groups.map((group) => ({ ...group, free: 2, fromUs })),
      });
    expect((await claim(START + 2 * SECOND)).leased.map(({ live }) => live.runAtUs)).toEqual([START + 3 * SECOND]);
    expect((await claim(null)).leased.map(({ live }) => live.runAtUs)).toEqual([START + SECOND]);
  });
});
