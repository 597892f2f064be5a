// Does the wrapper end every call once, whatever its handler does? Without sockets; api-over-sockets.test.ts shows the same through them.
import { Metadata, status } from "@grpc/grpc-js";
import type { handleUnaryCall, ServerUnaryCall, ServiceError } from "@grpc/grpc-js";
import { TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { describe, expect, it } from "vitest";
import type { CallContext } from "@leasehold/server/api/call";
import { isWrapped, MALFORMED, safely, wrapService } from "@leasehold/server/api/call";
import { refuse } from "@leasehold/server/api/status";
import { keptLog } from "../../support/api-fakes.js";

interface Outcome {
  readonly error: ServiceError | null;
  readonly value: unknown;
}

/** Calls a wrapped unary handler and answers every outcome that it gave. */
async function callUnary(
  handler: (context: CallContext) => unknown,
  more: { request?: unknown; metadata?: Record<string, string>; cancelled?: boolean } = {},
  log = keptLog(),
): Promise<Outcome[]> {
  const { implementation } = wrapService(
    TaskServiceService,
    { getTask: (async (_: unknown, context: CallContext) => handler(context)) as never },
    log,
    () => {},
  );
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(more.metadata ?? {})) metadata.set(key, value);
  const outcomes: Outcome[] = [];
  const call = { request: more.request ?? {}, metadata, cancelled: more.cancelled ?? false, once: () => {} } as unknown as ServerUnaryCall<
    unknown,
    unknown
  >;
  await new Promise<void>((resolve) => {
    (implementation["getTask"] as handleUnaryCall<unknown, unknown>)(call, (error, value) => {
      outcomes.push({ error: error as ServiceError | null, value });
      resolve();
    });
  });
  await new Promise((resolve) => setImmediate(resolve));
  return outcomes;
}

describe("a unary call", () => {
  it("is answered once with what the handler resolves to", async () => {
    expect(await callUnary(() => "answer")).toEqual([{ error: null, value: "answer" }]);
  });

  it.each<[string, () => unknown, status]>([
    ["refuses", () => refuse("TASK_NOT_FOUND"), status.NOT_FOUND],
    [
      "throws",
      () => {
        throw new Error("x");
      },
      status.INTERNAL,
    ],
    [
      "throws no error",
      () => {
        throw null as unknown as Error;
      },
      status.INTERNAL,
    ],
    ["rejects later", () => new Promise((_, reject) => setImmediate(() => reject(new Error("x")))), status.INTERNAL],
  ])("whose handler %s is answered once with its code", async (_, handler, code) => {
    const outcomes = await callUnary(handler);
    expect(outcomes).toHaveLength(1);
    expect(outcomes[0]!.error?.code).toBe(code);
  });

  it("of a method without a handler is UNIMPLEMENTED with reason NOT_IMPLEMENTED", async () => {
    const { implementation } = wrapService(TaskServiceService, {}, keptLog(), () => {});
    const call = { request: {}, metadata: new Metadata(), cancelled: false, once: () => {} } as unknown as ServerUnaryCall<
      unknown,
      unknown
    >;
    const error = await new Promise<unknown>((resolve) => {
      (implementation["getTask"] as handleUnaryCall<unknown, unknown>)(call, resolve);
    });
    expect(error).toMatchObject({ code: status.UNIMPLEMENTED });
  });

  it("whose caller is gone ends all the same", async () => {
    expect(await callUnary(({ gone }) => gone(), { cancelled: true })).toEqual([{ error: null, value: true }]);
  });

  it("whose bytes did not decode never reaches its handler", async () => {
    let reached = false;
    const [outcome] = await callUnary(() => (reached = true), { request: MALFORMED });
    expect(outcome!.error?.code).toBe(status.INVALID_ARGUMENT);
    expect(reached).toBe(false);
  });

  it("is of the default namespace, and of no other yet", async () => {
    expect(await callUnary(({ namespace }) => namespace)).toMatchObject([{ value: "default" }]);
    expect(await callUnary(({ namespace }) => namespace, { metadata: { "leasehold-namespace": "default" } })).toMatchObject([
      { value: "default" },
    ]);
    expect((await callUnary(() => null, { metadata: { "leasehold-namespace": "other" } }))[0]!.error?.code).toBe(status.PERMISSION_DENIED);
  });

  it("carries its trace context, and none that is broken", async () => {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    expect(await callUnary(({ traceContext }) => traceContext, { metadata: { traceparent, tracestate: "a=b" } })).toMatchObject([
      { value: { traceparent, tracestate: "a=b", baggage: "" } },
    ]);
    expect(await callUnary(({ traceContext }) => traceContext, { metadata: { traceparent: "00-x" } })).toMatchObject([{ value: null }]);
  });

  it("that meets a bug is logged with its task and its trace, and with no text of its caller for an id", async () => {
    const metadata = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" };
    const task_id = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";
    const fail = (): never => {
      throw new Error("a bug");
    };
    const entries = async (request: object): Promise<object> => {
      const log = keptLog();
      await callUnary(fail, { request, metadata }, log);
      return log.lines.map(({ fields }) => fields)[0] ?? {};
    };
    const trace = { trace_id: "0af7651916cd43dd8448eb211c80319c", span_id: "b7ad6b7169203331" };
    expect(await entries({ task: { taskId: task_id } })).toMatchObject({ task_id, ...trace });
    expect(await entries({ taskId: task_id })).toMatchObject({ task_id, ...trace });
    expect(await entries({ task: { taskId: "what a user wrote" } })).not.toHaveProperty("task_id");
  });
});

describe("a service", () => {
  it("has a wrapped handler for every method of its definition", () => {
    const { name, implementation, definition } = wrapService(TaskServiceService, {}, keptLog(), () => {});
    expect(name).toBe("leasehold.v1.TaskService");
    expect(Object.keys(implementation)).toEqual(Object.keys(TaskServiceService));
    expect(Object.keys(definition)).toEqual(Object.keys(TaskServiceService));
    for (const handler of Object.values(implementation)) expect(isWrapped(handler)).toBe(true);
    expect(isWrapped(() => {})).toBe(false);
  });

  it("decodes what it can and marks what it cannot", () => {
    expect(safely(() => 1)(Buffer.alloc(0))).toBe(1);
    expect(
      safely(() => {
        throw new Error("x");
      })(Buffer.alloc(0)),
    ).toBe(MALFORMED);
  });
});
