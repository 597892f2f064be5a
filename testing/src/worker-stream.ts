// What can happen to the stream of a worker on its way? It is dropped, it falls silent, reports arrive twice, or verdicts
// are late.

import type { LeaseholdError } from "@leasehold/client";
import { ServerMessage, WorkerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import type { Activity } from "./activity.js";
import type { ServerCall } from "./call.js";
import { Wire } from "./wire.js";

/** The faults that streams heed. */
export interface StreamFaults {
  readonly cutOff: boolean;
  /** In milliseconds; null: until further notice. */
  readonly verdictDelayMs: number | null;
  /** So many of the next messages with reports arrive twice. */
  reportsToDouble: number;
}

/** What the worker's side hears. */
export interface WorkerStreamEvents {
  message(bytes: Buffer): void;
  closed(error: LeaseholdError | undefined): void;
}

/** One stream between a worker and the server. */
export class WorkerStream {
  /** The session that it serves; empty until the welcome. */
  sessionId = "";
  readonly #up: Wire;
  readonly #down: Wire;
  #call: ServerCall | null = null;
  #over = false;
  #held: Buffer[] = [];

  constructor(
    private readonly faults: StreamFaults,
    activity: Activity,
    private readonly later: (delayMs: number, callback: () => void) => void,
    private readonly events: WorkerStreamEvents,
  ) {
    this.#up = new Wire(activity);
    this.#down = new Wire(activity);
  }

  /** The server takes the call. */
  begin(call: ServerCall, handle: () => void): void {
    this.#call = call;
    if (this.faults.cutOff) return;
    this.#up.send(handle);
  }

  /** The worker says something. */
  send(bytes: Buffer): void {
    if (this.#over || this.faults.cutOff) return;
    const arrive = (): void => this.#call?.receive(bytes);
    this.#up.send(arrive);
    if (this.faults.reportsToDouble === 0 || WorkerMessage.decode(bytes).reports.length === 0) return;
    this.faults.reportsToDouble -= 1;
    this.#up.send(arrive);
  }

  /** The worker says nothing more. */
  halfClose(): void {
    if (!this.#over) this.#up.send(() => this.#call?.halfClose());
  }

  /** The server says something. */
  answered(bytes: Buffer): void {
    if (this.#over || this.faults.cutOff) return;
    const message = ServerMessage.decode(bytes);
    if (message.welcome !== undefined) this.sessionId = message.welcome.sessionId;
    if (message.verdicts.length === 0 || this.faults.verdictDelayMs === 0) {
      this.#deliver(bytes);
      return;
    }
    this.#deliver(Buffer.from(ServerMessage.encode({ ...message, verdicts: [] }).finish()));
    const verdicts = Buffer.from(ServerMessage.encode(ServerMessage.create({ verdicts: message.verdicts })).finish());
    if (this.faults.verdictDelayMs === null) this.#held.push(verdicts);
    else this.later(this.faults.verdictDelayMs, () => this.#deliver(verdicts));
  }

  /** Verdicts that were held back go on. */
  letGo(): void {
    for (const verdicts of this.#held.splice(0)) this.#deliver(verdicts);
  }

  /** The server ended the stream. */
  ended(error: LeaseholdError | undefined): void {
    if (!this.faults.cutOff) this.#down.send(() => this.#close(error));
  }

  /** The worker gives the stream up; a server that cannot be reached does not hear of it. */
  cancel(error: LeaseholdError): void {
    if (this.#over) return;
    if (!this.faults.cutOff) this.#up.send(() => this.#call?.cancel());
    this.#down.cut();
    this.#down.send(() => this.#close(error));
  }

  /** The connection breaks: both sides find it gone, and what was on its way is lost. */
  drop(error: LeaseholdError): void {
    this.#up.cut();
    this.#down.cut();
    this.#up.send(() => this.#call?.cancel());
    this.#down.send(() => this.#close(error));
  }

  #deliver(bytes: Buffer): void {
    this.#down.send(() => {
      if (!this.#over) this.events.message(bytes);
    });
  }

  #close(error: LeaseholdError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.events.closed(error);
  }
}
