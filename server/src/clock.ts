// What time is it? The one door to time and timers. For anything stored the database's clock decides: each reading of it is
// carried forward here by the monotonic clock, so that decisions between two readings agree with it.

import { monitorEventLoopDelay } from "node:perf_hooks";

const NS_PER_S = 1_000_000_000;
const DELAY_RESOLUTION_MS = 10;
/** Longest delay that a timer of Node holds; longer ones are chained. */
const MAX_TIMER_MS = 2_147_000_000;

/** How long a reading of the database's clock is trusted over later, lower ones. */
const READING_MS = 10_000;
/** A reading that is this much lower is no late answer: the database's clock was set back. */
const STEP_US = 1_000_000;

/** A timer that was set. */
export interface Timer {
  cancel(): void;
}

/**
 * What a timer is for. `due` (the default): what it does belongs to its moment. `look`: it looks whether there is something to do, and may come
 * earlier. `pulse`: it gives, or misses, a sign of life.
 */
export type TimerPurpose = "due" | "look" | "pulse";

/** Time and timers. Tests and the test kit bring their own. */
export interface Clock {
  /** The database's time now, in microseconds since 1970. */
  nowUs(): number;
  /** Takes a reading of the database's clock. */
  observe(databaseNowUs: number): void;
  /** Milliseconds that only ever go forward, for measuring. */
  monotonicMs(): number;
  /**
   * Calls back once after `delayMs`, up to 10 years. The timer does not keep the process alive. What it is for is nothing to a real clock;
   * that of the test kit leaps over hours in which nothing is due, and only a `due` timer is.
   */
  after(delayMs: number, callback: () => void, purpose?: TimerPurpose): Timer;
  /** Calls back at the end of this turn of the event loop. */
  soon(callback: () => void): void;
  /** A number in [0, 1), for jitter. */
  chance(): number;
}

/** Milliseconds left until a deadline that is given by this machine's own clock, in milliseconds since 1970. Infinity stays. */
export function leftUntilMs(deadlineMs: number): number {
  return deadlineMs - Date.now();
}

/** This machine's time, in milliseconds since 1970 with their fraction: for the spans of its own traces, never for anything stored. */
export function machineNowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** How late this process's event loop is, in seconds, since it was looked at last. */
export interface EventLoopDelay {
  /** The share of turns, 1 to 100, that were at most so late. */
  percentile(share: number): number;
  /** The longest; then it begins anew. */
  takeMax(): number;
  stop(): void;
}

/** Watches the event loop, for as long as it is not stopped. */
export function watchEventLoopDelay(): EventLoopDelay {
  const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  delay.enable();
  return {
    percentile: (share) => delay.percentile(share) / NS_PER_S,
    takeMax: () => {
      const max = delay.max / NS_PER_S;
      delay.reset();
      return max;
    },
    stop: () => void delay.disable(),
  };
}

/** The clock of a running server. */
export function systemClock(): Clock {
  // Until the first reading the machine's own clock has to do; nothing is stored before.
  let offsetUs = Date.now() * 1000 - performance.now() * 1000;
  const read = highestReading();
  return {
    nowUs: () => Math.round(performance.now() * 1000 + offsetUs),
    observe: (databaseNowUs) => {
      const nowMs = performance.now();
      offsetUs = read(databaseNowUs - nowMs * 1000, nowMs);
    },
    monotonicMs: () => performance.now(),
    after: (delayMs, callback) => chainedTimer(Math.max(delayMs, 0), callback),
    soon: (callback) => void setImmediate(callback),
    chance: () => Math.random(),
  };
}

/**
 * Makes the judge of readings, each an offset between two clocks. A reading is never ahead of the database, only behind by the time that
 * its answer took, so the highest of the last seconds is the truest: with the latest one a slow answer would make delays end early.
 */
export function highestReading(): (offsetUs: number, nowMs: number) => number {
  let before = Number.NEGATIVE_INFINITY;
  let recent = Number.NEGATIVE_INFINITY;
  let sinceMs = Number.NEGATIVE_INFINITY;
  return (offsetUs, nowMs) => {
    if (Math.max(before, recent) - offsetUs > STEP_US || nowMs - sinceMs > 2 * READING_MS) {
      [before, recent, sinceMs] = [offsetUs, offsetUs, nowMs];
    } else if (nowMs - sinceMs > READING_MS) {
      [before, recent, sinceMs] = [recent, offsetUs, nowMs];
    } else recent = Math.max(recent, offsetUs);
    return Math.max(before, recent);
  };
}

function chainedTimer(delayMs: number, callback: () => void): Timer {
  let handle: NodeJS.Timeout;
  const arm = (leftMs: number): void => {
    const nextMs = Math.min(leftMs, MAX_TIMER_MS);
    handle = setTimeout(() => {
      if (leftMs > nextMs) arm(leftMs - nextMs);
      else callback();
    }, nextMs);
    handle.unref();
  };
  arm(delayMs);
  return {
    cancel: () => {
      clearTimeout(handle);
    },
  };
}
