// Is what the server writes of a span what OpenTelemetry's own serializer writes, whatever is in it? And does a batch keep every span?
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { type Attributes, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, createTraceState } from "@opentelemetry/api";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resources } from "@opentelemetry/sdk-node";
import { type ReadableSpan, TracerProvider } from "@opentelemetry/sdk-trace";
import { EncodingProcessor, serializer } from "@leasehold/server/telemetry/encoded-spans";
import { describe, expect, it } from "vitest";

const RESOURCE = resources.resourceFromAttributes({ "service.name": "x", "service.instances": 3 });
const PARENT = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: 1, isRemote: true };

/** A message by its fields, whatever way its lengths are written; what is zero or empty is as good as left out. */
type Message = Readonly<Record<number, readonly (string | Message)[]>>;
/** Fields that are messages themselves, of ExportTraceServiceRequest and all below it. */
interface Shape {
  readonly [field: number]: Shape;
}
const VALUE: { [field: number]: Shape } = {};
VALUE[5] = { 1: VALUE };
const KEY_VALUE: Shape = { 2: VALUE };
const SPAN: Shape = { 9: KEY_VALUE, 11: { 3: KEY_VALUE }, 13: { 4: KEY_VALUE }, 15: {} };
const REQUEST: Shape = { 1: { 1: { 1: KEY_VALUE }, 2: { 1: { 3: KEY_VALUE }, 2: SPAN } } };

function messageOf(bytes: Uint8Array, shape: Shape): Message {
  const reader = new BinaryReader(bytes);
  const message: Record<number, (string | Message)[]> = {};
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const value = valueOf(reader, type, shape[field]);
    if (value !== "" && value !== "0") (message[field] ??= []).push(value);
  }
  return message;
}

function valueOf(reader: BinaryReader, type: WireType, shape: Shape | undefined): string | Message {
  if (type === WireType.Varint) return String(reader.uint64());
  if (type === WireType.Bit64) return String(reader.fixed64());
  if (type === WireType.Bit32) return String(reader.fixed32());
  const bytes = reader.bytes();
  if (shape === undefined) return Buffer.from(bytes).toString("latin1");
  const message = messageOf(bytes, shape);
  return Object.keys(message).length === 0 ? "" : message;
}

/** Makes spans, and answers them as they are and as they were handed on. */
function spansOf(make: (tracer: ReturnType<TracerProvider["getTracer"]>) => void): { plain: ReadableSpan[]; encoded: ReadableSpan[] } {
  const plain: ReadableSpan[] = [];
  const encoded: ReadableSpan[] = [];
  const nothing = { onStart: () => undefined, shutdown: () => Promise.resolve(), forceFlush: () => Promise.resolve() };
  const keep = { ...nothing, onEnd: (span: ReadableSpan) => void plain.push(span) };
  const encode = new EncodingProcessor(() => ({ ...nothing, onEnd: (span: ReadableSpan) => void encoded.push(span) }));
  make(new TracerProvider({ resource: RESOURCE, spanProcessors: [keep, encode] }).getTracer("leasehold", "1.2.3"));
  return { plain, encoded };
}

function expectSame({ plain, encoded }: ReturnType<typeof spansOf>): void {
  const [own, theirs] = [serializer, ProtobufTraceSerializer].map((one, at) =>
    messageOf(one.serializeRequest(at === 0 ? encoded : plain) ?? new Uint8Array(), REQUEST),
  );
  expect(Object.keys(theirs ?? {})).toEqual(["1"]);
  expect(own).toEqual(theirs);
}

const ATTRIBUTES: Attributes = {
  ...{
    text: "plain",
    empty: "",
    umlaut: "Bär 🐻",
    long: "x".repeat(3000),
    yes: true,
    no: false,
    zero: 0,
    large: 2 ** 40,
    list: ["a", "ü"],
  },
  ...{ negative: -5, fraction: 0.25, numbers: [1, 2.5, -3] },
};

describe("a span that is written down", () => {
  it("is what OpenTelemetry writes: ids, names, times, attributes, events, links, status and flags", () => {
    expectSame(
      spansOf((tracer) => {
        const below = trace.setSpanContext(ROOT_CONTEXT, { ...PARENT, traceState: createTraceState("a=1,b=2") });
        const links = [{ context: PARENT, attributes: { why: "ü" } }, { context: { ...PARENT, isRemote: false, traceFlags: 0 } }];
        const span = tracer.startSpan(
          "lease täsk",
          { kind: SpanKind.CONSUMER, attributes: ATTRIBUTES, links, startTime: 1_790_000_000_123.5 },
          below,
        );
        span.addEvent("leasehold.suspended", { at: "x" }).addEvent("plain");
        span.setStatus({ code: SpanStatusCode.ERROR, message: "as it was" });
        span.end(2_000_000_000_999);
        tracer.startSpan("root", { kind: SpanKind.SERVER }, ROOT_CONTEXT).end();
      }),
    );
  });

  it("is the same where it comes again and again, and where values are never the same", () => {
    expectSame(
      spansOf((tracer) => {
        for (let n = 0; n < 2_000; n++) {
          const attributes = { ...ATTRIBUTES, long: "y".repeat(n), id: `task ${String(n)}`, n };
          tracer.startSpan(n % 3 === 0 ? "same" : `name ${String(n)}`, { attributes }, ROOT_CONTEXT).end();
        }
      }),
    );
  });

  it("is whole though it is larger than what spans are written into", () => {
    expectSame(spansOf((tracer) => tracer.startSpan("large", { attributes: { text: "ä".repeat(400_000) } }, ROOT_CONTEXT).end()));
  });
});
