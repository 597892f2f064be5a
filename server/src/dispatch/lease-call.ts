// How does a worker without a stream get leases? Each answer is a session of its own: it lives as long as it is renewed, and an
// answer that was lost on the way is never renewed and expires.

import type { Clock, Timer } from "../clock.js";
import type { ServerMessage, StreamEnd, WorkerStream } from "./messages.js";
import type { OutgoingLease } from "./messages.js";

/** The stream that a waiting call pretends to be: it ends with the first leases that it is given. */
export class LeaseCall implements WorkerStream {
  private answer: ((leases: readonly OutgoingLease[]) => void) | null = null;
  private answered = false;
  private readonly timer: Timer;
  /** Resolves with the first leases, or with none after the wait, when the server drains, or when the caller hangs up. */
  readonly leases: Promise<readonly OutgoingLease[]>;

  constructor(
    clock: Clock,
    waitMs: number,
    readonly roomBytes: number,
    hungUp: AbortSignal,
  ) {
    this.leases = new Promise((resolve) => (this.answer = resolve));
    this.timer = clock.after(waitMs, () => {
      this.settle([]);
    });
    hungUp.addEventListener(
      "abort",
      () => {
        this.settle([]);
      },
      { once: true },
    );
  }

  /** Whether it was answered already: then whatever is still claimed for it goes back. */
  get isOver(): boolean {
    return this.answered;
  }

  send(message: ServerMessage): boolean {
    if (message.drain !== undefined) this.settle([]);
    if (message.leases !== undefined && message.leases.length > 0) this.settle(message.leases);
    return true;
  }

  onDrained(): void {
    // An answer is never read slowly: it goes out whole.
  }

  end(_why: StreamEnd): void {
    this.settle([]);
  }

  private settle(leases: readonly OutgoingLease[]): void {
    if (this.answered) return;
    this.answered = true;
    this.timer.cancel();
    this.answer?.(leases);
  }
}
