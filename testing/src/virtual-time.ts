// What time is it in an environment? Whatever the test says. One time for the database, the server, the clients and the workers, which moves
// only by `pass`. Timers wait here until their moment has come; who moves the time fires them.

import { captured } from "@leasehold/client/kit";
import type { Clock as ClientClock, Timer } from "@leasehold/client";
import type { Clock as ServerClock, TimerPurpose } from "@leasehold/server/clock";
import { seededChance } from "./chance.js";
import type { Activity } from "./activity.js";

/** What a look takes: as long as the dispatcher waits at least between two. */
const LOOK_US = 50_000;

interface WaitingTimer {
  /** On the axis of its purpose, in microseconds. */
  dueUs: number;
  readonly order: number;
  readonly purpose: TimerPurpose;
  readonly callback: () => void;
}

/** The time of one environment, with its timers. */
export class VirtualTime {
  #nowUs: number;
  /** Time that was lived through. Hours that were leapt over are not in it: no heartbeat was missed in them. */
  #livedUs = 0;
  #order = 0;
  #closed = false;
  readonly #timers = new Set<WaitingTimer>();

  constructor(
    startMs: number,
    private readonly seed: number,
    private readonly activity: Activity,
  ) {
    this.#nowUs = Math.round(startMs * 1000);
  }

  /** Microseconds since 1970. */
  get nowUs(): number {
    return this.#nowUs;
  }

  /** The time for one statement: each is a microsecond later than the one before, so that what happens in order has times in order. */
  tickUs(): number {
    this.#nowUs += 1;
    return this.#nowUs;
  }

  /** When the next timer is due that belongs to its moment, in microseconds since 1970; null: none. `pulses`: signs of life belong to theirs too. */
  nextUs(pulses: boolean): number | null {
    let nextUs: number | null = null;
    for (const { dueUs, purpose } of this.#timers) {
      if (purpose === "look" || (purpose === "pulse" && !pulses)) continue;
      const atUs = purpose === "due" ? dueUs : this.#nowUs + (dueUs - this.#livedUs);
      nextUs = Math.min(nextUs ?? atUs, atUs);
    }
    return nextUs;
  }

  /** Lets time pass. `lived`: timers of signs of life and looks come closer by it. */
  pass(byUs: number, lived: boolean): void {
    this.#nowUs += byUs;
    if (lived) this.#livedUs += byUs;
  }

  /** Calls the next timer back whose time has come, if there is one. Answers whether. */
  fireOne(): boolean {
    let next: WaitingTimer | undefined;
    for (const timer of this.#timers) {
      const lateUs = (timer.purpose === "due" ? this.#nowUs : this.#livedUs) - timer.dueUs;
      if (lateUs >= 0 && (next === undefined || timer.dueUs < next.dueUs || (timer.dueUs === next.dueUs && timer.order < next.order)))
        next = timer;
    }
    if (next === undefined) return false;
    this.#timers.delete(next);
    this.activity.moved();
    next.callback();
    return true;
  }

  /** Calls everything back that waits to look whether there is something to do. A look takes a moment of lived time: nobody looks twice at once. */
  look(): void {
    this.#livedUs += LOOK_US;
    for (const timer of [...this.#timers].filter(({ purpose }) => purpose === "look")) {
      if (!this.#timers.delete(timer)) continue;
      this.activity.moved();
      timer.callback();
    }
  }

  /** Nothing is called back any more. */
  close(): void {
    this.#closed = true;
    this.#timers.clear();
  }

  /** The time as a server knows it. */
  forServer(): ServerClock {
    const chance = seededChance(this.seed);
    return {
      nowUs: () => this.#nowUs,
      observe: () => undefined,
      monotonicMs: () => this.#livedUs / 1000,
      after: (delayMs, callback, purpose = "due") => this.#wait(delayMs, purpose, callback),
      soon: (callback) => {
        this.activity.later(callback);
      },
      chance,
    };
  }

  /** The same for the storage, whose statements each get a later time. */
  forStorage(server: ServerClock): ServerClock {
    return { ...server, nowUs: () => this.tickUs() };
  }

  /** The time as the SDK knows it. */
  forClient(): ClientClock {
    return {
      now: () => Math.floor(this.#nowUs / 1000),
      monotonic: () => this.#livedUs / 1000,
      timer: (delayMs, callback, { pulse, background } = {}) => {
        // Those measure the process, which has another clock.
        if (background === true) return { cancel: () => undefined };
        return this.#wait(delayMs, pulse === true ? "pulse" : "due", callback);
      },
    };
  }

  #wait(delayMs: number, purpose: TimerPurpose, callback: () => void): Timer {
    const fromUs = purpose === "due" ? this.#nowUs : this.#livedUs;
    // Rounded up: a timer must never be before its time.
    const dueUs = fromUs + Math.ceil(Math.max(0, delayMs) * 1000);
    const timer: WaitingTimer = { dueUs, order: this.#order++, purpose, callback };
    if (!this.#closed) this.#timers.add(timer);
    return {
      cancel: () => {
        this.#timers.delete(timer);
      },
    };
  }
}

/** The machine's own time, whatever a test made of `Date`: where an environment begins unless told otherwise. */
export function realNowMs(): number {
  return captured.now();
}
