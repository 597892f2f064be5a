// Does the surface of the SDK type-check as the design wrote it, and refuse what it must? Compiled by types.test.ts, never run.
import {
  type Client,
  createClient,
  createWorker,
  defineTask,
  type ErrorInput,
  type ExecutionMetadataOf,
  handle,
  type UntypedHandlerContext,
  isTaskFailed,
  type MetadataInput,
  type MetadataOf,
  type ResultOf,
  type SubmittedTask,
  type TaskDefinition,
  type TaskHandle,
  type TaskOutcome,
  type,
} from "@leasehold/client";
import { z } from "zod";

declare const token: string;
declare const url: string;
declare const tenant: string;
declare function later(at: string): void;
declare function onlyImports(name: "import-csv"): void;
declare function render(progress: { readonly done: number } | undefined): void;
declare function readChunk(url: string, offset: number, signal: AbortSignal): Promise<{ rows: number; badColumn?: string }>;
type Probe<A> = <T>(value: T) => T extends A ? T : A;
/** Exactly the same type: neither wider nor narrower, nor `any`. */
type Same<A, B> = Probe<A> extends Probe<B> ? true : never;
declare function same<A, B>(yes: Same<A, B>): void;

export const importCsv = defineTask({
  name: "import-csv",
  metadata: z.object({ url: z.url(), tenant: z.string() }),
  executionMetadata: z.object({ offset: z.number().int().default(0) }),
  result: z.object({ rows: z.number() }),
  errors: { bad_header: z.object({ column: z.string() }), quota: z.object({ resetsAt: z.string() }) },
  options: { queue: "imports", retry: { maxAttempts: 5, backoff: { initial: "1s", factor: 2, max: "5m" } } },
});
export const approval = defineTask({
  name: "approval",
  executionMetadata: z.object({ decision: z.enum(["approve", "reject"]).optional() }),
});

export async function submitter(task: typeof importCsv, items: { metadata: { url: string; tenant: string } }[]): Promise<void> {
  const client = createClient({ address: "localhost:7410", token });
  const job = await client.submit(importCsv, { url, tenant }, { key: "t1/2026-01", scheduleTime: { in: "5m" }, labels: { tenant } });
  same<typeof job.created, boolean>(true);
  const { rows } = await job.result({ timeout: "2m" });
  same<typeof rows, number>(true);
  later(String(rows));
  const o = await job.outcome();
  if (o.state === "failed" && o.error.code === "quota") later(o.error.data.resetsAt);
  for await (const s of job.watch()) render(s.progress);
  await job.cancel({ reason: "superseded" });
  await client.handle(approval, { key: "E-17" }).proceed({ update: (x) => ({ ...x, decision: "approve" }), note: "by phone" });
  await client.submitMany(task, items);
  for await (const s of client.list(task, { state: ["failed"], metadata: { tenant: "t1" } })) onlyImports(s.name);
  try {
    await job.result();
  } catch (error) {
    if (isTaskFailed(error, importCsv) && error.failure.code === "bad_header") later(error.failure.data.column);
  }
  // @ts-expect-error a definition with metadata is not submitted without
  await client.submit(importCsv);
  // @ts-expect-error the metadata of another task
  await client.submit(importCsv, { decision: "approve" });
  // @ts-expect-error not a duration
  await client.submit(importCsv, { url, tenant }, { scheduleTime: { in: "5 parsecs" } });
  // @ts-expect-error not a state
  client.list(task, { state: ["done"] });
  await client.submit(approval);
}

export const importHandler = handle(
  importCsv,
  async (ctx) => {
    let { offset } = ctx.executionMetadata.current;
    for (;;) {
      const chunk = await readChunk(ctx.metadata.url, offset, ctx.signal);
      if (chunk.badColumn) return ctx.fail("bad_header", { column: chunk.badColumn }, { retry: false });
      if (chunk.rows === 0) return { rows: offset };
      offset += chunk.rows;
      await ctx.executionMetadata.checkpoint({ offset });
      ctx.progress({ done: offset, message: "rows" });
    }
  },
  { concurrency: 4 },
);

export async function runner(client: Client): Promise<void> {
  const worker = createWorker({ client, handlers: [importHandler], concurrency: 8, grace: "30s", health: { port: 8081 } });
  await worker.run();
  await worker.ready();
  await worker.drain();
  same<typeof worker.state.status, "idle" | "connecting" | "ready" | "disconnected" | "draining" | "stopped">(true);
}

export const approvalHandler = handle(approval, (ctx) => {
  if (ctx.executionMetadata.current.decision === undefined) return ctx.suspend({ untilProceeded: true, timeout: "7d" });
  if (ctx.resumed.by === "woken") return ctx.suspend({ until: { in: "1h" } });
  // @ts-expect-error nothing to wait for
  ctx.suspend({});
  // @ts-expect-error not declared
  ctx.fail("quota", {});
  return ctx.cancel("declined");
});
// @ts-expect-error the result of another task
handle(importCsv, () => ({ lines: 3 }));
handle(importCsv, async (ctx) => {
  // @ts-expect-error data of another error
  ctx.fail("quota", { column: "a" });
  // @ts-expect-error not the execution metadata
  await ctx.executionMetadata.checkpoint({ offset: "3" });
  return { rows: 1 };
});

// The wire carries the input type; whoever reads gets the output type.
export const dated = defineTask({
  name: "dated",
  result: z.object({ at: z.string().transform((text) => new Date(text)) }),
  metadata: z.object({ at: z.string().transform((text) => new Date(text)), times: z.number().default(1) }),
});
// @ts-expect-error the comparison itself tells types apart
same<{ a: string }, { a: string | undefined }>(true);
same<MetadataInput<typeof dated>, { at: string; times?: number | undefined }>(true);
same<MetadataOf<typeof dated>, { at: Date; times: number }>(true);
same<ResultOf<typeof dated>, { at: Date }>(true);
same<ExecutionMetadataOf<typeof importCsv>, { offset: number }>(true);
same<ErrorInput<typeof importCsv, "quota">, { resetsAt: string }>(true);
handle(dated, (ctx) => ({ at: ctx.metadata.at.toISOString() }));

// A schema whose input is not JSON does not compile.
// @ts-expect-error Date is not JSON
defineTask({ name: "a", metadata: z.object({ at: z.date() }) });
// @ts-expect-error bigint, deep
defineTask({ name: "a", metadata: type<{ items: { price: bigint }[] }>() });
// @ts-expect-error Map is not JSON
defineTask({ name: "a", result: z.map(z.string(), z.string()) });
// @ts-expect-error a function is not JSON
defineTask({ name: "a", executionMetadata: type<{ call: () => void }>() });
// @ts-expect-error undefined in an array
defineTask({ name: "a", metadata: type<(string | undefined)[]>() });
// @ts-expect-error undefined alone
defineTask({ name: "a", metadata: z.string().optional() });
// @ts-expect-error a declared error's data
defineTask({ name: "a", errors: { late: z.object({ since: z.date() }) } });

// What must compile: recursion, interfaces, unions, unknown, a map of errors from elsewhere, a wrapper of one's own.
type Tree = string | number | boolean | null | Tree[] | { [key: string]: Tree };
interface Node {
  readonly name: string;
  readonly children: readonly Node[];
}
const shared = { busy: z.object({ until: z.string() }) };
export const wide = defineTask({ name: "wide", result: z.json(), metadata: type<Tree>(), errors: { ...shared, gone: z.null() } });
export const noded = defineTask({ name: "noded", metadata: type<Node>(), executionMetadata: z.number().default(0) });
export const loose = defineTask({ name: "loose", metadata: z.unknown(), result: z.union([z.string(), z.array(z.number())]) });
export function wrap<Task extends TaskDefinition>(client: Client, task: Task, metadata: MetadataInput<Task>) {
  return client.submit(task, metadata, { labels: { from: "wrapper" } });
}
export function outcomeOf<Task extends TaskDefinition>(client: Client, task: Task, id: string): Promise<TaskOutcome<Task>> {
  return client.handle(task, id).outcome();
}
export function either(client: Client, task: typeof importCsv | typeof noded, id: string): Promise<unknown> {
  return client.handle(task, id).result();
}
export function bare(typed: TaskHandle<typeof importCsv>, submitted: SubmittedTask<typeof noded>, ofMachine: TaskHandle): TaskHandle[] {
  return [typed, submitted, ofMachine];
}
export async function owner(client: Client, task: typeof importCsv): Promise<void> {
  const handle = client.handle(task, { key: "k" });
  same<typeof handle extends TaskHandle<infer Task> ? Task["name"] : never, "import-csv">(true);
  const { priority } = await handle.update({ priority: 3, scheduleTime: "now", queue: "slow" });
  same<typeof priority, number>(true);
  later(priority.toFixed(0));
  const { explanations } = await handle.explain();
  if (explanations[0]?.code === "no_worker_for_name") render(undefined);
  for await (const event of handle.events({ pageSize: 10 })) if (event.type === "lease_lost") later(event.message);
  await handle.delete({ etag: "e" });
  const { count, more } = await client.count(task, { state: ["failed"] });
  same<[typeof count, typeof more], [number, boolean]>(true);
  later(`${String(count)}${more ? "+" : ""}`);
  const { attempts } = await client.simulateRetry({ maxAttempts: 3 }, ["lease_lost", { code: "quota", retryAfter: "1m" }]);
  later(String(attempts[0]?.earliestMs));
  async function* rows() {
    yield { metadata: { url, tenant }, key: "row 1" };
  }
  for await (const { task: stored, error } of client.submitStream(task, rows())) {
    if (error === undefined) onlyImports((await stored.snapshot()).name);
    else later(error.code);
  }
  // @ts-expect-error nothing to change
  await handle.update();
  // @ts-expect-error not a number
  await handle.update({ priority: "high" });
  // @ts-expect-error not an event
  for await (const event of handle.events()) if (event.type === "done") later(event.message);
  // @ts-expect-error items of another task
  client.submitStream(task, [{ metadata: { amount: 3 } }]);
  // @ts-expect-error not a part of the metadata
  await client.count(task, { metadata: { amount: 3 } });
  // @ts-expect-error neither a failure nor a lost lease
  await client.simulateRetry({}, ["lost"]);
}
export const anyContext = (context: UntypedHandlerContext): string => context.id;
handle(noded, (ctx) => void anyContext(ctx));
