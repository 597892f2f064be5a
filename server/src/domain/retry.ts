// When does a failed or lost task run again, and when not at all? Chance comes in as a number, so every answer can be repeated.

import type { RetryPolicy, RetryRule } from "./task.js";

const SECOND_US = 1_000_000;

/** What happens when nothing is said: 5 attempts, 1 s × 2 up to 5 min, jitter takes off up to half; 3 lost leases after 0, 10, 60 s. */
export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  maxAttempts: 5,
  initialUs: SECOND_US,
  factor: 2,
  maxUs: 300 * SECOND_US,
  jitter: 0.5,
  delaysUs: [],
  rules: [],
  maxLostLeases: 3,
  lostLeaseDelaysUs: [0, 10 * SECOND_US, 60 * SECOND_US],
};

/** A task that lost so many leases in a row is a suspect: it may be what kills its workers, and is leased apart from others. */
export const SUSPECT_LOSSES = 2;

/** The delays between which chance decides, in microseconds. */
export interface DelayRange {
  readonly earliestUs: number;
  readonly latestUs: number;
}

/** What follows a failure. */
export type RetryAnswer =
  { readonly kind: "retry"; readonly delay: DelayRange } | { readonly kind: "finish"; readonly reason: "MAX_ATTEMPTS" | "NOT_RETRYABLE" };

/** A failure as the retry policy sees it. */
export interface Failure {
  readonly errorCode: string;
  readonly retryable: boolean;
  /** The worker's own delay, or null. */
  readonly retryAfterUs: number | null;
}

/**
 * Decides what follows the `failures`-th failure in a row (1 = the first attempt failed).
 * The worker's word that a retry is of no use comes first, then a rule that says fail, then the budget.
 */
export function afterFailure(policy: RetryPolicy, failures: number, failure: Failure): RetryAnswer {
  const rule = ruleFor(policy, failure.errorCode);
  if (!failure.retryable || rule?.action === "FAIL") return { kind: "finish", reason: "NOT_RETRYABLE" };
  if (failures >= policy.maxAttempts) return { kind: "finish", reason: "MAX_ATTEMPTS" };
  return { kind: "retry", delay: failureDelay(policy, rule, failures, failure.retryAfterUs) };
}

/** Decides what follows the `lost`-th lost lease in a row: a delay, or null when the budget is spent. */
export function afterLostLease(policy: RetryPolicy, lost: number): number | null {
  return lost > policy.maxLostLeases ? null : atOrLast(policy.lostLeaseDelaysUs, lost);
}

/** Delays of the third release in a row and of every later one, where the lost-lease list has no second or third entry. */
const RELEASE_DELAYS_US = [10 * SECOND_US, 60 * SECOND_US] as const;

/** Delay after the `releases`-th release in a row without a checkpoint: none for two, then the later delays of the lost-lease list. */
export function releaseDelay(policy: RetryPolicy, releases: number): number {
  if (releases < 3) return 0;
  const [, third, later] = policy.lostLeaseDelaysUs;
  // A release loop must not spin, whatever the list says: a short one is filled up.
  return releases === 3 ? (third ?? RELEASE_DELAYS_US[0]) : (later ?? RELEASE_DELAYS_US[1]);
}

/** Picks one delay of a range; `chance` is in [0, 1). */
export function pickDelay(range: DelayRange, chance: number): number {
  return Math.round(range.latestUs - (range.latestUs - range.earliestUs) * chance);
}

function failureDelay(policy: RetryPolicy, rule: RetryRule | undefined, failures: number, retryAfterUs: number | null): DelayRange {
  if (retryAfterUs !== null) return exactly(retryAfterUs);
  if (rule !== undefined && rule.delaysUs.length > 0) return exactly(atOrLast(rule.delaysUs, failures));
  if (policy.delaysUs.length > 0) return exactly(atOrLast(policy.delaysUs, failures));
  // factor ** 999 overflows to Infinity and the maximum brings it back; but 0 × Infinity would be NaN.
  const grownUs = policy.initialUs === 0 ? 0 : policy.initialUs * policy.factor ** (failures - 1);
  const latestUs = Math.round(Math.min(grownUs, policy.maxUs));
  // Full jitter on a short delay must not become a hot loop: chance leaves at least a millisecond.
  const earliestUs = Math.max(Math.round(latestUs * (1 - policy.jitter)), Math.min(latestUs, 1000));
  return { earliestUs, latestUs };
}

function ruleFor(policy: RetryPolicy, errorCode: string): RetryRule | undefined {
  return policy.rules.find((rule) => rule.errorCodes.includes(errorCode));
}

function exactly(delayUs: number): DelayRange {
  return { earliestUs: delayUs, latestUs: delayUs };
}

function atOrLast(delaysUs: readonly number[], ordinal: number): number {
  return delaysUs[Math.min(ordinal, delaysUs.length) - 1] ?? 0;
}
