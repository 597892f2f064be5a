// How are times and durations written for people? Instants in ISO 8601 with Z, durations in their two largest units.
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** Milliseconds since 1970. */
export function msOf(time: Timestamp): number {
  return Number(time.seconds) * SECOND_MS + time.nanos / 1_000_000;
}

/** `2026-01-31T12:00:00.250Z`; microseconds are shown only where there are some. */
export function isoTime(time: Timestamp): string {
  const micros = Math.floor(time.nanos / 1_000);
  const iso = new Date(Number(time.seconds) * SECOND_MS).toISOString().slice(0, -5);
  const digits = micros % 1_000 === 0 ? String(micros / 1_000).padStart(3, "0") : String(micros).padStart(6, "0");
  return `${iso}.${digits}Z`;
}

/** `2026-01-31T12:00:00Z`, for lists. */
export function isoSecond(time: Timestamp): string {
  return `${new Date(Number(time.seconds) * SECOND_MS).toISOString().slice(0, -5)}Z`;
}

/** `850ms`, `3.2s`, `4m 10s`, `2h 5m`, `3d 4h`. */
export function duration(ms: number): string {
  if (ms < 0) return `-${duration(-ms)}`;
  if (ms < 999.5) return `${Math.round(ms)}ms`;
  if (ms < 59_950) return `${(ms / SECOND_MS).toFixed(1).replace(/\.0$/, "")}s`;
  if (ms < HOUR_MS - SECOND_MS / 2) return pair(Math.round(ms / SECOND_MS), 60, "m", "s");
  if (ms < DAY_MS - MINUTE_MS / 2) return pair(Math.round(ms / MINUTE_MS), 60, "h", "m");
  return pair(Math.round(ms / HOUR_MS), 24, "d", "h");
}

function pair(amount: number, base: number, large: string, small: string): string {
  const rest = amount % base;
  return rest === 0 ? `${Math.floor(amount / base)}${large}` : `${Math.floor(amount / base)}${large} ${rest}${small}`;
}
