// Does a worker read what it is sent? Its heartbeats count the leases that reached it; one that stays uncounted by two heartbeats
// in a row, with a count that did not rise at all, has a worker that does not read.

/** Compares what a stream delivered with what its worker says it received. */
export class UnreadLeases {
  /** Deliveries that no heartbeat has counted yet: the running number and when it was written. */
  private open: { readonly number: number; readonly atMs: number }[] = [];
  private received = 0;
  private strikes = 0;
  private lastHeartbeatMs = 0;

  /** `intervalMs`: the heartbeat interval; younger deliveries prove nothing. */
  constructor(private readonly intervalMs: number) {}

  /** The stream delivered `number` leases so far. */
  delivered(number: number, atMs: number): void {
    this.open.push({ number, atMs });
  }

  /** A heartbeat came. Null: all is well. Else the count after which everything was never read. */
  heartbeat(received: number, nowMs: number): number | null {
    const rose = received > this.received;
    this.received = Math.max(this.received, received);
    this.open = this.open.filter((delivery) => delivery.number > this.received);
    // Heartbeats that queued while this server stalled arrive together and count as one.
    const queued = nowMs - this.lastHeartbeatMs < this.intervalMs / 4;
    this.lastHeartbeatMs = nowMs;
    const oldest = this.open[0];
    const overdue = oldest !== undefined && nowMs - oldest.atMs >= this.intervalMs;
    if (!overdue || rose) {
      this.strikes = 0;
      return null;
    }
    if (!queued) this.strikes++;
    return this.strikes >= 2 ? this.received : null;
  }
}
