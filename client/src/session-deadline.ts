// Until when may this worker believe that its leases are its own?
//
// Until the session TTL has passed since it *sent* the heartbeat whose number was last answered. The server counts from when it stored that
// heartbeat, which is later: so the worker stops first, and nobody else can have been given its tasks before.
import type { Clock, Timer } from "./clock.js";

/** Numbers heartbeats, remembers when each was sent, and calls back when the answers stay away for too long. */
export class SessionDeadline {
  #number = 0;
  #ttlMs = 0;
  #timer: Timer | undefined;
  #fromMs = 0;
  readonly #sentMs = new Map<number, number>();

  constructor(
    private readonly clock: Clock,
    private readonly passed: () => void,
  ) {}

  /** A session begins or goes on: it counts from when its hello was sent. Numbers start anew with a new session. */
  begin(helloSentMs: number, ttlMs: number, isNew: boolean): void {
    if (isNew) {
      this.#number = 0;
      this.#sentMs.clear();
    }
    this.#ttlMs = ttlMs;
    this.#arm(helloSentMs);
  }

  /** The number of the heartbeat that is sent now. */
  next(): number {
    this.#number += 1;
    this.#sentMs.set(this.#number, this.clock.monotonic());
    return this.#number;
  }

  /** The server has stored this heartbeat. */
  answered(number: number): void {
    const sentMs = this.#sentMs.get(number);
    if (sentMs === undefined) return;
    for (const older of this.#sentMs.keys()) if (older <= number) this.#sentMs.delete(older);
    this.#arm(sentMs);
  }

  /** Time that the monotonic clock did not count passed, in milliseconds. */
  slept(sleptMs: number): void {
    for (const [number, sentMs] of this.#sentMs) this.#sentMs.set(number, sentMs - sleptMs);
    this.#arm(this.#fromMs - sleptMs);
  }

  /** Takes the timer back. */
  close(): void {
    this.#timer?.cancel();
  }

  #arm(fromMs: number): void {
    this.#fromMs = fromMs;
    this.#timer?.cancel();
    this.#timer = this.clock.timer(fromMs + this.#ttlMs - this.clock.monotonic(), this.passed, { pulse: true });
  }
}
