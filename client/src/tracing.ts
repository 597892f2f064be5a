// Which spans does the SDK make, and how does their context travel with a task?
//
// Through @opentelemetry/api alone: without an OpenTelemetry SDK in the process nothing is made and nothing is sent. A submission is a producer
// span, whose context is stored with the task; each attempt is a consumer span below what its lease says.
import {
  context,
  defaultTextMapGetter,
  isSpanContextValid,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import type { TraceContext } from "@leasehold/proto/leasehold/v1/task";
import type { NewTask } from "@leasehold/proto/leasehold/v1/task_service";
import type { Lease } from "@leasehold/proto/leasehold/v1/worker_service";
import { LeaseholdError, type StopReason } from "./errors.js";
import { SDK_NAME } from "./sdk-name.js";

/** Submissions of one call that stay in the trace of their caller; of more, each begins a trace of its own that links back. */
const MOST_IN_ONE_TRACE = 16;
const [, VERSION = ""] = SDK_NAME.split(" ");
/** Looked up by what `propagation` calls them. */
type Headers = Record<string, string>;

function tracer() {
  return trace.getTracer("@leasehold/client", VERSION);
}

/** The W3C headers of what is active; empty without an OpenTelemetry SDK. */
export function traceHeaders(active = context.active()): Readonly<Headers> {
  if (!trace.getSpanContext(active)) return {};
  const headers: Headers = {};
  propagation.inject(active, headers);
  return headers;
}

/** Sends submissions under a producer span each; their tasks carry its context. `together`: how many the caller submits at once. */
export async function traceSubmissions<T>(tasks: readonly NewTask[], send: () => Promise<T>, together = tasks.length): Promise<T> {
  const active = context.active();
  const caller = trace.getSpanContext(active);
  const apart = together > MOST_IN_ONE_TRACE;
  const links: Link[] = apart && caller !== undefined ? [{ context: caller }] : [];
  const spans = tasks.map((task) => {
    const span = tracer().startSpan(
      `submit ${task.name}`,
      {
        kind: SpanKind.PRODUCER,
        root: apart,
        links,
        attributes: {
          "messaging.system": "leasehold",
          "messaging.operation.name": "submit",
          "messaging.operation.type": "send",
          "messaging.destination.name": task.queue === "" ? "default" : task.queue,
          "messaging.message.id": task.taskId,
          "leasehold.task.name": task.name,
        },
      },
      active,
    );
    const carried = contextToCarry(span, active);
    if (carried !== undefined) task.traceContext = carried;
    return span;
  });
  try {
    return await send();
  } catch (error) {
    for (const span of spans) failed(span, LeaseholdError.from(error).code);
    throw error;
  } finally {
    for (const span of spans) span.end();
  }
}

function contextToCarry(span: Span, active: ReturnType<typeof context.active>): TraceContext | undefined {
  const { traceparent, tracestate = "", baggage = "" } = traceHeaders(trace.setSpan(active, span));
  return traceparent === undefined ? undefined : { traceparent, tracestate, baggage };
}

/** The span of an attempt. */
export interface AttemptSpan {
  /** What the report of its outcome carries: the server's span of it goes below this one. Empty without an OpenTelemetry SDK. */
  readonly carried: { readonly traceContext?: TraceContext };
  /** What log entries of the attempt have, by OpenTelemetry's names. Empty without an OpenTelemetry SDK. */
  readonly fields: { readonly trace_id?: string; readonly span_id?: string };
  /** Runs the handler with the span active. */
  run<T>(handler: () => T): T;
  /** A checkpoint is stored. */
  checkpointed(version: bigint): void;
  /** The handler was told to stop. */
  stopped(kind: StopReason["kind"]): void;
  /** The attempt is over; `outcome`: what is reported, `undefined` if nothing. */
  ended(outcome: string | undefined, errorCode: string | undefined): void;
}

/** Begins the span of an attempt, below what the lease says and linked to what it goes back to. */
export function traceAttempt(lease: Lease, worker: string): AttemptSpan {
  const parent = contextOf(lease.traceContext);
  const links = lease.traceLinks.flatMap((link): Link[] => {
    const linked = trace.getSpanContext(contextOf(link));
    return linked === undefined ? [] : [{ context: linked }];
  });
  const attributes = {
    "messaging.system": "leasehold",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": lease.queue,
    "messaging.message.id": lease.taskId,
    "leasehold.task.name": lease.name,
    "leasehold.task.attempt": lease.attempt,
    "leasehold.worker.name": worker,
  };
  const span = tracer().startSpan(`process ${lease.name}`, { kind: SpanKind.CONSUMER, attributes, links }, parent);
  const active = trace.setSpan(parent, span);
  const traceContext = contextToCarry(span, active);
  const { traceId, spanId } = span.spanContext();
  return {
    carried: traceContext === undefined ? {} : { traceContext: { ...traceContext, baggage: "" } },
    fields: isSpanContextValid(span.spanContext()) ? { trace_id: traceId, span_id: spanId } : {},
    run: (handler) => context.with(active, handler),
    checkpointed: (version) => void span.addEvent("leasehold.checkpoint", { "leasehold.execution_metadata.version": Number(version) }),
    stopped: (kind) => void span.addEvent("leasehold.stopped", { "leasehold.stop.reason": kind }),
    ended: (outcome, errorCode) => {
      if (outcome !== undefined) span.setAttribute("leasehold.outcome", outcome);
      if (outcome === "suspend") span.addEvent("leasehold.suspended");
      if (errorCode !== undefined) failed(span, errorCode);
      span.end();
    },
  };
}

// The code alone: a message may hold what the task is about.
function failed(span: Span, code: string): void {
  span.setStatus({ code: SpanStatusCode.ERROR }).setAttribute("error.type", code);
}

function contextOf(carried: TraceContext | undefined): ReturnType<typeof context.active> {
  return carried === undefined ? ROOT_CONTEXT : propagation.extract(ROOT_CONTEXT, carried, PRESENT);
}

/** Headers that are not there are empty fields of the message. */
const PRESENT = {
  keys: (carrier: TraceContext) => defaultTextMapGetter.keys(carrier),
  get: (carrier: TraceContext, key: string) => {
    const value: unknown = Reflect.get(carrier, key);
    return typeof value === "string" && value !== "" ? value : undefined;
  },
};
