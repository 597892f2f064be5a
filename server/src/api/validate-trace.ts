// Is this a W3C trace context? An invalid one is ignored, never refused: tracing must not break a call.

import type { TraceContext } from "../domain/task.js";

const MAX_TRACESTATE_BYTES = 512;
const MAX_BAGGAGE_BYTES = 4096;
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;
const VISIBLE = /^[\x20-\x7e\t]*$/;

/** The trace context as it is stored; null where its traceparent is missing or invalid. */
export function parseTraceContext({ traceparent, tracestate, baggage }: TraceContext): TraceContext | null {
  if (!TRACEPARENT.test(traceparent)) return null;
  return { traceparent, tracestate: headerOrNone(tracestate, MAX_TRACESTATE_BYTES), baggage: headerOrNone(baggage, MAX_BAGGAGE_BYTES) };
}

function headerOrNone(value: string, maxBytes: number): string {
  return value.length <= maxBytes && VISIBLE.test(value) ? value : "";
}
