// Which fields of a request does this server understand but not act on yet? They answer UNIMPLEMENTED with their path rather than being
// ignored: a caller must not believe in a key or a deadline that nobody keeps.

import type { ListTasksRequest, NewTask, ProceedTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { KeyConflictPolicy, TaskOrder } from "@leasehold/proto/leasehold/v1/task_service";
import type { Refusal } from "./status.js";

/** The refusal of a submission that uses what is not there yet, or null. `field` is the path of the task. */
export function submissionNotYet(task: NewTask, field: string): Refusal | null {
  if (task.key !== "") return notYet(`${field}.key`);
  if (task.keyConflictPolicy !== KeyConflictPolicy.UNSPECIFIED) return notYet(`${field}.key_conflict_policy`);
  if (task.keyHold !== undefined) return notYet(`${field}.key_hold`);
  if (task.metadataFingerprint.length > 0) return notYet(`${field}.metadata_fingerprint`);
  if (task.deadlines !== undefined) return notYet(`${field}.deadlines`);
  if (task.retryPolicy !== undefined) return notYet(`${field}.retry_policy`);
  return null;
}

/** The refusal of a list that uses what is not there yet, or null. */
export function listNotYet({ filter, order }: ListTasksRequest): Refusal | null {
  if (order === TaskOrder.FINISHED_LAST_FIRST || order === TaskOrder.WAITING_LONGEST_FIRST) return notYet("order");
  if (filter === undefined) return null;
  if (filter.key !== "") return notYet("filter.key");
  if (filter.metadataContains !== "") return notYet("filter.metadata_contains");
  if (filter.executionMetadataContains !== "") return notYet("filter.execution_metadata_contains");
  if (filter.errorCodes.length > 0) return notYet("filter.error_codes");
  if (filter.finishTimeFrom !== undefined) return notYet("filter.finish_time_from");
  if (filter.finishTimeBefore !== undefined) return notYet("filter.finish_time_before");
  if (filter.runTimeFrom !== undefined) return notYet("filter.run_time_from");
  if (filter.runTimeBefore !== undefined) return notYet("filter.run_time_before");
  return null;
}

/** The refusal of a proceed that uses what is not there yet, or null. */
export function proceedNotYet(request: ProceedTaskRequest): Refusal | null {
  return request.filter === undefined ? null : notYet("filter");
}

function notYet(field: string): Refusal {
  return { reason: "NOT_IMPLEMENTED", violations: [{ field, description: "is not implemented by this server yet" }] };
}
