// What time is it? The one door to time and timers. For anything stored the database's clock decides: each reading of it is
// carried forward here by the monotonic clock, so that decisions between two readings agree with it.

/** Longest delay that a timer of Node holds; longer ones are chained. */
const MAX_TIMER_MS = 2_147_000_000;

/** A timer that was set. */
export interface Timer {
  cancel(): void;
}

/** Time and timers. Tests and the test kit bring their own. */
export interface Clock {
  /** The database's time now, in microseconds since 1970. */
  nowUs(): number;
  /** Takes a reading of the database's clock. */
  observe(databaseNowUs: number): void;
  /** Milliseconds that only ever go forward, for measuring. */
  monotonicMs(): number;
  /** Calls back once after `delayMs`, up to 10 years. The timer does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Calls back at the end of this turn of the event loop. */
  soon(callback: () => void): void;
  /** A number in [0, 1), for jitter. */
  chance(): number;
}

/** The clock of a running server. */
export function systemClock(): Clock {
  // Until the first reading the machine's own clock has to do; nothing is stored before.
  let offsetUs = Date.now() * 1000 - performance.now() * 1000;
  return {
    nowUs: () => Math.round(performance.now() * 1000 + offsetUs),
    observe: (databaseNowUs) => {
      offsetUs = databaseNowUs - performance.now() * 1000;
    },
    monotonicMs: () => performance.now(),
    after: (delayMs, callback) => chainedTimer(Math.max(delayMs, 0), callback),
    soon: (callback) => void setImmediate(callback),
    chance: () => Math.random(),
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
