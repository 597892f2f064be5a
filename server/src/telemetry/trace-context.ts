// How does a W3C trace context, as it is stored with a task, become OpenTelemetry's and back? Written out, because a propagator would take and
// give maps of headers for each task.

import { createTraceState, type Context, ROOT_CONTEXT, type SpanContext, trace, TraceFlags } from "@opentelemetry/api";
import type { TraceContext } from "../domain/task.js";

/** Whether spans below it are wanted. */
export function isSampled(context: TraceContext | null): context is TraceContext {
  // The last of two hex digits is odd.
  return context !== null && "13579bdf".includes(context.traceparent.charAt(54));
}

/** The span that a stored context names; it was checked when it came: `00-<32 digits>-<16 digits>-<2 digits>`. */
export function spanContextOf({ traceparent, tracestate }: TraceContext): SpanContext {
  return {
    traceId: traceparent.slice(3, 35),
    spanId: traceparent.slice(36, 52),
    traceFlags: Number.parseInt(traceparent.slice(53, 55), 16) & TraceFlags.SAMPLED,
    isRemote: true,
    ...(tracestate === "" ? {} : { traceState: createTraceState(tracestate) }),
  };
}

/** The context below which a span begins; without a parent it begins a trace. */
export function below(parent: TraceContext | null): Context {
  return parent === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, spanContextOf(parent));
}

/** What others are told of a span; `baggage` goes on as it came. */
export function traceContextOf({ traceId, spanId, traceFlags, traceState }: SpanContext, baggage: string): TraceContext {
  const sampled = (traceFlags & TraceFlags.SAMPLED) === 0 ? "00" : "01";
  return { traceparent: `00-${traceId}-${spanId}-${sampled}`, tracestate: traceState?.serialize() ?? "", baggage };
}
