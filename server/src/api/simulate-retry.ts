// When would each attempt run? The policy is resolved as a submission's would be; nothing is stored or read.

import type { SimulatedAttempt, SimulateRetryRequest, SimulateRetryResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { FinishReason, TaskState } from "@leasehold/proto/leasehold/v1/task";
import type { Config } from "../config.js";
import type { Violation } from "../domain/event.js";
import type { SimulatedFailure } from "../domain/simulate.js";
import { simulate } from "../domain/simulate.js";
import type { UnaryHandler } from "./call.js";
import { FINISH_REASONS, toRetryPolicy } from "./convert-task.js";
import { toDuration } from "./convert-time.js";
import { refuseViolations } from "./status.js";
import { MAX_ERROR_CODE_BYTES, parseRetryPolicy } from "./validate-retry.js";
import { checkText } from "./validate-text.js";
import { MAX_DURATION_US, parseDuration } from "./validate-time.js";

const MAX_FAILURES = 1_000;

/** SimulateRetry. */
export function simulateRetry({ config }: { readonly config: Config }): UnaryHandler<SimulateRetryRequest, SimulateRetryResponse> {
  // Every rpc answers through a promise, also one that has nothing to wait for.
  return (request) =>
    Promise.resolve().then(() => {
      const violations: Violation[] = [];
      const policy = parseRetryPolicy(request.retryPolicy, config.retryPolicy, "retry_policy", violations);
      const failures = parseFailures(request, violations);
      refuseViolations(violations);
      return { retryPolicy: toRetryPolicy(policy), attempts: simulate(policy, failures).map(toAttempt) };
    });
}

function parseFailures({ failures }: SimulateRetryRequest, violations: Violation[]): SimulatedFailure[] {
  if (failures.length > MAX_FAILURES) violations.push({ field: "failures", description: `must be at most ${MAX_FAILURES}` });
  return failures.slice(0, MAX_FAILURES).map((failure, index) => {
    const field = `failures[${index}]`;
    checkText(failure.errorCode, `${field}.error_code`, 0, MAX_ERROR_CODE_BYTES, violations);
    const retryAfterUs = parseDuration(failure.retryAfter, `${field}.retry_after`, 0, MAX_DURATION_US, violations);
    if (failure.leaseLost) return { kind: "lease-lost" };
    return { kind: "failed", errorCode: failure.errorCode, retryable: failure.retryable ?? true, retryAfterUs };
  });
}

function toAttempt(next: ReturnType<typeof simulate>[number]): SimulatedAttempt {
  if (next.kind === "finish")
    return { attempt: 0, earliest: undefined, latest: undefined, state: TaskState.FAILED, finishReason: FINISH_REASONS[next.reason] };
  return {
    attempt: next.attempt,
    earliest: toDuration(next.delay.earliestUs),
    latest: toDuration(next.delay.latestUs),
    state: TaskState.PENDING,
    finishReason: FinishReason.UNSPECIFIED,
  };
}
