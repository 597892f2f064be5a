// What does docs/lifecycle.md say about every event in every standing? The names of its table, and what `transition` answers for each cell.
import type { Event } from "@leasehold/server/domain/event";
import type { LiveTask } from "@leasehold/server/domain/task";
import { transition } from "@leasehold/server/domain/transition";
import { decisionContext, NOW, SECOND } from "./domain.js";
import { events, standings } from "./transition-table.js";

/** Columns of the table, each with the tasks that stand so. */
export const columns = {
  "PENDING, never leased": [standings.NEW],
  "PENDING, leased before": [standings.RETRY, standings.RELEASED, standings.RETRIED],
  "PENDING, proceeded or woken": [standings.WOKEN],
  "PENDING, lease lost": [standings.LOST],
  RUNNING: [standings.RUNNING],
  "RUNNING, cancel requested": [standings.CANCELLING],
  SUSPENDED: [standings.SUSPENDED, standings["SUSPENDED UNTIL"]],
} as const satisfies Record<string, readonly LiveTask[]>;

interface Row {
  readonly event: Event;
  /** What must be so beforehand, as a deadline that has come. */
  readonly given?: (task: LiveTask) => LiveTask;
}

const passed: Event = events["time passed"];
const withPolicy =
  (fields: Partial<LiveTask["identity"]["retryPolicy"]>) =>
  (task: LiveTask): LiveTask => ({
    ...task,
    identity: { ...task.identity, retryPolicy: { ...task.identity.retryPolicy, ...fields } },
  });

/** Rows of the table, each with its event. */
export const rows: Readonly<Record<string, Row>> = {
  "a worker leases it": { event: events.leased, given: (task) => (task.state === "PENDING" ? { ...task, runAtUs: NOW } : task) },
  "report: checkpoint": { event: events.checkpoint },
  "report: complete": { event: events.complete },
  "report: fail, attempts left": { event: events.fail },
  "report: fail, last attempt": { event: events.fail, given: withPolicy({ maxAttempts: 1 }) },
  "report: fail, not to be retried": { event: events["fail for good"] },
  "report: suspend": { event: events.suspend },
  "report: cancel": { event: events["cancel by the worker"] },
  "report: release": { event: events.release },
  "report: an outcome that cannot be recorded": { event: events["invalid outcome"] },
  "its session falls silent": { event: events["lease lost"] },
  "its session falls silent, budget used up": { event: events["lease lost"], given: withPolicy({ maxLostLeases: 1 }) },
  "its worker comes back with the lease": { event: events.reattested },
  "its worker comes back without the lease": { event: events["lease returned"] },
  "attempt or silence deadline": {
    event: passed,
    given: (task) => (task.state === "RUNNING" ? { ...task, attemptDeadlineUs: NOW } : task),
  },
  "queue deadline": { event: passed, given: (task) => (task.leaseTimeUs === null ? { ...task, queueDeadlineUs: NOW } : task) },
  "total deadline": { event: passed, given: (task) => ({ ...task, totalDeadlineUs: NOW }) },
  "wake time, or limit of the wait": { event: passed, given: (task) => (task.state === "SUSPENDED" ? { ...task, runAtUs: NOW } : task) },
  CancelTask: { event: events["cancel requested"] },
  "end of a cancel's grace": {
    event: passed,
    given: (task) => (task.cancel === null ? task : { ...task, cancel: { ...task.cancel, deadlineUs: NOW - SECOND } }),
  },
  "ProceedTask: keep or patch": { event: events["proceed patching"] },
  "ProceedTask: replace, or with an etag": { event: events["proceed replacing"] },
  UpdateTask: { event: events.updated },
  "replaced by a submission with its key": { event: events.replaced },
};

/** What the cell of a row and a column says; it must be the same for every task that stands so. */
export function cellOf(row: string, column: keyof typeof columns): string {
  const { event, given = unchanged } = rows[row] ?? { event: passed };
  const told = new Set(columns[column].map((task) => tell(given(task), event)));
  return [...told].join(" / ");
}

function unchanged(task: LiveTask): LiveTask {
  return task;
}

function tell(before: LiveTask, event: Event): string {
  const answer = transition(before, event, decisionContext());
  switch (answer.kind) {
    case "rejected": {
      const { reason } = answer.rejection;
      if (reason === "NOTHING_TO_DO") return "–";
      // The only owner's refusal whose name in the contract is another.
      return `refused: ${reason === "TASK_STARTED" ? "KEY_TASK_STARTED" : reason}`;
    }
    case "repeated":
      return "the first answer";
    case "finished":
      return answer.reason === null ? answer.state : `${answer.state} ${answer.reason}`;
    case "changed": {
      if (answer.proceedResult === "REMEMBERED") return "remembered";
      const { state, pendingReason } = answer.task;
      if (state === before.state && pendingReason === before.pendingReason) return "stays";
      return state === "PENDING" ? `PENDING ${pendingReason}` : state;
    }
  }
}
