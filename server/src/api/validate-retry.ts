// What does a submission say about retries and deadlines? What it leaves out of its retry policy is filled in from the server's defaults.

import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import type {
  Deadlines as DeadlinesMessage,
  ExponentialBackoff,
  RetryPolicy as RetryPolicyMessage,
  RetryRule as RetryRuleMessage,
} from "@leasehold/proto/leasehold/v1/task";
import { RetryAction } from "@leasehold/proto/leasehold/v1/task";
import type { Violation } from "../domain/event.js";
import type { Deadlines, RetryPolicy, RetryRule } from "../domain/task.js";
import { NO_DEADLINES } from "../domain/task.js";
import { checkText } from "./validate-text.js";
import { MAX_DURATION_US, parseDuration } from "./validate-time.js";

const MAX_ATTEMPTS = 1_000;
const MAX_DELAYS = 100;
const MAX_RULES = 32;
const MAX_RULE_CODES = 32;
const MAX_FACTOR = 100;
const MIN_DEADLINE_US = 1_000;

/** Most bytes of an error code. */
export const MAX_ERROR_CODE_BYTES = 128;

/** The resolved policy. */
export function parseRetryPolicy(
  policy: RetryPolicyMessage | undefined,
  defaults: RetryPolicy,
  field: string,
  violations: Violation[],
): RetryPolicy {
  if (policy === undefined) return defaults;
  const lostLeaseDelaysUs = parseDelays(policy.lostLeaseDelays, `${field}.lost_lease_delays`, violations);
  if (policy.rules.length > MAX_RULES) violations.push({ field: `${field}.rules`, description: `must be at most ${MAX_RULES}` });
  return {
    maxAttempts: parseCount(policy.maxAttempts, defaults.maxAttempts, 1, `${field}.max_attempts`, violations),
    ...parseBackoff(policy.backoff, defaults, `${field}.backoff`, violations),
    delaysUs: policy.delays.length === 0 ? defaults.delaysUs : parseDelays(policy.delays, `${field}.delays`, violations),
    rules: policy.rules.slice(0, MAX_RULES).map((rule, index) => parseRule(rule, `${field}.rules[${index}]`, violations)),
    maxLostLeases: parseCount(policy.maxLostLeases, defaults.maxLostLeases, 0, `${field}.max_lost_leases`, violations),
    lostLeaseDelaysUs: lostLeaseDelaysUs.length === 0 ? defaults.lostLeaseDelaysUs : lostLeaseDelaysUs,
  };
}

/** The deadlines; those left out are none. */
export function parseDeadlines(deadlines: DeadlinesMessage | undefined, field: string, violations: Violation[]): Deadlines {
  if (deadlines === undefined) return NO_DEADLINES;
  const parse = (duration: Duration | undefined, name: string): number | null =>
    parseDuration(duration, `${field}.${name}`, MIN_DEADLINE_US, MAX_DURATION_US, violations);
  return {
    queueUs: parse(deadlines.queue, "queue"),
    attemptUs: parse(deadlines.attempt, "attempt"),
    silenceUs: parse(deadlines.silence, "silence"),
    totalUs: parse(deadlines.total, "total"),
  };
}

function parseBackoff(
  backoff: ExponentialBackoff | undefined,
  defaults: RetryPolicy,
  field: string,
  violations: Violation[],
): Pick<RetryPolicy, "initialUs" | "factor" | "maxUs" | "jitter"> {
  const { initialUs, factor, maxUs, jitter } = defaults;
  if (backoff === undefined) return { initialUs, factor, maxUs, jitter };
  return {
    initialUs: parseDuration(backoff.initial, `${field}.initial`, 0, MAX_DURATION_US, violations) ?? initialUs,
    factor: parseShare(backoff.factor, factor, 1, MAX_FACTOR, `${field}.factor`, violations),
    maxUs: parseDuration(backoff.max, `${field}.max`, 0, MAX_DURATION_US, violations) ?? maxUs,
    jitter: parseShare(backoff.jitter, jitter, 0, 1, `${field}.jitter`, violations),
  };
}

function parseRule(rule: RetryRuleMessage, field: string, violations: Violation[]): RetryRule {
  const { errorCodes, action, delays } = rule;
  if (errorCodes.length === 0 || errorCodes.length > MAX_RULE_CODES)
    violations.push({ field: `${field}.error_codes`, description: `must be 1 to ${MAX_RULE_CODES}` });
  errorCodes
    .slice(0, MAX_RULE_CODES)
    .forEach((code, index) => checkText(code, `${field}.error_codes[${index}]`, 1, MAX_ERROR_CODE_BYTES, violations));
  if (action !== RetryAction.UNSPECIFIED && action !== RetryAction.RETRY && action !== RetryAction.FAIL) {
    violations.push({ field: `${field}.action`, description: "must be a known action" });
  }
  return {
    errorCodes,
    action: action === RetryAction.FAIL ? "FAIL" : "RETRY",
    delaysUs: parseDelays(delays, `${field}.delays`, violations),
  };
}

function parseDelays(delays: readonly Duration[], field: string, violations: Violation[]): readonly number[] {
  if (delays.length > MAX_DELAYS) violations.push({ field, description: `must be at most ${MAX_DELAYS}` });
  return delays.slice(0, MAX_DELAYS).map((delay, index) => parseDuration(delay, `${field}[${index}]`, 0, MAX_DURATION_US, violations) ?? 0);
}

function parseCount(count: number | undefined, fallback: number, min: number, field: string, violations: Violation[]): number {
  if (count === undefined) return fallback;
  if (count < min || count > MAX_ATTEMPTS) violations.push({ field, description: `must be ${min} to ${MAX_ATTEMPTS}` });
  return count;
}

function parseShare(value: number | undefined, fallback: number, min: number, max: number, field: string, violations: Violation[]): number {
  if (value === undefined) return fallback;
  // Said the positive way round, so that NaN does not pass.
  if (!(value >= min && value <= max)) violations.push({ field, description: `must be a number from ${min} to ${max}` });
  return value;
}
