// What does the SDK need from a network?
//
// Two methods. grpc-js is one implementation (grpc-transport.ts), a test kit is another. Everything above this seam (retries, timeouts,
// reconnecting, gathering) is the SDK's own and works on any of them.
import { atEndOfTurn } from "./clock.js";
import type { LeaseholdError } from "./errors.js";

/** A unary method, as the generated service definitions describe it. */
export interface UnaryMethod<Request, Response> {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** A request as bytes. */
  readonly requestSerialize: (message: Request) => Buffer;
  /** A response from bytes. */
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

/** A method with a stream of answers, and of requests if the server takes more than one. */
export type StreamMethod<Request, Response> = UnaryMethod<Request, Response>;

/** How one unary call is made. */
export interface UnaryOptions {
  /** The server and the client both give up after this long, in milliseconds. Left out: never. */
  readonly deadlineMs?: number | undefined;
  /** Ends the call at once. */
  readonly signal?: AbortSignal | undefined;
  /** 1 for the first try (the default), then one more with each retry. */
  readonly attempt?: number;
  /** gRPC metadata beside the transport's own. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** How a stream is opened. */
export interface StreamOptions {
  /** gRPC metadata beside the transport's own. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a stream tells its owner. Attached before anything is written, so that nothing is missed or buffered unread. */
export interface StreamEvents<Response> {
  /** A message arrived. */
  message(response: Response): void;
  /** `write` may go on after it answered false. */
  writable(): void;
  /** The stream is over, exactly once: `undefined` if the server ended it with OK. Nothing is called after it. */
  closed(error: LeaseholdError | undefined): void;
}

/** The sending side of a stream. All methods are harmless after `closed`. */
export interface OutgoingStream<Request> {
  /** Sends a message. False: wait for `writable` before the next one (this one is taken all the same). */
  write(request: Request): boolean;
  /** Sends nothing more; the server may go on. */
  end(): void;
  /** Ends the stream at once. `closed` follows with CANCELLED. */
  cancel(): void;
}

/** A way to a Leasehold server. */
export interface Transport {
  /** One request, one answer. Rejects with a LeaseholdError; retries nothing by itself. */
  unary<Request, Response>(method: UnaryMethod<Request, Response>, request: Request, options: UnaryOptions): Promise<Response>;
  /** Opens a stream on a connection of its own, without a deadline. Several calls in a row try the addresses in turn. */
  stream<Request, Response>(
    method: StreamMethod<Request, Response>,
    events: StreamEvents<Response>,
    options?: StreamOptions,
  ): OutgoingStream<Request>;
  /** Ends every call and connection. */
  close(): void;
}

/** A stream that is over before it opened: its owner hears so after it has the stream in hand. */
export function refusedStream<Request>(events: StreamEvents<never>, error: LeaseholdError): OutgoingStream<Request> {
  atEndOfTurn(() => events.closed(error));
  return { write: () => true, end: () => undefined, cancel: () => undefined };
}
