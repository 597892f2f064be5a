// What did a run say? Its reports, read as the server, the submitter and the next run would read them.

import type { ExecutionMetadataOf, ResultOf, TaskDefinition, TaskFailure } from "@leasehold/client";
import {
  dateFromTimestamp,
  msFromDuration,
  parseWithSchema,
  type Payloads,
  readExecutionMetadata,
  readFailure,
} from "@leasehold/client/kit";
import type { Report } from "@leasehold/proto/leasehold/v1/worker_service";

/** How a run ended. */
export type RunOutcome<Task extends TaskDefinition> =
  | {
      readonly kind: "completed";
      /** As the submitter reads it. */
      readonly result: ResultOf<Task>;
    }
  | {
      /** This attempt failed, by `ctx.fail`, by a throw or because of what was returned. */
      readonly kind: "failed";
      readonly error: TaskFailure<Task>;
      /** Whether the retry policy is asked for another attempt. */
      readonly retryable: boolean;
      /** What replaces the policy's delay, in milliseconds. */
      readonly retryAfterMs: number | undefined;
    }
  | {
      readonly kind: "suspended";
      /** Wakes at this time. */
      readonly until: Date | undefined;
      /** Wakes after this time, in milliseconds. */
      readonly afterMs: number | undefined;
      /** Waits for somebody. */
      readonly untilProceeded: boolean;
    }
  | {
      readonly kind: "cancelled";
      readonly reason: string;
    }
  | {
      /** Given back unfinished, as a shutdown does. */
      readonly kind: "released";
    }
  | {
      /** Nothing was reported: its lease was no longer its own. */
      readonly kind: "nothing";
    };

/** Reads the reports of one run. */
export interface OutcomeReader<Task extends TaskDefinition> {
  /** What payloads are read with; before the first report. */
  use(payloads: Payloads): void;
  /** Takes a report, in order. */
  read(report: Report): void;
  /** Resolves when an outcome was reported. */
  readonly reported: Promise<void>;
  outcome(): Promise<RunOutcome<Task>>;
  /** Everything that was saved, with the outcome as well. */
  checkpoints(): Promise<ExecutionMetadataOf<Task>[]>;
}

/** Makes the reader of a run. `checkpointed` hears of what is saved while the handler runs. */
export function outcomeReader<Task extends TaskDefinition>(
  task: Task,
  checkpointed: ((saved: ExecutionMetadataOf<Task>) => void) | undefined,
): OutcomeReader<Task> {
  let payloads: Payloads | undefined;
  let last: Report | undefined;
  let saved: Promise<ExecutionMetadataOf<Task>[]> = Promise.resolve([]);
  let resolve: () => void = () => undefined;
  const reported = new Promise<void>((done) => (resolve = done));
  const save = async (before: ExecutionMetadataOf<Task>[], report: Report): Promise<ExecutionMetadataOf<Task>[]> => {
    const payload = (report.checkpoint ?? report.suspend)?.executionMetadata;
    if (payload === undefined || payloads === undefined) return before;
    const read = await readExecutionMetadata(task, await payloads.decode(payload, "executionMetadata"));
    // The worker parsed it by this very schema before it was reported.
    const value = valueOf(read) as ExecutionMetadataOf<Task>;
    if (report.checkpoint !== undefined) checkpointed?.(value);
    return [...before, value];
  };
  return {
    reported,
    use: (used) => void (payloads = used),
    read: (report) => {
      saved = saved.then((before) => save(before, report));
      if (report.checkpoint !== undefined) return;
      last = report;
      resolve();
    },
    outcome: async () => (last === undefined || payloads === undefined ? { kind: "nothing" } : readOutcome(task, last, payloads)),
    checkpoints: () => saved,
  };
}

async function readOutcome<Task extends TaskDefinition>(task: Task, report: Report, payloads: Payloads): Promise<RunOutcome<Task>> {
  const { complete, fail, suspend, cancel } = report;
  if (complete !== undefined) {
    const wire = (await payloads.decode(complete.result, "result")) ?? null;
    const parsed = task.result === undefined ? { value: wire } : await parseWithSchema(task.result, wire, "result");
    // What the schema refuses is not reported as a result.
    return { kind: "completed", result: valueOf(parsed) as ResultOf<Task> };
  }
  if (fail !== undefined) {
    const error = await readFailure(task, fail.error ?? EMPTY_ERROR, payloads);
    return { kind: "failed", error, retryable: fail.retryable ?? true, retryAfterMs: fail.retryAfter && msFromDuration(fail.retryAfter) };
  }
  if (suspend !== undefined) {
    return {
      kind: "suspended",
      until: suspend.untilTime && dateFromTimestamp(suspend.untilTime),
      afterMs: suspend.untilAfter && msFromDuration(suspend.untilAfter),
      untilProceeded: suspend.untilProceeded,
    };
  }
  if (cancel !== undefined) return { kind: "cancelled", reason: cancel.error?.message ?? "" };
  return { kind: "released" };
}

function valueOf(parsed: { readonly value?: unknown; readonly violations?: unknown }): unknown {
  return parsed.value;
}

const EMPTY_ERROR = { code: "", message: "", stack: "", details: undefined, cause: undefined };
