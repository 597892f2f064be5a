// What time is it, for all processes of the benchmark alike? CLOCK_MONOTONIC, which every process of a machine reads the same.

/** Milliseconds of the machine's monotonic clock, with microseconds behind the point. */
export function nowMs() {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

/** Resolves after so many milliseconds. */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
