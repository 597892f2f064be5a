// How does a user say how long, and when?
//
// A duration is a text with a unit (`'250ms'`, `'1s'`, `'5m'`, `'1h'`, `'7d'`) or a number of milliseconds. A time is a `Date` or
// `{ in: duration }`. Everything up to ten years is accepted; anything else is refused with the path of the option.
import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import type { Clock } from "./clock.js";
import { invalid, type Violation } from "./errors.js";

/** A unit of a duration: milliseconds, seconds, minutes, hours, days. */
export type DurationUnit = "ms" | "s" | "m" | "h" | "d";

/** A duration: a text with a unit, such as `'5m'` or `'1.5h'`, or a number of milliseconds. 0 to ten years. */
export type DurationInput = `${number}${DurationUnit}` | number;

/** A point in time: a `Date`, or `{ in: duration }` from now. */
export type TimeInput = Date | { readonly in: DurationInput };

/** The longest duration that any option takes: ten years of 365 days. */
export const LONGEST_DURATION_MS = 10 * 365 * 86_400_000;

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const DURATION_TEXT = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;

/** Milliseconds of a duration, or a violation at `path`. `atLeastMs` defaults to 0, `atMostMs` to ten years. */
export function durationMs(
  input: unknown,
  path: string,
  violations: Violation[],
  bounds: { readonly atLeastMs?: number; readonly atMostMs?: number } = {},
): number {
  const ms = parseDuration(input);
  const atLeastMs = bounds.atLeastMs ?? 0;
  const atMostMs = bounds.atMostMs ?? LONGEST_DURATION_MS;
  if (ms === undefined) {
    violations.push({ path, message: "must be a duration such as '250ms', '1s', '5m', '1h', '7d', or a number of milliseconds" });
    return 0;
  }
  if (ms < atLeastMs || ms > atMostMs) {
    violations.push({ path, message: `must be from ${String(atLeastMs)} ms to ${String(atMostMs)} ms` });
    return 0;
  }
  return ms;
}

/** As `durationMs`, but throws INVALID_ARGUMENT itself. */
export function requireDurationMs(
  input: unknown,
  path: string,
  bounds?: { readonly atLeastMs?: number; readonly atMostMs?: number },
): number {
  const violations: Violation[] = [];
  const ms = durationMs(input, path, violations, bounds);
  if (violations.length > 0) throw invalid(violations);
  return ms;
}

/** A point in time as a Timestamp, or a violation at `path`. `{ in }` counts from the clock's now. */
export function timeFrom(input: unknown, path: string, violations: Violation[], clock: Clock): Timestamp {
  if (isDate(input)) {
    const ms = input.getTime();
    // Years 1 to 9999: what a Timestamp can hold.
    if (!(ms >= -62_135_596_800_000 && ms <= 253_402_300_799_999)) violations.push({ path, message: "must be a valid Date" });
    return timestampFromMs(Number.isFinite(ms) ? ms : 0);
  }
  if (typeof input === "object" && input !== null && "in" in input) {
    return timestampFromMs(clock.now() + durationMs(input.in, `${path}.in`, violations));
  }
  violations.push({ path, message: "must be a Date or { in: duration }" });
  return timestampFromMs(0);
}

/** Whether a value is a `Date`, of this realm or of another. */
export function isDate(value: unknown): value is Date {
  return Object.prototype.toString.call(value) === "[object Date]";
}

/** The protobuf form of milliseconds. Fractions down to a microsecond are kept. */
export function durationFromMs(ms: number): Duration {
  const micros = Math.round(ms * 1_000);
  return { seconds: BigInt(Math.floor(micros / 1_000_000)), nanos: (micros % 1_000_000) * 1_000 };
}

/** Milliseconds of the protobuf form. */
export function msFromDuration(duration: Duration): number {
  return Number(duration.seconds) * 1_000 + duration.nanos / 1_000_000;
}

/** The protobuf form of milliseconds since 1970. */
export function timestampFromMs(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1_000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1_000) * 1_000_000) };
}

/** A Date of the protobuf form; microseconds are cut. */
export function dateFromTimestamp(timestamp: Timestamp): Date {
  return new Date(Number(timestamp.seconds) * 1_000 + Math.floor(timestamp.nanos / 1_000_000));
}

function parseDuration(input: unknown): number | undefined {
  if (typeof input === "number") return Number.isFinite(input) ? input : undefined;
  const match = typeof input === "string" ? DURATION_TEXT.exec(input) : null;
  if (match === null) return undefined;
  return Number(match[1]) * UNIT_MS[match[2] as DurationUnit];
}
