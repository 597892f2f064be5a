// When is telemetry wanted, and which traces are kept? What the standard variables say.
import { ROOT_CONTEXT, type Link, SpanKind, trace, TraceFlags } from "@opentelemetry/api";
import { tracing } from "@opentelemetry/sdk-node";
import { systemClock } from "@leasehold/server/clock";
import { linkSampler } from "@leasehold/server/telemetry/link-sampler";
import { NO_TELEMETRY, startTelemetry, wanted } from "@leasehold/server/telemetry/sdk";
import { isSampled, spanContextOf, traceContextOf } from "@leasehold/server/telemetry/trace-context";
import { describe, expect, it } from "vitest";

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";

describe("telemetry", () => {
  it.each([
    [{}, false, false],
    [{ OTEL_SERVICE_NAME: "x", OTEL_TRACES_SAMPLER: "always_on" }, false, false],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://c" }, true, true],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://c", OTEL_METRICS_EXPORTER: "none" }, true, false],
    [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://c" }, true, false],
    [{ OTEL_METRICS_EXPORTER: "prometheus" }, false, true],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://c", OTEL_SDK_DISABLED: "TRUE" }, false, false],
  ] as const)("with %j: traces %s, metrics %s", (env, tracing, metering) => {
    expect(wanted(env)).toEqual({ tracing, metering });
  });

  it("loads and registers nothing where it is not wanted", async () => {
    expect(await startTelemetry("1", systemClock(), SILENT, {})).toBe(NO_TELEMETRY);
  });
});

describe("the sampler", () => {
  const decide = (env: Record<string, string>, name: string, links: Link[] = [], parent = ROOT_CONTEXT): boolean => {
    const { decision } = linkSampler(env, tracing).shouldSample(parent, TRACE_ID, name, SpanKind.SERVER, {}, links);
    return decision === tracing.SamplingDecision.RECORD_AND_SAMPLED;
  };
  const link = (traceFlags: TraceFlags): Link => ({ context: { traceId: TRACE_ID, spanId: "1".repeat(16), traceFlags } });
  const none = { OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "0" };

  it("keeps the wake-up of a task whose submission was kept, and draws for the others", () => {
    expect(decide(none, "lease x", [link(TraceFlags.SAMPLED)])).toBe(true);
    expect(decide(none, "lease x", [link(TraceFlags.NONE)])).toBe(false);
    expect(decide(none, "lease x")).toBe(false);
    expect(decide({}, "lease x")).toBe(true);
  });

  it("leaves the decision to whoever began the trace", () => {
    const { context } = link(TraceFlags.NONE);
    expect(decide({}, "lease x", [], trace.setSpanContext(ROOT_CONTEXT, context))).toBe(false);
    expect(decide(none, "lease x", [], trace.setSpanContext(ROOT_CONTEXT, link(TraceFlags.SAMPLED).context))).toBe(true);
  });

  it("keeps none of the database library's own spans, which have statements in them", () => {
    expect(decide({ OTEL_TRACES_SAMPLER: "always_on" }, "slonik.executeQuery")).toBe(false);
  });
});

describe("a stored trace context", () => {
  it.each(["00", "01"])("comes out as it went in, flag %s and all", (flags) => {
    const stored = { traceparent: `00-${TRACE_ID}-b7ad6b7169203331-${flags}`, tracestate: "a=1,b=2", baggage: "k=v" };
    expect(traceContextOf(spanContextOf(stored), stored.baggage)).toEqual(stored);
    expect(isSampled(stored)).toBe(flags === "01");
  });
});
