// How do the domain's microseconds become Timestamps and Durations? Exactly; the other way is in validate-time.ts.

import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";

const SECOND_US = 1_000_000;

/** Timestamp of an instant; undefined for null. */
export function toTimestamp(us: number | null | undefined): Timestamp | undefined {
  if (us === null || us === undefined) return undefined;
  const seconds = Math.floor(us / SECOND_US);
  return { seconds: BigInt(seconds), nanos: Math.round(us - seconds * SECOND_US) * 1000 };
}

/** Duration of microseconds; what is negative because a clock went on is nothing left. */
export function toDuration(us: number): Duration {
  const left = Math.max(Math.round(us), 0);
  const seconds = Math.floor(left / SECOND_US);
  return { seconds: BigInt(seconds), nanos: (left - seconds * SECOND_US) * 1000 };
}
