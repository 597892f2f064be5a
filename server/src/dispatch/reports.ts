// What becomes of a report? The server that gave the lease decides on its own copy of the task and writes guarded; where that
// copy is outdated or missing, the task is locked, read again and decided again. Acknowledged only after commit.

import type { Clock } from "../clock.js";
import type { Answer, Event, Rejection } from "../domain/event.js";
import { decodeLeaseToken } from "../domain/lease-token.js";
import type { AboutTask, LiveTask, TraceContext } from "../domain/task.js";
import { closedLease, transition } from "../domain/transition.js";
import { DatabaseFault } from "../storage/faults.js";
import type { DecideResult, Decision, Storage } from "../storage/storage.js";
import type { Announcements } from "./announcements.js";
import type { Batcher } from "./batch.js";
import type { Verdict, WorkerReport } from "./messages.js";

/** The answer to one report, and what it leaves of the lease. */
export interface Reported {
  readonly verdict: Verdict;
  /** The task with the lease going on; null when the lease is over. */
  readonly task: LiveTask | null;
  /** True when the copy can no longer be trusted. */
  readonly outdated: boolean;
  /** The task that it was decided on, where that was found. */
  readonly before?: LiveTask;
}

/** Where reports are answered. */
export interface ReportDesk {
  /**
   * Applies one report; the caller sends those of one lease one after the other. `copy`: the task as this server knows it; `trace`: the one
   * that the lease belongs to.
   */
  apply(namespace: string, copy: LiveTask | null, report: WorkerReport, trace: TraceContext | null): Promise<Reported>;
}

const RETRY_AFTER_US = 1_000_000;

type ReportEvent = Extract<Event, { kind: "reported" }>;

/** Applies reports. */
export class Reports implements ReportDesk {
  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "decide">,
    private readonly writes: Batcher<Decision, boolean>,
    private readonly announcements: Announcements,
    private readonly maxPayloadBytes: number,
    private readonly failed: (error: unknown, about: AboutTask) => void,
  ) {}

  /** As its desk says. */
  async apply(namespace: string, copy: LiveTask | null, report: WorkerReport, lease: TraceContext | null = null): Promise<Reported> {
    const name = decodeLeaseToken(report.leaseToken);
    if (name === null) return over(verdict(report, "LEASE_LOST"));
    const event: ReportEvent = { kind: "reported", nonce: name.nonce, seq: report.seq, body: report.body };
    try {
      return (
        (copy === null ? null : await this.onCopy(copy, event, report)) ?? (await this.onStored(namespace, name.taskId, event, report))
      );
    } catch (error) {
      this.failed(error, { taskId: name.taskId, traceContext: report.traceContext ?? lease });
      // Nobody knows whether it was stored; the worker sends it again and then it is known.
      const retryAfterUs = error instanceof DatabaseFault && error.retryAfterMs !== null ? error.retryAfterMs * 1000 : RETRY_AFTER_US;
      return { verdict: { ...verdict(report, "RETRY_LATER"), retryAfterUs }, task: copy, outdated: true };
    }
  }

  // Null: the copy is outdated and the stored task must decide.
  private async onCopy(copy: LiveTask, event: ReportEvent, report: WorkerReport): Promise<Reported | null> {
    if ((copy.proceeds?.remembered.length ?? 0) > 0) return null;
    const context = {
      nowUs: this.clock.nowUs(),
      chance: this.clock.chance(),
      executionMetadata: null,
      maxPayloadBytes: this.maxPayloadBytes,
    };
    const answer = transition(copy, event, context);
    // A report before its turn is one that came early, or one whose predecessors a failover forgot: only the stored task can tell.
    const unsure = answer.kind === "rejected" && (answer.rejection.reason === "LEASE_LOST" || answer.rejection.reason === "OUT_OF_ORDER");
    if (unsure) return null;
    if (answer.kind === "rejected") return rejected(report, answer.rejection, copy);
    if (answer.kind === "repeated") return null;
    const written = await this.writes.add({ before: copy, answer, notBeforeUs: null }, sizeOf(report));
    return written ? this.recorded(copy, answer, report) : null;
  }

  private async onStored(namespace: string, taskId: string, event: ReportEvent, report: WorkerReport): Promise<Reported> {
    const result: DecideResult = await this.storage.decide({ namespace, id: taskId }, event);
    if (result.kind === "finished") {
      const answer = closedLease(result.outcome.lastOutcome, event);
      return answer.kind === "rejected"
        ? rejected(report, answer.rejection, null, result.outcome.state)
        : over(verdict(report, "LEASE_LOST"));
    }
    if (result.kind !== "decided") return over(verdict(report, "LEASE_LOST"));
    const { before, answer } = result.decided;
    if (answer.kind === "rejected") return rejected(report, answer.rejection, before);
    if (answer.kind === "repeated") return over(verdict(report, "ALREADY_RECORDED"));
    return this.recorded(before, answer, report);
  }

  private recorded(before: LiveTask, answer: Extract<Answer, { kind: "changed" | "finished" }>, report: WorkerReport): Reported {
    this.announcements.committed(before, answer, true);
    // Given back, not recorded: its worker is told as if somebody else had got it.
    if (answer.revoked !== undefined) return { ...over(verdict(report, "LEASE_LOST")), before };
    const { task } = answer;
    const ended = answer.kind === "finished" || task.lease === null;
    const violations = answer.violations ?? [];
    const state = answer.kind === "finished" ? answer.state : task.state;
    const code = report.body.kind === "invalid" ? "INVALID" : "RECORDED";
    const settled = { ...verdict(report, code), violations, executionMetadataVersion: task.executionMetadataVersion, state };
    return { verdict: settled, task: ended ? null : task, outdated: false, before };
  }
}

function rejected(
  report: WorkerReport,
  rejection: Rejection,
  copy: LiveTask | null,
  state: Verdict["state"] = copy?.state ?? null,
): Reported {
  // The report's own lease may be over: then the worker is done with it, else it goes on.
  const nonce = decodeLeaseToken(report.leaseToken)?.nonce;
  const task = nonce !== undefined && copy?.lease?.nonce === nonce ? copy : null;
  switch (rejection.reason) {
    case "ALREADY_RECORDED":
      return { verdict: { ...verdict(report, "ALREADY_RECORDED"), state }, task, outdated: false };
    case "INVALID_REPORT":
      return { verdict: { ...verdict(report, "INVALID"), violations: rejection.violations, state }, task, outdated: false };
    case "OUT_OF_ORDER":
      return { verdict: { ...verdict(report, "RETRY_LATER"), retryAfterUs: RETRY_AFTER_US }, task: copy, outdated: false };
    default:
      return over(verdict(report, "LEASE_LOST"));
  }
}

function over(answer: Verdict): Reported {
  return { verdict: answer, task: null, outdated: false };
}

function verdict(report: WorkerReport, code: Verdict["code"]): Verdict {
  return {
    leaseToken: report.leaseToken,
    seq: report.seq,
    code,
    violations: [],
    retryAfterUs: null,
    executionMetadataVersion: null,
    state: null,
  };
}

/** Bytes that a report brings into its batch, roughly. */
function sizeOf({ body }: WorkerReport): number {
  switch (body.kind) {
    case "complete":
      return body.result.data.byteLength + (body.executionMetadata?.data.byteLength ?? 0);
    case "invalid":
      return 0;
    default:
      return body.executionMetadata?.data.byteLength ?? 0;
  }
}
