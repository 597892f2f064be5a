// How does a span cost little? OpenTelemetry's own is made to take whatever any library puts into it, with checks, copies and limits; the server's are
// all made in one place, of attributes that are named in attributes.ts. Sampler, ids and processor are OpenTelemetry's.

import {
  type Attributes,
  type AttributeValue,
  type HrTime,
  type Link,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Tracer,
} from "@opentelemetry/api";
import { RandomIdGenerator, type ReadableSpan, type Sampler, SamplingDecision, type SpanProcessor } from "@opentelemetry/sdk-trace";
import { machineNowMs } from "../clock.js";

/** What spans are made with. */
export interface LightTracerParts {
  readonly sampler: Sampler;
  /** Told of each span that is sampled, when it has ended. */
  readonly processor: Pick<SpanProcessor, "onEnd">;
  readonly resource: ReadableSpan["resource"];
  readonly scope: ReadableSpan["instrumentationScope"];
}

/** A tracer for the server's own spans: times are in milliseconds since 1970, and attributes belong to the span from then on. */
export function lightTracer({ sampler, processor, resource, scope }: LightTracerParts): Pick<Tracer, "startSpan"> {
  const ids = new RandomIdGenerator();
  const ended = (span: LightSpan): void => processor.onEnd(span);
  return {
    startSpan: (name, { kind = SpanKind.INTERNAL, attributes = {}, links = [], startTime } = {}, context) => {
      if (context === undefined) throw new TypeError("a span is made below a context");
      const parent = trace.getSpanContext(context);
      const traceId = parent?.traceId ?? ids.generateTraceId();
      const { decision } = sampler.shouldSample(context, traceId, name, kind, attributes, links);
      const sampled = decision === SamplingDecision.RECORD_AND_SAMPLED;
      const own: SpanContext = { traceId, spanId: ids.generateSpanId(), traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE };
      if (parent?.traceState !== undefined) own.traceState = parent.traceState;
      if (!sampled) return trace.wrapSpanContext(own);
      const startMs = typeof startTime === "number" ? startTime : machineNowMs();
      return new LightSpan({ name, kind, context: own, parent, attributes, links, startMs, resource, scope, ended });
    },
  };
}

interface LightSpanParts extends Pick<LightTracerParts, "resource" | "scope"> {
  readonly name: string;
  readonly kind: SpanKind;
  readonly context: SpanContext;
  readonly parent: SpanContext | undefined;
  readonly attributes: Attributes;
  readonly links: Link[];
  readonly startMs: number;
  readonly ended: (span: LightSpan) => void;
}

const UNSET: SpanStatus = { code: SpanStatusCode.UNSET };
const NO_EVENTS: ReadableSpan["events"] = [];
const MS_PER_S = 1_000;
const NS_PER_MS = 1_000_000;

/** A span that is sampled. */
class LightSpan implements Span, ReadableSpan {
  name: string;
  status = UNSET;
  events = NO_EVENTS;
  ended = false;
  endTime: HrTime = [0, 0];
  readonly kind: SpanKind;
  readonly startTime: HrTime;
  readonly attributes: Attributes;
  readonly resource: ReadableSpan["resource"];
  readonly instrumentationScope: ReadableSpan["instrumentationScope"];
  readonly parentSpanContext?: SpanContext;
  readonly droppedAttributesCount = 0;
  readonly droppedEventsCount = 0;
  readonly droppedLinksCount = 0;
  links: Link[];
  private readonly context: SpanContext;
  private readonly whenEnded: (span: LightSpan) => void;

  constructor({ name, kind, context, parent, attributes, links, startMs, resource, scope, ended }: LightSpanParts) {
    this.name = name;
    this.kind = kind;
    this.context = context;
    if (parent !== undefined) this.parentSpanContext = parent;
    this.attributes = attributes;
    this.links = links;
    this.startTime = hrTime(startMs);
    this.resource = resource;
    this.instrumentationScope = scope;
    this.whenEnded = ended;
  }

  get duration(): HrTime {
    const [seconds, nanos] = [this.endTime[0] - this.startTime[0], this.endTime[1] - this.startTime[1]];
    return nanos < 0 ? [seconds - 1, nanos + MS_PER_S * NS_PER_MS] : [seconds, nanos];
  }

  spanContext(): SpanContext {
    return this.context;
  }

  isRecording(): boolean {
    return !this.ended;
  }

  setAttribute(key: string, value: AttributeValue): this {
    this.attributes[key] = value;
    return this;
  }

  setAttributes(attributes: Attributes): this {
    Object.assign(this.attributes, attributes);
    return this;
  }

  addEvent(name: string): this {
    this.events = [...this.events, { name, time: hrTime(machineNowMs()) }];
    return this;
  }

  addLink(link: Link): this {
    this.links = [...this.links, link];
    return this;
  }

  addLinks(links: Link[]): this {
    this.links = [...this.links, ...links];
    return this;
  }

  setStatus(status: SpanStatus): this {
    this.status = status;
    return this;
  }

  updateName(name: string): this {
    this.name = name;
    return this;
  }

  recordException(): void {
    // Never: what an exception says may be what a task is about.
  }

  end(endMs?: unknown): void {
    if (this.ended) return;
    this.ended = true;
    this.endTime = hrTime(typeof endMs === "number" ? endMs : machineNowMs());
    this.whenEnded(this);
  }
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / MS_PER_S);
  return [seconds, Math.round((ms - seconds * MS_PER_S) * NS_PER_MS)];
}
