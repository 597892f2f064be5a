// Is telemetry wanted, and where does it go? The standard OTEL_* variables say; where none does, OpenTelemetry's SDK is not even loaded.

import { type ContextManager, diag, DiagLogLevel, INVALID_SPAN_CONTEXT, ROOT_CONTEXT, trace, type Tracer } from "@opentelemetry/api";
import type { Clock } from "../clock.js";
import { collectorFailures } from "./collector-failures.js";
import type { LightTracerParts } from "./light-tracer.js";
import { linkSampler } from "./link-sampler.js";
import type { Log } from "./log.js";

/** Telemetry of this process, as far as it is wanted. */
export interface Telemetry {
  /** Whether spans go anywhere. */
  readonly tracing: boolean;
  /** Whether metrics go anywhere. */
  readonly metering: boolean;
  /** What makes spans. */
  readonly tracer: Pick<Tracer, "startSpan">;
  /** Sends what waits, for two seconds at most: whoever stops must not hang on a collector. */
  stop(): Promise<void>;
}

/** Environment variables. */
type Variables = Record<string, string | undefined>;

const SHUTDOWN_LIMIT_MS = 2_000;
/** Spans that may wait for the collector; the SDK's own 2,048 last for a tenth of a second under load. */
const QUEUED_SPANS = "16384";
/** Largest batch of spans; one request at a time goes out, so larger ones keep up better. */
const BATCH_SPANS = "2048";

/** Nothing is active: every span is told its parent. */
const NO_CONTEXTS: ContextManager = {
  active: () => ROOT_CONTEXT,
  with: (_context, call, thisArgument, ...parameters) => call.apply(thisArgument, parameters),
  bind: (_context, target) => target,
  enable: () => NO_CONTEXTS,
  disable: () => NO_CONTEXTS,
};

/** No telemetry: its tracer makes spans that go nowhere. */
export const NO_TELEMETRY: Telemetry = {
  tracing: false,
  metering: false,
  tracer: { startSpan: () => trace.wrapSpanContext(INVALID_SPAN_CONTEXT) },
  stop: () => Promise.resolve(),
};

/** What the variables ask for. A signal is wanted when its exporter, or the endpoint of all or of its own, is set. */
export function wanted(env: Variables): { readonly tracing: boolean; readonly metering: boolean } {
  if (env["OTEL_SDK_DISABLED"]?.trim().toLowerCase() === "true") return { tracing: false, metering: false };
  return { tracing: isWanted(env, "TRACES"), metering: isWanted(env, "METRICS") };
}

function isWanted(env: Variables, signal: string): boolean {
  const exporter = env[`OTEL_${signal}_EXPORTER`]?.trim() ?? "";
  if (exporter !== "") return !exporter.split(",").includes("none");
  return [env["OTEL_EXPORTER_OTLP_ENDPOINT"], env[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`]].some((endpoint) => (endpoint ?? "") !== "");
}

// The SDK's own spans and processors wherever traces go elsewhere than by OTLP over HTTP in protobuf, its default.
function isUsual(env: Variables): boolean {
  const exporter = env["OTEL_TRACES_EXPORTER"]?.trim() || "otlp";
  const protocol = env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]?.trim() || env["OTEL_EXPORTER_OTLP_PROTOCOL"]?.trim() || "http/protobuf";
  return exporter === "otlp" && protocol === "http/protobuf";
}

/** Loads and starts the SDK if it is wanted. Call it before any tracer or meter is made. A second call in one process starts nothing. */
export async function startTelemetry(version: string, clock: Clock, log: Log, env: Variables = process.env): Promise<Telemetry> {
  const { tracing, metering } = wanted(env);
  if (!tracing && !metering) return NO_TELEMETRY;
  // The SDK counts what it exported and what it had to drop, if asked to.
  env["OTEL_NODE_EXPERIMENTAL_SDK_METRICS"] ??= "true";
  env["OTEL_BSP_MAX_QUEUE_SIZE"] ??= QUEUED_SPANS;
  env["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] ??= BATCH_SPANS;
  env["OTEL_SERVICE_NAME"] ??= "leasehold";
  const { NodeSDK, resources, tracing: traces } = await import("@opentelemetry/sdk-node");
  // Not that of the process: its command may have a connection string in it.
  const detected = resources.detectResources({ detectors: [resources.envDetector, resources.hostDetector] });
  const own = resources.resourceFromAttributes({ "service.version": version });
  const resource = resources.defaultResource().merge(own).merge(detected);
  const sampler = linkSampler(env, traces);
  const light = tracing && isUsual(env) ? await lightSpans(env, { sampler, resource, scope: { name: "leasehold", version } }) : null;
  const sdk = new NodeSDK({
    resource,
    autoDetectResources: false,
    // Its asynchronous hooks would cost more than all spans: contexts are passed by hand.
    contextManager: NO_CONTEXTS,
    logRecordProcessors: [],
    sampler,
    ...(light === null ? {} : { spanProcessors: [light.processor] }),
    ...(tracing ? {} : { spanProcessors: [] }),
    ...(metering ? {} : { metricReaders: [] }),
  });
  diag.setLogger(collectorFailures(clock, log), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  sdk.start();
  log.info({ tracing, metering }, "telemetry started");
  const stop = async (): Promise<void> => {
    const late = new Promise<void>((resolve) => void clock.after(SHUTDOWN_LIMIT_MS, resolve));
    const sent = sdk.shutdown().catch((error: unknown) => log.warn({ err: error }, "telemetry could not be sent"));
    await Promise.race([sent, late]);
  };
  return { tracing, metering, tracer: light?.tracer ?? trace.getTracer("leasehold", version), stop };
}

async function lightSpans(env: Variables, parts: Omit<LightTracerParts, "processor">) {
  const [{ encodingProcessor }, { lightTracer }] = await Promise.all([import("./encoded-spans.js"), import("./light-tracer.js")]);
  const processor = encodingProcessor(env);
  return { processor, tracer: lightTracer({ ...parts, processor }) };
}
