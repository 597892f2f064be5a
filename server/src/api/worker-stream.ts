// How does a gRPC stream look to the dispatcher? As a WorkerStream: messages cut to size, a slow reader told apart from a fast one, one
// end. Nothing is written after the end: grpc-js would then send no status at all and leave the worker on a half-open stream.

import type { ServerDuplexStream } from "@grpc/grpc-js";
import type {
  ServerMessage as ServerMessageProto,
  WorkerMessage as WorkerMessageProto,
} from "@leasehold/proto/leasehold/v1/worker_service";
import type { Config } from "../config.js";
import type { ServerMessage, StreamEnd, WorkerStream } from "../dispatch/messages.js";
import type { Durability } from "../storage/conditions.js";
import { toServerMessages } from "./convert-worker.js";
import type { Reason } from "./reasons.js";
import { toServiceError } from "./status.js";

/** The stream of one worker. */
export type ExecuteCall = ServerDuplexStream<WorkerMessageProto, ServerMessageProto>;

/** A WorkerStream over a call. */
export interface GrpcWorkerStream extends WorkerStream {
  /** Whether it was ended, from either side. */
  readonly closed: () => boolean;
  /** Says that the worker's side is gone. */
  readonly lost: () => void;
}

const RECONNECT_MS = 100;

/** What a worker is told of its server. */
export interface ToldServer {
  readonly version: string;
  /** Looked up with each welcome. */
  readonly durability: () => Durability | undefined;
}

/** Wraps a call. `sent` hears how many verdicts went out with each message. */
export function workerStream(call: ExecuteCall, config: Config, server: ToldServer, sent: (verdicts: number) => void): GrpcWorkerStream {
  let closed = false;
  return {
    closed: () => closed,
    lost: () => {
      closed = true;
    },
    send: (message: ServerMessage): boolean => {
      if (closed) return true;
      let ready = true;
      for (const part of toServerMessages(message, config, server.version, server.durability())) ready = call.write(part) && ready;
      if (message.verdicts !== undefined) sent(message.verdicts.length);
      return ready;
    },
    // Each time, not once: a worker may read slowly again.
    onDrained: (callback) => void call.on("drain", callback),
    end: (why) => {
      if (closed) return;
      closed = true;
      // The error event ends the writable side, so what was written before goes out first, then the status.
      if (why === "WORKER_DRAINED") call.end();
      else
        call.emit(
          "error",
          toServiceError({
            reason: reasonOf(why),
            retryAfterMs: why === "SERVER_DRAINING" || why === "DATABASE_UNAVAILABLE" ? RECONNECT_MS : null,
          }),
        );
    },
  };
}

function reasonOf(why: Exclude<StreamEnd, "WORKER_DRAINED">): Reason {
  // Each end of a stream is a reason of the same name.
  return why;
}
