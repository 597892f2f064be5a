// How do spans leave the server over OTLP, cheaply? The batches, time-outs and tries are OpenTelemetry's own; what is queued in them is each span
// already written down, and a request is those bytes one after the other.

import { INVALID_SPAN_CONTEXT, metrics, TraceFlags } from "@opentelemetry/api";
import { OTLPExporterBase } from "@opentelemetry/otlp-exporter-base";
import * as otlpHttp from "@opentelemetry/otlp-exporter-base/node-http";
import {
  type IExportTraceServiceResponse,
  type ISerializer,
  ProtobufTraceSerializer,
  TraceExporterMetricsHelper,
} from "@opentelemetry/otlp-transformer";
import { BatchSpanProcessor, type ReadableSpan, type SpanProcessor } from "@opentelemetry/sdk-trace";
import { ByteWriter, requestOf, writeSpan, Written } from "./otlp-bytes.js";

type HttpOptions = Parameters<typeof otlpHttp.createOtlpHttpExportDelegate>[0];
/** What reads OTEL_EXPORTER_OTLP_* is deprecated, and nothing else that is exported does. */
const options: { convertLegacyHttpOptions(own: object, signal: string, path: string, headers: Record<string, string>): HttpOptions } =
  otlpHttp;

/** Spans are written into pieces of memory of this size; a larger span gets one of its own. */
const SLAB_BYTES = 256 * 1024;

const SAMPLED = { ...INVALID_SPAN_CONTEXT, traceFlags: TraceFlags.SAMPLED };

/** A span that is written down: where, and what a batch wants to know of it. */
class EncodedSpan {
  constructor(
    readonly slab: Uint8Array,
    readonly start: number,
    readonly end: number,
    readonly resource: ReadableSpan["resource"],
    readonly instrumentationScope: ReadableSpan["instrumentationScope"],
  ) {}

  /** Only its flag is asked for; the ids of each span would be kept for as long as it waits. */
  spanContext(): ReturnType<ReadableSpan["spanContext"]> {
    return SAMPLED;
  }
}

/** Writes spans down as they end, and hands what it wrote to a processor that batches. */
export class EncodingProcessor implements SpanProcessor {
  private writer = new ByteWriter(new Uint8Array(SLAB_BYTES));
  private readonly written = new Written();
  private batches: SpanProcessor | null = null;

  /** `make`: called with the first span, when the meters that it counts with are there. */
  constructor(private readonly make: () => SpanProcessor) {}

  onStart(): void {
    // Nothing is known of it yet.
  }

  onEnd(span: ReadableSpan): void {
    if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return;
    const { resource, instrumentationScope } = span;
    let start = this.writer.pos;
    writeSpan(this.writer, span, this.written);
    if (!this.writer.fitted) {
      const size = Math.max(SLAB_BYTES, this.writer.pos - start);
      this.writer = new ByteWriter(new Uint8Array(size));
      start = 0;
      writeSpan(this.writer, span, this.written);
    }
    const encoded = new EncodedSpan(this.writer.bytes, start, this.writer.pos, resource, instrumentationScope);
    this.batches ??= this.make();
    // A batch asks no more of a span than what this has; the exporter below reads the bytes.
    this.batches.onEnd(encoded as unknown as ReadableSpan);
  }

  async forceFlush(): Promise<void> {
    await this.batches?.forceFlush();
  }

  async shutdown(): Promise<void> {
    await this.batches?.shutdown();
  }
}

/** Makes a request of spans that the processor above wrote down; others are left out. */
export const serializer: ISerializer<ReadableSpan[], IExportTraceServiceResponse> = {
  serializeRequest: (spans) => {
    const scopes = new Map<ReadableSpan["instrumentationScope"], EncodedSpan[]>();
    for (const span of spans) {
      if (!(span instanceof EncodedSpan)) continue;
      const ofScope = scopes.get(span.instrumentationScope);
      if (ofScope === undefined) scopes.set(span.instrumentationScope, [span]);
      else ofScope.push(span);
    }
    return Buffer.concat([...scopes].map(([scope, ofScope]) => requestOf(ofScope[0]?.resource.attributes ?? {}, scope, joined(ofScope))));
  },
  deserializeResponse: (bytes) => ProtobufTraceSerializer.deserializeResponse(bytes),
};

/** What is written down of these, one after the other; neighbours are copied at once. */
function joined(spans: readonly EncodedSpan[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  let [slab, from, to] = [spans[0]?.slab, spans[0]?.start ?? 0, spans[0]?.start ?? 0];
  for (const span of spans) {
    if (span.slab !== slab || span.start !== to) {
      if (slab !== undefined) pieces.push(slab.subarray(from, to));
      [slab, from] = [span.slab, span.start];
    }
    to = span.end;
  }
  if (slab !== undefined) pieces.push(slab.subarray(from, to));
  return Buffer.concat(pieces);
}

/** The processor for OTLP over HTTP in protobuf, with batches as OTEL_BSP_* say. */
export function encodingProcessor(env: Readonly<Record<string, string | undefined>>): SpanProcessor {
  // What is no number counts as not set.
  const option = (name: string, variable: string): object => {
    const text = env[variable]?.trim() ?? "";
    return text !== "" && Number(text) >= 0 ? { [name]: Number(text) } : {};
  };
  return new EncodingProcessor(() => {
    const meters = metrics.getMeterProvider();
    const http = options.convertLegacyHttpOptions({}, "TRACES", "v1/traces", { "Content-Type": "application/x-protobuf" });
    const delegate = otlpHttp.createOtlpHttpExportDelegate(http, serializer, "otlp_http_span_exporter", TraceExporterMetricsHelper, meters);
    return new BatchSpanProcessor({
      exporter: new OTLPExporterBase(delegate),
      selfObsMeterProvider: meters,
      ...option("maxQueueSize", "OTEL_BSP_MAX_QUEUE_SIZE"),
      ...option("scheduledDelayMillis", "OTEL_BSP_SCHEDULE_DELAY"),
      ...option("exportTimeoutMillis", "OTEL_BSP_EXPORT_TIMEOUT"),
      ...option("maxExportBatchSize", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
    });
  });
}
