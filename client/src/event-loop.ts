// Is user code blocking the event loop, and did the whole machine stand still?
//
// A blocked loop delays heartbeats and signals, and looks like a dead worker from outside. It is measured by a timer that comes late. A machine
// that slept stops the monotonic clock with everything else; only the wall clock knows, so it is compared.
import type { Clock, Timer } from "./clock.js";

const MEASURE_MS = 500;
/** A delay from this length on is worth a warning: a quarter of the shortest sensible heartbeat interval would be noise. */
const STALL_MS = 1_000;
/** A wall clock that runs ahead by this much between two measures did not merely drift. */
const SLEEP_MS = 2_000;

/** What is told of the event loop. */
export interface EventLoopEvents {
  /** It was blocked for more than a second; in milliseconds. */
  stalled(stallMs: number): void;
  /** The machine slept, or its clock was set ahead; in milliseconds. */
  slept(sleptMs: number): void;
}

/** Watches until it is cancelled. Does not keep the process alive. */
export function watchEventLoop(clock: Clock, events: EventLoopEvents): Timer {
  let timer: Timer;
  const measure = (): void => {
    const setMs = clock.monotonic();
    const setWallMs = clock.now();
    timer = clock.timer(
      MEASURE_MS,
      () => {
        const passedMs = clock.monotonic() - setMs;
        const sleptMs = clock.now() - setWallMs - passedMs;
        if (sleptMs >= SLEEP_MS) events.slept(Math.round(sleptMs));
        if (passedMs - MEASURE_MS >= STALL_MS) events.stalled(Math.round(passedMs - MEASURE_MS));
        measure();
      },
      { background: true },
    );
  };
  measure();
  return { cancel: () => timer.cancel() };
}
