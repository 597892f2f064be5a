// What does a worker speak to that runs one task and has no server? To a script: it is welcome, gets one lease, and every report is recorded.

import { randomUUID } from "node:crypto";
import { LeaseholdError, type StreamEvents, type Transport } from "@leasehold/client";
import { captured, durationFromMs } from "@leasehold/client/kit";
import {
  type Lease,
  type Report,
  type RevocationReason,
  ServerMessage,
  VerdictCode,
  type WorkerMessage,
  WorkerMessage as WorkerMessageCodec,
} from "@leasehold/proto/leasehold/v1/worker_service";

/** Long enough that no heartbeat is due while a handler is tested. */
const HEARTBEAT_MS = 3_600_000;

/** A server of one lease. */
export class LoneServer {
  #events: StreamEvents<ServerMessage> | undefined;
  #lease: Lease | undefined;
  #version = 0n;
  #held = false;
  #drained = false;

  constructor(private readonly reported: (report: Report) => void) {}

  /** Says that the worker is to end the handler's run: the task is cancelled. */
  cancel(reason: string): void {
    const { leaseToken = "" } = this.#lease ?? {};
    this.#say({ cancels: [{ leaseToken, reason, remainingGrace: durationFromMs(60_000) }] });
  }

  /** Says that the lease is no longer the worker's. */
  revoke(reason: RevocationReason): void {
    const { leaseToken = "" } = this.#lease ?? {};
    this.#held = false;
    this.#say({ revoked: [{ leaseToken, reason }] });
  }

  /** Gives the lease to the worker, which must be connected. */
  lease(lease: Lease): void {
    this.#lease = lease;
    this.#held = true;
    this.#version = lease.executionMetadataVersion;
    this.#say({ leases: [lease] });
  }

  /** The way to it. */
  transport(): Transport {
    return {
      unary: ({ path }) =>
        Promise.reject(new LeaseholdError({ code: "UNIMPLEMENTED", message: `${path}: a handler that runs alone has no server` })),
      stream: (method, events) => {
        // The bytes of one message are those of the other: what the SDK reads is what travelled.
        this.#events = {
          ...events,
          message: (message) => events.message(method.responseDeserialize(Buffer.from(ServerMessage.encode(message).finish()))),
        };
        return {
          write: (request) => {
            const message = WorkerMessageCodec.decode(method.requestSerialize(request));
            later(() => this.#hear(message));
            return true;
          },
          end: () => undefined,
          cancel: () => later(() => this.#end()),
        };
      },
      close: () => this.#end(),
    };
  }

  #hear(message: WorkerMessage): void {
    if (message.hello !== undefined) {
      const [sessionTtl, heartbeatInterval] = [durationFromMs(3 * HEARTBEAT_MS), durationFromMs(HEARTBEAT_MS)];
      this.#say({ welcome: { sessionId: randomUUID(), sessionTtl, heartbeatInterval } });
    }
    for (const report of message.reports) {
      this.reported(report);
      if (report.checkpoint !== undefined) this.#version += 1n;
      else this.#held = false;
      const { leaseToken, reportSeq } = report;
      this.#say({ verdicts: [{ leaseToken, reportSeq, code: VerdictCode.RECORDED, executionMetadataVersion: this.#version }] });
    }
    this.#drained ||= message.drain !== undefined;
    // As a server does: the stream of a drained worker ends when it holds nothing.
    if (this.#drained && !this.#held) later(() => this.#end());
  }

  #say(message: Parameters<typeof ServerMessage.create>[0]): void {
    later(() => this.#events?.message(ServerMessage.create(message)));
  }

  #end(): void {
    const events = this.#events;
    this.#events = undefined;
    events?.closed(undefined);
  }
}

function later(callback: () => void): void {
  captured.setImmediate(callback);
}
