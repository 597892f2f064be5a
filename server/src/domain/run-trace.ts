// To which trace does a lease belong? What a submission or a proceed set going is one trace; a wake-up, and a run that goes on and on, starts
// another that links back, so that no trace grows without bound.

import type { LiveTask, TraceContext } from "./task.js";

/** Where the next lease of a task stands. */
export interface RunTrace {
  /** What set the run going; null: the lease starts a trace of its own. */
  readonly parent: TraceContext | null;
  /** What it goes back to beside that: the submission, and every proceed that it was told of. */
  readonly links: readonly TraceContext[];
}

/** Leases of one run that stay in the trace of what set it going. */
export const MOST_LEASES_OF_A_TRACE = 8;
/** How many leases a fencing token counts before the timeline of Postgres in its high bits. */
const LEASES_OF_A_TOKEN = 2 ** 40;
/** Longest that a trace waits for a lease: what waited longer starts another one. */
const LONGEST_WAIT_US = 86_400_000_000;

/** The trace of a task's next lease, or of the one it has. `submission`: the trace context that it was submitted with. */
export function runTrace(task: LiveTask, submission: TraceContext | null, nowUs: number): RunTrace {
  const proceeds = (task.proceeds?.consumed ?? []).filter(({ traceContext }) => traceContext !== undefined);
  const told = proceeds.flatMap(({ traceContext }) => traceContext ?? []);
  const last = proceeds.at(-1);
  const again = task.failures + task.lostLeases + task.releases;
  const early = again < MOST_LEASES_OF_A_TRACE;
  if (last?.traceContext !== undefined && task.pendingReason !== "WOKEN") {
    const joined = early && nowUs - last.proceedUs < LONGEST_WAIT_US;
    const links = [...withSubmission(submission), ...told.slice(0, -1)];
    return joined ? { parent: last.traceContext, links } : { parent: null, links: [...links, last.traceContext] };
  }
  const leases = task.fencingToken % LEASES_OF_A_TOKEN;
  const first = task.suspendTimeUs === null && task.pendingReason !== "RETRIED" && leases <= MOST_LEASES_OF_A_TRACE;
  if (first && early && nowUs - task.identity.createTimeUs < LONGEST_WAIT_US) return { parent: submission, links: [] };
  return { parent: null, links: [...withSubmission(submission), ...told] };
}

function withSubmission(submission: TraceContext | null): readonly TraceContext[] {
  return submission === null ? [] : [submission];
}
