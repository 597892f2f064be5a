// Does a task arrive at a collector as one trace, from its submitter to its worker and back, with the right parents and links? A TypeScript
// submitter with an OpenTelemetry SDK, a server and a Python worker as processes, and a receiver of OTLP.
import { join } from "node:path";
import { type Client, createClient, createWorker, defineTask, handle } from "@leasehold/client";
import { credentials } from "@grpc/grpc-js";
import {
  LeaseTasksRequest,
  type LeaseTasksResponse,
  Report,
  ReportTasksRequest,
  WorkerServiceClient,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { context, type Span, trace } from "@opentelemetry/api";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed } from "vitest";
import { z } from "zod";
import { environment, startProcess, type StartedProcess } from "../support/child-process.js";
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from "../support/otlp-receiver.js";
import { createTestDatabase, type TestDatabase } from "../support/postgres.js";
import { preparePython, pythonWorkerFolder } from "../support/python.js";
import { type ServerProcess, startServerProcess } from "../support/server-process.js";

const KINDS = ["", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];

let collector: OtlpReceiver;
let database: TestDatabase;
let server: ServerProcess;
let python: StartedProcess;
let sdk: NodeSDK;
let client: Client;

beforeAll(async () => {
  const { interpreter, stubs } = await preparePython();
  collector = await startOtlpReceiver();
  database = await createTestDatabase();
  const telemetry = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_BSP_SCHEDULE_DELAY: "100" };
  server = await startServerProcess({ databaseUrl: database.url, env: telemetry });
  const program = join(pythonWorkerFolder, "worker.py");
  const env = environment({ PYTHONPATH: stubs, PYTHONUNBUFFERED: "1", LEASEHOLD_ADDRESS: server.address, ...telemetry });
  python = startProcess(interpreter, [program], { env });
  Object.assign(process.env, telemetry);
  sdk = new NodeSDK({ serviceName: "submitter", metricReaders: [], logRecordProcessors: [] });
  sdk.start();
  client = createClient({ address: server.address });
}, 600_000);

afterAll(async () => {
  client.close();
  await sdk.shutdown();
  python.child.kill("SIGKILL");
  await python.ended;
  await server.stop();
  await database.drop();
  await collector[Symbol.asyncDispose]();
});

beforeEach(() => {
  onTestFailed(() => void process.stderr.write(`${tree(collector.spans).join("\n")}\n${server.log()}\n${python.said()}\n`));
});

/** Runs under a root span of the submitter, as a request of its own would. Answers what came of it and the id of its trace. */
async function asRequest<T>(name: string, work: () => Promise<T>): Promise<{ answer: T; traceId: string }> {
  const span: Span = trace.getTracer("test").startSpan(name);
  try {
    return { answer: await context.with(trace.setSpan(context.active(), span), work), traceId: span.spanContext().traceId };
  } finally {
    span.end();
  }
}

/** Waits until spans of these names have come for a trace: each program sends its own when it likes. */
async function spansOf(traceId: string, ...names: readonly string[]): Promise<readonly ReceivedSpan[]> {
  const own = (spans: readonly ReceivedSpan[]): ReceivedSpan[] => spans.filter((span) => span.traceId === traceId);
  return own(await collector.until((spans) => names.every((name) => own(spans).some((span) => span.name === name))));
}

/** A trace as lines: each span below its parent, with its kind and the service that sent it. */
function tree(spans: readonly ReceivedSpan[], parent = "", depth = 0): string[] {
  const below = spans.filter((span) => span.parentSpanId === parent).sort((a, b) => (a.name < b.name ? -1 : 1));
  return below.flatMap((span) => [
    `${"  ".repeat(depth)}${span.name} ${KINDS[span.kind] ?? ""} ${span.service}`,
    ...tree(spans, span.spanId, depth + 1),
  ]);
}

function named(spans: readonly ReceivedSpan[], name: string): ReceivedSpan {
  const span = spans.find((one) => one.name === name);
  if (span === undefined) throw new Error(`no span ${name} among ${spans.map((one) => one.name).join(", ")}`);
  return span;
}

describe("the trace of a task", () => {
  it("is one, from the submitter's request through call, lease and attempt in Python to the report and its commit", async () => {
    const count = defineTask({ name: "py.count", metadata: z.object({ to: z.number() }) });
    const { answer, traceId } = await asRequest("POST /orders", async () => client.submit(count, { to: 3 }));
    await answer.result({ timeout: "20s" });
    const spans = await spansOf(traceId, "POST /orders", "process py.count", "report py.count", "postgresql insertTasks");
    // Whether it was leased by a claim or as it was stored is chance.
    expect(tree(spans).filter((line) => !line.includes("postgresql leaseTasks"))).toEqual([
      "POST /orders INTERNAL submitter",
      "  submit py.count PRODUCER submitter",
      "    lease py.count CONSUMER leasehold",
      "      process py.count CONSUMER python-worker",
      "        report py.count INTERNAL leasehold",
      "          postgresql applyDecisions CLIENT leasehold",
      "    leasehold.v1.TaskService/SubmitTask SERVER leasehold",
      "    postgresql insertTasks CLIENT leasehold",
    ]);
    expect(named(spans, "process py.count").events).toEqual(Array(3).fill("leasehold.checkpoint"));
    expect(named(spans, "lease py.count").attributes).toMatchObject({ "messaging.message.id": answer.id, "leasehold.task.attempt": 1 });
  });

  it("goes on in the trace of whoever proceeds it, linked to that of its submission", async () => {
    const approval = defineTask({ name: "py.approval", executionMetadata: z.object({ by: z.string().optional() }) });
    const submitted = await asRequest("submitting", async () => client.submit(approval, undefined));
    const first = await spansOf(submitted.traceId, "submit py.approval", "process py.approval", "report py.approval");
    expect(named(first, "process py.approval").events).toEqual(["leasehold.suspended"]);
    expect(named(first, "report py.approval").events).toEqual(["leasehold.suspended"]);
    const { traceId } = await asRequest("approving", async () =>
      submitted.answer.proceed({ note: "by phone", update: () => ({ by: "phone" }) }),
    );
    await submitted.answer.outcome({ timeout: "20s" });
    const second = await spansOf(traceId, "proceed py.approval", "process py.approval", "report py.approval");
    const lease = named(second, "lease py.approval");
    expect(lease.parentSpanId).toBe(named(second, "proceed py.approval").spanId);
    expect(named(second, "process py.approval").parentSpanId).toBe(lease.spanId);
    const submission = named(first, "submit py.approval").spanId;
    expect(lease.links).toEqual([{ traceId: submitted.traceId, spanId: submission }]);
    expect(named(second, "proceed py.approval").links).toEqual(lease.links);
    expect(first.filter(({ name }) => name.startsWith("lease "))).toHaveLength(1);
  });

  it("starts another with each wake-up, which links back to the submission", async () => {
    const nap = defineTask({ name: "ts.nap", executionMetadata: z.object({ naps: z.number().default(0) }) });
    const handler = handle(nap, async (ctx) => {
      const { naps } = ctx.executionMetadata.current;
      ctx.log.info("awake");
      if (naps === 2) return undefined;
      await ctx.executionMetadata.checkpoint({ naps: naps + 1 });
      return ctx.suspend({ until: { in: "1ms" } });
    });
    const logged: (Readonly<Record<string, unknown>> | undefined)[] = [];
    const [skip, keep] = [() => undefined, (_: string, fields?: Readonly<Record<string, unknown>>) => void logged.push(fields)];
    const worker = createWorker({ client, handlers: [handler], grace: 0, logger: { debug: skip, info: keep, warn: skip, error: skip } });
    const running = worker.run();
    await worker.ready();
    const { answer, traceId } = await asRequest("sleepy", async () => client.submit(nap, undefined));
    await answer.result({ timeout: "20s" });
    await worker.drain();
    await running;
    const all = await collector.until((spans) =>
      ["process ts.nap", "report ts.nap"].every((each) => spans.filter(({ name }) => name === each).length === 3),
    );
    await spansOf(traceId, "submit ts.nap");
    const attempts = all.filter(({ name }) => name === "process ts.nap");
    const awake = logged.filter((fields) => fields?.["task"] === "ts.nap");
    expect(awake.map((fields) => [fields?.["taskId"], fields?.["trace_id"], fields?.["span_id"]]).sort()).toEqual(
      attempts.map((attempt) => [answer.id, attempt.traceId, attempt.spanId]).sort(),
    );
    const leases = all.filter(({ name }) => name === "lease ts.nap");
    const others = leases.filter((span) => span.traceId !== traceId);
    expect(new Set(leases.map((span) => span.traceId)).size).toBe(3);
    const submission = named(
      all.filter((span) => span.traceId === traceId),
      "submit ts.nap",
    ).spanId;
    expect(others.map(({ links, parentSpanId }) => ({ links, parentSpanId }))).toEqual(
      Array(2).fill({ links: [{ traceId, spanId: submission }], parentSpanId: "" }),
    );
    expect(all.filter(({ name }) => name === "process ts.nap").flatMap(({ events }) => events)).toEqual([
      ...["leasehold.checkpoint", "leasehold.suspended", "leasehold.checkpoint", "leasehold.suspended"],
    ]);
  });

  it("has the outcome below its attempt also where calls without a stream lease and report", async () => {
    const stub = new WorkerServiceClient(server.address, credentials.createInsecure());
    const { answer, traceId } = await asRequest("unary", async () => client.submit(defineTask({ name: "raw.unary" }), undefined));
    const asked = LeaseTasksRequest.create({
      ...{ workerName: "raw", maxTasks: 1, handlers: [{ taskName: "raw.unary" }], wait: { seconds: 20n, nanos: 0 } },
    });
    const { leases } = await new Promise<LeaseTasksResponse>((resolve, reject) =>
      stub.leaseTasks(asked, (error, leased) => (error ? reject(error) : resolve(leased))),
    );
    const { leaseToken = "", traceContext } = leases[0] ?? {};
    const reports = [Report.create({ leaseToken, reportSeq: 1, complete: {}, ...(traceContext && { traceContext }) })];
    await new Promise<void>((resolve, reject) =>
      stub.reportTasks(ReportTasksRequest.create({ reports }), (error) => (error ? reject(error) : resolve())),
    );
    stub.close();
    await answer.result({ timeout: "20s" });
    const spans = await spansOf(traceId, "report raw.unary", "postgresql decide", "lease raw.unary");
    const report = named(spans, "report raw.unary");
    expect(report.parentSpanId).toBe(named(spans, "lease raw.unary").spanId);
    expect(named(spans, "postgresql decide").parentSpanId).toBe(report.spanId);
  });

  it("ends where a cancel links to it, in the trace of whoever cancels", async () => {
    const sleep = defineTask({ name: "py.nobody" });
    const { answer, traceId } = await asRequest("starting", async () => client.submit(sleep, undefined));
    const cancelling = await asRequest("cancelling", async () => answer.cancel({ reason: "superseded" }));
    const spans = await spansOf(cancelling.traceId, "cancel py.nobody");
    expect(named(spans, "cancel py.nobody").links).toMatchObject([{ traceId }]);
  });

  it("has no span of what the libraries of the server do by themselves", () => {
    const names = new Set(collector.spans.filter(({ service }) => service === "leasehold").map(({ name }) => name.split(" ")[0]));
    expect([...names].filter((name) => !/^(lease|report|proceed|cancel|postgresql|leasehold\.v1\.\S+)$/.test(name ?? ""))).toEqual([]);
  });
});
