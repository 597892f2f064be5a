// Which spans does a server make for a task? The call that brought it, the lease that is given, the outcome that is reported, what an owner
// asks; and below them what Postgres was asked. Nothing is made for a task whose trace is not sampled.

import { type Attributes, type Link, type Span, SpanKind, SpanStatusCode, trace, type Tracer, TraceFlags } from "@opentelemetry/api";
import type { Reported } from "../dispatch/reports.js";
import type { WorkerReport } from "../dispatch/messages.js";
import type { Event, ReportBody } from "../domain/event.js";
import { decodeLeaseToken } from "../domain/lease-token.js";
import { runTrace } from "../domain/run-trace.js";
import type { LiveTask, TraceContext } from "../domain/task.js";
import type { LeasedTask } from "../storage/storage.js";
import { ATTRIBUTES as A, EVENTS, STATUS_NAMES, SYSTEM } from "./attributes.js";
import { below, isSampled, spanContextOf, traceContextOf } from "./trace-context.js";

/** A statement on Postgres: from when to when, in milliseconds since 1970, and for how many. */
export interface Asked {
  readonly operation: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly count: number;
  /** Kind of what went wrong. */
  readonly fault?: string;
}

/** OpenTelemetry keeps 128 links; a batch says how many it carried. */
const MOST_LINKS = 64;

/** The spans of one server. */
export class TaskSpans {
  /** Spans below which a call asks Postgres, by the caller that goes along with it. */
  private readonly calls = new Map<object, Span>();
  /** Spans below which reports are written, by the task as it was before, and by what they say. */
  private readonly reports = new Map<LiveTask | ReportBody, Span>();
  /** The claims that leased tasks came with. */
  private readonly claims = new WeakMap<LiveTask, Asked>();

  constructor(private readonly tracer: Pick<Tracer, "startSpan">) {}

  // ---- calls

  /** A call begins. Its task is stored with the context of the span, sampled or not: that decision is made once, here or by the caller. */
  callBegan(method: string, parent: TraceContext | null): { readonly span: Span; readonly traceContext: TraceContext } {
    const name = method.slice(1);
    const attributes = { [A.rpcSystem]: "grpc", [A.rpcMethod]: name };
    const span = this.tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, below(parent));
    return { span, traceContext: traceContextOf(span.spanContext(), parent?.baggage ?? "") };
  }

  /** What is asked on behalf of this caller goes below the span of his call, until that ends. */
  callOf(caller: object, span: Span): void {
    if (span.isRecording()) this.calls.set(caller, span);
  }

  /** A call was answered. */
  callEnded(caller: object, span: Span, code: number): void {
    if (!span.isRecording()) return;
    this.calls.delete(caller);
    const name = STATUS_NAMES[code] ?? String(code);
    span.setAttribute(A.rpcStatus, name);
    // Of a server's spans only what is the server's fault is an error.
    if (SERVER_FAULTS.has(name)) span.setStatus({ code: SpanStatusCode.ERROR }).setAttribute(A.errorType, name);
    span.end();
  }

  /** What an owner asks of a task that exists; null where the call is not sampled. */
  command(kind: "proceed" | "cancel" | "retry", caller: object | undefined): Span | null {
    const call = caller === undefined ? undefined : this.calls.get(caller);
    if (call === undefined) return null;
    const attributes = { [A.system]: SYSTEM, [A.operation]: kind, [A.operationType]: "send" };
    return this.tracer.startSpan(kind, { kind: SpanKind.PRODUCER, attributes }, trace.setSpan(below(null), call));
  }

  /** The task that a command was about, and its submission. */
  commanded(span: Span, kind: string, task: LiveTask, submission: TraceContext | null): void {
    const { id, name } = task.identity;
    span.updateName(`${kind} ${name}`).setAttributes({ [A.taskName]: name, [A.messageId]: id, [A.queue]: task.queue });
    if (submission !== null) span.addLink({ context: spanContextOf(submission) });
  }

  // ---- leases

  /** Remembers with what claim tasks came, for the spans of their leases. */
  claimed(tasks: readonly LeasedTask[], asked: Asked): void {
    for (const { live, traceContext } of tasks) if (isSampled(traceContext) || live.proceeds !== null) this.claims.set(live, asked);
  }

  /** Leases are handed over: each that is sampled gets a span, and its worker the context of that. */
  given(tasks: readonly LeasedTask[], nowUs: number): readonly LeasedTask[] {
    const spans: { readonly span: Span; readonly asked: Asked | undefined }[] = [];
    const traced = tasks.map((leased) => {
      if (leased.traceContext === null && leased.live.proceeds === null) return leased;
      const { parent, links } = runTrace(leased.live, leased.traceContext, nowUs);
      const first = parent ?? links[0] ?? null;
      if (!isSampled(parent) && !links.some(isSampled)) return { ...leased, traceContext: first };
      const asked = this.claims.get(leased.live);
      const span = this.leaseSpan(leased.live, parent, links, asked);
      if (span.isRecording()) spans.push({ span, asked });
      return { ...leased, traceContext: traceContextOf(span.spanContext(), first?.baggage ?? "") };
    });
    const claimed = spans.filter(({ asked }) => asked !== undefined);
    const asked = claimed[0]?.asked;
    if (asked !== undefined)
      this.asked(
        asked,
        claimed.map(({ span }) => span),
      );
    for (const { span } of spans) span.end();
    return traced;
  }

  private leaseSpan(live: LiveTask, parent: TraceContext | null, links: readonly TraceContext[], asked: Asked | undefined): Span {
    const { identity, queue, failures, pendingReason, workerName } = live;
    const attributes = {
      [A.system]: SYSTEM,
      [A.operation]: "lease",
      [A.operationType]: "receive",
      [A.queue]: queue,
      [A.messageId]: identity.id,
      [A.taskName]: identity.name,
      [A.attempt]: failures + 1,
      [A.pendingReason]: pendingReason,
      [A.worker]: workerName,
    };
    const options = {
      kind: SpanKind.CONSUMER,
      attributes,
      links: links.map((context): Link => ({ context: spanContextOf(context) })),
      ...(asked === undefined ? {} : { startTime: asked.startMs }),
    };
    return this.tracer.startSpan(`lease ${identity.name}`, options, below(parent));
  }

  // ---- reports

  /** An outcome is to be recorded: below its attempt, else below its lease; null where that is not sampled. */
  reportBegan(copy: LiveTask | null, { leaseToken, body, traceContext }: WorkerReport, lease: TraceContext | null): Span | null {
    const parent = traceContext ?? lease;
    if (!isSampled(parent)) return null;
    const name = copy?.identity.name ?? "";
    const attributes: Attributes = { [A.system]: SYSTEM, [A.operation]: "report", [A.operationType]: "settle", [A.outcome]: body.kind };
    if (copy !== null) {
      attributes[A.taskName] = name;
      attributes[A.messageId] = copy.identity.id;
      attributes[A.queue] = copy.queue;
      attributes[A.checkpoints] = copy.checkpointCount;
    } else {
      const taskId = decodeLeaseToken(leaseToken)?.taskId;
      if (taskId !== undefined) attributes[A.messageId] = taskId;
    }
    const span = this.tracer.startSpan(`report ${name}`.trimEnd(), { kind: SpanKind.INTERNAL, attributes }, below(parent));
    if (body.kind === "suspend") span.addEvent(EVENTS.suspended);
    if (copy !== null) this.reports.set(copy, span);
    this.reports.set(body, span);
    return span;
  }

  /** It has its verdict. */
  reportEnded(span: Span, copy: LiveTask | null, { body }: WorkerReport, { verdict: { code, state }, before }: Reported): void {
    if (copy !== null) this.reports.delete(copy);
    else if (before !== undefined) {
      const { name } = before.identity;
      span.updateName(`report ${name}`).setAttributes({ [A.taskName]: name, [A.queue]: before.queue });
    }
    this.reports.delete(body);
    span.setAttribute(A.verdict, code);
    if (state !== null) span.setAttribute(A.state, state);
    if (code === "RETRY_LATER" || code === "INVALID") span.setStatus({ code: SpanStatusCode.ERROR }).setAttribute(A.errorType, code);
    span.end();
  }

  // ---- Postgres

  /** The spans that a statement on behalf of a caller goes below. */
  ofCaller(caller: object): Span | undefined {
    return this.calls.get(caller);
  }

  /** The span of the report that a statement decides on the stored task. */
  ofDecided(event: Event): Span | undefined {
    return event.kind === "reported" ? this.reports.get(event.body) : undefined;
  }

  /** The spans of reports that are written by one statement. */
  ofReports(tasks: readonly LiveTask[]): readonly Span[] {
    return tasks.flatMap((task) => this.reports.get(task) ?? []);
  }

  /** Postgres was asked for these: the span goes below the first of them and links to the others. */
  asked(asked: Asked, carried: readonly (Span | TraceContext)[]): void {
    const [first] = carried;
    if (first === undefined) return;
    const { operation, startMs, endMs, count, fault } = asked;
    const attributes: Attributes = { [A.dbSystem]: "postgresql", [A.dbOperation]: operation, [A.batchCount]: count };
    const links = carried.slice(1, MOST_LINKS + 1).map((one): Link => ({ context: contextOf(one) }));
    const parent = trace.setSpanContext(below(null), contextOf(first));
    const span = this.tracer.startSpan(`postgresql ${operation}`, { kind: SpanKind.CLIENT, attributes, links, startTime: startMs }, parent);
    if (fault !== undefined) span.setStatus({ code: SpanStatusCode.ERROR }).setAttribute(A.errorType, fault);
    span.end(endMs);
  }
}

const SERVER_FAULTS: ReadonlySet<string> = new Set([
  "UNKNOWN",
  "DEADLINE_EXCEEDED",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
]);

function contextOf(one: Span | TraceContext): ReturnType<Span["spanContext"]> {
  return "traceparent" in one ? { ...spanContextOf(one), traceFlags: TraceFlags.SAMPLED } : one.spanContext();
}
