// How much may a worker have in flight? Each report gets exactly one verdict, so what has none yet is counted; beyond the bounds the
// stream is not read on until verdicts have gone out, and HTTP/2 makes the worker wait.

import type { Report } from "@leasehold/proto/leasehold/v1/worker_service";
import type { ExecuteCall } from "./worker-stream.js";

/** Two for each slot of the largest session. */
const MAX_REPORTS = 20_000;
const MAX_BYTES = 32 * 1024 * 1024;

/** Counts the reports of one stream that have no verdict yet. */
export interface UnansweredReports {
  readonly received: (reports: readonly Report[]) => void;
  readonly answered: (verdicts: number) => void;
}

/** Pauses the call while too much is unanswered. */
export function unansweredReports(call: Pick<ExecuteCall, "pause" | "resume">): UnansweredReports {
  let count = 0;
  let bytes = 0;
  let paused = false;
  return {
    received: (reports) => {
      count += reports.length;
      for (const report of reports) bytes += payloadBytes(report);
      if (paused || (count <= MAX_REPORTS && bytes <= MAX_BYTES)) return;
      paused = true;
      call.pause();
    },
    answered: (verdicts) => {
      // Which report a verdict is for does not matter here: an average one is taken off.
      bytes = verdicts >= count ? 0 : bytes - (bytes * verdicts) / count;
      count = Math.max(count - verdicts, 0);
      if (!paused || count > MAX_REPORTS / 2 || bytes > MAX_BYTES / 2) return;
      paused = false;
      call.resume();
    },
  };
}

function payloadBytes(report: Report): number {
  const { checkpoint, complete, fail, suspend, cancel, release } = report;
  const body = checkpoint ?? complete ?? fail ?? suspend ?? cancel ?? release;
  return (body?.executionMetadata?.data.length ?? 0) + (complete?.result?.data.length ?? 0);
}
