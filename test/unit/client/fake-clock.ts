// How do the SDK's tests move time? By a clock that stands still until it is advanced.
import type { Clock } from "@leasehold/client";

interface FakeTimer {
  dueMs: number;
  order: number;
  callback: () => void;
}

/** Lets everything run that is ready: promise continuations, the end of the turn, and what they start. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 5; round += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A clock that only `advance` moves. */
export class FakeClock implements Clock {
  #nowMs = 1_000_000;
  #order = 0;
  #sleptMs = 0;
  readonly #timers = new Set<FakeTimer>();

  now(): number {
    return 1_800_000_000_000 + this.#nowMs + this.#sleptMs;
  }

  monotonic(): number {
    return this.#nowMs;
  }

  timer(delayMs: number, callback: () => void): { cancel: () => void } {
    const timer = { dueMs: this.#nowMs + Math.max(0, delayMs), order: (this.#order += 1), callback };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** The machine sleeps: the wall clock goes on alone. */
  sleep(ms: number): void {
    this.#sleptMs += ms;
  }

  /** How many timers are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves time, firing each timer at its moment and letting what it starts run. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      const [next] = [...this.#timers].filter(({ dueMs }) => dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs || a.order - b.order);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.callback();
      await settle();
    }
    this.#nowMs = endMs;
    await settle();
  }

  /** Moves time without firing anything in between: what a blocked event loop looks like. */
  jump(ms: number): void {
    this.#nowMs += ms;
  }
}
