// How do submissions leave: gathered, checked before, each with its own answer?
import { defineTask, type SubmitOptions, type } from "@leasehold/client";
import type { NewTask, SubmitTaskRequest, SubmitTasksRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { KeyConflictPolicy } from "@leasehold/proto/leasehold/v1/task_service";
import { createHash } from "node:crypto";
import { describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { fakeClient, failure, parsed, rejection, taskMessage } from "./fake-transport.js";
import { ms } from "./fake-worker-server.js";

const task = defineTask({
  name: "t",
  metadata: z.object({ n: z.number() }),
  options: { queue: "q", priority: 3, retry: { maxAttempts: 7, backoff: { initial: "2s" } } },
});

/** A client whose server stores everything. */
function storing(): ReturnType<typeof fakeClient> & { stored: () => NewTask[] } {
  const all = fakeClient();
  all.transport.answer = (method, request) => {
    if (method === "SubmitTask") return { task: taskMessage({ taskId: (request as SubmitTaskRequest).task!.taskId }), created: true };
    const { tasks } = request as SubmitTasksRequest;
    return { results: tasks.map(({ taskId }) => ({ task: taskMessage({ taskId }), created: true, error: undefined })) };
  };
  const stored = (): NewTask[] =>
    all.transport.calls.flatMap(({ method, request }) =>
      method === "SubmitTask" ? [(request as SubmitTaskRequest).task!] : (request as SubmitTasksRequest).tasks,
    );
  return { ...all, stored };
}

describe("submissions", () => {
  it("of one turn travel together, in their order; a lone one goes as it is", async () => {
    const { client, transport, stored } = storing();
    await Promise.all(Array.from({ length: 50 }, (_, n) => client.submit(task, { n })));
    expect(transport.calls.map(({ method }) => method)).toEqual(["SubmitTasks"]);
    expect(transport.requests<SubmitTasksRequest>("SubmitTasks")[0]?.atomic).toBe(false);
    expect(stored().map(({ metadata }) => parsed(metadata))).toEqual(Array.from({ length: 50 }, (_, n) => ({ n })));
    await client.submit(task, { n: 1 });
    expect(transport.calls.at(-1)?.method).toBe("SubmitTask");
  });

  it("made at different depths of one turn still travel together", async () => {
    const { client, transport } = storing();
    const deep = async (depth: number): Promise<unknown> =>
      depth === 0 ? client.submit(task, { n: 0 }) : Promise.resolve().then(() => deep(depth - 1));
    await Promise.all(Array.from({ length: 20 }, (_, depth) => deep(depth * 5)));
    expect(transport.calls).toHaveLength(1);
  });

  it("are cut below a thousand tasks and below the message limit", async () => {
    const { client, transport } = storing();
    await Promise.all(Array.from({ length: 2_500 }, (_, n) => client.submit(task, { n })));
    expect(transport.requests<SubmitTasksRequest>("SubmitTasks").map(({ tasks }) => tasks.length)).toEqual([1_000, 1_000, 500]);
    const big = defineTask({ name: "big", metadata: type<string>() });
    transport.calls.length = 0;
    await Promise.all(Array.from({ length: 8 }, () => client.submit(big, "x".repeat(900_000))));
    expect(transport.requests<SubmitTasksRequest>("SubmitTasks").map(({ tasks }) => tasks.length)).toEqual([3, 3, 2]);
  });

  it("wait for no timer", async () => {
    const { client, clock } = storing();
    await client.submit(task, { n: 1 }, {});
    expect(clock.pending).toBe(0);
  });

  it("are gathered although the user's test has replaced every timer", async () => {
    const { client, transport } = storing();
    vi.useFakeTimers({ toFake: ["setTimeout", "setImmediate", "queueMicrotask", "performance", "Date"] });
    const nextTick = vi.spyOn(process, "nextTick").mockImplementation(() => undefined);
    try {
      await Promise.all([client.submit(task, { n: 1 }), client.submit(task, { n: 2 })]);
    } finally {
      nextTick.mockRestore();
      vi.useRealTimers();
    }
    expect(transport.calls.map(({ method }) => method)).toEqual(["SubmitTasks"]);
  });

  it("each get their own answer: a refused one refuses none of its neighbours", async () => {
    const { client, transport } = storing();
    transport.answer = (_method, request) => ({
      results: (request as SubmitTasksRequest).tasks.map(({ taskId }, index) =>
        index === 1
          ? { created: false, error: { code: 6, message: "taken", details: [] } }
          : { task: taskMessage({ taskId }), created: true },
      ),
    });
    const answers = await Promise.allSettled([1, 2, 3].map((n) => client.submit(task, { n })));
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(answers[1]).toMatchObject({ reason: { code: "ALREADY_EXISTS", taskName: "t" } });
  });

  it("that may be tried again are, together and with the same ids", async () => {
    const { client, transport, clock } = storing();
    const answer = transport.answer;
    transport.answer = (method, request, tries) => {
      if (tries === 1) throw failure({ code: "UNAVAILABLE" });
      return answer(method, request, tries);
    };
    const all = Promise.all([1, 2, 3].map((n) => client.submit(task, { n })));
    await clock.advance(1_000);
    const ids = (await all).map(({ id }) => id);
    const requests = transport.requests<SubmitTasksRequest>("SubmitTasks").map(({ tasks }) => tasks.map(({ taskId }) => taskId));
    expect(requests).toEqual([ids, ids]);
  });

  it("that are overloaded one by one are tried again after the server's delay, without the others", async () => {
    const { client, transport, clock } = storing();
    const retryInfo = Buffer.from("0a020801", "hex");
    const busy = { code: 8, message: "busy", details: [{ typeUrl: "type.googleapis.com/google.rpc.RetryInfo", value: retryInfo }] };
    transport.answer = (_method, request, tries) => ({
      results: (request as SubmitTasksRequest).tasks.map(({ taskId }, index) =>
        tries === 1 && index === 0 ? { created: false, error: busy } : { task: taskMessage({ taskId }), created: true },
      ),
    });
    const [first, second] = [client.submit(task, { n: 1 }), client.submit(task, { n: 2 })];
    await second;
    await clock.advance(900);
    expect(transport.calls).toHaveLength(1);
    await clock.advance(300);
    expect((await first).created).toBe(true);
    expect(transport.requests<SubmitTasksRequest>("SubmitTasks")[1]?.tasks).toHaveLength(1);
  });

  it("end with the caller's signal or timeout, each for itself", async () => {
    const { client, transport, clock } = storing();
    transport.answer = () => new Promise(() => undefined);
    const controller = new AbortController();
    const aborted = rejection(client.submit(task, { n: 1 }, { signal: controller.signal }));
    const late = rejection(client.submit(task, { n: 2 }, { timeout: "5s" }));
    await clock.advance(1_000);
    controller.abort();
    expect((await aborted).code).toBe("CANCELLED");
    await clock.advance(4_000);
    expect((await late).code).toBe("DEADLINE_EXCEEDED");
  });
});

describe("created", () => {
  it("is the id's word for an id of the SDK, and the server's for one of the user", async () => {
    const { client, transport } = storing();
    transport.answer = (_method, request) => ({
      task: taskMessage({ taskId: (request as SubmitTaskRequest).task!.taskId }),
      created: false,
    });
    // The first try may have stored it and its answer got lost.
    expect((await client.submit(task, { n: 1 })).created).toBe(true);
    const id = "0190a1b2-0000-7000-8000-000000000001";
    expect((await client.submit(task, { n: 1 }, { id })).created).toBe(false);
    transport.answer = () => ({ task: taskMessage({ taskId: "another" }), created: false });
    const existing = await client.submit(task, { n: 1 }, { key: "k" });
    expect([existing.created, existing.id]).toEqual([false, "another"]);
  });
});

describe("a new task", () => {
  it("carries the call's options over the definition's", async () => {
    const { client, stored, clock } = storing();
    await client.submit(
      task,
      { n: 1 },
      {
        key: "k",
        onConflict: "replace_pending",
        labels: { tenant: "x" },
        priority: 9,
        scheduleTime: { in: "5m" },
        retry: { delays: ["1s", 250] },
        deadlines: { total: "7d" },
        keyHold: "1h",
      },
    );
    expect(stored()[0]).toMatchObject({
      name: "t",
      queue: "q",
      priority: 9,
      key: "k",
      keyConflictPolicy: KeyConflictPolicy.REPLACE_PENDING,
      labels: { tenant: "x" },
      scheduleTime: { seconds: BigInt(Math.floor((clock.now() + 300_000) / 1_000)) },
      retryPolicy: { maxAttempts: 7, backoff: { initial: ms(2_000) }, delays: [ms(1_000), ms(250)] },
      deadlines: { total: ms(604_800_000) },
      keyHold: ms(3_600_000),
    });
  });

  it("has an id of version 7 by time, whose last byte follows the key", async () => {
    const { client, stored, clock } = storing();
    await client.submit(task, { n: 1 }, { key: "t1/2026-01" });
    const { taskId } = stored()[0]!;
    expect(taskId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(Number.parseInt(taskId.replaceAll("-", "").slice(0, 12), 16)).toBe(Math.floor(clock.now()));
    expect(taskId.slice(-2)).toBe(createHash("sha256").update("t1/2026-01").digest("hex").slice(0, 2));
  });

  it("with a value that is refused names its path, and nothing leaves", async () => {
    const bad: [SubmitOptions<typeof task>, string][] = [
      [{ priority: Number.NaN }, "priority"],
      [{ priority: 1.5 }, "priority"],
      [{ priority: -1 }, "priority"],
      [{ priority: 10 }, "priority"],
      [{ scheduleTime: new Date("x") }, "scheduleTime"],
      [{ scheduleTime: { in: Number.NaN } }, "scheduleTime.in"],
      [{ scheduleTime: { in: "5 parsecs" as never } }, "scheduleTime.in"],
      [{ scheduleTime: { in: -1 } }, "scheduleTime.in"],
      [{ labels: { a: undefined as never } }, "labels.a"],
      [{ labels: Object.fromEntries([["__proto__", "x"]]) }, "labels.__proto__"],
      [{ retry: { maxAttempts: Infinity } }, "retry.maxAttempts"],
      [{ retry: { backoff: { factor: Number.NaN } } }, "retry.backoff.factor"],
      [{ retry: { backoff: { initial: "-1s" } } }, "retry.backoff.initial"],
      [{ retry: { rules: [{ codes: [], action: "retry" }] } }, "retry.rules[0].codes"],
      [{ deadlines: { total: 0 } }, "deadlines.total"],
      [{ deadlines: { attempt: "11000d" } }, "deadlines.attempt"],
      [{ keyHold: "31d" }, "keyHold"],
      [{ key: "" }, "key"],
      [{ key: "a\u0000b" }, "key"],
      [{ key: "\ud800" }, "key"],
      [{ key: "x".repeat(257) }, "key"],
      [{ id: "42" }, "id"],
      [{ queue: "no spaces" }, "queue"],
      [{ timeout: Number.NaN }, "timeout"],
    ];
    for (const [options, path] of bad) {
      const { client, transport } = storing();
      const error = await rejection(client.submit(task, { n: 1 }, options));
      expect(error, path).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ path }] });
      expect(transport.calls, path).toEqual([]);
      const [refused, ...good] = await Promise.allSettled(
        [options, ...Array<object>(20).fill({})].map((one) => client.submit(task, { n: 1 }, one)),
      );
      expect([refused?.status, good.every(({ status }) => status === "fulfilled")]).toEqual(["rejected", true]);
    }
  });

  it("with metadata that JSON or the schema refuses names its path, and all of them", async () => {
    const { client, transport } = storing();
    expect(await rejection(client.submit(task, { n: Number.NaN }))).toMatchObject({ violations: [{ path: "metadata.n" }] });
    const error = await rejection(client.submit(task, { n: "1" as never }, { priority: 77 }));
    expect(error.violations.map(({ path }) => path)).toEqual(["priority", "metadata.n"]);
    expect(transport.calls).toEqual([]);
  });

  it("whose definition cannot begin from nothing needs execution metadata", async () => {
    const strict = defineTask({ name: "s", executionMetadata: z.object({ step: z.string() }) });
    const { client, stored } = storing();
    expect(await rejection(client.submit(strict))).toMatchObject({ violations: [{ path: "executionMetadata" }] });
    await client.submit(strict, null, { executionMetadata: { step: "one" } });
    expect(parsed(stored()[0]?.executionMetadata)).toEqual({ step: "one" });
  });
});

describe("submitMany", () => {
  it("is one request, all or nothing, with paths by index", async () => {
    const { client, transport } = storing();
    const submitted = await client.submitMany(task, [{ metadata: { n: 1 }, key: "a" }, { metadata: { n: 2 } }]);
    expect(submitted).toHaveLength(2);
    expect(transport.requests<SubmitTasksRequest>("SubmitTasks")[0]).toMatchObject({ atomic: true, tasks: [{ key: "a" }, {}] });
    const error = await rejection(client.submitMany(task, [{ metadata: { n: 1 } }, { metadata: { n: 1 }, priority: 11 }]));
    expect(error.violations[0]?.path).toBe("[1].priority");
    expect(await client.submitMany(task, [])).toEqual([]);
  });
});

describe("a definition", () => {
  it("is a frozen pure value whose mistakes are named when it is made", () => {
    expect(Object.isFrozen(task)).toBe(true);
    const wrong: [() => unknown, string][] = [
      [() => defineTask({ name: "no spaces" }), "name"],
      [() => defineTask({ name: "a", errors: { UPPER: z.null() } }), "errors.UPPER"],
      [() => defineTask({ name: "a", options: { priority: 10 } }), "options.priority"],
      [() => defineTask({ name: "a", options: { retry: { backoff: { max: "5 parsecs" as never } } } }), "options.retry.backoff.max"],
    ];
    for (const [define, path] of wrong) {
      expect(define, path).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT", violations: [expect.objectContaining({ path })] }) as Error,
      );
    }
  });
});
