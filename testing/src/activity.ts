// Is anything under way in an environment? Statements, calls, messages and what waits for the end of a turn are counted here; when none is left and
// nothing moves for some turns of the event loop, only time, a handler or the test itself can make anything happen.

import { captured } from "@leasehold/client/kit";

/** So many turns without a move, because a promise that resolves in one of them may need another to be heard. */
const QUIET_TURNS = 3;
/** Longest that quiet is waited for, in milliseconds of real time. */
const PATIENCE_MS = 10_000;

/** Counts what is under way. */
export class Activity {
  #pending = 0;
  #moves = 0;

  /** Something happened. */
  moved(): void {
    this.#moves += 1;
  }

  /** Counts a piece of work until it has ended. */
  async track<T>(work: Promise<T>): Promise<T> {
    this.#pending += 1;
    this.#moves += 1;
    try {
      return await work;
    } finally {
      this.#pending -= 1;
      this.#moves += 1;
    }
  }

  /** Calls back in a later turn of the event loop, and counts until then. */
  later(callback: () => void): void {
    this.#pending += 1;
    captured.setImmediate(() => {
      this.#pending -= 1;
      this.#moves += 1;
      callback();
    });
  }

  /**
   * Resolves when nothing is under way. `patienceMs`: for so long of real time nothing may have moved. Rejects after 10 s, naming what never ends.
   */
  async quiet(patienceMs = 0): Promise<void> {
    const sinceMs = captured.monotonic();
    let stillMs = sinceMs;
    let seen = this.#moves;
    for (let turns = 0; turns < QUIET_TURNS || captured.monotonic() - stillMs < patienceMs; turns += 1) {
      await turn();
      const nowMs = captured.monotonic();
      if (this.#pending > 0 || this.#moves !== seen) [turns, stillMs, seen] = [0, nowMs, this.#moves];
      if (nowMs - sinceMs > PATIENCE_MS)
        throw new Error(
          `the environment does not come to rest: ${String(this.#pending)} calls, messages or statements are under way after 10 s`,
        );
    }
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => captured.setImmediate(() => resolve()));
}
