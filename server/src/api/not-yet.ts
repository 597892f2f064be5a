// Which fields of a request does this server understand but not act on yet? They answer UNIMPLEMENTED with their path rather than being
// ignored: a caller must not believe in a filter that nobody applies.

import type { ListTasksRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { TaskOrder } from "@leasehold/proto/leasehold/v1/task_service";
import type { Refusal } from "./status.js";

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

function notYet(field: string): Refusal {
  return { reason: "NOT_IMPLEMENTED", violations: [{ field, description: "is not implemented by this server yet" }] };
}
