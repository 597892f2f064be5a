// How many bytes has a stream of requests brought that are no whole message yet? Only they are held for it here: whole ones go to the handler.

const PREFIX_BYTES = 5;

/** Follows the length prefixes of gRPC messages, chunk by chunk. */
export class PartialMessage {
  private readonly prefix = Buffer.alloc(PREFIX_BYTES);
  /** Bytes of the current message that came, its prefix included. */
  private came = 0;
  private length = 0;

  /** Bytes of the message that is not complete; 0 between messages. */
  get bytes(): number {
    return this.came;
  }

  /** Takes what came next. */
  take(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      const inPrefix = this.came < PREFIX_BYTES;
      const step = Math.min(chunk.length - at, (inPrefix ? PREFIX_BYTES : PREFIX_BYTES + this.length) - this.came);
      if (inPrefix) {
        chunk.copy(this.prefix, this.came, at, at + step);
        if (this.came + step === PREFIX_BYTES) this.length = this.prefix.readUInt32BE(1);
      }
      this.came += step;
      at += step;
      if (this.came >= PREFIX_BYTES && this.came === PREFIX_BYTES + this.length) this.came = 0;
    }
  }
}
