// How long does Postgres take, for what, and on whose behalf? The same storage with its operations measured; the statements know nothing of it.

import { machineNowMs } from "../clock.js";
import type { Event } from "../domain/event.js";
import { DatabaseFault } from "../storage/faults.js";
import type { Claimed, Decision, Storage } from "../storage/storage.js";
import type { NewTask } from "../domain/new-task.js";
import { ATTRIBUTES as A } from "./attributes.js";
import type { Metrics } from "./metrics.js";
import type { Asked, TaskSpans } from "./task-spans.js";
import { isSampled } from "./trace-context.js";

/** Not operations, or their own business. */
const UNSEEN: readonly (string | symbol)[] = ["onHint", "close", "health", "listening"] satisfies (keyof Storage)[];
/** What each gathered operation is called in `leasehold.batch.size`. */
const BATCHES: Readonly<Record<string, string>> = {
  insertTasks: "submissions",
  applyDecisions: "reports",
  leaseTasks: "claims",
  storeBeats: "heartbeats",
};
const MS_PER_S = 1_000;

type Operation = (...parameters: unknown[]) => Promise<unknown>;

/** The same storage, measured. */
export function observedStorage(storage: Storage, metrics: Metrics | null, spans: TaskSpans | null): Storage {
  const operations = new Map<string | symbol, Operation>();
  return new Proxy(storage, {
    get: (target, name) => {
      const known = operations.get(name);
      if (known !== undefined) return known;
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function" || UNSEEN.includes(name)) return member;
      const plain: Operation = (...parameters) => Reflect.apply(member, target, parameters) as Promise<unknown>;
      const observed = observe(String(name), plain, metrics, spans);
      operations.set(name, observed);
      return observed;
    },
  });
}

function observe(operation: string, plain: Operation, metrics: Metrics | null, spans: TaskSpans | null): Operation {
  const attributes = { [A.dbOperation]: operation, [A.dbSystem]: "postgresql" };
  const batch = BATCHES[operation];
  const measured = (startMs: number, parameters: readonly unknown[], answer: unknown, fault: string | undefined): void => {
    const endMs = machineNowMs();
    const count = countOf(operation, parameters[0], answer);
    metrics?.operation.record((endMs - startMs) / MS_PER_S, fault === undefined ? attributes : { ...attributes, [A.errorType]: fault });
    if (batch !== undefined) metrics?.batch.record(count, { batch });
    if (spans !== null) trace(spans, { operation, startMs, endMs, count, ...(fault === undefined ? {} : { fault }) }, parameters, answer);
  };
  return async (...parameters) => {
    const startMs = machineNowMs();
    let answer: unknown;
    try {
      answer = await plain(...parameters);
    } catch (error) {
      measured(startMs, parameters, undefined, error instanceof DatabaseFault ? error.kind : "unexpected");
      throw error;
    }
    measured(startMs, parameters, answer, undefined);
    return answer;
  };
}

function trace(spans: TaskSpans, asked: Asked, parameters: readonly unknown[], answer: unknown): void {
  switch (asked.operation) {
    case "insertTasks": {
      const contexts = (parameters[0] as readonly NewTask[]).map(({ submission }) => submission.traceContext);
      spans.asked(asked, contexts.filter(isSampled));
      return;
    }
    case "leaseTasks":
      // The spans of its leases begin when these are handed over.
      if (answer !== undefined) spans.claimed((answer as Claimed).leased, asked);
      return;
    case "applyDecisions":
      spans.asked(asked, spans.ofReports((parameters[0] as readonly Decision[]).map(({ before }) => before)));
      return;
    case "decide": {
      const report = spans.ofDecided(parameters[1] as Event);
      if (report === undefined) askedByCaller(spans, asked, parameters);
      else spans.asked(asked, [report]);
      return;
    }
    default:
      askedByCaller(spans, asked, parameters);
  }
}

function askedByCaller(spans: TaskSpans, asked: Asked, parameters: readonly unknown[]): void {
  for (const parameter of parameters) {
    const span = typeof parameter === "object" && parameter !== null ? spans.ofCaller(parameter) : undefined;
    if (span !== undefined) spans.asked(asked, [span]);
  }
}

/** Items of a gathered operation; 1 for any other. */
function countOf(operation: string, first: unknown, answer: unknown): number {
  if (operation === "leaseTasks") return answer === undefined ? 0 : (answer as Claimed).leased.length;
  return operation in BATCHES ? (first as readonly unknown[]).length : 1;
}
