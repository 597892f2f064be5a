// What does an owner change and ask beside waiting: updates, deletion, explanations, timelines, counts, simulations, endless submissions?
import type { LeaseholdError } from "@leasehold/client";
import { defineTask, type SubmittedItem, type } from "@leasehold/client";
import { FinishReason, TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  CountTasksResponse,
  ExplainTaskResponse,
  ExplanationCode,
  ListTaskEventsResponse,
  SimulateRetryResponse,
  type SubmitTasksRequest,
  TaskEventType,
} from "@leasehold/proto/leasehold/v1/task_service";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { settle } from "./fake-clock.js";
import { fakeClient, failure, rejection, taskMessage } from "./fake-transport.js";
import { ms } from "./fake-worker-server.js";

const task = defineTask({ name: "t", metadata: z.object({ n: z.number() }) });
const ID = "11111111-1111-7111-8111-111111111111";
const BY_ID = { taskId: ID, name: "", key: "" };

describe("a task", () => {
  it("is updated: only what is given is in the mask", async () => {
    const { client, transport, clock } = fakeClient();
    transport.answer = () => taskMessage({ priority: 7 });
    const handle = client.handle(task, ID);
    expect((await handle.update({ priority: 7 })).priority).toBe(7);
    await handle.update({ scheduleTime: { in: "1m" }, queue: "slow", etag: "e" });
    await handle.update({ scheduleTime: "now" });
    const seconds = BigInt(Math.floor((clock.now() + 60_000) / 1_000));
    expect(transport.requests("UpdateTask")).toMatchObject([
      { task: BY_ID, etag: "", updateMask: ["priority"], priority: 7 },
      { etag: "e", updateMask: ["schedule_time", "queue"], queue: "slow", scheduleTime: { seconds } },
      { updateMask: ["schedule_time"], scheduleTime: undefined },
    ]);
  });

  it("is not updated with what the server would refuse: all paths at once, before anything leaves", async () => {
    const { client, transport } = fakeClient();
    const error = await rejection(client.handle(task, ID).update({ priority: 10, queue: " ", scheduleTime: "soon" as never }));
    expect(error.violations.map(({ path }) => path)).toEqual(["priority", "queue", "scheduleTime"]);
    expect((await rejection(client.handle(task, ID).update({}))).code).toBe("INVALID_ARGUMENT");
    expect(transport.calls).toEqual([]);
  });

  it("is deleted, by key too", async () => {
    const { client, transport } = fakeClient();
    transport.answer = (method) => (method === "GetTask" ? taskMessage() : {});
    await client.handle(task, { key: "k" }).delete({ etag: "e" });
    expect(transport.requests("DeleteTask")).toEqual([{ task: BY_ID, etag: "e" }]);
  });

  it("is explained in words of the SDK, and by 'unknown' where the server says more than it knows", async () => {
    const { client, transport } = fakeClient();
    transport.answer = () =>
      ExplainTaskResponse.create({
        task: taskMessage(),
        explanations: [
          { code: ExplanationCode.ALL_SLOTS_BUSY, message: "busy", tasksAhead: 3, sinceTime: { seconds: 5n, nanos: 0 } },
          { code: ExplanationCode.UNRECOGNIZED, message: "new" },
        ],
      });
    expect(await client.handle(task, { key: "k" }).explain()).toMatchObject({
      task: { id: ID, state: "pending" },
      explanations: [
        { code: "all_slots_busy", message: "busy", tasksAhead: 3, sinceTime: new Date(5_000), untilTime: undefined },
        { code: "unknown", message: "new" },
      ],
    });
    expect(transport.requests("ExplainTask")).toEqual([{ task: { taskId: "", name: "t", key: "k" } }]);
  });

  it("tells its timeline page after page, and nothing is fetched that is not read", async () => {
    const { client, transport } = fakeClient();
    transport.answer = (_method, { pageToken }: { pageToken: string }) =>
      ListTaskEventsResponse.create(
        pageToken === ""
          ? {
              events: [
                { type: TaskEventType.SUBMITTED, state: TaskState.PENDING },
                { type: TaskEventType.LEASED, workerName: "w", fencingToken: 4n },
              ],
              nextPageToken: "2",
            }
          : {
              events: [
                {
                  type: TaskEventType.ATTEMPT_FAILED,
                  attempt: 1,
                  error: { code: "quota", message: "full" },
                  runTime: { seconds: 9n, nanos: 0 },
                },
                { type: TaskEventType.FINISHED, state: TaskState.FAILED, finishReason: FinishReason.MAX_ATTEMPTS },
                { type: TaskEventType.UNRECOGNIZED },
              ],
            },
      );
    const events = client.handle(task, ID).events({ pageSize: 2 });
    expect(transport.calls).toEqual([]);
    const seen: unknown[] = [];
    for await (const event of events) seen.push(event);
    expect(seen).toMatchObject([
      { type: "submitted", state: "pending", workerName: undefined },
      { type: "leased", workerName: "w", fencingToken: 4n, state: undefined },
      { type: "attempt_failed", attempt: 1, error: { code: "quota", message: "full" }, runTime: new Date(9_000) },
      { type: "finished", state: "failed", finishReason: "max_attempts" },
      { type: "unknown" },
    ]);
    expect(transport.requests("ListTaskEvents")).toMatchObject([{ task: BY_ID, pageSize: 2 }, { pageToken: "2" }]);
    expect((await events.page("2")).nextPageToken).toBeUndefined();
    expect((await rejection(client.handle(task, ID).events({ pageSize: 0 }).page())).violations).toMatchObject([{ path: "pageSize" }]);
  });
});

describe("a client", () => {
  it("counts what matches, of a definition or of all", async () => {
    const { client, transport } = fakeClient();
    transport.answer = () => CountTasksResponse.create({ count: 10_000, more: true });
    expect(await client.count(task, { state: ["failed"], labels: { a: "b" } })).toEqual({ count: 10_000, more: true });
    await client.count({ names: ["x"] }, { timeout: "1s" });
    await client.count();
    expect(transport.requests("CountTasks")).toMatchObject([
      { filter: { names: ["t"], states: [TaskState.FAILED], labels: { a: "b" } } },
      { filter: { names: ["x"] } },
      { filter: { names: [] } },
    ]);
    expect(transport.calls[1]?.deadlineMs).toBe(1_000);
  });

  it("simulates a policy", async () => {
    const { client, transport } = fakeClient();
    transport.answer = () =>
      SimulateRetryResponse.create({
        retryPolicy: { maxAttempts: 2, delays: [ms(1_000)] },
        attempts: [
          { attempt: 2, earliest: ms(500), latest: ms(1_000), state: TaskState.PENDING },
          { attempt: 0, state: TaskState.FAILED, finishReason: FinishReason.MAX_ATTEMPTS },
        ],
      });
    const simulated = await client.simulateRetry({ maxAttempts: 2 }, [
      { code: "quota", retryAfter: "5s" },
      "lease_lost",
      { code: "x", retry: false },
    ]);
    expect(simulated).toEqual({
      retry: { maxAttempts: 2, delays: [1_000] },
      attempts: [
        { attempt: 2, earliestMs: 500, latestMs: 1_000, state: "pending", finishReason: undefined },
        { attempt: 0, earliestMs: 0, latestMs: 0, state: "failed", finishReason: "max_attempts" },
      ],
    });
    expect(transport.requests("SimulateRetry")).toMatchObject([
      {
        retryPolicy: { maxAttempts: 2 },
        failures: [{ errorCode: "quota", retryAfter: ms(5_000) }, { leaseLost: true }, { errorCode: "x", retryable: false }],
      },
    ]);
    const error = await rejection(client.simulateRetry({ maxAttempts: 0 }, [{ code: "x", retryAfter: "soon" as never }]));
    expect(error.violations.map(({ path }) => path)).toEqual(["retry.maxAttempts", "failures[0].retryAfter"]);
  });
});

describe("a stream of submissions", () => {
  /** A client that stores all but what is negative, and the sizes of its batches. */
  function storing(): ReturnType<typeof fakeClient> & { sizes: () => number[] } {
    const all = fakeClient();
    all.transport.answer = (method, request: SubmitTasksRequest & { task: { taskId: string } }) =>
      method === "SubmitTask"
        ? { task: taskMessage({ taskId: request.task.taskId }), created: true }
        : {
            results: request.tasks.map(({ taskId, labels }) =>
              labels["refuse"] === undefined
                ? { task: taskMessage({ taskId }), created: true }
                : { task: undefined, created: false, error: { code: 3, message: "tasks[0]: no", details: [] } },
            ),
          };
    return { ...all, sizes: () => all.transport.requests<SubmitTasksRequest>("SubmitTasks").map(({ tasks }) => tasks.length) };
  }

  it("reads any iterable batch by batch, and answers each item in its place", async () => {
    const { client, sizes } = storing();
    async function* rows(): AsyncGenerator<{ metadata: { n: number }; labels?: Record<string, string> }> {
      for (let n = 0; n < 1_200; n += 1)
        yield { metadata: { n: n === 3 ? ("x" as never) : n }, ...(n === 700 ? { labels: { refuse: "1" } } : {}) };
    }
    const answers: SubmittedItem<typeof task>[] = [];
    for await (const answer of client.submitStream(task, rows())) answers.push(answer);
    expect(sizes().reduce((sum, size) => sum + size)).toBe(1_199);
    expect(answers.map(({ index }) => index)).toEqual(Array.from({ length: 1_200 }, (_, index) => index));
    expect(answers.filter(({ error }) => error !== undefined).map(({ index, error }) => [index, error?.code])).toEqual([
      [3, "INVALID_ARGUMENT"],
      [700, "INVALID_ARGUMENT"],
    ]);
    expect(answers[3]?.error?.violations).toMatchObject([{ path: "[3].metadata.n" }]);
    expect(answers[4]?.task?.created).toBe(true);
    expect(new Set(answers.map((answer) => answer.task?.id)).size).toBe(1_199);
  });

  it("takes no more than two batches ahead of its reader, and stops when the reader stops", async () => {
    const { client, sizes } = storing();
    let taken = 0;
    let returned = false;
    function* endless(): Generator<{ metadata: { n: number } }> {
      try {
        for (;;) yield { metadata: { n: (taken += 1) } };
      } finally {
        returned = true;
      }
    }
    for await (const { index } of client.submitStream(task, endless())) if (index === 10) break;
    await settle();
    expect([taken, returned, sizes().reduce((sum, size) => sum + size)]).toEqual([1_000, true, 1_000]);
  });

  it("answers what it got before the iterable threw, then throws that", async () => {
    const { client } = storing();
    const seen: number[] = [];
    function* failing(): Generator<{ metadata: { n: number } }> {
      yield { metadata: { n: 1 } };
      throw new Error("the file broke off");
    }
    const read = (async () => {
      for await (const { index } of client.submitStream(task, failing())) seen.push(index);
    })();
    await expect(read).rejects.toThrow("the file broke off");
    expect(seen).toEqual([0]);
  });

  it("ends with its signal", async () => {
    const { client } = storing();
    const controller = new AbortController();
    let taken = 0;
    function* endless(): Generator<{ metadata: { n: number } }> {
      for (;;) yield { metadata: { n: (taken += 1) } };
    }
    const read = (async () => {
      for await (const { index } of client.submitStream(task, endless(), { signal: controller.signal }))
        if (index === 600) controller.abort();
    })();
    expect((await rejection(read)).code).toBe("CANCELLED");
    expect(taken).toBeLessThan(2_002);
  });

  it("gives up a batch after its timeout, with an error for each item", async () => {
    const { client, transport, clock } = fakeClient();
    transport.answer = () => {
      throw failure({ code: "UNAVAILABLE" });
    };
    const errors: (LeaseholdError | undefined)[] = [];
    const read = (async () => {
      const items = [1, 2].map((n) => ({ metadata: { n } }));
      for await (const { error } of client.submitStream(task, items, { timeout: "3s" })) errors.push(error);
    })();
    await clock.advance(5_000);
    await read;
    expect(errors.map((error) => error?.code)).toEqual(["UNAVAILABLE", "UNAVAILABLE"]);
    expect((await rejection(client.submitStream(task, [], { timeout: "soon" as never }).next())).violations).toMatchObject([
      { path: "timeout" },
    ]);
  });

  it("of nothing sends nothing", async () => {
    const { client, transport } = storing();
    const none = defineTask({ name: "none", metadata: type<string>() });
    for await (const one of client.submitStream(none, [])) throw new Error(String(one.index));
    expect(transport.calls).toEqual([]);
  });
});
