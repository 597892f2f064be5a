// What if somebody holds on to what is over? A key outlives its task and is asked for again by it, a worker lists an old lease beside the
// present one of the same task. Both were lost once.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newTask } from "@leasehold/server/domain/new-task";
import { bodies } from "../support/domain.js";
import { helloOf, openTestStorage, submissionOf, type TestStorage } from "../support/storage.js";

const HOUR = 3_600_000_000;

let test: TestStorage;
beforeEach(async () => {
  test = await openTestStorage();
});
afterEach(() => test[Symbol.asyncDispose]());

describe("a submission that is sent again after its task finished", () => {
  it.each([true, false])("leaves the key to the task that holds it (atomic: %s)", async (atomic) => {
    const submission = submissionOf({ key: "webhook", keyHoldUs: HOUR, contentHash: Buffer.from("content") });
    const insert = (changes: Partial<typeof submission> = {}) =>
      test.storage.insertTasks([newTask({ ...submission, ...changes }, test.nowUs)], atomic);
    await insert();
    const session = await test.session();
    const [leased] = await test.lease(session);
    await test.storage.applyDecisions([test.report(leased!.live, bodies.complete)]);
    expect(await insert()).toEqual([{ kind: "id-exists", sameContent: true, exists: true }]);
    const twice = submissionOf().id;
    expect(await insert({ id: twice })).toMatchObject([{ kind: "key-taken", id: submission.id, finished: true }]);
    await test.advance(HOUR);
    expect(await insert({ id: twice })).toMatchObject([{ kind: "created" }]);
  });
});

describe("a worker that lists two leases of one task", () => {
  it.each(["first", "last"] as const)("keeps the present one, listed %s", async (place) => {
    const session = await test.session();
    const old = await test.running(session);
    await test.storage.applyDecisions([test.report(old, bodies.release)]);
    const [again] = await test.lease(session);
    const name = ({ identity, lease }: typeof old) => ({ taskId: identity.id, nonce: lease!.nonce });
    const held = place === "first" ? [name(again!.live), name(old)] : [name(old), name(again!.live)];
    const taken = await test.storage.takeOverSession(session.id, helloOf({ connection: 2 }), held);
    expect(taken).toMatchObject({ kind: "taken", kept: [{ lease: { nonce: again!.live.lease?.nonce, epoch: 2 } }], returned: [] });
    await test.storage.endSession(session.id);
    const renewed = await test.storage.takeOverSession(session.id, helloOf({ connection: 3 }), held);
    expect(renewed).toMatchObject({ kind: "renewed", kept: [{ lease: { nonce: again!.live.lease?.nonce } }] });
  });
});
