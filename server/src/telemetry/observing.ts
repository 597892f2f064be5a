// How does telemetry get around the parts of a server? One value with what main.ts wraps them in; null where nobody wants telemetry, so that
// nothing stands on anybody's way then.

import type { CallObserver } from "../api/call.js";
import type { Clock } from "../clock.js";
import type { TaskCommands } from "../dispatch/dispatch.js";
import type { ReportDesk } from "../dispatch/reports.js";
import type { Listeners } from "../dispatch/announcements.js";
import { runTrace } from "../domain/run-trace.js";
import type { Hint, LeasedTask, Storage } from "../storage/storage.js";
import type { Gauged } from "./gauges.js";
import { observeGauges } from "./gauges.js";
import { createMetrics } from "./metrics.js";
import type { Observers } from "./observed-calls.js";
import { callObserver, observedCommands, observedReports } from "./observed-calls.js";
import { observedStorage } from "./observed-storage.js";
import type { Telemetry } from "./sdk.js";
import { TaskCounts } from "./task-counts.js";
import { TaskSpans } from "./task-spans.js";

/** What the parts of a server are wrapped in. */
export interface Observing {
  readonly calls: CallObserver;
  readonly committed: NonNullable<Listeners["committed"]>;
  storage(storage: Storage): Storage;
  commands(commands: TaskCommands, storage: Storage): TaskCommands;
  reports(desk: ReportDesk): ReportDesk;
  /** Leases on their way to their workers, with the trace context that these are told. */
  given(tasks: readonly LeasedTask[]): readonly LeasedTask[];
  /** Upkeep reached Postgres. */
  upkeepTicked(): void;
  /** Retention removed tasks. */
  removed(count: number): void;
  /** Another server said something, or something may have been missed. */
  hinted(hint: Hint | null): void;
  /** Lets gauges be read. Answers what ends that. */
  gauges(gauged: Pick<Gauged, "storage" | "streams" | "durability" | "fit" | "schemaVersion" | "failed">): () => void;
}

/** Makes it. Call it after `startTelemetry`. */
export function observing(telemetry: Telemetry, version: string, mostNames: number, clock: Clock): Observing | null {
  if (!telemetry.tracing && !telemetry.metering) return null;
  const nowMs = (): number => clock.monotonicMs();
  const counts = telemetry.metering ? new TaskCounts(createMetrics(version), mostNames, nowMs, () => clock.nowUs()) : null;
  const spans = telemetry.tracing ? new TaskSpans(telemetry.tracer) : null;
  const observers: Observers = { spans, counts };
  let upkeepMs = nowMs();
  return {
    calls: callObserver(observers, nowMs),
    committed: (before, answer) => counts?.committed(before, answer),
    storage: (storage) => observedStorage(storage, counts?.metrics ?? null, spans),
    commands: (commands, storage) => observedCommands(commands, storage, observers),
    reports: (desk) => observedReports(desk, observers),
    given: (tasks) => {
      counts?.given(tasks);
      return spans === null ? inTheirTraces(tasks, clock.nowUs()) : spans.given(tasks, clock.nowUs());
    },
    upkeepTicked: () => void (upkeepMs = nowMs()),
    removed: (count) => counts?.metrics.removed.add(count),
    hinted: (hint) => counts?.metrics.hints.add(1, { kind: hint === null ? "gap" : "hint" }),
    gauges: (gauged) => (counts === null ? () => undefined : observeGauges({ ...gauged, counts, nowMs, upkeepMs: () => upkeepMs })),
  };
}

/** The same leases, each with the context that its run belongs to and what that goes back to, where it is not its submission's own. */
export function inTheirTraces(tasks: readonly LeasedTask[], nowUs: number): readonly LeasedTask[] {
  if (!tasks.some(isAgain)) return tasks;
  return tasks.map((leased) => {
    if (!isAgain(leased)) return leased;
    const { parent, links } = runTrace(leased.live, leased.traceContext, nowUs);
    return { ...leased, traceContext: parent, traceLinks: links };
  });
}

// Nearly none is leased for another time, with a trace: the others are handed over as they are.
function isAgain({ live, traceContext }: LeasedTask): boolean {
  if (live.pendingReason === "NEW" || live.pendingReason === "SCHEDULED") return false;
  return traceContext !== null || live.proceeds !== null;
}
