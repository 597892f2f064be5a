// What surrounds every handler? One wrapper for each shape of call: whatever a handler or a caller does, the call ends once, with a status
// that can be read, and the process lives. An async handler that rejects would otherwise end it, and bytes that do not decode would
// otherwise be answered INTERNAL before any handler runs.

import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  MethodDefinition,
  ServerDuplexStream,
  ServerWritableStream,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { status } from "@grpc/grpc-js";
import { leftUntilMs } from "../clock.js";
import type { AboutTask, TraceContext } from "../domain/task.js";
import type { Caller } from "../storage/turnstile.js";
import { fieldsOf, type Log } from "../telemetry/log.js";
import { refusalOf, refuse, toServiceError } from "./status.js";
import { isUuid } from "./validate-text.js";
import { parseTraceContext } from "./validate-trace.js";

/** What takes the place of a message whose bytes do not decode. */
export const MALFORMED = Object.freeze({ malformed: true });

/** The call that a handler answers; its caller, where the handler asks for something that others wait for too. */
export interface CallContext extends Caller {
  readonly namespace: string;
  /** W3C trace context of the caller, if it sent one. */
  readonly traceContext: TraceContext | null;
  /** Calls back once when the caller goes. */
  readonly onGone: (callback: () => void) => void;
}

/** A unary call that somebody hears of. */
export interface ObservedCall {
  /** What its handler is called with. */
  readonly context: CallContext;
  /** It was answered, with this gRPC status code. */
  ended(code: number): void;
}

/** Hears of unary calls: telemetry. */
export interface CallObserver {
  /** A call begins. `carried`: the trace context of the first task that its request has, if there is one. */
  began(method: string, context: CallContext, carried: TraceContext | null): ObservedCall;
}

/** A handler of one request with one answer. It throws `RefusedCall` to refuse. */
export type UnaryHandler<Request, Response> = (request: Request, context: CallContext) => Promise<Response>;
/** A handler of one request with many answers; the stream ends when it resolves. */
export type ServerStreamHandler<Request, Response> = (
  request: Request,
  context: CallContext,
  stream: ServerWritableStream<Request, Response>,
) => Promise<void>;
/** A handler of a stream in both directions. It ends the stream itself; what it throws ends it too. Messages may be MALFORMED. */
export type BidiHandler<Request, Response> = (stream: ServerDuplexStream<Request, Response>, context: CallContext) => Promise<void>;

/** A handler for a method, by its shape. */
type HandlerOf<M> =
  M extends MethodDefinition<infer Request, infer Response>
    ? M extends { requestStream: true }
      ? BidiHandler<Request, Response>
      : M extends { responseStream: true }
        ? ServerStreamHandler<Request, Response>
        : UnaryHandler<Request, Response>
    : never;

/** Handlers of a service; a method without one answers UNIMPLEMENTED. */
export type Handlers<Definition> = { readonly [Method in keyof Definition]?: HandlerOf<Definition[Method]> };

/** A service ready to be added to a server. */
export interface WrappedService {
  readonly name: string;
  readonly definition: Readonly<Record<string, MethodDefinition<unknown, unknown>>>;
  readonly implementation: UntypedServiceImplementation;
  /** Ends calls that would otherwise last, with SERVER_DRAINING. */
  readonly drain: () => void;
}

const NAMESPACE_KEY = "leasehold-namespace";
const DEFAULT_NAMESPACE = "default";
const wrapped = new WeakSet<UntypedHandleCall>();

/** Whether a registered handler went through here. */
export function isWrapped(handler: UntypedHandleCall): boolean {
  return wrapped.has(handler);
}

/** Wraps every method of a service, those without a handler as well. */
export function wrapService<Definition extends object>(
  definition: Definition,
  handlers: Handlers<Definition>,
  log: Log,
  drain: () => void,
  observer?: CallObserver,
): WrappedService {
  const methods = Object.entries(definition) as [string, MethodDefinition<unknown, unknown>][];
  const implementation: UntypedServiceImplementation = {};
  for (const [name, method] of methods) {
    const handler = wrapHandler(method, (handlers as Readonly<Record<string, unknown>>)[name], log, observer);
    wrapped.add(handler);
    implementation[name] = handler;
  }
  const safe = methods.map(([name, method]) => [name, { ...method, requestDeserialize: safely(method.requestDeserialize) }] as const);
  return { name: methods[0]?.[1].path.split("/")[1] ?? "", definition: Object.fromEntries(safe), implementation, drain };
}

/** A deserializer that answers MALFORMED instead of throwing. */
export function safely<T>(deserialize: (bytes: Buffer) => T): (bytes: Buffer) => T {
  return (bytes) => {
    try {
      return deserialize(bytes);
    } catch {
      return MALFORMED as T;
    }
  };
}

function wrapHandler(
  method: MethodDefinition<unknown, unknown>,
  handler: unknown,
  log: Log,
  observer: CallObserver | undefined,
): UntypedHandleCall {
  const missing = async (): Promise<never> =>
    refuse("NOT_IMPLEMENTED", { message: `${method.path} is not implemented by this server yet.` });
  const use = handler ?? missing;
  if (method.requestStream) return bidi(method.path, use as BidiHandler<unknown, unknown>, log);
  if (method.responseStream) return serverStream(method.path, use as ServerStreamHandler<unknown, unknown>, log);
  return unary(method.path, use as UnaryHandler<unknown, unknown>, log, observer);
}

function unary<Request, Response>(
  method: string,
  handler: UnaryHandler<Request, Response>,
  log: Log,
  observer: CallObserver | undefined,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    let traceContext: TraceContext | null = null;
    const about = (): AboutTask => ({ taskId: taskIdOf(call.request), traceContext });
    const answer = async (): Promise<void> => {
      let response: Response;
      let observed: ObservedCall | undefined;
      try {
        const request = decoded(call.request);
        let context = contextOf(call);
        if (observer !== undefined) {
          observed = observer.began(method, context, carriedBy(request));
          context = observed.context;
        }
        traceContext = context.traceContext;
        response = await handler(request, context);
      } catch (error) {
        const refused = toServiceError(refusalOf(error, log, method, about()));
        observed?.ended(refused.code);
        callback(refused);
        return;
      }
      observed?.ended(status.OK);
      callback(null, response);
    };
    answer().catch((error: unknown) => log.error({ err: error, method, ...fieldsOf(about()) }, "an answer could not be sent"));
  };
}

function serverStream<Request, Response>(
  method: string,
  handler: ServerStreamHandler<Request, Response>,
  log: Log,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    let traceContext: TraceContext | null = null;
    const answer = async (): Promise<void> => {
      try {
        const context = contextOf(call);
        traceContext = context.traceContext;
        await handler(decoded(call.request), context, call);
        if (!call.cancelled && !call.writableEnded) call.end();
      } catch (error) {
        endWithError(call, error, log, method, { taskId: taskIdOf(call.request), traceContext });
      }
    };
    answer().catch((error: unknown) => log.error({ err: error, method }, "an answer could not be sent"));
  };
}

function bidi<Request, Response>(
  method: string,
  handler: BidiHandler<Request, Response>,
  log: Log,
): handleBidiStreamingCall<Request, Response> {
  return (call) => {
    const answer = async (): Promise<void> => {
      try {
        await handler(call, contextOf(call));
      } catch (error) {
        endWithError(call, error, log, method);
      }
    };
    answer().catch((error: unknown) => log.error({ err: error, method }, "an answer could not be sent"));
  };
}

/** Ends a stream with an error, once; what was written before is sent first. */
export function endWithError(
  call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>,
  error: unknown,
  log: Log,
  method: string,
  about: AboutTask = {},
): void {
  const refusal = refusalOf(error, log, method, about);
  // After the end an error event would have no status to send and nobody to read it.
  if (!call.cancelled && !call.writableEnded) call.emit("error", toServiceError(refusal));
}

/** The trace context of the first task of a submission. */
function carriedBy(request: unknown): TraceContext | null {
  const { task, tasks } = request as { readonly task?: CarryingTask; readonly tasks?: readonly CarryingTask[] };
  const carried = (task ?? tasks?.[0])?.traceContext;
  return carried === undefined ? null : parseTraceContext(carried);
}

/** The id of the task that a request is about, for the log; undefined where it names none, or something that is no id. */
function taskIdOf(request: unknown): string | undefined {
  const { task, taskId = task?.taskId } = request as { readonly task?: { readonly taskId?: unknown }; readonly taskId?: unknown };
  return typeof taskId === "string" && isUuid(taskId) ? taskId : undefined;
}

interface CarryingTask {
  readonly traceContext?: TraceContext;
}

function decoded<Request>(request: Request): Request {
  if (request === MALFORMED) refuse("MALFORMED_MESSAGE");
  return request;
}

interface AnyCall {
  readonly cancelled: boolean;
  readonly metadata: Metadata;
  getDeadline(): Date | number;
  once(event: "cancelled", listener: () => void): unknown;
}

function contextOf(call: AnyCall): CallContext {
  const namespace = single(call.metadata, NAMESPACE_KEY) ?? DEFAULT_NAMESPACE;
  // Until there are credentials that name namespaces, only the default one exists for anybody.
  if (namespace !== DEFAULT_NAMESPACE) refuse("NAMESPACE_DENIED");
  const traceparent = single(call.metadata, "traceparent");
  const traceContext =
    traceparent === undefined
      ? null
      : parseTraceContext({
          traceparent,
          tracestate: single(call.metadata, "tracestate") ?? "",
          baggage: single(call.metadata, "baggage") ?? "",
        });
  return {
    namespace,
    traceContext,
    gone: () => call.cancelled,
    leftMs: () => leftUntilMs(Number(call.getDeadline())),
    onGone: (callback) => void call.once("cancelled", callback),
  };
}

function single(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return typeof value === "string" ? value : undefined;
}
