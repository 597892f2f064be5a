// How is the text of one setting read? Each kind of value: what it looks like, which bounds it has, and the sentence for what does not fit.

/** A setting as it is documented and read. */
export interface Setting<T> {
  /** Name of the environment variable. */
  readonly name: string;
  /** What a value looks like, as `duration` or `bytes`. */
  readonly kind: string;
  /** Value where the variable is not set or empty, as it would be written; null = required, "" = none. */
  readonly default: string | null;
  /** Allowed values, for people. */
  readonly bounds: string;
  /** What it decides and why it has this default. */
  readonly why: string;
  /** Reads a value; throws a `SettingFault`. */
  readonly parse: (text: string) => T;
}

/** What is wrong with a value: the end of a sentence that begins with the setting's name. */
export class SettingFault extends Error {}

const UNITS_US: Readonly<Record<string, number>> = { ms: 1_000, s: 1_000_000, m: 60_000_000, h: 3_600_000_000, d: 86_400_000_000 };
const BYTE_UNITS: Readonly<Record<string, number>> = { "": 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** Reads `20s`, `5m`, `250ms`, `1h`, `7d` as microseconds. */
export function parseDurationUs(text: string): number {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$/.exec(text);
  if (match === null) {
    const hint = /^\d+$/.test(text) ? `; a bare number has no unit: write ${text}s for seconds or ${text}ms for milliseconds` : "";
    throw new SettingFault(`is not a duration such as 250ms, 20s, 5m, 1h or 7d${hint}`);
  }
  return Math.round(Number(match[1]) * (UNITS_US[match[2] ?? ""] ?? 0));
}

/** A duration in microseconds, for what reaches the domain. */
export function durationUs(name: string, fallback: string, min: string, max: string, why: string): Setting<number> {
  const [minUs, maxUs] = [parseDurationUs(min), parseDurationUs(max)];
  const parse = (text: string): number => {
    const us = parseDurationUs(text);
    if (us < minUs || us > maxUs) throw new SettingFault(`must be ${min} to ${max}`);
    return us;
  };
  return { name, kind: "duration", default: fallback, bounds: `${min} to ${max}`, why, parse };
}

/** A duration in milliseconds, for timers. */
export function durationMs(name: string, fallback: string, min: string, max: string, why: string): Setting<number> {
  const setting = durationUs(name, fallback, min, max, why);
  return { ...setting, parse: (text) => Math.ceil(setting.parse(text) / 1000) };
}

/** A list of durations in microseconds, separated by commas. */
export function durationListUs(name: string, fallback: string, max: string, why: string): Setting<readonly number[]> {
  const maxUs = parseDurationUs(max);
  const parse = (text: string): readonly number[] => {
    const delaysUs = text.split(",").map((part) => parseDurationUs(part.trim()));
    if (delaysUs.length > 100) throw new SettingFault("must list at most 100 durations");
    if (delaysUs.some((us) => us > maxUs)) throw new SettingFault(`must list durations of at most ${max}`);
    return delaysUs;
  };
  return { name, kind: "durations", default: fallback, bounds: `1 to 100, each 0s to ${max}`, why, parse };
}

/** A whole number. */
export function integer(name: string, fallback: number, min: number, max: number, why: string): Setting<number> {
  return number(name, "integer", fallback, min, max, why, /^\d{1,15}$/, "a whole number");
}

/** A number with decimals. */
export function decimal(name: string, fallback: number, min: number, max: number, why: string): Setting<number> {
  return number(name, "number", fallback, min, max, why, /^\d{1,9}(?:\.\d{1,9})?$/, "a number");
}

function number(
  name: string,
  kind: string,
  fallback: number,
  min: number,
  max: number,
  why: string,
  form: RegExp,
  described: string,
): Setting<number> {
  const parse = (text: string): number => {
    const value = Number(text);
    if (!form.test(text) || value < min || value > max) throw new SettingFault(`must be ${described} from ${min} to ${max}`);
    return value;
  };
  return { name, kind, default: String(fallback), bounds: `${min} to ${max}`, why, parse };
}

/** A number of bytes: `65536`, `64KiB`, `1MiB`. */
export function bytes(name: string, fallback: string, min: string, max: string, why: string): Setting<number> {
  const [minBytes, maxBytes] = [parseBytes(min), parseBytes(max)];
  const parse = (text: string): number => {
    const value = parseBytes(text);
    if (value < minBytes || value > maxBytes) throw new SettingFault(`must be ${min} to ${max}`);
    return value;
  };
  return { name, kind: "bytes", default: fallback, bounds: `${min} to ${max}`, why, parse };
}

function parseBytes(text: string): number {
  const match = /^(\d{1,12})(KiB|MiB|GiB|)$/.exec(text);
  if (match === null) throw new SettingFault("is not a number of bytes such as 65536, 64KiB or 1MiB");
  return Number(match[1]) * (BYTE_UNITS[match[2] ?? ""] ?? 1);
}

/** True or false. */
export function flag(name: string, fallback: boolean, why: string): Setting<boolean> {
  const parse = (text: string): boolean => {
    if (text !== "true" && text !== "false") throw new SettingFault("must be true or false");
    return text === "true";
  };
  return { name, kind: "flag", default: String(fallback), bounds: "true, false", why, parse };
}

/** One of a few words. */
export function word<const T extends string>(name: string, fallback: T, words: readonly T[], why: string): Setting<T> {
  const parse = (text: string): T => {
    const found = words.find((known) => known === text);
    if (found === undefined) throw new SettingFault(`must be one of ${words.join(", ")}`);
    return found;
  };
  return { name, kind: "word", default: fallback, bounds: words.join(", "), why, parse };
}

/** Any text that `check` lets through; it answers what is wrong, or null. `fallback` null = required, "" = none. */
export function text(
  name: string,
  fallback: string | null,
  bounds: string,
  why: string,
  check: (text: string) => string | null = () => null,
): Setting<string> {
  const parse = (value: string): string => {
    const fault = check(value);
    if (fault !== null) throw new SettingFault(fault);
    return value;
  };
  return { name, kind: "text", default: fallback, bounds, why, parse };
}
