// How does code run around every call that a client makes: headers, metrics, faults in tests?
//
// An interceptor sees each try of a unary call by itself, with its number, and the opening of each stream. It sits between the SDK's retries
// and the transport, so a retry passes it again.
import { LeaseholdError } from "./errors.js";
import {
  type OutgoingStream,
  refusedStream,
  type StreamEvents,
  type StreamMethod,
  type Transport,
  type UnaryMethod,
  type UnaryOptions,
} from "./transport.js";

/** One try of a unary call. */
export interface InterceptedCall {
  /** As in `SubmitTasks`. Submissions of one turn travel together in one call. */
  readonly method: string;
  /** As in `/leasehold.v1.TaskService/SubmitTasks`. */
  readonly path: string;
  /** The message, as the contract has it. Not to be changed. */
  readonly request: unknown;
  /** gRPC metadata to send, beside what the client sends. Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** How long this try may take, in milliseconds; undefined: no limit. */
  readonly deadlineMs: number | undefined;
  /** 1 for the first try, then one more with each retry. */
  readonly attempt: number;
  /** Fires when the caller gives up. */
  readonly signal: AbortSignal | undefined;
}

/** A stream that is about to open. */
export interface InterceptedStream {
  /** `ExecuteTasks` or `WatchTasks`. */
  readonly method: string;
  /** As in `/leasehold.v1.WorkerService/ExecuteTasks`. */
  readonly path: string;
  /** gRPC metadata to send, beside what the client sends. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Code around the calls of a client. The first interceptor is the outermost. */
export interface ClientInterceptor {
  /**
   * Makes one try of a unary call: calls `next` with the call, changed or not (only `headers` and `deadlineMs` count), and returns its
   * answer. What it throws is the answer of this try; a LeaseholdError UNAVAILABLE is tried again.
   */
  call?(call: InterceptedCall, next: (call: InterceptedCall) => Promise<unknown>): Promise<unknown>;
  /** Headers of a stream that opens. A throw ends the stream before it opened. */
  stream?(stream: InterceptedStream): Readonly<Record<string, string>>;
}

/** A transport that passes every call through the interceptors. */
export function intercept(transport: Transport, interceptors: readonly ClientInterceptor[]): Transport {
  if (interceptors.length === 0) return transport;
  return {
    unary: (method, request, options) => interceptedUnary(transport, interceptors, method, request, options),
    stream: (method, events) => interceptedStream(transport, interceptors, method, events),
    close: () => transport.close(),
  };
}

async function interceptedUnary<Request, Response>(
  transport: Transport,
  interceptors: readonly ClientInterceptor[],
  method: UnaryMethod<Request, Response>,
  request: Request,
  { headers = {}, deadlineMs, attempt = 1, signal }: UnaryOptions,
): Promise<Response> {
  const from = async (index: number, call: InterceptedCall): Promise<unknown> => {
    const interceptor = interceptors[index];
    if (interceptor === undefined)
      return transport.unary(method, request, { headers: call.headers, deadlineMs: call.deadlineMs, attempt, signal });
    return interceptor.call === undefined ? from(index + 1, call) : interceptor.call(call, (next) => from(index + 1, next));
  };
  const { path } = method;
  try {
    // The answer is the transport's own, unless an interceptor put one in its place on purpose.
    return (await from(0, { method: nameOf(path), path, request, headers, deadlineMs, attempt, signal })) as Response;
  } catch (error) {
    throw LeaseholdError.from(error);
  }
}

function interceptedStream<Request, Response>(
  transport: Transport,
  interceptors: readonly ClientInterceptor[],
  method: StreamMethod<Request, Response>,
  events: StreamEvents<Response>,
): OutgoingStream<Request> {
  const { path } = method;
  let headers: Readonly<Record<string, string>> = {};
  try {
    for (const interceptor of interceptors) headers = interceptor.stream?.({ method: nameOf(path), path, headers }) ?? headers;
  } catch (error) {
    return refusedStream(events, LeaseholdError.from(error));
  }
  return transport.stream(method, events, { headers });
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
