// Which options may a task have, and which values of them are refused before anything leaves the process?
//
// Options come from the call, else from the definition, else from the server. Each refused one is named by its path.
import type { Deadlines, RetryPolicy } from "@leasehold/proto/leasehold/v1/task";
import { RetryAction } from "@leasehold/proto/leasehold/v1/task";
import { type DurationInput, durationFromMs, durationMs, msFromDuration } from "./duration.js";
import type { Violation } from "./errors.js";

/** Delays that grow: initial, initial × factor, … up to max. */
export interface BackoffOptions {
  /** Delay before the second attempt. Server's default 1 s. */
  readonly initial?: DurationInput;
  /** Growth per attempt, 1 to 100. Server's default 2. */
  readonly factor?: number;
  /** Longest delay. Server's default 5 min. */
  readonly max?: DurationInput;
  /** Share of a delay that chance may take off, 0 to 1. Server's default 0.5. */
  readonly jitter?: number;
}

/** An exception from the policy for some error codes. The first rule that names the code decides. */
export interface RetryRuleOptions {
  /** Exact codes, 1 to 32. */
  readonly codes: readonly string[];
  /** Try again, or fail at once. */
  readonly action: "retry" | "fail";
  /** Delays instead of the policy's; the last one repeats. At most 100. */
  readonly delays?: readonly DurationInput[];
}

/** When and how often a task is tried again. What is left out is the server's default. */
export interface RetryOptions {
  /** Attempts in a row, the first included; 1 to 1,000. Server's default 5. */
  readonly maxAttempts?: number;
  /** Growing delays. Used when there are no `delays`. */
  readonly backoff?: BackoffOptions;
  /** Explicit delays, without jitter; the last one repeats. At most 100. */
  readonly delays?: readonly DurationInput[];
  /** Exceptions by error code. At most 32. */
  readonly rules?: readonly RetryRuleOptions[];
  /** Lost leases in a row that are forgiven, 0 to 1,000. Server's default 3. */
  readonly maxLostLeases?: number;
  /** Delays after a lost lease; the last one repeats. At most 100. Server's default 0 s, 10 s, 60 s. */
  readonly lostLeaseDelays?: readonly DurationInput[];
}

/** Limits in time, none by default; each 1 ms to ten years. */
export interface DeadlineOptions {
  /** From first due to first lease. */
  readonly queue?: DurationInput;
  /** From each lease; then the attempt fails and may be retried. */
  readonly attempt?: DurationInput;
  /** Without checkpoint or progress; then the attempt fails and may be retried. */
  readonly silence?: DurationInput;
  /** From submission, suspensions included. */
  readonly total?: DurationInput;
}

/** Options of a definition, each of which a submission may override. */
export interface TaskOptions {
  /** The named line of tasks that it waits in. Server's default `default`. */
  readonly queue?: string;
  /** 0 to 9, higher first. Default 0. */
  readonly priority?: number;
  /** Retries. A submission overrides field by field. */
  readonly retry?: RetryOptions;
  /** Limits in time. A submission overrides field by field. */
  readonly deadlines?: DeadlineOptions;
  /** How long a key stays taken after its task finished; at most 30 days. Default 0. */
  readonly keyHold?: DurationInput;
}

/** Longest key hold: 30 days. */
const LONGEST_KEY_HOLD_MS = 30 * 86_400_000;

/** Whether a value has the form of a task name or queue. */
export function isName(value: unknown): boolean {
  return typeof value === "string" && /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/.test(value);
}

/** The call's options over the definition's, field by field within `retry` and `deadlines`. */
export function mergeTaskOptions(definition: TaskOptions, call: TaskOptions): TaskOptions {
  return {
    ...definition,
    ...call,
    ...(definition.retry || call.retry ? { retry: { ...definition.retry, ...call.retry } } : {}),
    ...(definition.deadlines || call.deadlines ? { deadlines: { ...definition.deadlines, ...call.deadlines } } : {}),
  };
}

/** Adds a violation for each option that is refused. */
export function checkTaskOptions(options: TaskOptions, path: string, violations: Violation[]): void {
  const at = (key: string): string => (path === "" ? key : `${path}.${key}`);
  if (options.queue !== undefined && !isName(options.queue)) {
    violations.push({ path: at("queue"), message: "must be 1 to 128 of A-Z a-z 0-9 . _ - : /, beginning with a letter or digit" });
  }
  if (options.priority !== undefined) wholeNumber(options.priority, at("priority"), 0, 9, violations);
  if (options.keyHold !== undefined) durationMs(options.keyHold, at("keyHold"), violations, { atMostMs: LONGEST_KEY_HOLD_MS });
  if (options.retry !== undefined) retryPolicyFrom(options.retry, at("retry"), violations);
  if (options.deadlines !== undefined) deadlinesFrom(options.deadlines, at("deadlines"), violations);
}

/** The protobuf form of retry options; violations are added. */
export function retryPolicyFrom(retry: RetryOptions, path: string, violations: Violation[]): RetryPolicy {
  const { maxAttempts, maxLostLeases, backoff } = retry;
  if (maxAttempts !== undefined) wholeNumber(maxAttempts, `${path}.maxAttempts`, 1, 1_000, violations);
  if (maxLostLeases !== undefined) wholeNumber(maxLostLeases, `${path}.maxLostLeases`, 0, 1_000, violations);
  const rules = retry.rules ?? [];
  if (rules.length > 32) violations.push({ path: `${path}.rules`, message: "must be at most 32" });
  return {
    maxAttempts,
    maxLostLeases,
    backoff: backoff && backoffFrom(backoff, `${path}.backoff`, violations),
    delays: delaysFrom(retry.delays, `${path}.delays`, violations),
    lostLeaseDelays: delaysFrom(retry.lostLeaseDelays, `${path}.lostLeaseDelays`, violations),
    rules: rules.map((rule, index) => ruleFrom(rule, `${path}.rules[${String(index)}]`, violations)),
  };
}

function backoffFrom(backoff: BackoffOptions, path: string, violations: Violation[]): NonNullable<RetryPolicy["backoff"]> {
  const { factor, jitter } = backoff;
  if (factor !== undefined) numberWithin(factor, `${path}.factor`, 1, 100, violations);
  if (jitter !== undefined) numberWithin(jitter, `${path}.jitter`, 0, 1, violations);
  return {
    initial: backoff.initial === undefined ? undefined : durationFromMs(durationMs(backoff.initial, `${path}.initial`, violations)),
    max: backoff.max === undefined ? undefined : durationFromMs(durationMs(backoff.max, `${path}.max`, violations)),
    factor,
    jitter,
  };
}

function ruleFrom(rule: RetryRuleOptions, path: string, violations: Violation[]): RetryPolicy["rules"][number] {
  const codesFit = rule.codes.length >= 1 && rule.codes.length <= 32 && rule.codes.every((code) => typeof code === "string" && code !== "");
  if (!codesFit) violations.push({ path: `${path}.codes`, message: "must be 1 to 32 error codes" });
  if (!["retry", "fail"].includes(rule.action)) violations.push({ path: `${path}.action`, message: "must be 'retry' or 'fail'" });
  return {
    errorCodes: [...rule.codes],
    action: rule.action === "fail" ? RetryAction.FAIL : RetryAction.RETRY,
    delays: delaysFrom(rule.delays, `${path}.delays`, violations),
  };
}

function delaysFrom(delays: readonly DurationInput[] | undefined, path: string, violations: Violation[]): RetryPolicy["delays"] {
  if ((delays?.length ?? 0) > 100) violations.push({ path, message: "must be at most 100" });
  return (delays ?? []).map((delay, index) => durationFromMs(durationMs(delay, `${path}[${String(index)}]`, violations)));
}

/** The protobuf form of deadlines; violations are added. */
export function deadlinesFrom(deadlines: DeadlineOptions, path: string, violations: Violation[]): Deadlines {
  const one = (key: keyof DeadlineOptions): Deadlines["queue"] => {
    const input = deadlines[key];
    return input === undefined ? undefined : durationFromMs(durationMs(input, `${path}.${key}`, violations, { atLeastMs: 1 }));
  };
  return { queue: one("queue"), attempt: one("attempt"), silence: one("silence"), total: one("total") };
}

/** The options that a stored policy amounts to; durations in milliseconds. */
export function retryOptionsFrom({ maxAttempts, maxLostLeases, backoff, delays, lostLeaseDelays, rules }: RetryPolicy): RetryOptions {
  return {
    ...(maxAttempts === undefined ? {} : { maxAttempts }),
    ...(backoff === undefined ? {} : { backoff: backoffOptionsFrom(backoff) }),
    ...(delays.length === 0 ? {} : { delays: delays.map(msFromDuration) }),
    ...(rules.length === 0 ? {} : { rules: rules.map(ruleOptionsFrom) }),
    ...(maxLostLeases === undefined ? {} : { maxLostLeases }),
    ...(lostLeaseDelays.length === 0 ? {} : { lostLeaseDelays: lostLeaseDelays.map(msFromDuration) }),
  };
}

function backoffOptionsFrom({ initial, factor, max, jitter }: NonNullable<RetryPolicy["backoff"]>): BackoffOptions {
  return {
    ...(initial === undefined ? {} : { initial: msFromDuration(initial) }),
    ...(factor === undefined ? {} : { factor }),
    ...(max === undefined ? {} : { max: msFromDuration(max) }),
    ...(jitter === undefined ? {} : { jitter }),
  };
}

function ruleOptionsFrom({ errorCodes, action, delays }: RetryPolicy["rules"][number]): RetryRuleOptions {
  const codes = [...errorCodes];
  const word = action === RetryAction.FAIL ? "fail" : "retry";
  return delays.length === 0 ? { codes, action: word } : { codes, action: word, delays: delays.map(msFromDuration) };
}

/** The options that stored deadlines amount to; durations in milliseconds. */
export function deadlineOptionsFrom(deadlines: Deadlines): DeadlineOptions {
  const { queue, attempt, silence, total } = deadlines;
  return {
    ...(queue === undefined ? {} : { queue: msFromDuration(queue) }),
    ...(attempt === undefined ? {} : { attempt: msFromDuration(attempt) }),
    ...(silence === undefined ? {} : { silence: msFromDuration(silence) }),
    ...(total === undefined ? {} : { total: msFromDuration(total) }),
  };
}

/** Adds a violation unless the value is a whole number within the bounds. */
export function wholeNumber(value: unknown, path: string, from: number, to: number, violations: Violation[]): void {
  if (typeof value === "number" && Number.isInteger(value) && value >= from && value <= to) return;
  violations.push({ path, message: `must be a whole number from ${String(from)} to ${String(to)}` });
}

function numberWithin(value: unknown, path: string, from: number, to: number, violations: Violation[]): void {
  if (typeof value === "number" && value >= from && value <= to) return;
  violations.push({ path, message: `must be a number from ${String(from)} to ${String(to)}` });
}
