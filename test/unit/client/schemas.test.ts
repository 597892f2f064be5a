// Does a definition behave the same whichever schema library it is written in: defaults, transforms, paths, start of execution metadata?
import { defineTask, handle, type HandlerContext, type Schema, type TaskDefinition } from "@leasehold/client";
import { type as ark } from "arktype";
import * as v from "valibot";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import * as mini from "zod/mini";
import { z as zod3 } from "zod/v3";
import { fakeClient, json, parsed, rejection, taskMessage } from "./fake-transport.js";
import { FakeWorkerServer, ms, stopWorkers } from "./fake-worker-server.js";

interface Input {
  at: string;
  items: { price: number }[];
}
interface Parts {
  metadata: Schema<Input, { at: Date; items: { price: number }[] }>;
  executionMetadata: Schema<{ offset?: number | undefined }, { offset: number }>;
  result: Schema<{ rows: number }>;
  data: Schema<{ resetsAt: string }>;
}
const day = (text: string): Date => new Date(text);
const LIBRARIES: Record<string, Parts> = {
  zod: {
    metadata: z.object({ at: z.string().transform(day), items: z.array(z.object({ price: z.number() })) }),
    executionMetadata: z.object({ offset: z.number().default(7) }),
    result: z.object({ rows: z.number() }),
    data: z.object({ resetsAt: z.string() }),
  },
  "zod mini": {
    metadata: mini.object({ at: mini.pipe(mini.string(), mini.transform(day)), items: mini.array(mini.object({ price: mini.number() })) }),
    executionMetadata: mini.object({ offset: mini._default(mini.number(), 7) }),
    result: mini.object({ rows: mini.number() }),
    data: mini.object({ resetsAt: mini.string() }),
  },
  "zod 3": {
    metadata: zod3.object({ at: zod3.string().transform(day), items: zod3.array(zod3.object({ price: zod3.number() })) }),
    executionMetadata: zod3.object({ offset: zod3.number().default(7) }),
    result: zod3.object({ rows: zod3.number() }),
    data: zod3.object({ resetsAt: zod3.string() }),
  },
  valibot: {
    metadata: v.object({ at: v.pipe(v.string(), v.transform(day)), items: v.array(v.object({ price: v.number() })) }),
    executionMetadata: v.object({ offset: v.optional(v.number(), 7) }),
    result: v.object({ rows: v.number() }),
    data: v.object({ resetsAt: v.string() }),
  },
  arktype: {
    metadata: ark({ at: ark("string").pipe(day), items: ark({ price: "number" }).array() }),
    executionMetadata: ark({ offset: "number = 7" }),
    result: ark({ rows: "number" }),
    data: ark({ resetsAt: "string" }),
  },
};

afterEach(stopWorkers);

describe.each(Object.entries(LIBRARIES))("a definition in %s", (_library, { metadata, executionMetadata, result, data }) => {
  const task = defineTask({ name: "t", metadata, executionMetadata, result, errors: { quota: data } });
  const good = { at: "2026-01-01", items: [{ price: 1 }] };

  it("sends what was given and refuses what does not fit, with its path", async () => {
    const { client, transport } = fakeClient();
    transport.answer = (_method, request: { task: { taskId: string } }) => ({
      task: taskMessage({ taskId: request.task.taskId }),
      created: true,
    });
    await client.submit(task, good);
    const [sent] = transport.requests<{ task: { metadata: { data: Buffer } } }>("SubmitTask");
    expect(parsed(sent?.task.metadata)).toEqual(good);
    const error = await rejection(client.submit(task, { at: "2026-01-01", items: [{ price: 1 }, { price: "2" as never }] }));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ path: "metadata.items[1].price" }] });
  });

  it("gives the handler what the schema makes of it, defaults filled in", async () => {
    const seen: HandlerContext<typeof task>[] = [];
    const server = await FakeWorkerServer.start([
      handle(task, (ctx) => {
        seen.push(ctx);
        return ctx.id === "a" ? { rows: 1 } : ctx.fail("quota", { resetsAt: "noon" });
      }),
    ]);
    await server.lease("a", { metadata: json(good) });
    await server.lease("b", { metadata: json(good), executionMetadata: json({ offset: 9 }) });
    expect(seen.map((ctx) => [ctx.metadata.at, ctx.executionMetadata.current])).toEqual([
      [day("2026-01-01"), { offset: 7 }],
      [day("2026-01-01"), { offset: 9 }],
    ]);
    expect(server.reports).toMatchObject([{ complete: { result: json({ rows: 1 }) } }, { fail: { error: { code: "quota" } } }]);
  });

  it("leaves a task that it cannot read to another worker, and refuses wrong results and error data", async () => {
    const wrong = handle(task as TaskDefinition, (ctx) => (ctx.id === "b" ? { rows: "1" } : ctx.fail("quota" as never, { resetsAt: 5 })));
    const server = await FakeWorkerServer.start([wrong]);
    await server.lease("a", { metadata: json({ at: 5, items: [] }) });
    await server.lease("b", { metadata: json(good) });
    await server.lease("c", { metadata: json(good) });
    expect(server.reports).toMatchObject([
      { fail: { retryable: true, retryAfter: ms(15_000), error: { code: "METADATA_INVALID" } } },
      { fail: { retryable: false, error: { code: "RESULT_INVALID" } } },
      { fail: { retryable: true, error: { code: "HANDLER_ERROR" } } },
    ]);
    expect(server.reports.map(({ fail }) => fail?.error?.message)).toEqual([
      expect.stringContaining("metadata.at"),
      expect.stringContaining("result.rows"),
      expect.stringContaining("data.resetsAt"),
    ]);
  });
});

describe("a schema whose asynchronous part rejects", () => {
  const away = async (): Promise<boolean> => Promise.reject(new Error("no database"));
  const standard = (text: string): Schema<object> => ({
    "~standard": { version: 1, vendor: text, validate: async () => Promise.reject(new Error("no database")) },
  });
  const schemas: Record<string, Schema<object>> = {
    zod: z.object({ a: z.number().optional().refine(away) }),
    "zod, as a whole": z.object({}).refine(away),
    "zod mini": mini.object({}).check(mini.refine(away)),
    "zod 3": zod3.object({}).refine(away),
    valibot: v.pipeAsync(v.object({}), v.checkAsync(away)),
    another: standard("another"),
  };

  // A promise that somebody dropped would end the process; here it fails the test run.
  it.each(Object.entries(schemas))(
    "of %s is an error that names task and field: on submission, on arrival, in every outcome",
    async (_, schema) => {
      const task = defineTask({ name: "books", metadata: schema, executionMetadata: schema, result: schema, errors: { odd: schema } });
      const { client } = fakeClient();
      const refused = await rejection(client.submit(task, {}, { executionMetadata: {} }));
      expect(refused).toMatchObject({ code: "INVALID_ARGUMENT", taskName: "books" });
      expect(refused.message).toMatch(/metadata: its schema threw: no database; executionMetadata: its schema threw.*\(task books\)/);

      const arriving = await FakeWorkerServer.start([handle(task, () => ({}))]);
      await arriving.lease("a", { name: "books", metadata: json({}) });
      expect(arriving.reports[0]?.fail).toMatchObject({ retryable: true, error: { code: "METADATA_INVALID" } });
      expect(arriving.reports[0]?.fail?.error?.message).toContain("metadata: its schema threw: no database");

      const ending = defineTask({ name: "t", result: schema, errors: { odd: schema } });
      const server = await FakeWorkerServer.start([handle(ending, (ctx) => (ctx.id === "fails" ? ctx.fail("odd", {}) : {}))]);
      for (const id of ["fails", "ends"]) await server.lease(id);
      expect(server.reports.map(({ fail }) => `${fail?.error?.code} ${fail?.error?.message}`)).toEqual([
        expect.stringMatching(/^HANDLER_ERROR.*data: its schema threw: no database/),
        expect.stringMatching(/^RESULT_INVALID.*result: its schema threw: no database/),
      ]);
    },
  );

  it("is asked at the call where nothing of it is asynchronous, and later where something is", async () => {
    const seen: string[] = [];
    const quota = z.object({ n: z.number().refine(async (n) => Promise.resolve(n > 1)), text: z.string() });
    const task = defineTask({ name: "t", errors: { quota, plain: z.object({ text: z.string() }) } });
    const server = await FakeWorkerServer.start([
      handle(task, (ctx) => {
        try {
          ctx.fail("plain", { text: 5 as never });
        } catch (error) {
          seen.push(String(error));
        }
        return ctx.fail("quota", { n: 1, text: "x" });
      }),
    ]);
    await server.lease("a");
    expect(seen).toEqual([expect.stringContaining("data.text")]);
    expect(server.reports[0]?.fail?.error?.message).toContain("data.n");
  });
});

describe("a schema of another realm", () => {
  it("may answer with that realm's promise", async () => {
    const { schema } = runInNewContext(
      `({ schema: { "~standard": { version: 1, vendor: "own", validate: async (value) => value === 1 ? { value } : { issues: [{ message: "not one" }] } } } })`,
    ) as { schema: Schema<number> };
    const { client, transport } = fakeClient();
    transport.answer = () => ({ task: taskMessage(), created: true });
    const task = defineTask({ name: "t", metadata: schema });
    await client.submit(task, 1);
    expect((await rejection(client.submit(task, 2))).violations).toEqual([{ path: "metadata", message: "not one" }]);
  });
});
