// How does a test bring a task to where it wants it? A raw worker takes the next task of a name, says one thing about it and goes.
import type { Lease, Report, Verdict } from "@leasehold/proto/leasehold/v1/worker_service";
import { openRawWorker } from "./raw-worker.js";

/** What one run came to. */
export interface RawRun {
  readonly lease: Lease;
  readonly verdict: Verdict;
}

/** Leases the next task of a name and reports one outcome, in order behind the checkpoints given. */
export async function runNext(address: string, name: string, outcome: Partial<Report>, ...checkpoints: Partial<Report>[]): Promise<RawRun> {
  const worker = openRawWorker(address, [name]);
  try {
    const lease = await worker.lease();
    // Else the task could come back to this worker, which goes, before anybody else can have it.
    worker.send({ slots: { total: 0, handlers: [] } });
    [...checkpoints, outcome].forEach((body, index) => worker.report(lease, index + 1, body));
    return { lease, verdict: await worker.verdict(lease, checkpoints.length + 1) };
  } finally {
    worker.close();
  }
}

/** Outcomes that leave a task in a state. */
export const outcomes = {
  complete: { complete: { result: undefined, executionMetadata: undefined } },
  fail: {
    fail: {
      error: { code: "broken", message: "for good", details: undefined, stack: "", cause: undefined },
      retryable: false,
      retryAfter: undefined,
      executionMetadata: undefined,
    },
  },
  failOnce: {
    fail: {
      error: { code: "broken", message: "for now", details: undefined, stack: "", cause: undefined },
      retryable: undefined,
      retryAfter: undefined,
      executionMetadata: undefined,
    },
  },
  suspend: { suspend: { untilTime: undefined, untilAfter: undefined, untilProceeded: true, executionMetadata: undefined } },
  cancel: {
    cancel: {
      error: { code: "unwanted", message: "no", details: undefined, stack: "", cause: undefined },
      executionMetadata: undefined,
    },
  },
} as const satisfies Record<string, Partial<Report>>;
