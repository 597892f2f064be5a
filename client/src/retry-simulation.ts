// When would each attempt run under a retry policy?
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  type SimulateRetryResponse,
  type SimulatedFailure as SimulatedFailureMessage,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import { type CallOptions, callOnce } from "./call.js";
import type { Connection } from "./connection.js";
import { type DurationInput, durationFromMs, durationMs, msFromDuration } from "./duration.js";
import { invalid, type Violation } from "./errors.js";
import { type RetryOptions, retryOptionsFrom, retryPolicyFrom } from "./task-options.js";
import { finishReasonName, stateName, type TaskStateName } from "./task-snapshot.js";

/** One thing that goes wrong in a simulation. */
export type SimulatedFailure =
  | {
      /** Code that the handler reports. */
      readonly code: string;
      /** False: the handler says that a retry is of no use. Default true. */
      readonly retry?: boolean;
      /** Delay that the handler asks for. */
      readonly retryAfter?: DurationInput;
    }
  | "lease_lost";

/** What follows one failure. */
export interface SimulatedAttempt {
  /** Number of the attempt that follows; 0 if the task ends. */
  readonly attempt: number;
  /** Shortest delay after the failure, in milliseconds. */
  readonly earliestMs: number;
  /** Longest delay after the failure, in milliseconds. */
  readonly latestMs: number;
  /** `pending`, or `failed` at the end. */
  readonly state: TaskStateName;
  /** Why it ends, if it does. */
  readonly finishReason: string | undefined;
}

/** What a policy makes of failures. */
export interface SimulatedRetry {
  /** The policy with the server's defaults filled in; durations in milliseconds. */
  readonly retry: RetryOptions;
  /** One for each failure, up to the one that ends the task. */
  readonly attempts: readonly SimulatedAttempt[];
}

/** Asks the server. Throws INVALID_ARGUMENT with paths. */
export async function simulateRetry(
  connection: Connection,
  retry: RetryOptions,
  failures: readonly SimulatedFailure[],
  options: CallOptions,
): Promise<SimulatedRetry> {
  const violations: Violation[] = [];
  const retryPolicy = retryPolicyFrom(retry, "retry", violations);
  const sent = failures.map((failure, index) => failureFrom(failure, `failures[${String(index)}]`, violations));
  if (failures.length > 1_000) violations.push({ path: "failures", message: "must be at most 1,000" });
  if (violations.length > 0) throw invalid(violations);
  return simulatedRetry(await callOnce(connection, options, TaskServiceService.simulateRetry, { retryPolicy, failures: sent }));
}

function failureFrom(failure: SimulatedFailure, path: string, violations: Violation[]): SimulatedFailureMessage {
  if (failure === "lease_lost") return { errorCode: "", retryable: undefined, retryAfter: undefined, leaseLost: true };
  const { code, retry, retryAfter } = failure;
  const afterMs = retryAfter === undefined ? undefined : durationMs(retryAfter, `${path}.retryAfter`, violations);
  return { errorCode: code, retryable: retry, retryAfter: afterMs === undefined ? undefined : durationFromMs(afterMs), leaseLost: false };
}

function simulatedRetry({ retryPolicy, attempts }: SimulateRetryResponse): SimulatedRetry {
  return {
    retry: retryPolicy === undefined ? {} : retryOptionsFrom(retryPolicy),
    attempts: attempts.map(({ attempt, earliest, latest, state, finishReason }) => ({
      attempt,
      earliestMs: earliest === undefined ? 0 : msFromDuration(earliest),
      latestMs: latest === undefined ? 0 : msFromDuration(latest),
      state: stateName(state === TaskState.UNSPECIFIED ? TaskState.PENDING : state),
      finishReason: finishReasonName(finishReason),
    })),
  };
}
