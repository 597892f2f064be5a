// How do the SDK and the server speak within one process? Over what a socket would carry: every message is bytes on the way, arrives in a later
// turn, and in order. Faults stand in between: they refuse calls, drop streams, and hold back what the server said.

import { LeaseholdError, type OutgoingStream, type StreamEvents, type Transport, type UnaryMethod } from "@leasehold/client";
import { DETAILS_TRAILER, errorFromCall, refusedStream } from "@leasehold/client/kit";
import type { WrappedService } from "@leasehold/server/api/call";
import type { Activity } from "./activity.js";
import { type CallAnswers, type CallFailure, ServerCall } from "./call.js";
import { WorkerStream } from "./worker-stream.js";
import { Wire } from "./wire.js";

type Definition = WrappedService["definition"][string];
type Handler = (call: ServerCall, callback?: (error: CallFailure | null, response?: unknown) => void) => void;

/** What faults do to unary calls. */
export interface CallFaults {
  /** Asked for each call: `arrival` fails it before it reaches the server, `answer` after the server has done it. */
  next(path: string): "arrival" | "answer" | null;
}

const WORKER_STREAM = "/leasehold.v1.WorkerService/ExecuteTasks";
const OK = 0;

/** The server's services, reached without a network. */
export class InProcessNetwork {
  readonly #methods = new Map<string, { readonly definition: Definition; readonly handler: Handler }>();
  readonly #streams = new Set<WorkerStream>();
  /** Set while workers are cut off: what they and the server say to each other is lost. */
  cutOff = false;
  /** How long verdicts are on their way; null: until further notice. */
  verdictDelayMs: number | null = 0;
  /** So many of the next messages with reports arrive twice. */
  reportsToDouble = 0;

  constructor(
    services: readonly WrappedService[],
    private readonly activity: Activity,
    private readonly faults: CallFaults,
    private readonly later: (delayMs: number, callback: () => void) => void,
  ) {
    for (const { definition, implementation } of services)
      for (const [name, method] of Object.entries(definition))
        // The wrapped handlers are those of grpc-js, which know nothing of this call but what it has.
        this.#methods.set(method.path, { definition: method, handler: implementation[name] as unknown as Handler });
  }

  /** Open streams of workers. */
  get workerStreams(): readonly WorkerStream[] {
    return [...this.#streams];
  }

  /** A transport for one client. */
  transport(): Transport {
    const open = new Set<() => void>();
    let closed = false;
    const closedError = (): LeaseholdError => new LeaseholdError({ code: "CLIENT_CLOSED", message: "the client was closed" });
    return {
      unary: (method, request, { signal, headers = {} }) => {
        if (closed) return Promise.reject(closedError());
        return this.activity.track(this.#unary(method, request, headers, signal, open));
      },
      stream: (method, events, { headers = {} } = {}) => {
        if (closed) return refusedStream(events, closedError());
        const cancel = (): void => stream.cancel();
        const stream = this.#stream(method, headers, {
          ...events,
          closed: (error) => {
            open.delete(cancel);
            events.closed(error);
          },
        });
        open.add(cancel);
        return stream;
      },
      close: () => {
        closed = true;
        for (const cancel of [...open]) cancel();
      },
    };
  }

  #unary<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
    open: Set<() => void>,
  ): Promise<Response> {
    const fault = this.faults.next(method.path);
    if (fault === "arrival") return Promise.reject(unavailable("the call did not arrive"));
    return new Promise((resolve, reject) => {
      const wire = new Wire(this.activity);
      const found = this.#find(method.path, headers, { message: () => undefined, ended: () => undefined }, reject);
      if (found === null) return;
      const { call, handler, definition } = found;
      const cancel = (): void => {
        call.cancel();
        settle();
        reject(new LeaseholdError({ code: "CANCELLED", message: "the call was cancelled" }));
      };
      const settle = (): void => {
        open.delete(cancel);
        signal?.removeEventListener("abort", cancel);
      };
      const bytes = method.requestSerialize(request);
      open.add(cancel);
      if (signal?.aborted === true) {
        cancel();
        return;
      }
      signal?.addEventListener("abort", cancel, { once: true });
      wire.send(() => {
        call.request = definition.requestDeserialize(bytes);
        handler(call, (error, response) => {
          const answer = error === null ? definition.responseSerialize(response) : null;
          wire.send(() => {
            settle();
            if (fault === "answer") reject(unavailable("the answer was lost"));
            else if (answer === null) reject(errorOf(error));
            else resolve(method.responseDeserialize(answer));
          });
        });
      });
    });
  }

  #stream<Request, Response>(
    method: UnaryMethod<Request, Response>,
    headers: Readonly<Record<string, string>>,
    events: StreamEvents<Response>,
  ): OutgoingStream<Request> {
    if (method.path === WORKER_STREAM) return this.#workerStream(method, headers, events);
    const up = new Wire(this.activity);
    const down = new Wire(this.activity);
    let over = false;
    const close = (error: LeaseholdError | undefined): void => {
      if (over) return;
      over = true;
      events.closed(error);
    };
    const found = this.#find(
      method.path,
      headers,
      {
        message: (bytes) =>
          down.send(() => {
            if (!over) events.message(method.responseDeserialize(bytes));
          }),
        ended: (error) => down.send(() => close(error === null ? undefined : errorOf(error))),
      },
      (error) => down.send(() => close(error)),
    );
    let begun = false;
    return {
      write: (request) => {
        const bytes = method.requestSerialize(request);
        if (!over && found !== null && !begun) {
          begun = true;
          up.send(() => {
            found.call.request = found.definition.requestDeserialize(bytes);
            found.handler(found.call);
          });
        }
        return true;
      },
      end: () => undefined,
      cancel: () => {
        if (over) return;
        up.send(() => found?.call.cancel());
        down.send(() => close(new LeaseholdError({ code: "CANCELLED", message: "the call was cancelled" })));
      },
    };
  }

  #workerStream<Request, Response>(
    method: UnaryMethod<Request, Response>,
    headers: Readonly<Record<string, string>>,
    events: StreamEvents<Response>,
  ): OutgoingStream<Request> {
    const stream = new WorkerStream(this, this.activity, this.later, {
      message: (bytes) => events.message(method.responseDeserialize(bytes)),
      closed: (error) => {
        this.#streams.delete(stream);
        events.closed(error);
      },
    });
    this.#streams.add(stream);
    const found = this.#find(
      method.path,
      headers,
      { message: (bytes) => stream.answered(bytes), ended: (error) => stream.ended(error === null ? undefined : errorOf(error)) },
      (error) => stream.ended(error),
    );
    if (found !== null) stream.begin(found.call, () => found.handler(found.call));
    return {
      write: (request) => {
        stream.send(method.requestSerialize(request));
        return true;
      },
      end: () => stream.halfClose(),
      cancel: () => stream.cancel(new LeaseholdError({ code: "CANCELLED", message: "the call was cancelled" })),
    };
  }

  #find(
    path: string,
    headers: Readonly<Record<string, string>>,
    answers: CallAnswers,
    refuse: (error: LeaseholdError) => void,
  ): { readonly call: ServerCall; readonly handler: Handler; readonly definition: Definition } | null {
    const found = this.#methods.get(path);
    if (found === undefined) {
      refuse(new LeaseholdError({ code: "UNIMPLEMENTED", message: `${path} is not served` }));
      return null;
    }
    try {
      return { ...found, call: new ServerCall(found.definition, headers, answers) };
    } catch (cause) {
      refuse(new LeaseholdError({ code: "INVALID_ARGUMENT", message: "a header cannot travel", cause }));
      return null;
    }
  }
}

/** The error of a connection that broke. */
export function unavailable(message: string): LeaseholdError {
  return new LeaseholdError({ code: "UNAVAILABLE", message, retryable: true });
}

function errorOf(failure: CallFailure | null): LeaseholdError {
  const [details] = failure?.metadata.get(DETAILS_TRAILER) ?? [];
  return errorFromCall(failure?.code ?? OK, failure?.details ?? "", typeof details === "string" ? undefined : details);
}
