// How is what a person types read? Durations, times, labels, numbers and payloads; each refusal says what the value should look like.
import { readFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import { Payload } from "@leasehold/proto/leasehold/v1/task";
import { InvalidArgumentError } from "commander";
import { CommandError } from "./command-error.js";
import { exitCodes } from "./exit-codes.js";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION = /^(?:\d{1,12}(?:\.\d{1,3})?(?:ms|s|m|h|d))+$/;
const LONGEST_MS = 10 * 365 * 86_400_000;
const INSTANT = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$/;

/** Reads `250ms`, `30s`, `5m`, `1h30m`, `7d` as milliseconds; at most ten years. */
export function parseDurationMs(text: string): number {
  if (!DURATION.test(text)) throw new InvalidArgumentError("It must be a number with its unit, such as 250ms, 30s, 5m, 1h30m or 7d.");
  const parts = [...text.matchAll(/([\d.]+)(ms|s|m|h|d)/g)];
  const ms = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNIT_MS[unit ?? ""] ?? 0), 0);
  if (ms > LONGEST_MS) throw new InvalidArgumentError("It must be at most 3650d (ten years).");
  return ms;
}

/** As above, for a message. */
export function parseDuration(text: string): Duration {
  const ms = parseDurationMs(text);
  const seconds = Math.floor(ms / 1_000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1_000) * 1_000_000) };
}

/** Reads an instant with its zone (`2026-01-31T12:00:00Z`, `…+01:00`), or `+5m` from now. */
export function parseTime(text: string, nowMs = Date.now()): Timestamp {
  if (text.startsWith("+")) return timestamp(nowMs + parseDurationMs(text.slice(1)));
  const match = INSTANT.exec(text);
  const [, day = "", minute = "", second = ":00", fraction = "", zone = ""] = match ?? [];
  const ms = Date.parse(`${day}T${minute}${second}${zone.toUpperCase()}`);
  if (match === null || Number.isNaN(ms)) {
    throw new InvalidArgumentError(
      "It must be a time with its zone, such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00, or a delay such as +5m.",
    );
  }
  return { ...timestamp(ms), nanos: Number(fraction.padEnd(9, "0")) };
}

function timestamp(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1_000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1_000) * 1_000_000) };
}

/** Gathers repeated `--label key=value`. The value may hold further `=`. */
export function parseLabel(text: string, before: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("It must be key=value, such as tenant=acme.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** Gathers a repeated option; a value may also be a list with commas. */
export function parseList(text: string, before: readonly string[] = []): readonly string[] {
  const given = text.split(",").map((part) => part.trim());
  if (given.includes("")) throw new InvalidArgumentError("It must be a name, or names with commas between them.");
  return [...before, ...given];
}

/** Reads a whole number within bounds. */
export function wholeNumber(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    if (!(value >= from && value <= to)) throw new InvalidArgumentError(`It must be a whole number from ${from} to ${to}.`);
    return value;
  };
}

/**
 * Reads a payload from the text itself, from a file (`@path`) or from standard input (`-`). The bytes are passed on as they are: nothing is parsed
 * here, so that every digit and space arrives.
 * @throws CommandError if the file cannot be read.
 */
export async function readPayload(source: string, stdin: Readable = process.stdin): Promise<Payload> {
  return Payload.create({ data: await readBytes(source, stdin) });
}

async function readBytes(source: string, stdin: Readable): Promise<Buffer> {
  if (source === "-") {
    const parts: Buffer[] = [];
    for await (const part of stdin) parts.push(Buffer.from(part as Buffer));
    return Buffer.concat(parts);
  }
  if (!source.startsWith("@")) return Buffer.from(source);
  try {
    return await readFile(source.slice(1));
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === "ENOENT" ? "there is no such file" : (error as Error).message;
    throw new CommandError(exitCodes.usage, `Cannot read ${source.slice(1)}: ${why}.`);
  }
}
