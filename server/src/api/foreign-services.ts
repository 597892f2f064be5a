// How are services made safe that libraries bring (health, reflection)? As our own: bytes that do not decode are answered, what throws is
// answered, and streams that would stay open for ever end when the server drains.

import type {
  MethodDefinition,
  sendUnaryData,
  Server,
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Log } from "../telemetry/log.js";
import { endWithError, MALFORMED, safely } from "./call.js";
import type { Draining } from "./draining.js";
import { refusalOf, RefusedCall, toServiceError } from "./status.js";

type Call = ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>;
type Handler = (call: Call, callback?: sendUnaryData<unknown>) => void;

/** Something that takes services as a server does, and adds each of them safely. */
export function safeAdder(server: Server, draining: Draining, log: Log): Pick<Server, "addService"> {
  return {
    addService: (definition: ServiceDefinition, implementation: UntypedServiceImplementation) => {
      const methods = Object.entries(definition).map(([name, method]) => {
        return [name, { ...method, requestDeserialize: safely(method.requestDeserialize) }] as const;
      });
      const handlers: UntypedServiceImplementation = {};
      for (const [name, method] of methods) {
        const found = implementation[name] ?? implementation[method.originalName ?? ""];
        if (found !== undefined) handlers[name] = safe(found as Handler, method, draining, log);
      }
      server.addService(Object.fromEntries(methods), handlers);
    },
  };
}

function safe(
  handler: Handler,
  { path: method, requestStream, responseStream }: MethodDefinition<unknown, unknown>,
  draining: Draining,
  log: Log,
): UntypedHandleCall {
  const streams = requestStream || responseStream;
  const wrapped: Handler = (call, callback) => {
    try {
      if ("request" in call && call.request === MALFORMED) throw new RefusedCall({ reason: "MALFORMED_MESSAGE" });
      if (streams) endWhenDraining(call as ServerWritableStream<unknown, unknown>, method, draining, log);
      if (requestStream) pauseWhileUnread(call as ServerDuplexStream<unknown, unknown>);
      handler(call, callback);
    } catch (error) {
      if (callback !== undefined) callback(toServiceError(refusalOf(error, log, method)));
      else endWithError(call as ServerWritableStream<unknown, unknown>, error, log, method);
    }
  };
  return wrapped as UntypedHandleCall;
}

function endWhenDraining(call: ServerWritableStream<unknown, unknown>, method: string, draining: Draining, log: Log): void {
  const forget = draining.onBegin(() => endWithError(call, new RefusedCall({ reason: "SERVER_DRAINING" }), log, method));
  call.once("cancelled", forget).once("close", forget);
}

/** Reads no further request while answers are not read: the libraries answer each at once, and would keep them without limit. */
function pauseWhileUnread(call: ServerDuplexStream<unknown, unknown>): void {
  const write = call.write.bind(call);
  const resume = (): void => void call.resume();
  call.write = (message: unknown): boolean => {
    const read = write(message);
    if (!read) call.pause().once("drain", resume);
    return read;
  };
}
