// Who may go to a pool of connections, and who waits? As many at once as there are connections, the others in turn. Whoever would wait for
// longer than is worth it is refused at once, so that what is accepted is answered in time; what its caller gave up is never run.

import type { Clock } from "../clock.js";
import type { DatabaseFault } from "./faults.js";
import { overloaded } from "./faults.js";

/** Who waits for an answer and can be told to come again. */
export interface Caller {
  /** Whether nobody waits any more: cancelled, disconnected or beyond the deadline. */
  readonly gone: () => boolean;
  /** Milliseconds until the caller's deadline; Infinity without one. */
  readonly leftMs: () => number;
}

/** The bounds of a turnstile. */
export interface TurnstileLimits {
  /** How many go at once. */
  readonly places: number;
  /** Most that wait, whoever they are. */
  readonly maxWaiting: number;
  /** Longest that a caller may be expected to wait, in milliseconds. */
  readonly maxWaitMs: number;
}

interface Waiting {
  readonly sinceMs: number;
  readonly caller: Caller | undefined;
  readonly enter: () => void;
  readonly refuse: (fault: DatabaseFault) => void;
}

/** Weight of the newest visit in the mean. */
const NEWEST = 0.2;

/** Lets in as many as there are places. */
export class Turnstile {
  private inside = 0;
  private readonly waiting: Waiting[] = [];
  /** How long a visit takes, in milliseconds. */
  private meanMs = 0;

  constructor(
    private readonly clock: Pick<Clock, "monotonicMs" | "chance">,
    private readonly limits: TurnstileLimits,
  ) {}

  /** Those who wait. */
  get queued(): number {
    return this.waiting.length;
  }

  /**
   * Does `work` when its turn comes. Rejects with a fault of kind `overloaded` before anything was done: when too many wait, or when the caller
   * would wait too long. Work without a caller is only counted: it was accepted before, or is the server's own.
   */
  async pass<T>(work: () => Promise<T>, caller?: Caller): Promise<T> {
    if (this.inside < this.limits.places) this.inside++;
    else await this.turn(caller);
    const sinceMs = this.clock.monotonicMs();
    try {
      return await work();
    } finally {
      this.meanMs += (this.clock.monotonicMs() - sinceMs - this.meanMs) * NEWEST;
      this.leave();
    }
  }

  private turn(caller: Caller | undefined): Promise<void> {
    const nowMs = this.clock.monotonicMs();
    const waitMs = this.expectedMs(nowMs);
    const tooLong = caller !== undefined && waitMs > Math.min(this.limits.maxWaitMs, caller.leftMs());
    if (tooLong || this.waiting.length >= this.limits.maxWaiting)
      return Promise.reject(overloaded("too many calls wait for a connection", waitMs, this.clock.chance()));
    return new Promise((enter, refuse) => this.waiting.push({ sinceMs: nowMs, caller, enter, refuse }));
  }

  // While every visit hangs the mean says nothing; how long the first one waits already does.
  private expectedMs(nowMs: number): number {
    const byRateMs = ((this.waiting.length + 1) * this.meanMs) / this.limits.places;
    return Math.max(byRateMs, nowMs - (this.waiting[0]?.sinceMs ?? nowMs));
  }

  private leave(): void {
    for (let next = this.waiting.shift(); next !== undefined; next = this.waiting.shift()) {
      if (next.caller?.gone() === true) {
        next.refuse(overloaded("the caller did not wait", 0, 0));
        continue;
      }
      next.enter();
      return;
    }
    this.inside--;
  }
}
