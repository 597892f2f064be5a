// Do the types flow through every schema library, and through what users build around definitions? Compiled by types.test.ts, never run.
import {
  type Client,
  createClient,
  createWorker,
  defineMachine,
  defineTask,
  type ErrorDataOf,
  type ExecutionMetadataInput,
  handle,
  handleMachine,
  type HandlerContext,
  type HandlerFunction,
  isTaskFailed,
  type LeaseholdError,
  type MetadataInput,
  type MetadataOf,
  type Middleware,
  type PayloadCodec,
  type ResultInput,
  type ResultOf,
  type StopReason,
  type TaskDefinition,
  type TaskHandler,
  type TaskOptions,
} from "@leasehold/client";
import { type as ark } from "arktype";
import * as v from "valibot";
import { z } from "zod";

type Probe<A> = <T>(value: T) => T extends A ? T : A;
type Same<A, B> = Probe<A> extends Probe<B> ? true : never;
declare function same<A, B>(yes: Same<A, B>): void;
declare function use(value: unknown): void;

// The same task in three libraries: input on the wire, output where it is read, a default, a declared error.
export const inZod = defineTask({
  name: "in-zod",
  metadata: z.object({ at: z.string().transform((text) => new Date(text)), times: z.number().default(1) }),
  executionMetadata: z.object({ offset: z.number().default(0) }),
  result: z.object({ rows: z.number() }),
  errors: { quota: z.object({ resetsAt: z.string() }) },
});
export const inValibot = defineTask({
  name: "in-valibot",
  metadata: v.object({
    at: v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
    ),
    times: v.optional(v.number(), 1),
  }),
  executionMetadata: v.object({ offset: v.optional(v.number(), 0) }),
  result: v.object({ rows: v.number() }),
  errors: { quota: v.object({ resetsAt: v.string() }) },
});
export const inArktype = defineTask({
  name: "in-arktype",
  metadata: ark({ at: ark("string").pipe((text) => new Date(text)), times: "number = 1" }),
  executionMetadata: ark({ offset: "number = 0" }),
  result: ark({ rows: "number" }),
  errors: { quota: ark({ resetsAt: "string" }) },
});
same<MetadataInput<typeof inZod>, { at: string; times?: number | undefined }>(true);
same<MetadataInput<typeof inValibot>, { at: string; times?: number | undefined }>(true);
same<MetadataInput<typeof inArktype>, { at: string; times?: number }>(true);
same<MetadataOf<typeof inZod>, { at: Date; times: number }>(true);
same<MetadataOf<typeof inValibot>, { at: Date; times: number }>(true);
same<MetadataOf<typeof inArktype>, { at: Date; times: number }>(true);
same<ResultOf<typeof inZod>, { rows: number }>(true);
same<ResultOf<typeof inValibot>, { rows: number }>(true);
same<ResultOf<typeof inArktype>, { rows: number }>(true);
same<ErrorDataOf<typeof inZod, "quota">, { resetsAt: string }>(true);
same<ErrorDataOf<typeof inValibot, "quota">, { resetsAt: string }>(true);
same<ErrorDataOf<typeof inArktype, "quota">, { resetsAt: string }>(true);
same<ExecutionMetadataInput<typeof inValibot>, { offset?: number | undefined }>(true);

export const handlers = [
  handle(inZod, async (ctx) => {
    same<typeof ctx.metadata.at, Date>(true);
    await ctx.executionMetadata.checkpoint({ offset: ctx.executionMetadata.current.offset + 1 });
    return { rows: 1 };
  }),
  handle(inValibot, async (ctx) => {
    same<typeof ctx.metadata.at, Date>(true);
    await ctx.executionMetadata.checkpoint({ offset: ctx.executionMetadata.current.offset + 1 });
    return ctx.attempt > 1 ? ctx.fail("quota", { resetsAt: "noon" }) : { rows: 1 };
  }),
  handle(inArktype, async (ctx) => {
    same<typeof ctx.metadata.at, Date>(true);
    await ctx.executionMetadata.checkpoint({ offset: ctx.executionMetadata.current.offset + 1 });
    return ctx.attempt > 1 ? ctx.fail("quota", { resetsAt: "noon" }) : { rows: 1 };
  }),
];
export const mixed = defineMachine({
  name: "mixed",
  initial: { state: "zod", data: { n: 1 } },
  states: { zod: z.object({ n: z.number() }), valibot: v.object({ n: v.number() }), arktype: ark({ n: "number" }) },
});
handlers.push(
  handleMachine(mixed, {
    zod: (d, ctx) => ctx.goto("valibot", { n: d.n }),
    valibot: (d, ctx) => ctx.goto("arktype", { n: d.n }),
    arktype: (d, ctx) => ctx.park("zod", { n: d.n + 1 }, { until: new Date() }),
  }),
);

// Properties in any order, errors and options from elsewhere, nothing but a name.
const errors = { busy: v.object({ until: v.string() }), gone: z.null() };
const options: TaskOptions = { retry: { maxAttempts: 3 } };
export const shuffled = defineTask({ options, result: z.array(z.string()), errors: { ...errors }, metadata: v.string(), name: "shuffled" });
same<ResultInput<typeof shuffled>, string[]>(true);
export const bare = defineTask({ name: "bare" });
handle(bare, () => undefined);
handle(bare, () => {
  use("returns nothing");
});

// Wrappers of one's own keep the types.
export function submitTraced<Task extends TaskDefinition>(client: Client, task: Task, metadata: MetadataInput<Task>) {
  return client.submit(task, metadata, { labels: { trace: "1" } });
}
export function timed<Task extends TaskDefinition>(task: Task, run: HandlerFunction<Task>): TaskHandler {
  return handle(task, (ctx) => run(ctx));
}
export function offsetOf(ctx: HandlerContext<typeof inZod>): number {
  return ctx.executionMetadata.current.offset;
}
export async function caller(client: Client): Promise<void> {
  const job = await submitTraced(client, inValibot, { at: "2026-01-01" });
  const { rows } = await job.result();
  same<typeof rows, number>(true);
  use(rows);
  for (const task of [inZod, inValibot]) use(await client.handle(task, "id").outcome());
  const outcome = await client.handle(shuffled, "id").outcome();
  if (outcome.state === "failed") {
    switch (outcome.error.code) {
      case "busy":
        same<typeof outcome.error.data, { until: string }>(true);
        break;
      case "gone":
        same<typeof outcome.error.data, null>(true);
        break;
      case "MACHINE_CYCLE":
        use(outcome.error.cause?.stack);
        break;
      // @ts-expect-error no such code
      case "quota":
        break;
      default:
        use(outcome.error.originalCode);
    }
  }
  // @ts-expect-error only a failed task has an error
  use(outcome.error);
}
export function whyStopped(reason: StopReason): string {
  switch (reason.kind) {
    case "cancelled":
      return reason.reason;
    case "shutdown":
    case "disconnected":
    case "lease_lost":
    case "attempt_deadline":
    case "silence_deadline":
    case "total_deadline":
    case "cancel_grace_ended":
      return reason.kind;
  }
}
export const tracing: Middleware = async (context, next) => {
  use([context.name, context.task.name, context.metadata]);
  return next();
};
export const upperCase: PayloadCodec = {
  name: "x",
  encode: (payload) => payload,
  decode: async (payload) => ({ ...payload, contentType: "" }),
};
export function narrow(error: LeaseholdError): string {
  if (isTaskFailed(error, inZod) && error.failure.code === "quota") return error.failure.data.resetsAt;
  if (error.code === "STOPPED") return error.stop?.kind ?? "";
  // @ts-expect-error not one of the closed set of codes
  return error.code === "OOPS" ? "" : error.help;
}

// Mistakes, in every library.
declare const client: Client;
// @ts-expect-error Date is not JSON: valibot
defineTask({ name: "a", metadata: v.object({ at: v.date() }) });
// @ts-expect-error Date is not JSON: arktype
defineTask({ name: "a", metadata: ark({ at: "Date" }) });
// @ts-expect-error bigint is not JSON: valibot
defineTask({ name: "a", result: v.bigint() });
// @ts-expect-error bigint is not JSON: arktype
defineTask({ name: "a", executionMetadata: ark({ n: "bigint" }) });
// @ts-expect-error data of a declared error: valibot
defineTask({ name: "a", errors: { late: v.map(v.string(), v.string()) } });
// @ts-expect-error not a schema
defineTask({ name: "a", metadata: { url: "string" } });
// @ts-expect-error a name is missing
defineTask({ metadata: z.string() });
// @ts-expect-error an option that does not exist
defineTask({ name: "a", options: { retries: 3 } });
// @ts-expect-error a duration without unit
defineTask({ name: "a", options: { deadlines: { total: "5" } } });
// @ts-expect-error the output type is not what travels
void client.submit(inValibot, { at: new Date() });
// @ts-expect-error a property is missing
void client.submit(inArktype, { times: 3 });
// @ts-expect-error an unknown property
void client.submit(inZod, { at: "", color: "red" });
// @ts-expect-error the result of a handler is the input type
handle(inValibot, () => ({ rows: "1" }));
// @ts-expect-error a handler must return its result
handle(inArktype, () => undefined);
// @ts-expect-error an error that is not declared
handle(inValibot, (ctx) => ctx.fail("late", {}));
// @ts-expect-error data of the declared error
handle(inArktype, (ctx) => ctx.fail("quota", { resetsAt: 5 }));
// @ts-expect-error both a time and a timeout
handle(bare, (ctx) => ctx.suspend({ until: { in: "1h" }, timeout: "1h" }));
// @ts-expect-error a key is a string
void client.submit(inZod, { at: "" }, { key: 5 });
// @ts-expect-error not a conflict policy
void client.submit(inZod, { at: "" }, { key: "k", onConflict: "replace" });
// @ts-expect-error a list filter of another task
client.list(inZod, { metadata: { amount: 3 } });
// @ts-expect-error a patch of another shape
void client.handle(inZod, "id").proceed({ patch: { decision: "approve" } });
// @ts-expect-error a worker without handlers
createWorker({ client });
// @ts-expect-error a function is no handler
createWorker({ client, handlers: [() => undefined] });
// @ts-expect-error middleware gets a context that has no result
createWorker({ client, handlers, middleware: [(ctx) => String(ctx.result)] });
// @ts-expect-error a codec must decode
createClient({ codecs: [{ name: "x" }] });
