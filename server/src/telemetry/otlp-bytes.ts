// How is a span written in OTLP, in protobuf? Straight into a buffer, as soon as it has ended: what is queued are bytes and not objects, which
// would all outlive the young generation. Names and values that come again and again are copied as they were written the first time.
// Fields by opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto.

import { type Attributes, type AttributeValue, type HrTime, type Link, type SpanContext, SpanStatusCode } from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";

/** A growing buffer, written front to back. What does not fit is not written, and `pos` says how much room it would have taken. */
export class ByteWriter {
  pos = 0;

  constructor(readonly bytes: Uint8Array) {}

  /** Whether all that was written had room. */
  get fitted(): boolean {
    return this.pos <= this.bytes.length;
  }

  byte(value: number): void {
    this.bytes[this.pos++] = value;
  }

  /** An unsigned integer below 2^53. */
  varint(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      this.byte((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.byte(rest);
  }

  /** A signed integer within 2^53: below zero as the 64 bits of its complement. */
  signed(value: number): void {
    if (value >= 0) {
      this.varint(value);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 0x7fn; rest >>= 7n) this.byte(Number(rest & 0x7fn) | 0x80);
    this.byte(Number(rest));
  }

  fixed32(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.byte((value >>> shift) & 0xff);
  }

  raw(bytes: Uint8Array): void {
    if (this.pos + bytes.length <= this.bytes.length) this.bytes.set(bytes, this.pos);
    this.pos += bytes.length;
  }

  /** Hexadecimal digits as bytes. */
  hex(digits: string): void {
    for (let at = 0; at < digits.length; at += 2) this.byte((digitOf(digits, at) << 4) | digitOf(digits, at + 1));
  }

  /** Instants of [seconds, nanoseconds] as nanoseconds: more than 2^53, so in two halves. */
  instant([seconds, nanos]: HrTime): void {
    const upper = Math.floor(seconds / 0x10000) * 1e9;
    const lower = (seconds % 0x10000) * 1e9 + nanos + (upper % 0x10000) * 0x10000;
    this.fixed32(lower >>> 0);
    this.fixed32(Math.floor(upper / 0x10000) + Math.floor(lower / 0x1_0000_0000));
  }

  /** A length-delimited field whose length is known only when it is written: most need one byte for it, so what is longer is moved. */
  nested(tag: number, write: () => void): void {
    this.byte(tag);
    const at = this.pos;
    this.pos++;
    write();
    const end = this.pos;
    const length = end - at - 1;
    let width = 1;
    for (let rest = length >>> 7; rest > 0; rest >>>= 7) width++;
    if (width > 1) this.bytes.copyWithin(at + width, at + 1, end);
    this.pos = at;
    this.varint(length);
    this.pos += length;
  }

  /** A field of text, below 2^28 bytes. */
  text(tag: number, text: string): void {
    this.byte(tag);
    const at = this.pos;
    this.varint(text.length);
    // Nearly all of it is ASCII and short: a loop is quicker than a call out of JavaScript.
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) {
        this.pos = at;
        const bytes = Buffer.from(text);
        this.varint(bytes.length);
        this.raw(bytes);
        return;
      }
      this.byte(code);
    }
  }
}

const ZERO = 48;
const NINE = 57;
const BEFORE_A = 87;

function digitOf(digits: string, at: number): number {
  const code = digits.charCodeAt(at);
  return code <= NINE ? code - ZERO : code - BEFORE_A;
}

/** Fields of spans with their wire types. */
const SPAN = {
  ...{ traceId: 0x0a, spanId: 0x12, traceState: 0x1a, parentSpanId: 0x22, name: 0x2a, kind: 0x30, startTime: 0x39, endTime: 0x41 },
  ...{ attributes: 0x4a, droppedAttributes: 0x50, events: 0x5a, droppedEvents: 0x60, links: 0x6a, droppedLinks: 0x70, status: 0x7a },
} as const;
const EVENT = { time: 0x09, name: 0x12, attributes: 0x1a } as const;
const LINK = { traceId: 0x0a, spanId: 0x12, traceState: 0x1a, attributes: 0x22 } as const;
const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;
/** Flags of a span and of a link, field 16 and 6: whether it is known that the parent, or what it links to, is of another process. */
const SPAN_FLAGS = [0x85, 0x01] as const;
const LINK_FLAGS = 0x35;
const KNOWS_REMOTE = 0x100;
const IS_REMOTE = 0x200;

/** A span as field 2 of ScopeSpans. */
export function writeSpan(writer: ByteWriter, span: ReadableSpan, written: Written): void {
  writer.nested(0x12, () => {
    const context = span.spanContext();
    writeIds(writer, context, SPAN.traceState);
    const parent = span.parentSpanContext;
    if (parent !== undefined) {
      writer.byte(SPAN.parentSpanId);
      writer.byte(SPAN_ID_BYTES);
      writer.hex(parent.spanId);
    }
    written.name(writer, span.name);
    writer.byte(SPAN.kind);
    writer.byte(span.kind + 1);
    writer.byte(SPAN.startTime);
    writer.instant(span.startTime);
    writer.byte(SPAN.endTime);
    writer.instant(span.endTime);
    writeAttributes(writer, SPAN.attributes, span.attributes, written);
    for (const event of span.events)
      writer.nested(SPAN.events, () => {
        writer.byte(EVENT.time);
        writer.instant(event.time);
        writer.text(EVENT.name, event.name);
        writeAttributes(writer, EVENT.attributes, event.attributes ?? {}, written);
      });
    for (const link of span.links) writer.nested(SPAN.links, () => writeLink(writer, link, written));
    writeCount(writer, SPAN.droppedAttributes, span.droppedAttributesCount);
    writeCount(writer, SPAN.droppedEvents, span.droppedEventsCount);
    writeCount(writer, SPAN.droppedLinks, span.droppedLinksCount);
    const { code, message = "" } = span.status;
    if (code !== SpanStatusCode.UNSET)
      writer.nested(SPAN.status, () => {
        if (message !== "") writer.text(0x12, message);
        writer.byte(0x18);
        writer.byte(code);
      });
    for (const byte of SPAN_FLAGS) writer.byte(byte);
    writer.fixed32(flagsOf(context, parent?.isRemote));
  });
}

function writeIds(writer: ByteWriter, { traceId, spanId, traceState }: SpanContext, stateTag: number): void {
  writer.byte(SPAN.traceId);
  writer.byte(TRACE_ID_BYTES);
  writer.hex(traceId);
  writer.byte(SPAN.spanId);
  writer.byte(SPAN_ID_BYTES);
  writer.hex(spanId);
  const state = traceState?.serialize() ?? "";
  if (state !== "") writer.text(stateTag, state);
}

function writeLink(writer: ByteWriter, { context, attributes = {} }: Link, written: Written): void {
  writeIds(writer, context, LINK.traceState);
  writeAttributes(writer, LINK.attributes, attributes, written);
  writer.byte(LINK_FLAGS);
  writer.fixed32(flagsOf(context, context.isRemote));
}

function writeCount(writer: ByteWriter, tag: number, count: number): void {
  if (count === 0) return;
  writer.byte(tag);
  writer.varint(count);
}

function flagsOf({ traceFlags }: SpanContext, isRemote = false): number {
  return (traceFlags & 0xff) | KNOWS_REMOTE | (isRemote ? IS_REMOTE : 0);
}

function writeAttributes(writer: ByteWriter, tag: number, attributes: Attributes, written: Written): void {
  for (const key in attributes) {
    const value = attributes[key];
    if (value !== undefined) written.attribute(writer, tag, key, value);
  }
}

/** What came before, as it was written; of each attribute only so many values, for some are never the same. */
export class Written {
  private readonly names = new Map<string, Uint8Array>();
  private readonly attributes = new Map<string, Map<AttributeValue, Uint8Array>>();

  /** Writes the name of a span. */
  name(writer: ByteWriter, name: string): void {
    const before = this.names.get(name);
    if (before === undefined) keep(this.names, name, writer, () => writer.text(SPAN.name, name));
    else writer.raw(before);
  }

  /** Writes an attribute as a field of its span, event or link. */
  attribute(writer: ByteWriter, tag: number, key: string, value: AttributeValue): void {
    // Attributes of events and links are few, and some have the keys of spans.
    if (tag !== SPAN.attributes || typeof value === "object") {
      writeAttribute(writer, tag, key, value);
      return;
    }
    let values = this.attributes.get(key);
    if (values === undefined) this.attributes.set(key, (values = new Map<AttributeValue, Uint8Array>()));
    const before = values.get(value);
    if (before === undefined) keep(values, value, writer, () => writeAttribute(writer, tag, key, value));
    else writer.raw(before);
  }
}

const MOST_KEPT = 200;
const LONGEST_KEPT = 1024;

function keep<Key>(known: Map<Key, Uint8Array>, key: Key, writer: ByteWriter, write: () => void): void {
  const start = writer.pos;
  write();
  if (known.size < MOST_KEPT && writer.fitted && writer.pos - start <= LONGEST_KEPT) known.set(key, writer.bytes.slice(start, writer.pos));
}

function fieldBytes(write: (writer: ByteWriter) => void): Uint8Array {
  for (let size = 128; ; size *= 4) {
    const writer = new ByteWriter(new Uint8Array(size));
    write(writer);
    if (writer.fitted) return writer.bytes.slice(0, writer.pos);
  }
}

/** KeyValue { key 1, value 2 } with AnyValue { string 1, bool 2, int 3, double 4, array 5 }. */
function writeAttribute(writer: ByteWriter, tag: number, key: string, value: AttributeValue): void {
  writer.nested(tag, () => {
    writer.text(0x0a, key);
    writer.nested(0x12, () => writeValue(writer, value));
  });
}

function writeValue(writer: ByteWriter, value: AttributeValue | null | undefined): void {
  if (typeof value === "string") writer.text(0x0a, value);
  else if (typeof value === "boolean") {
    writer.byte(0x10);
    writer.byte(value ? 1 : 0);
  } else if (typeof value === "number" && Number.isSafeInteger(value)) {
    writer.byte(0x18);
    writer.signed(value);
  } else if (typeof value === "number") {
    writer.byte(0x21);
    writer.raw(new Uint8Array(Float64Array.of(value).buffer));
  } else if (Array.isArray(value)) {
    writer.nested(0x2a, () => {
      for (const item of value) writer.nested(0x0a, () => writeValue(writer, item));
    });
  }
}

/** What comes before the spans of a request: the resource, and the scope with the length of everything that follows. */
export function requestOf(resource: Attributes, scope: ReadableSpan["instrumentationScope"], spans: Uint8Array): Uint8Array {
  const resourceBytes = fieldBytes((writer) => {
    writer.nested(0x0a, () => {
      for (const [key, value] of Object.entries(resource)) if (value !== undefined) writeAttribute(writer, 0x0a, key, value);
    });
  });
  const scopeBytes = fieldBytes((writer) => {
    writer.nested(0x0a, () => {
      writer.text(0x0a, scope.name);
      if (scope.version !== undefined) writer.text(0x12, scope.version);
    });
  });
  const scopeLength = varintBytes(scopeBytes.length + spans.length);
  const length = varintBytes(resourceBytes.length + 1 + scopeLength.length + scopeBytes.length + spans.length);
  return Buffer.concat([Uint8Array.of(0x0a), length, resourceBytes, Uint8Array.of(0x12), scopeLength, scopeBytes, spans]);
}

function varintBytes(value: number): Uint8Array {
  return fieldBytes((writer) => writer.varint(value));
}
