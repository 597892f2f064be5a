// Does a task's timeline tell what happened to it, in order, to the last entry, whatever the page size?
import { TaskEventType } from "@leasehold/proto/leasehold/v1/task_service";
import { ListTaskEventsRequest, TaskServiceService, type ListTaskEventsResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Event } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import { serveApi, type ServedApi } from "../../support/api-fakes.js";
import { bodies, proceedEvent } from "../../support/domain.js";
import { type OwnerCalls, ownerCalls, refused } from "../../support/owner-calls.js";
import { openTestStorage, payload, type TestStorage } from "../../support/storage.js";

const SECOND = 1_000_000;
let test: TestStorage;
let api: ServedApi;
let owner: OwnerCalls;
beforeEach(async () => {
  test = await openTestStorage();
  api = await serveApi({ storage: test.storage });
  owner = ownerCalls(api.address);
});
afterEach(async () => {
  owner.close();
  await api[Symbol.asyncDispose]();
  await test[Symbol.asyncDispose]();
});

const page = (request: Parameters<typeof ListTaskEventsRequest.create>[0]): Promise<ListTaskEventsResponse> =>
  owner.call(TaskServiceService.listTaskEvents, ListTaskEventsRequest.create(request));

async function timeline(taskId: string, pageSize = 1000): Promise<ListTaskEventsResponse["events"]> {
  const events: ListTaskEventsResponse["events"] = [];
  let pageToken = "";
  do {
    const answer = await page({ task: { taskId }, pageSize, pageToken });
    expect(answer.events.length).toBeLessThanOrEqual(pageSize);
    events.push(...answer.events);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return events;
}

const typesOf = async (taskId: string, pageSize?: number): Promise<string[]> =>
  (await timeline(taskId, pageSize)).map(({ type }) => TaskEventType[type]);

/** Lets something happen to a task and answers what it is now. */
async function happen(task: LiveTask, event: Event): Promise<LiveTask> {
  const decision = test.decision(task, event);
  expect(await test.storage.applyDecisions([decision])).toEqual([true]);
  return decision.answer.task;
}
async function report(task: LiveTask, body: Parameters<TestStorage["report"]>[1]): Promise<LiveTask> {
  const decision = test.report(task, body);
  expect(await test.storage.applyDecisions([decision])).toEqual([true]);
  return decision.answer.task;
}

describe("the timeline of a task", () => {
  it("that only succeeded is read from its columns", async () => {
    const session = await test.session();
    const task = await test.running(session);
    const { id } = task.identity;
    expect(await typesOf(id)).toEqual(["SUBMITTED", "LEASED"]);
    await test.advance(SECOND);
    const first = await report(task, { kind: "checkpoint", executionMetadata: payload("1") });
    const second = await report(first, { kind: "checkpoint", executionMetadata: payload("2") });
    await test.advance(SECOND);
    await report(second, bodies.complete);
    const events = await timeline(id);
    expect(events.map(({ type }) => TaskEventType[type])).toEqual(["SUBMITTED", "LEASED", "CHECKPOINTED", "FINISHED"]);
    expect(events[1]).toMatchObject({ attempt: 1, workerName: task.workerName, fencingToken: BigInt(task.fencingToken) });
    expect(events[2]).toMatchObject({ count: 2n });
    expect(await test.rows("SELECT 1 FROM task_events")).toEqual([]);
  });

  it.each([false, true])("of a long life is in order and whole in pages of any size; all in one instant: %s", async (still) => {
    const session = await test.session({ ttlUs: 3600 * SECOND });
    const step = (): Promise<void> => (still ? Promise.resolve() : test.advance(61 * SECOND));
    let task = await test.running(session);
    const { id, name } = task.identity;
    const leased = async (): Promise<LiveTask> => {
      await step();
      await test.rows("UPDATE live_tasks SET run_at = $1::timestamptz WHERE id = $2", new Date(test.nowUs / 1000 - 1), id);
      const [next] = await test.lease(session, { groups: (group) => group.name === name });
      return next!.live;
    };
    await step();
    task = await report(task, { kind: "checkpoint", executionMetadata: payload('{"a":1}') });
    await step();
    await report(task, {
      ...bodies.fail,
      error: { code: "first", message: "m", stack: "at a.ts:1", details: payload("{}") },
      retryable: true,
    });
    task = await leased();
    await step();
    task = await happen(task, proceedEvent({ note: "early" }));
    await step();
    await report(task, bodies.suspendUntil);
    task = await leased();
    await step();
    await report(task, bodies.release);
    task = await leased();
    await step();
    task = await happen(task, { kind: "cancel-requested", reason: "enough", graceUs: 1000 * SECOND });
    await step();
    await report(task, { ...bodies.fail, retryable: false });
    await step();
    await test.storage.retryTask({ namespace: "default", id }, { resetAttempts: true, keepExecutionMetadata: true, runAtUs: null });
    const expected = [
      "SUBMITTED",
      "CHECKPOINTED",
      "ATTEMPT_FAILED",
      "PROCEED_REMEMBERED",
      "SUSPENDED",
      "PROCEEDED",
      "RELEASED",
      "LEASED",
      "CANCEL_REQUESTED",
      "FINISHED",
      "RETRIED",
    ];
    const whole = await timeline(id);
    const types = whole.map(({ type }) => TaskEventType[type]);
    // In one instant nothing tells under which of the earlier leases the last checkpoint was.
    const known = (list: string[]): string[] => (still ? list.filter((type) => type !== "CHECKPOINTED") : list);
    expect(known(types)).toEqual(known(expected));
    const times = whole.map(({ eventTime }) => Number(eventTime!.seconds) * 1e6 + eventTime!.nanos / 1000);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    for (const pageSize of [1, 2, 7]) expect(await timeline(id, pageSize)).toEqual(whole);
    const failed = whole.find(({ type }) => type === TaskEventType.ATTEMPT_FAILED)!;
    expect(failed).toMatchObject({ attempt: 1, error: { code: "first", stack: "at a.ts:1", details: undefined } });
  });

  it("ends a page before its errors grow too large for a message", async () => {
    const task = await test.running(await test.session());
    const { id } = task.identity;
    await test.rows(
      `INSERT INTO task_events (shard, namespace, id, revision, place, event_time, type, state, attempt, fencing_token, worker_name, error)
      SELECT 0, 'default', $1::uuid, 10 + i, 0, leasehold_now() + i * interval '1 second', 'ATTEMPT_FAILED', 0, i, $2, 'w', $3
      FROM generate_series(1, 250) i`,
      id,
      task.fencingToken,
      JSON.stringify({ code: "c", message: "m", stack: "s".repeat(60_000) }),
    );
    const first = await page({ task: { taskId: id }, pageSize: 1000 });
    expect(first.events.length).toBeGreaterThan(50);
    expect(first.events.length).toBeLessThan(80);
    expect(await typesOf(id)).toHaveLength(252);
  });
});

describe("ListTaskEvents", () => {
  it("refuses an unknown task, and the token of another one", async () => {
    const session = await test.session();
    const [one, other] = [await test.running(session), await test.running(session)];
    const { nextPageToken } = await page({ task: { taskId: one.identity.id }, pageSize: 1 });
    const token = await refused(page({ task: { taskId: other.identity.id }, pageSize: 1, pageToken: nextPageToken }));
    expect(token).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] });
    const unknown = await refused(page({ task: { taskId: "0190b6f2-ffff-7fff-bfff-ffffffffffff" } }));
    expect(unknown).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
    const key = await refused(page({ task: { name: "a", key: "none" } }));
    expect(key).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
  });
});
