// What do programs under test send to their OpenTelemetry collector? A receiver of OTLP over HTTP that keeps every span, in protobuf as the
// SDKs send it or in JSON.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** A span as it arrived. Ids in hex; no parent is "". */
export interface ReceivedSpan {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  /** 1 INTERNAL, 2 SERVER, 3 CLIENT, 4 PRODUCER, 5 CONSUMER. */
  readonly kind: number;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  readonly events: readonly string[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
}

/** A collector for tests. */
export interface OtlpReceiver extends AsyncDisposable {
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  readonly endpoint: string;
  readonly spans: readonly ReceivedSpan[];
  /** Every body that came, as text of its bytes: for those who look for what must not be in it. */
  readonly bodies: readonly string[];
  /** Resolves with the spans as soon as `enough` says so. */
  until(enough: (spans: readonly ReceivedSpan[]) => boolean): Promise<readonly ReceivedSpan[]>;
}

/** Starts a receiver on a free port. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const bodies: string[] = [];
  const waiting = new Set<() => void>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      bodies.push(body.toString("latin1"));
      const isJson = request.headers["content-type"]?.startsWith("application/json") === true;
      if (request.url === "/v1/traces") spans.push(...(isJson ? fromJson(JSON.parse(body.toString()) as JsonRequest) : fromProtobuf(body)));
      response.setHeader("content-type", isJson ? "application/json" : "application/x-protobuf");
      response.end(isJson ? "{}" : "");
      for (const look of [...waiting]) look();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`,
    spans,
    bodies,
    until: (enough) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!enough(spans)) return;
          waiting.delete(look);
          resolve(spans);
        };
        waiting.add(look);
        look();
      }),
    [Symbol.asyncDispose]: () => closed(server),
  };
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => void server.close(() => resolve()));
}

// ---- protobuf: opentelemetry/proto/trace/v1/trace.proto, read by field number

type Fields = ReadonlyMap<number, readonly (Uint8Array | number)[]>;

function fieldsOf(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, (Uint8Array | number)[]>();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const values = fields.get(field) ?? [];
    fields.set(field, values);
    if (type === WireType.LengthDelimited) values.push(reader.bytes());
    else if (type === WireType.Varint) values.push(Number(reader.int64()));
    else if (type === WireType.Bit64) values.push(Number(reader.fixed64()));
    else if (type === WireType.Bit32) values.push(reader.fixed32());
    else throw new Error(`no field of a span has wire type ${String(type)}`);
  }
  return fields;
}

function messages(fields: Fields, field: number): Fields[] {
  return (fields.get(field) ?? []).map((value) => fieldsOf(value as Uint8Array));
}

function text(fields: Fields, field: number): string {
  return Buffer.from((fields.get(field)?.[0] as Uint8Array | undefined) ?? []).toString();
}

function hex(fields: Fields, field: number): string {
  return Buffer.from((fields.get(field)?.[0] as Uint8Array | undefined) ?? []).toString("hex");
}

function attributesOf(keyValues: readonly Fields[]): ReceivedSpan["attributes"] {
  return Object.fromEntries(
    keyValues.map((keyValue) => {
      const value = messages(keyValue, 2)[0] ?? new Map<number, never>();
      // 1 string, 2 bool, 3 int.
      return [text(keyValue, 1), value.has(1) ? text(value, 1) : value.has(2) ? value.get(2)?.[0] === 1 : Number(value.get(3)?.[0])];
    }),
  );
}

function fromProtobuf(body: Uint8Array): ReceivedSpan[] {
  return messages(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const resource = attributesOf(messages(resourceSpans, 1).flatMap((one) => messages(one, 1)));
    const spans = messages(resourceSpans, 2).flatMap((scopeSpans) => messages(scopeSpans, 2));
    return spans.map((span) => ({
      service: String(resource["service.name"]),
      traceId: hex(span, 1),
      spanId: hex(span, 2),
      parentSpanId: hex(span, 4),
      name: text(span, 5),
      kind: Number(span.get(6)?.[0]),
      attributes: attributesOf(messages(span, 9)),
      events: messages(span, 11).map((event) => text(event, 2)),
      links: messages(span, 13).map((link) => ({ traceId: hex(link, 1), spanId: hex(link, 2) })),
    }));
  });
}

// ---- JSON

interface JsonSpan extends Pick<ReceivedSpan, "traceId" | "spanId" | "name" | "kind" | "links"> {
  readonly parentSpanId?: string;
  readonly attributes?: readonly { readonly key: string; readonly value: Readonly<Record<string, string>> }[];
  readonly events?: readonly { readonly name: string }[];
}

interface JsonRequest {
  readonly resourceSpans: readonly {
    readonly resource: Pick<JsonSpan, "attributes">;
    readonly scopeSpans: readonly { readonly spans: readonly JsonSpan[] }[];
  }[];
}

function fromJson({ resourceSpans }: JsonRequest): ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        ...span,
        service: String(jsonAttributes(resource)["service.name"]),
        parentSpanId: span.parentSpanId ?? "",
        attributes: jsonAttributes(span),
        events: (span.events ?? []).map(({ name }) => name),
      })),
    ),
  );
}

function jsonAttributes({ attributes = [] }: Pick<JsonSpan, "attributes">): ReceivedSpan["attributes"] {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [key, value["intValue"] === undefined ? (value["stringValue"] ?? "") : Number(value["intValue"])]),
  );
}
