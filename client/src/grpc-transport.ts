// How does the SDK speak gRPC?
//
// The one file that knows grpc-js. It keeps one channel per address for unary calls, and gives each stream a channel of its own (streams
// beyond `max_concurrent_streams` would queue in silence). With several addresses it goes on to the next when one is unavailable.
import { Client, type ClientDuplexStream, type ClientOptions, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { describeThrown, invalid, LeaseholdError } from "./errors.js";
import { DETAILS_TRAILER, errorFromCall } from "./status.js";
import {
  type OutgoingStream,
  refusedStream,
  type StreamEvents,
  type StreamMethod,
  type Transport,
  type UnaryMethod,
  type UnaryOptions,
} from "./transport.js";

/** Transport security: `true` for the system's authorities, or PEM texts of one's own. */
export type TlsOptions =
  | boolean
  | {
      /** Certificates of the authorities that are trusted. Default: the system's. */
      readonly ca?: string | Buffer;
      /** Certificate of this client, with `key`. */
      readonly cert?: string | Buffer;
      /** Private key of this client, with `cert`. */
      readonly key?: string | Buffer;
      /** The name in the server's certificate, if it is not the one in the address. */
      readonly serverName?: string;
    };

/** Where and as whom. */
export interface GrpcTransportOptions {
  /** `host:port`, one or more. */
  readonly addresses: readonly string[];
  /** Sent as `leasehold-namespace`; left out: the credential decides. */
  readonly namespace?: string | undefined;
  /** Sent as a bearer token. A function is asked for each call, for tokens that are renewed. */
  readonly token?: string | (() => string) | undefined;
  /** Default false: plain text. */
  readonly tls?: TlsOptions | undefined;
}

/** The longest deadline that travels as `grpc-timeout`; a longer one would fail at once. */
const LONGEST_DEADLINE_MS = 2_147_483_647;

const CHANNEL_OPTIONS: ClientOptions = {
  // The SDK retries by itself, and grpc-js would keep every message of a stream for its own retries.
  "grpc.enable_retries": 0,
  "grpc.per_rpc_retry_buffer_size": 65_536,
  // The server bounds what it sends; the largest lease is one payload of metadata and one of execution metadata.
  "grpc.max_receive_message_length": 67_108_864,
  "grpc.max_send_message_length": -1,
  "grpc.initial_reconnect_backoff_ms": 200,
  // Until it has passed a server that is back again counts as away, and calls use up their tries: servers that restart one by one take seconds.
  "grpc.max_reconnect_backoff_ms": 1_000,
  // A server that is back may be behind its name at another address; for half a minute calls would go on to the old one.
  "grpc.dns_min_time_between_resolutions_ms": 1_000,
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
};

/** A transport over real sockets. Connects with its first call. */
export function createGrpcTransport(options: GrpcTransportOptions): Transport {
  const security = channelCredentials(options.tls ?? false);
  const unaryClients = new Map<string, Client>();
  const streams = new Set<OutgoingStream<never>>();
  // Chance picks the first address, so that many processes spread over many servers.
  let turn = Math.floor(Math.random() * options.addresses.length);
  let closed = false;
  const address = (): string => options.addresses[turn % options.addresses.length] ?? "";
  const connect = (target: string, extra: ClientOptions): Client =>
    new Client(target, security, { ...CHANNEL_OPTIONS, ...serverName(options.tls), ...extra });

  return {
    unary(method, request, call) {
      if (closed) return Promise.reject(clientClosed());
      const metadata = callMetadata(options, call.headers);
      if (LeaseholdError.is(metadata)) return Promise.reject(metadata);
      const target = address();
      const client = unaryClients.get(target) ?? connect(target, {});
      unaryClients.set(target, client);
      return unary(client, method, request, metadata, call).catch((error: unknown) => {
        // Only the call that used the current address moves on, or a burst of failures would go round in circles.
        if (LeaseholdError.is(error) && error.code === "UNAVAILABLE" && address() === target) turn += 1;
        throw error;
      });
    },
    stream(method, events, { headers } = {}) {
      if (closed) return refusedStream(events, clientClosed());
      const metadata = callMetadata(options, headers);
      if (LeaseholdError.is(metadata)) return refusedStream(events, metadata);
      const target = address();
      turn += 1;
      const client = connect(target, { "grpc.use_local_subchannel_pool": 1 });
      const stream = openStream(client, method, metadata, {
        ...events,
        closed(error) {
          streams.delete(stream);
          client.close();
          events.closed(error);
        },
      });
      streams.add(stream);
      return stream;
    },
    close() {
      closed = true;
      for (const stream of streams) stream.cancel();
      for (const client of unaryClients.values()) client.close();
      unaryClients.clear();
    },
  };
}

function unary<Request, Response>(
  client: Client,
  method: UnaryMethod<Request, Response>,
  request: Request,
  metadata: Metadata,
  { deadlineMs, signal }: UnaryOptions,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    // The global clock on purpose, mocked or not: grpc-js subtracts it again.
    const deadline = deadlineMs === undefined || deadlineMs > LONGEST_DEADLINE_MS ? {} : { deadline: Date.now() + Math.max(1, deadlineMs) };
    const abort = (): void => call.cancel();
    const call = client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      deadline,
      (error: ServiceError | null, response?: Response) => {
        signal?.removeEventListener("abort", abort);
        if (error !== null) reject(errorFrom(error));
        else if (response === undefined) reject(new LeaseholdError({ code: "INTERNAL", message: "the server answered nothing" }));
        else resolve(response);
      },
    );
    if (signal?.aborted === true) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}

function openStream<Request, Response>(
  client: Client,
  method: StreamMethod<Request, Response>,
  metadata: Metadata,
  events: StreamEvents<Response>,
): OutgoingStream<Request> {
  // A method with one request is on the wire the same as one with many of which one is sent.
  const call: ClientDuplexStream<Request, Response> = client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    metadata,
  );
  let over = false;
  call.on("data", (response: Response) => {
    if (!over) events.message(response);
  });
  call.on("drain", () => {
    if (!over) events.writable();
  });
  // An error is also told by `status`, which comes exactly once and last.
  call.on("error", () => undefined);
  call.on("status", (end: ServiceError) => {
    if (over) return;
    over = true;
    events.closed(end.code === status.OK ? undefined : errorFrom(end));
  });
  let ended = false;
  return {
    write: (request) => over || ended || call.write(request),
    end() {
      if (!over && !ended) call.end();
      ended = true;
    },
    cancel() {
      if (!over) call.cancel();
    },
  };
}

function clientClosed(): LeaseholdError {
  return new LeaseholdError({ code: "CLIENT_CLOSED", message: "the client was closed" });
}

function errorFrom(error: ServiceError): LeaseholdError {
  const [details] = error.metadata.get(DETAILS_TRAILER);
  return errorFromCall(
    error.code,
    error.details,
    typeof details === "string" ? undefined : details,
    error instanceof Error ? error : undefined,
  );
}

/** What travels beside a message; an error if the user's token or headers cannot. */
function callMetadata(
  { namespace, token }: GrpcTransportOptions,
  headers: Readonly<Record<string, string>> = {},
): Metadata | LeaseholdError {
  const metadata = new Metadata();
  try {
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    if (namespace !== undefined) metadata.set("leasehold-namespace", namespace);
  } catch (error) {
    return new LeaseholdError({
      code: "INVALID_ARGUMENT",
      message: `a header cannot travel: ${describeThrown(error).message}`,
      cause: error,
    });
  }
  try {
    if (token !== undefined) metadata.set("authorization", `Bearer ${typeof token === "function" ? token() : token}`);
  } catch (error) {
    return new LeaseholdError({ code: "UNAUTHENTICATED", message: `no token to send: ${describeThrown(error).message}`, cause: error });
  }
  return metadata;
}

function channelCredentials(tls: TlsOptions): ReturnType<typeof credentials.createSsl> {
  if (tls === false) return credentials.createInsecure();
  if (tls === true) return credentials.createSsl();
  const bytes = (pem: string | Buffer | undefined): Buffer | null => (pem === undefined ? null : Buffer.from(pem));
  try {
    return credentials.createSsl(bytes(tls.ca), bytes(tls.key), bytes(tls.cert));
  } catch (cause) {
    throw invalid([{ path: "tls", message: describeThrown(cause).message }], { cause });
  }
}

function serverName(tls: TlsOptions | undefined): ClientOptions {
  if (typeof tls !== "object" || tls.serverName === undefined) return {};
  return { "grpc.ssl_target_name_override": tls.serverName, "grpc.default_authority": tls.serverName };
}
