// When would each attempt run under a retry policy? Failures and lost leases are counted as `transition` counts them: apart, and in a row.

import type { DelayRange, Failure } from "./retry.js";
import { afterFailure, afterLostLease } from "./retry.js";
import type { RetryPolicy } from "./task.js";

/** What goes wrong with one lease. */
export type SimulatedFailure = ({ readonly kind: "failed" } & Failure) | { readonly kind: "lease-lost" };

/** What follows it. */
export type SimulatedAttempt =
  | { readonly kind: "retry"; readonly attempt: number; readonly delay: DelayRange }
  | { readonly kind: "finish"; readonly reason: "MAX_ATTEMPTS" | "NOT_RETRYABLE" | "POISONED" };

/** What follows each failure, up to the one that ends the task. */
export function simulate(policy: RetryPolicy, happened: readonly SimulatedFailure[]): SimulatedAttempt[] {
  const attempts: SimulatedAttempt[] = [];
  let failures = 0;
  let lost = 0;
  for (const failure of happened) {
    // A reported outcome forgives the leases that were lost before it; a lost lease uses no attempt.
    if (failure.kind === "lease-lost") lost++;
    else [failures, lost] = [failures + 1, 0];
    const next = failure.kind === "lease-lost" ? afterLoss(policy, lost) : afterFailure(policy, failures, failure);
    attempts.push(next.kind === "retry" ? { ...next, attempt: failures + 1 } : next);
    if (next.kind === "finish") break;
  }
  return attempts;
}

function afterLoss(
  policy: RetryPolicy,
  lost: number,
): { readonly kind: "retry"; readonly delay: DelayRange } | { readonly kind: "finish"; readonly reason: "POISONED" } {
  const delayUs = afterLostLease(policy, lost);
  return delayUs === null ? { kind: "finish", reason: "POISONED" } : { kind: "retry", delay: { earliestUs: delayUs, latestUs: delayUs } };
}
