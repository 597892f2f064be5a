// Is user code blocking the event loop?
//
// A blocked loop delays heartbeats and signals, and looks like a dead worker from outside. It is measured by a timer that comes late.
import type { Clock, Timer } from "./clock.js";

const MEASURE_MS = 500;
/** A delay from this length on is worth a warning: a quarter of the shortest sensible heartbeat interval would be noise. */
const STALL_MS = 1_000;

/** Calls back with the length of each stall of more than a second, in milliseconds. Does not keep the process alive. */
export function watchEventLoop(clock: Clock, stalled: (stallMs: number) => void): Timer {
  let timer: Timer;
  const measure = (): void => {
    const setMs = clock.monotonic();
    timer = clock.timer(
      MEASURE_MS,
      () => {
        const stallMs = clock.monotonic() - setMs - MEASURE_MS;
        if (stallMs >= STALL_MS) stalled(Math.round(stallMs));
        measure();
      },
      { background: true },
    );
  };
  measure();
  return { cancel: () => timer.cancel() };
}
