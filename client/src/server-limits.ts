// What does the server take, as far as this process has been told?
//
// A submitter is told nothing, so it begins with the server's defaults or what `createClient` was given; a worker's welcome says it exactly.
import type { Limits } from "@leasehold/proto/leasehold/v1/worker_service";

/** Limits of a server whose settings differ from the defaults. A worker's welcome overrides them. */
export interface LimitOptions {
  /** Largest metadata, execution metadata or result, each, as it travels, in bytes. Default 1 MiB. */
  readonly payloadBytes?: number;
  /** Largest message in bytes. Default 4 MiB. */
  readonly messageBytes?: number;
}

/** The limits that count now. */
export class ServerLimits {
  /** Largest payload in bytes. */
  payloadBytes: number;
  /** Largest error in bytes. */
  errorBytes = 65_536;
  /** Largest message in bytes. */
  messageBytes: number;

  constructor(options: LimitOptions = {}) {
    this.payloadBytes = options.payloadBytes ?? 1_048_576;
    this.messageBytes = options.messageBytes ?? 4_194_304;
  }

  /** A welcome said what counts. What it leaves out stays. */
  learn({ maxPayloadBytes, maxErrorBytes, maxMessageBytes }: Limits): void {
    if (maxPayloadBytes > 0) this.payloadBytes = maxPayloadBytes;
    if (maxErrorBytes > 0) this.errorBytes = maxErrorBytes;
    if (maxMessageBytes > 0) this.messageBytes = maxMessageBytes;
  }
}
