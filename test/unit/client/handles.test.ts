// What can one do with a task: wait for it, follow it, change its course, find it?
import { type Client, defineTask, isTaskFailed, type } from "@leasehold/client";
import { FinishReason, type Task, TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import {
  type CancelTaskRequest,
  type GetTaskRequest,
  type ListTasksRequest,
  type ProceedTaskRequest,
  ProceedResult,
  TaskOrder,
  type WatchTasksRequest,
  WatchTasksResponse,
} from "@leasehold/proto/leasehold/v1/task_service";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { type FakeClock, settle } from "./fake-clock.js";
import { fakeClient, failure, type FakeStream, type FakeTransport, json, parsed, rejection, taskMessage } from "./fake-transport.js";

const task = defineTask({
  name: "t",
  metadata: z.object({ n: z.number() }),
  executionMetadata: z.object({ decision: z.string().default("none") }),
  result: z.object({ at: z.string().transform((text) => new Date(text)) }),
  errors: { quota: z.object({ resetsAt: z.string() }) },
});
type WatchStream = FakeStream<WatchTasksRequest, WatchTasksResponse>;

const done = (taskId: string): Task =>
  taskMessage({ taskId, state: TaskState.COMPLETED, result: json({ at: "2026-01-01T00:00:00Z" }), metadata: json({ n: 1 }) });

/** A client whose GetTask answers from `tasks`. */
function holding(tasks: Map<string, Task>): { client: Client; transport: FakeTransport; clock: FakeClock } {
  const all = fakeClient();
  all.transport.answer = (method, request) => {
    if (method !== "GetTask") throw failure({ code: "UNIMPLEMENTED" });
    const { taskId, key } = (request as GetTaskRequest).task!;
    const found = [...tasks.values()].find((one) => one.taskId === taskId || (key !== "" && one.key === key));
    if (found === undefined) throw failure({ code: "NOT_FOUND" });
    return found;
  };
  return all;
}

function streamsOf(transport: FakeTransport): WatchStream[] {
  return transport.streams as unknown as WatchStream[];
}

function update(...tasks: Task[]): WatchTasksResponse {
  return WatchTasksResponse.create({ updates: tasks.map((one) => ({ taskId: one.taskId, task: one })) });
}

describe("waiting", () => {
  it("returns the parsed result when the task is finished", async () => {
    const tasks = new Map([["a", done("a")]]);
    const { client, transport } = holding(tasks);
    const result = client.handle(task, "a").result();
    await settle();
    const [stream] = streamsOf(transport);
    expect(stream?.received).toEqual([{ taskIds: ["a"], view: TaskView.BASIC }]);
    expect(stream?.ended).toBe(true);
    stream?.send(update(taskMessage({ taskId: "a", state: TaskState.RUNNING })));
    stream?.send(update(taskMessage({ taskId: "a", state: TaskState.COMPLETED })));
    expect(await result).toEqual({ at: new Date("2026-01-01T00:00:00Z") });
    expect(transport.requests<GetTaskRequest>("GetTask")).toMatchObject([{ view: TaskView.FULL }]);
    expect(stream?.cancelled).toBe(true);
  });

  it("throws TASK_FAILED with the declared error, and outcome tells it without throwing", async () => {
    const failed = taskMessage({
      taskId: "a",
      state: TaskState.FAILED,
      finishReason: FinishReason.MAX_ATTEMPTS,
      error: { code: "quota", message: "full", details: json({ resetsAt: "noon" }) },
    });
    const { client, transport } = holding(new Map([["a", failed]]));
    const [result, outcome] = [rejection(client.handle(task, "a").result()), client.handle(task, "a").outcome()];
    await settle();
    streamsOf(transport)[0]?.send(update(failed));
    const error = await result;
    expect(isTaskFailed(error, task) && error.failure.code === "quota" && error.failure.data.resetsAt).toBe("noon");
    expect(await outcome).toMatchObject({
      state: "failed",
      finishReason: "max_attempts",
      error: { code: "quota", data: { resetsAt: "noon" } },
    });
  });

  it("tells system failures, unknown codes and data that do not fit apart from declared errors", async () => {
    const errors: [object, string, string][] = [
      [{ code: "ATTEMPT_DEADLINE", message: "" }, "ATTEMPT_DEADLINE", "ATTEMPT_DEADLINE"],
      [{ code: "from_another_version", message: "" }, "UNDECLARED", "from_another_version"],
      [{ code: "quota", message: "", details: json({ resetsAt: 5 }) }, "UNDECLARED", "quota"],
      [{ code: "constructor", message: "" }, "UNDECLARED", "constructor"],
    ];
    for (const [error, code, originalCode] of errors) {
      const failed = taskMessage({ taskId: "a", state: TaskState.FAILED, error });
      const { client, transport } = holding(new Map([["a", failed]]));
      const outcome = client.handle(task, "a").outcome();
      await settle();
      streamsOf(transport)[0]?.send(update(failed));
      expect(await outcome).toMatchObject({ state: "failed", error: { code, originalCode } });
    }
  });

  it("keeps what the worker threw, cause by cause, with the worker's stacks", async () => {
    const cause = { message: "refused", stack: "Error: refused\n    at socket", cause: { message: "no route" } };
    const failed = taskMessage({
      taskId: "a",
      state: TaskState.FAILED,
      error: { code: "HANDLER_ERROR", message: "no rows", stack: "Error: no rows\n    at handler", cause },
    });
    const { client, transport } = holding(new Map([["a", failed]]));
    const [result, outcome] = [rejection(client.handle(task, "a").result()), client.handle(task, "a").outcome()];
    await settle();
    streamsOf(transport)[0]?.send(update(failed));
    const chain = { message: "refused", stack: cause.stack, cause: { message: "no route", stack: "Error: no route" } };
    expect(await outcome).toMatchObject({ error: { stack: "Error: no rows\n    at handler", cause: chain } });
    const error = await result;
    expect(error.cause).toMatchObject({ message: "no rows", stack: "Error: no rows\n    at handler", cause: chain });
    expect(error.cause).toBeInstanceOf(Error);
  });

  it("throws TASK_CANCELLED, TASK_REMOVED, SCHEMA_MISMATCH and DEADLINE_EXCEEDED for what they are", async () => {
    const cases: [Task | undefined, string][] = [
      [taskMessage({ taskId: "a", state: TaskState.CANCELLED, finishReason: FinishReason.CANCEL_REQUESTED }), "TASK_CANCELLED"],
      [undefined, "TASK_REMOVED"],
      [taskMessage({ taskId: "a", state: TaskState.COMPLETED, result: json({ at: 5 }) }), "SCHEMA_MISMATCH"],
    ];
    for (const [found, code] of cases) {
      const { client, transport } = holding(new Map(found ? [["a", found]] : []));
      const result = rejection(client.handle(task, "a").result());
      await settle();
      streamsOf(transport)[0]?.send(found ? update(found) : WatchTasksResponse.create({ updates: [{ taskId: "a", removed: true }] }));
      expect((await result).code).toBe(code);
    }
    const { client, clock } = holding(new Map());
    const late = rejection(client.handle(task, "a").result({ timeout: "2m" }));
    await clock.advance(120_000);
    expect((await late).code).toBe("DEADLINE_EXCEEDED");
    expect(clock.pending).toBe(0);
  });

  it("by key looks the id up once", async () => {
    const { client, transport } = holding(new Map([["a", { ...done("a"), key: "k" }]]));
    const handle = client.handle(task, { key: "k" });
    const result = handle.result();
    await settle();
    streamsOf(transport)[0]?.send(update(done("a")));
    await result;
    expect(await handle.findId()).toBe("a");
    expect(transport.requests<GetTaskRequest>("GetTask").map((one) => one.task?.key)).toEqual(["k", ""]);
  });
});

describe("ten thousand waits", () => {
  it("of one turn share streams of a thousand ids", async () => {
    const { client, transport } = holding(new Map());
    const ids = Array.from({ length: 2_500 }, (_, n) => `id-${String(n)}`);
    const waits = ids.map((id) => rejection(client.handle(task, id).result()));
    await settle();
    expect(streamsOf(transport).map(({ received }) => received[0]?.taskIds.length)).toEqual([1_000, 1_000, 500]);
    client.close();
    expect((await waits[0])?.code).toBe("CLIENT_CLOSED");
    expect(streamsOf(transport).every(({ cancelled }) => cancelled)).toBe(true);
    await Promise.all(waits);
  });

  it("that come one by one end up in few streams", async () => {
    const { client, transport } = holding(new Map());
    const waits: Promise<unknown>[] = [];
    for (let n = 0; n < 300; n += 1) {
      waits.push(rejection(client.handle(task, `id-${String(n)}`).result()));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await settle();
    const open = streamsOf(transport).filter(({ cancelled }) => !cancelled);
    expect(open.length).toBeLessThanOrEqual(10);
    expect(open.flatMap(({ received }) => received[0]?.taskIds ?? []).length).toBe(300);
    client.close();
    await Promise.all(waits);
  });

  it("survive the end and the silence of their stream", async () => {
    const { client, transport, clock } = holding(new Map([["a", done("a")]]));
    const result = client.handle(task, "a").result();
    await settle();
    streamsOf(transport)[0]?.close(failure({ code: "UNAVAILABLE" }));
    await clock.advance(1_000);
    expect(streamsOf(transport)).toHaveLength(2);
    await clock.advance(31_000);
    expect(streamsOf(transport)[1]?.cancelled).toBe(true);
    streamsOf(transport)[2]?.send(update(done("a")));
    await result;
    expect(clock.pending).toBe(0);
  });

  it("end when credentials are refused", async () => {
    const { client, transport } = holding(new Map());
    const result = rejection(client.handle(task, "a").result());
    await settle();
    streamsOf(transport)[0]?.close(failure({ code: "UNAUTHENTICATED" }));
    expect((await result).code).toBe("UNAUTHENTICATED");
  });
});

describe("following a task", () => {
  it("gives the newest state to a slow reader, and ends with the finished one", async () => {
    const { client, transport } = holding(new Map());
    const seen: string[] = [];
    const reading = (async () => {
      for await (const snapshot of client.handle(task, "a").watch()) {
        seen.push(`${snapshot.state} ${String(snapshot.progress?.done ?? "")}`);
        await settle();
      }
    })();
    await settle();
    const [stream] = streamsOf(transport);
    for (let n = 0; n < 10; n += 1) stream?.send(update(taskMessage({ taskId: "a", state: TaskState.RUNNING, progress: { done: n } })));
    await settle();
    await settle();
    stream?.send(update(done("a")));
    await reading;
    expect(seen).toEqual(["running 9", "completed "]);
    expect(stream?.cancelled).toBe(true);
  });

  it("stops following when the reader leaves", async () => {
    const { client, transport } = holding(new Map());
    const reading = (async () => {
      for await (const snapshot of client.handle(task, "a").watch()) if (snapshot.state === "running") break;
    })();
    await settle();
    streamsOf(transport)[0]?.send(update(taskMessage({ taskId: "a", state: TaskState.RUNNING })));
    await reading;
    expect(streamsOf(transport)[0]?.cancelled).toBe(true);
  });
});

describe("proceeding", () => {
  const suspended = (etag: string, decision: string): Task =>
    taskMessage({ taskId: "a", key: "E-17", etag, state: TaskState.SUSPENDED, executionMetadata: json({ decision }) });

  it("updates by compare-and-set, and starts over when it was overtaken", async () => {
    const { client, transport, clock } = fakeClient();
    let reads = 0;
    transport.answer = (method, request, tries) => {
      if (method === "GetTask") return suspended(`etag-${String((reads += 1))}`, `read ${String(reads)}`);
      if (tries < 3) throw failure({ code: "ABORTED" });
      return { task: suspended((request as ProceedTaskRequest).etag, ""), result: ProceedResult.APPLIED };
    };
    const proceeded = client
      .handle(task, { key: "E-17" })
      .proceed({ update: (x) => ({ decision: `${x.decision ?? ""}!` }), note: "by phone" });
    await clock.advance(1_000);
    expect(await proceeded).toMatchObject({ result: "applied" });
    const requests = transport.requests<ProceedTaskRequest>("ProceedTask");
    expect(requests.map((one) => [one.etag, parsed(one.update?.replace), one.note])).toEqual([
      ["etag-2", { decision: "read 2!" }, "by phone"],
      ["etag-3", { decision: "read 3!" }, "by phone"],
      ["etag-4", { decision: "read 4!" }, "by phone"],
    ]);
    expect(new Set(requests.map(({ requestId }) => requestId)).size).toBe(3);
    expect(requests.every((one) => one.task?.taskId === "a" && one.filter === undefined)).toBe(true);
  });

  it("gives up after ten overtakings", async () => {
    const { client, transport, clock } = fakeClient();
    transport.answer = (method) => {
      if (method === "GetTask") return suspended("e", "x");
      throw failure({ code: "ABORTED" });
    };
    const failed = rejection(client.handle(task, "a").proceed({ update: (x) => x }));
    await clock.advance(5_000);
    expect([(await failed).code, transport.requests("ProceedTask").length]).toEqual(["ABORTED", 10]);
  });

  it("repeats an unanswered proceed under the same request id", async () => {
    const { client, transport, clock } = fakeClient();
    transport.answer = (_method, _request, tries) => {
      if (tries === 1) throw failure({ code: "UNAVAILABLE" });
      return { task: suspended("e", "x"), result: ProceedResult.REMEMBERED };
    };
    const proceeded = client.handle(task, "a").proceed({ patch: { decision: null } });
    await clock.advance(1_000);
    expect((await proceeded).result).toBe("remembered");
    const [first, second] = transport.requests<ProceedTaskRequest>("ProceedTask");
    expect(first?.requestId).toBe(second?.requestId);
    expect(parsed(first?.update?.mergePatch)).toEqual({ decision: null });
  });

  it("refuses what cannot be before anything leaves", async () => {
    const { client, transport } = fakeClient();
    const handle = client.handle(task, "a");
    expect((await rejection(handle.proceed({ patch: {}, replace: {} }))).violations[0]?.path).toBe("patch, replace");
    expect((await rejection(handle.proceed({ replace: { decision: 5 as never } }))).violations[0]?.path).toBe("replace.decision");
    expect((await rejection(handle.proceed({ patch: { decision: 5n as never } }))).violations[0]?.path).toBe("patch.decision");
    expect((await rejection(handle.proceed({ scheduleTime: new Date(Number.NaN) }))).violations[0]?.path).toBe("scheduleTime");
    expect(transport.calls).toEqual([]);
  });
});

describe("other verbs", () => {
  it("cancel with a reason and a grace, and retry", async () => {
    const { client, transport } = fakeClient();
    transport.answer = () => taskMessage({ state: TaskState.CANCELLED });
    expect((await client.handle(task, "a").cancel({ reason: "superseded", grace: "5s" })).state).toBe("cancelled");
    expect(transport.requests<CancelTaskRequest>("CancelTask")[0]).toMatchObject({
      task: { taskId: "a" },
      reason: "superseded",
      grace: { seconds: 5n },
    });
    await client.handle(task, "a").retry({ resetAttempts: false });
    expect(transport.requests("RetryTask")[0]).toMatchObject({ resetAttempts: false, keepExecutionMetadata: undefined, etag: "" });
  });

  it("give a full snapshot, typed or raw", async () => {
    const { client } = holding(new Map([["a", done("a")]]));
    expect(await client.handle(task, "a").snapshot()).toMatchObject({
      state: "completed",
      metadata: { n: 1 },
      executionMetadata: { decision: "none" },
      result: { at: new Date("2026-01-01T00:00:00Z") },
    });
    expect((await client.handle({ id: "a" }).snapshot()).result).toEqual({ at: "2026-01-01T00:00:00Z" });
  });

  it("list page after page, or a page by hand", async () => {
    const { client, transport } = fakeClient();
    transport.answer = (_method, request) => {
      const { pageToken } = request as ListTasksRequest;
      return {
        tasks: [taskMessage({ taskId: `on ${pageToken}` })],
        nextPageToken: { "": "2", 2: "3", 3: "" }[pageToken],
        scanLimitReached: false,
      };
    };
    const list = client.list(
      task,
      { state: ["failed"], metadata: { n: 1 }, labels: { tenant: "x" } },
      { pageSize: 1, order: "oldest_first" },
    );
    const seen: string[] = [];
    for await (const { id } of list) seen.push(id);
    expect(seen).toEqual(["on ", "on 2", "on 3"]);
    expect(transport.requests<ListTasksRequest>("ListTasks")[0]).toMatchObject({
      filter: { names: ["t"], states: [TaskState.FAILED], metadataContains: '{"n":1}', labels: { tenant: "x" } },
      order: TaskOrder.OLDEST_FIRST,
      pageSize: 1,
      view: TaskView.BASIC,
    });
    expect(await list.page("2")).toMatchObject({ tasks: [{ id: "on 2" }], nextPageToken: "3" });
    await client.list({ names: ["a", "b"], createdFrom: new Date(0) }).page();
    expect(transport.requests<ListTasksRequest>("ListTasks").at(-1)).toMatchObject({
      filter: { names: ["a", "b"], createTimeFrom: { seconds: 0n } },
    });
  });
});

describe("types of payload", () => {
  it("without a schema is null for a result", async () => {
    const plain = defineTask({ name: "t", metadata: type<unknown>() });
    const finished = taskMessage({ taskId: "a", state: TaskState.COMPLETED });
    const { client, transport } = holding(new Map([["a", finished]]));
    const result = client.handle(plain, "a").result();
    await settle();
    streamsOf(transport)[0]?.send(update(finished));
    expect(await result).toBeNull();
  });
});
