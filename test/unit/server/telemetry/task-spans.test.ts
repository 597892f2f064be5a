// Which spans does a server make, below what, and linked to what? The same with OpenTelemetry's own spans and with the light ones.
import { ROOT_CONTEXT, type Span, type Tracer } from "@opentelemetry/api";
import { resources, tracing } from "@opentelemetry/sdk-node";
import { type ReadableSpan, TracerProvider } from "@opentelemetry/sdk-trace";
import { encodeLeaseToken } from "@leasehold/server/domain/lease-token";
import { newTask } from "@leasehold/server/domain/new-task";
import type { TraceContext } from "@leasehold/server/domain/task";
import type { LeasedTask, Storage } from "@leasehold/server/storage/storage";
import { observedReports } from "@leasehold/server/telemetry/observed-calls";
import { observedStorage } from "@leasehold/server/telemetry/observed-storage";
import { lightTracer } from "@leasehold/server/telemetry/light-tracer";
import { linkSampler } from "@leasehold/server/telemetry/link-sampler";
import { TaskSpans } from "@leasehold/server/telemetry/task-spans";
import { beforeEach, describe, expect, it } from "vitest";
import { standIn } from "../../../support/api-fakes.js";
import { bodies, newLiveTask, NOW, NONCE, reportOf, runningTask } from "../../../support/domain.js";
import { submissionOf } from "../../../support/storage.js";

const sampler = linkSampler({ OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "0" }, tracing);
const resource = resources.defaultResource();
let spans: ReadableSpan[] = [];
const keep = {
  onStart: () => undefined,
  onEnd: (span: ReadableSpan) => void spans.push(span),
  shutdown: () => Promise.resolve(),
  forceFlush: () => Promise.resolve(),
};
const TRACERS: [string, Pick<Tracer, "startSpan">][] = [
  ["OpenTelemetry's", new TracerProvider({ sampler, resource, spanProcessors: [keep] }).getTracer("leasehold", "1")],
  ["the light", lightTracer({ sampler, processor: keep, resource, scope: { name: "leasehold", version: "1" } })],
];

/** A trace of its own for each number. */
function context(number: number, flags = "01"): TraceContext {
  return {
    traceparent: `00-${String(number).padStart(32, "0")}-${String(number).padStart(16, "0")}-${flags}`,
    tracestate: "",
    baggage: "",
  };
}

const idOf = ({ traceparent }: TraceContext): string => traceparent.slice(36, 52);

interface Told {
  readonly name: string;
  readonly parent: string | undefined;
  readonly links: readonly string[];
  readonly attributes: ReadableSpan["attributes"];
}

function told(span: ReadableSpan | undefined): Told {
  if (span === undefined) throw new Error(`no such span among ${spans.map(({ name }) => name).join(", ")}`);
  const links = span.links.map(({ context: { spanId } }) => spanId);
  return { name: span.name, parent: span.parentSpanContext?.spanId, links, attributes: span.attributes };
}

const named = (name: string): Told => told(spans.find((span) => span.name === name));
const leased = (live: LeasedTask["live"], traceContext: TraceContext | null): LeasedTask => ({
  ...{ live, labels: new Map<string, string>(), traceContext, metadata: null, executionMetadata: null },
});

beforeEach(() => {
  spans = [];
});

describe.each(TRACERS)("with %s tracer", (_, tracer) => {
  it("a statement that stores many submissions is below the first that is sampled, and links to the others", async () => {
    const storage = observedStorage(standIn<Storage>({ insertTasks: () => Promise.resolve([]) }), null, new TaskSpans(tracer));
    const traces = [context(1, "00"), ...Array.from({ length: 100 }, (__, at) => context(at + 2))];
    await storage.insertTasks(
      traces.map((traceContext) => newTask(submissionOf({ traceContext }), NOW)),
      false,
    );
    const statement = named("postgresql insertTasks");
    expect(spans).toHaveLength(1);
    expect(statement.parent).toBe(idOf(context(2)));
    expect(statement.links).toEqual(Array.from({ length: 64 }, (__, at) => idOf(context(at + 3))));
    expect(statement.attributes["messaging.batch.message_count"]).toBe(101);
  });

  it("a claim is below the first lease that it brought and links to the others; leases say whose they are and why", () => {
    const taskSpans = new TaskSpans(tracer);
    const tasks = [1, 2, 3].map((number) => leased(runningTask({ pendingReason: "NEW", fencingToken: 1, failures: 0 }), context(number)));
    taskSpans.claimed(tasks, { operation: "leaseTasks", startMs: 1, endMs: 2, count: 3 });
    const given = taskSpans.given(tasks, NOW);
    const ids = given.map(({ traceContext }) => idOf(traceContext ?? context(0)));
    const leases = spans.filter(({ name }) => name.startsWith("lease ")).map(told);
    expect(leases.map(({ parent }) => parent)).toEqual([1, 2, 3].map((number) => idOf(context(number))));
    expect(named("postgresql leaseTasks")).toMatchObject({ parent: ids[0], links: ids.slice(1) });
    expect(leases[0]?.attributes).toMatchObject({ "leasehold.task.pending_reason": "NEW", "leasehold.worker.name": "worker-1" });
  });

  it("a wake-up begins a trace, sampled like its submission and linked to it", () => {
    const woken = runningTask({ pendingReason: "WOKEN", suspendTimeUs: NOW, failures: 0 });
    const [given] = new TaskSpans(tracer).given([leased(woken, context(7)), leased(woken, context(8, "00"))], NOW);
    expect(spans.map(told)).toMatchObject([{ parent: undefined, links: [idOf(context(7))] }]);
    expect(given?.traceContext?.traceparent.slice(0, 36)).not.toContain(context(7).traceparent.slice(3, 35));
  });

  it("an outcome is below its attempt where the report names it, else below its lease", () => {
    const taskSpans = new TaskSpans(tracer);
    const copy = runningTask();
    const report = { leaseToken: encodeLeaseToken(copy.identity.id, NONCE), seq: 3, body: bodies.complete };
    const verdict = { ...{ leaseToken: "", seq: 3, code: "RECORDED" as const, violations: [] }, state: "COMPLETED" as const };
    const reported = { verdict: { ...verdict, retryAfterUs: null, executionMetadataVersion: null }, task: null, outdated: false };
    for (const own of [{ traceContext: context(2) }, {}]) {
      const one = { ...report, body: { ...bodies.complete }, ...own };
      const span = taskSpans.reportBegan(copy, one, context(1));
      if (span !== null) taskSpans.reportEnded(span, copy, one, reported);
    }
    expect(spans.map(told).map(({ parent }) => parent)).toEqual([idOf(context(2)), idOf(context(1))]);
    expect(named("report report.render").attributes).toMatchObject({
      "leasehold.verdict": "RECORDED",
      "leasehold.task.state": "COMPLETED",
    });
  });

  it("an outcome of a lease that another server gave has its span too, with the statement that decides it below", async () => {
    const taskSpans = new TaskSpans(tracer);
    const before = runningTask();
    const { id } = before.identity;
    const storage = observedStorage(standIn<Storage>({ decide: () => Promise.resolve({ kind: "not-found" }) }), null, taskSpans);
    const verdict = { ...{ leaseToken: "", seq: 3, code: "RECORDED" as const, violations: [] }, state: "COMPLETED" as const };
    const desk = observedReports(
      {
        apply: async (namespace, __, { body }) => {
          await storage.decide({ namespace, id }, reportOf(body));
          return { verdict: { ...verdict, retryAfterUs: null, executionMetadataVersion: null }, task: null, outdated: false, before };
        },
      },
      { spans: taskSpans, counts: null },
    );
    const report = { leaseToken: encodeLeaseToken(id, NONCE), seq: 3, body: bodies.complete, traceContext: context(5) };
    await desk.apply("default", null, report, null);
    expect(named("report report.render")).toMatchObject({ parent: idOf(context(5)), attributes: { "messaging.message.id": id } });
    expect(named("postgresql decide").parent).toBe(spans.find(({ name }) => name.startsWith("report"))?.spanContext().spanId);
    expect(await storage.decide({ namespace: "default", id }, reportOf(bodies.complete))).toEqual({ kind: "not-found" });
    expect(spans).toHaveLength(2);
  });

  it.each(["proceed", "cancel", "retry"] as const)("a %s is below its call and links to the submission of its task", (kind) => {
    const taskSpans = new TaskSpans(tracer);
    const caller = {};
    const call = taskSpans.callBegan("/leasehold.v1.TaskService/X", context(1));
    taskSpans.callOf(caller, call.span);
    const command: Span | null = taskSpans.command(kind, caller);
    if (command !== null) taskSpans.commanded(command, kind, newLiveTask(), context(9));
    command?.end();
    taskSpans.callEnded(caller, call.span, 0);
    expect(named(`${kind} report.render`)).toMatchObject({ parent: call.span.spanContext().spanId, links: [idOf(context(9))] });
    expect(taskSpans.command(kind, caller)).toBeNull();
  });

  it("nothing is made of what is not sampled, and the flag goes on as it came", () => {
    const taskSpans = new TaskSpans(tracer);
    const { span, traceContext } = taskSpans.callBegan("/leasehold.v1.TaskService/X", context(1, "00"));
    taskSpans.callEnded({}, span, 0);
    expect(traceContext.traceparent).toMatch(/^00-0{31}1-[0-9a-f]{16}-00$/);
    expect(taskSpans.callBegan("/x", null).traceContext.traceparent).toMatch(/-00$/);
    expect(tracer.startSpan("x", {}, ROOT_CONTEXT).isRecording()).toBe(false);
    expect(spans).toEqual([]);
  });

  it("times are those of the statement, the status of a call that failed by the server's fault is an error, and a trace's state goes on", () => {
    const taskSpans = new TaskSpans(tracer);
    taskSpans.asked({ operation: "decide", startMs: 1_790_000_000_000.25, endMs: 1_790_000_000_001.5, count: 1, fault: "unavailable" }, [
      context(1),
    ]);
    const { span, traceContext } = taskSpans.callBegan("/x", { ...context(2), tracestate: "a=1" });
    taskSpans.callEnded({}, span, 14);
    expect(spans.map(({ startTime, endTime, duration }) => [startTime, endTime, duration])[0]).toEqual([
      ...[
        [1_790_000_000, 250_000],
        [1_790_000_000, 1_500_000],
        [0, 1_250_000],
      ],
    ]);
    expect(spans.map(({ status, attributes }) => [status.code, attributes["error.type"]])).toEqual([
      [2, "unavailable"],
      [2, "UNAVAILABLE"],
    ]);
    expect(traceContext.tracestate).toBe("a=1");
  });
});
