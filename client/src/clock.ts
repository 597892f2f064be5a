// What time is it, and how does the SDK wait?
//
// Every timer of the SDK comes from a `Clock`. The system's clock captures the globals when this file is loaded, so a test that
// replaces `setTimeout` or `Date` later does not freeze a worker. Nothing here decides anything that is stored: for that only the
// database's clock counts.

/** A timer that was set. */
export interface Timer {
  /** Takes the timer back; harmless after it has fired. */
  cancel(): void;
}

/** Where the SDK gets time and timers from. A test kit injects its own. */
export interface Clock {
  /** Wall-clock time in milliseconds since 1970. Used only for what people read and for `{ in: … }` at submission. */
  now(): number;
  /** Milliseconds that never go back. Used for everything that is measured. */
  monotonic(): number;
  /**
   * Calls back once after `delayMs` (any length, also beyond 2^31 ms; below 0 counts as 0).
   * A `background` timer does not keep the process alive. A `pulse` gives, or misses, a sign of life: a clock that leaps over hours in which
   * nothing is due leaps over it.
   */
  timer(delayMs: number, callback: () => void, options?: TimerOptions): Timer;
}

/** What kind of timer. */
export interface TimerOptions {
  /** It does not keep the process alive. Default false. */
  readonly background?: boolean;
  /** It gives, or misses, a sign of life. Default false. */
  readonly pulse?: boolean;
}

/** The longest delay that `setTimeout` takes: 2^31 - 1 ms. A longer one would fire at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** What of the process the SDK works with, as it was when this file was loaded. */
export const captured = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setImmediate: globalThis.setImmediate,
  now: Date.now,
  monotonic: performance.now.bind(performance),
  nextTick: process.nextTick.bind(process),
};

/** The process's own clock. */
export const systemClock: Clock = {
  now: () => captured.now(),
  monotonic: () => captured.monotonic(),
  timer(delayMs, callback, options) {
    let remainingMs = Math.max(0, delayMs);
    let handle: ReturnType<typeof captured.setTimeout>;
    const step = (): void => {
      const stepMs = Math.min(remainingMs, LONGEST_TIMER_MS);
      remainingMs -= stepMs;
      handle = captured.setTimeout(remainingMs > 0 ? step : callback, stepMs);
      if (options?.background === true) handle.unref();
    };
    step();
    return { cancel: () => captured.clearTimeout(handle) };
  },
};

/**
 * Calls back when everything that is ready to run now has run: after the current turn's synchronous code and all its promise
 * continuations, before any input or timer. This is how calls of one turn are gathered without a timer.
 */
export function atEndOfTurn(callback: () => void): void {
  // A continuation runs before Node's next-tick queue, and the queue is read only when no continuation is left.
  void Promise.resolve().then(() => captured.nextTick(callback));
}

/** Resolves after `delayMs`, or rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)));
      return;
    }
    const stop = (): void => {
      timer.cancel();
      reject(signal?.reason instanceof Error ? signal.reason : new Error(String(signal?.reason)));
    };
    const timer = clock.timer(delayMs, () => {
      signal?.removeEventListener("abort", stop);
      resolve();
    });
    signal?.addEventListener("abort", stop, { once: true });
  });
}
