// Which times and durations may a request carry? Well-formed ones, in microseconds: finer ones are rounded up, so that nothing is early.

import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import type { Violation } from "../domain/event.js";

/** Longest duration that anything may last: 10 years. */
export const MAX_DURATION_US = 315_576_000_000_000;

const SECOND_US = 1_000_000;
const MAX_NANOS = 999_999_999;
/** Years 1 and 9999, the bounds of google.protobuf.Timestamp. */
const MIN_TIMESTAMP_SECONDS = -62_135_596_800n;
const MAX_TIMESTAMP_SECONDS = 253_402_300_799n;
const MAX_DURATION_SECONDS = 315_576_000_000n;

/** The instant in microseconds since 1970; null where it is absent or invalid. */
export function parseTimestamp(time: Timestamp | undefined, field: string, violations: Violation[]): number | null {
  if (time === undefined) return null;
  const { seconds, nanos } = time;
  if (seconds < MIN_TIMESTAMP_SECONDS || seconds > MAX_TIMESTAMP_SECONDS)
    violations.push({ field: `${field}.seconds`, description: "must be between the years 1 and 9999" });
  else if (nanos < 0 || nanos > MAX_NANOS) violations.push({ field: `${field}.nanos`, description: "must be 0 to 999999999" });
  else {
    const us = Number(seconds) * SECOND_US + Math.ceil(nanos / 1000);
    if (Math.abs(us) <= Number.MAX_SAFE_INTEGER) return us;
    // Beyond it a double no longer holds each microsecond, and the stored time would silently be another.
    violations.push({ field, description: "must be between the years 1685 and 2255" });
  }
  return null;
}

/** The duration in microseconds; null where it is absent or invalid. */
export function parseDuration(
  duration: Duration | undefined,
  field: string,
  minUs: number,
  maxUs: number,
  violations: Violation[],
): number | null {
  if (duration === undefined) return null;
  const { seconds, nanos } = duration;
  if (seconds < -MAX_DURATION_SECONDS || seconds > MAX_DURATION_SECONDS)
    violations.push({ field: `${field}.seconds`, description: "must be at most 315576000000 either way" });
  else if (Math.abs(nanos) > MAX_NANOS) violations.push({ field: `${field}.nanos`, description: "must be at most 999999999 either way" });
  else if ((seconds > 0n && nanos < 0) || (seconds < 0n && nanos > 0))
    violations.push({ field: `${field}.nanos`, description: "must have the sign of the seconds" });
  else {
    const us = Number(seconds) * SECOND_US + Math.ceil(nanos / 1000);
    if (us >= minUs && us <= maxUs) return us;
    violations.push({ field, description: `must be ${describeUs(minUs)} to ${describeUs(maxUs)}` });
  }
  return null;
}

function describeUs(us: number): string {
  if (us === MAX_DURATION_US) return "10 years";
  return us % SECOND_US === 0 ? `${us / SECOND_US} s` : `${us / 1000} ms`;
}
