// What is measured of the calls, commands and reports of a server? Wrapped around the rooms where main.ts wires them; without telemetry nothing is.

import type { CallContext, CallObserver } from "../api/call.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { ReportDesk } from "../dispatch/reports.js";
import type { Event } from "../domain/event.js";
import type { KeyConflictPolicy, NewTask } from "../domain/new-task.js";
import { conflictReason } from "../domain/new-task.js";
import type { LiveTask } from "../domain/task.js";
import type { Storage, TaskReference } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";
import { ATTRIBUTES as A, STATUS_NAMES } from "./attributes.js";
import type { TaskCounts } from "./task-counts.js";
import type { TaskSpans } from "./task-spans.js";
import { traceContextOf } from "./trace-context.js";

/** What telemetry there is: spans, counts, or both. */
export interface Observers {
  readonly spans: TaskSpans | null;
  readonly counts: TaskCounts | null;
}

/** Calls that wait by design: how long says nothing. */
const WAITING: ReadonlySet<string> = new Set(["/leasehold.v1.TaskService/WaitTask", "/leasehold.v1.WorkerService/LeaseTasks"]);
const MS_PER_S = 1_000;

/** Hears of unary calls. */
export function callObserver({ spans, counts }: Observers, nowMs: () => number): CallObserver {
  return {
    began: (method, context, carried) => {
      const startMs = nowMs();
      const begun = spans?.callBegan(method, carried ?? context.traceContext);
      const observed: CallContext = begun === undefined ? context : { ...context, traceContext: begun.traceContext };
      if (begun !== undefined) spans?.callOf(observed, begun.span);
      return {
        context: observed,
        ended: (code) => {
          if (begun !== undefined) spans?.callEnded(observed, begun.span, code);
          if (counts === null || WAITING.has(method)) return;
          const labels = { [A.rpcMethod]: method.slice(1), [A.rpcStatus]: STATUS_NAMES[code] ?? String(code) };
          counts.metrics.call.record((nowMs() - startMs) / MS_PER_S, labels);
        },
      };
    },
  };
}

/** The same commands, each with its span and counts. */
export function observedCommands(commands: TaskCommands, storage: Pick<Storage, "readTask">, { spans, counts }: Observers): TaskCommands {
  // The submission is read again, only for a command that is traced: it is what its span links to.
  const submissionOf = async ({ identity }: LiveTask) => {
    const task = await storage.readTask({ namespace: identity.namespace, id: identity.id }, false).catch(() => null);
    return task?.traceContext ?? null;
  };
  const commanded = async <Answer>(
    kind: "proceed" | "cancel" | "retry",
    caller: Caller | undefined,
    command: (traced: TracedCommand) => Promise<Answer>,
    taskOf: (answer: Answer) => LiveTask | null,
  ): Promise<Answer> => {
    const span = spans?.command(kind, caller) ?? null;
    if (span === null || spans === null) return command((event) => event);
    try {
      const answer = await command((event) => carrying(event, traceContextOf(span.spanContext(), "")));
      const task = taskOf(answer);
      if (task !== null) spans.commanded(span, kind, task, await submissionOf(task));
      return answer;
    } finally {
      span.end();
    }
  };
  return {
    submit: async (task, caller) => {
      const inserted = await commands.submit(task, caller);
      if (inserted.kind === "created") counts?.stored(task);
      return inserted;
    },
    submitAtomic: async (tasks, caller) => {
      const inserted = await commands.submitAtomic(tasks, caller);
      // One that is refused refuses all: nothing was stored then.
      const refused = inserted.some((one, index) => one.kind !== "created" && conflictReason(policyOf(tasks[index]), one) !== null);
      if (!refused)
        tasks.forEach((task, index) => {
          if (inserted[index]?.kind === "created") counts?.stored(task);
        });
      return inserted;
    },
    decide: (reference, event, etagRevision, caller) => {
      const kind = COMMANDS[event.kind];
      if (kind === undefined) return commands.decide(reference, event, etagRevision, caller);
      return commanded(
        kind,
        caller,
        (traced) => commands.decide(reference, traced(event), etagRevision, caller),
        (result) => (result.kind === "decided" ? result.decided.before : null),
      );
    },
    retry: (reference: TaskReference, how, etagRevision, caller) =>
      commanded(
        "retry",
        caller,
        () => commands.retry(reference, how, etagRevision, caller),
        (retried) => (retried.kind === "retried" ? retried.task : null),
      ),
    remove: (reference, etagRevision, caller) => commands.remove(reference, etagRevision, caller),
  };
}

function policyOf(task: NewTask | undefined): KeyConflictPolicy {
  return task?.submission.keyConflictPolicy ?? "REJECT";
}

type TracedCommand = (event: Event) => Event;

const COMMANDS: Readonly<Partial<Record<Event["kind"], "proceed" | "cancel">>> = { proceeded: "proceed", "cancel-requested": "cancel" };

/** A proceed goes on with the context of its span: the run that it sets going is of that trace. */
function carrying(event: Event, traceContext: NonNullable<CallContext["traceContext"]>): Event {
  if (event.kind !== "proceeded") return event;
  const baggage = event.proceed.traceContext?.baggage ?? "";
  return { ...event, proceed: { ...event.proceed, traceContext: { ...traceContext, baggage } } };
}

/** The same desk, each outcome with its span, each verdict counted. */
export function observedReports(desk: ReportDesk, { spans, counts }: Observers): ReportDesk {
  return {
    apply: async (namespace, copy, report, trace) => {
      // Checkpoints are events of the attempt: a span for each would let a trace grow without bound.
      const span = report.body.kind === "checkpoint" ? null : (spans?.reportBegan(copy, report, trace) ?? null);
      // It answers whatever happens: its own faults are verdicts.
      const reported = await desk.apply(namespace, copy, report, trace);
      if (span !== null) spans?.reportEnded(span, copy, report, reported);
      counts?.metrics.verdicts.add(1, { verdict: reported.verdict.code });
      return reported;
    },
  };
}
