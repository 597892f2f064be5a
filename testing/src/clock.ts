// How does a test move time? From one moment in which something is due to the next, and nothing in between: three days in which nothing happens
// are one step. Sessions of connected workers live on through it; those that are cut off run out.

import type { DurationInput } from "@leasehold/client";
import { requireDurationMs } from "@leasehold/client/kit";
import type { Activity } from "./activity.js";
import type { VirtualTime } from "./virtual-time.js";

/** The clock of an environment: of its database, server, client and workers. */
export interface TestClock {
  /** What time it is there. */
  now(): Date;
  /**
   * Lets so much time pass, as `'3d'` or milliseconds. Stops at every moment in which a timer, a retry, a wake-up or a deadline is due, and goes on
   * when everything that it set going has come to rest. A handler that waits for something else is left waiting.
   */
  advance(duration: DurationInput): Promise<void>;
  /** Lets time pass up to a moment. Throws a RangeError if it is over. */
  advanceTo(time: Date): Promise<void>;
  /** Resolves when so much time has passed by `advance`; rejects with the signal's reason when it aborts first. For handlers that wait. */
  sleep(duration: DurationInput, options?: { readonly signal?: AbortSignal }): Promise<void>;
}

/** What a clock asks the environment around it. */
export interface ClockSurroundings {
  /** Ids of the sessions whose workers are connected. */
  alive(): readonly string[];
  /** Whether a worker misses signs of life, so that time must be lived through. */
  pulses(): boolean;
  /** Whether a handler runs, which may do what nobody sees. */
  busy(): boolean;
  /** When the database has something to do next, in microseconds since 1970. */
  nextDueUs(nowUs: number, alive: readonly string[]): Promise<number | null>;
  /** Has the server look for what is due. */
  lookAgain(): void;
  /** Tells the database that nobody lived through a time. */
  leap(byUs: number, alive: readonly string[]): Promise<void>;
}

/** For how long of real time nothing moves before a handler that runs counts as waiting, in milliseconds: between two steps, and at the end. */
const STEP_MS = 20;
const SETTLED_MS = 100;

/** Moves the time of an environment. One move at a time. */
export class SteppingClock implements TestClock {
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly time: VirtualTime,
    private readonly activity: Activity,
    private readonly around: ClockSurroundings,
  ) {}

  now(): Date {
    return new Date(Math.floor(this.time.nowUs / 1000));
  }

  advance(duration: DurationInput): Promise<void> {
    const byMs = requireDurationMs(duration, "duration");
    return this.inTurn(() => this.#to(this.time.nowUs + byMs * 1000));
  }

  advanceTo(time: Date): Promise<void> {
    return this.inTurn(async () => {
      const targetUs = time.getTime() * 1000;
      // What happened within this millisecond has moved time by some microseconds.
      if (!(targetUs + 1000 > this.time.nowUs)) throw new RangeError(`it is ${this.now().toISOString()}: ${String(time)} is over`);
      await this.#to(Math.max(targetUs, this.time.nowUs));
    });
  }

  sleep(duration: DurationInput, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const delayMs = requireDurationMs(duration, "duration");
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        timer.cancel();
        reject(signal?.reason instanceof Error ? signal.reason : new Error(String(signal?.reason)));
      };
      const timer = this.time.forClient().timer(delayMs, () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      });
      if (signal?.aborted === true) abort();
      else signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /** Does what is due at this moment, and looks for more of it, until everything is at rest. */
  async settle(): Promise<void> {
    await this.#rest(SETTLED_MS);
    await this.#look(SETTLED_MS);
  }

  /** Lets time pass from step to step until something is true. Throws an Error with `message` if it is not within `limitMs`. */
  async until(isTrue: () => boolean, limitMs: number, message: string): Promise<void> {
    const limitUs = this.time.nowUs + limitMs * 1000;
    await this.#rest(STEP_MS);
    while (!isTrue()) {
      if (this.time.nowUs >= limitUs) throw new Error(message);
      await this.#step(limitUs);
    }
  }

  /** Lets time pass from step to step while something ends that may wait for timers, or for real work that nobody sees. Rejects as it does. */
  async drive(work: Promise<void>): Promise<void> {
    const settled = { ended: false };
    const ending = work.finally(() => (settled.ended = true));
    // Its failure is told at the end.
    ending.catch(() => undefined);
    for (;;) {
      await this.#rest(STEP_MS);
      if (settled.ended) return ending;
      const timerUs = this.time.nextUs(true);
      if (timerUs === null) return ending;
      await this.#step(timerUs);
    }
  }

  /** Waits until whoever moves time now is done, then does the work. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #to(targetUs: number): Promise<void> {
    await this.#rest(STEP_MS);
    while (this.time.nowUs < targetUs) await this.#step(targetUs);
    await this.settle();
  }

  async #step(targetUs: number): Promise<void> {
    const alive = this.around.alive();
    const pulses = this.around.pulses();
    const { nowUs } = this.time;
    const databaseUs = (await this.around.nextDueUs(nowUs, alive)) ?? Number.POSITIVE_INFINITY;
    const timerUs = this.time.nextUs(pulses) ?? Number.POSITIVE_INFINITY;
    const nextUs = Math.max(Math.min(databaseUs, timerUs, targetUs), nowUs);
    await this.around.leap(nextUs - nowUs, alive);
    this.time.pass(nextUs - this.time.nowUs, pulses);
    await this.#rest(STEP_MS);
    if (databaseUs <= nextUs) await this.#look(STEP_MS);
  }

  async #look(patienceMs: number): Promise<void> {
    this.time.look();
    this.around.lookAgain();
    await this.#rest(patienceMs);
  }

  async #rest(patienceMs: number): Promise<void> {
    do {
      await this.activity.quiet();
      if (this.around.busy()) await this.activity.quiet(patienceMs);
    } while (this.time.fireOne());
  }
}
