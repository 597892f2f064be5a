// Which leases does this worker hold, and which of its reports has the server not answered?
//
// A lease is held from the moment it arrives until the final verdict on its outcome, whatever happens to connections in between. Reports of
// a lease are numbered 1, 2, 3 … and kept until their verdict; after a reconnect all that are left go out again, in order. This file
// decides nothing about handlers: it tells when a lease is lost.
import { Report, type Verdict, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import type { Clock, Timer } from "./clock.js";
import { msFromDuration } from "./duration.js";
import { LeaseholdError } from "./errors.js";

/** What a report says; exactly one kind, perhaps with the trace context of its attempt. */
export type ReportBody = Partial<Pick<Report, "checkpoint" | "complete" | "fail" | "suspend" | "cancel" | "release" | "traceContext">>;

interface Waiting {
  readonly report: Report;
  readonly final: boolean;
  readonly resolve: (verdict: Verdict) => void;
  readonly reject: (error: LeaseholdError) => void;
}

interface Held {
  readonly taskId: string;
  nextSeq: number;
  /** In order of their numbers. */
  readonly waiting: Waiting[];
  /** Set after RETRY_LATER, until everything is sent again. */
  pause: Timer | undefined;
}

/** Delay after an answer that this SDK does not know, or RETRY_LATER without one, in milliseconds. */
const UNKNOWN_RETRY_MS = 1_000;

/** Keeps leases and unanswered reports of one worker. */
export class LeaseKeeper {
  readonly #held = new Map<string, Held>();
  #send: ((reports: readonly Report[]) => void) | undefined;
  #empty: (() => void)[] = [];

  constructor(
    private readonly clock: Clock,
    /** Told when a lease turns out to be gone by a verdict or a welcome; called before the waiting reports are rejected. */
    private readonly lost: (leaseToken: string) => void,
  ) {}

  /** Leases whose final verdict is missing: what a Hello lists. */
  get tokens(): string[] {
    return [...this.#held.keys()];
  }

  /** How many reports have no verdict yet. */
  get unacknowledged(): number {
    let count = 0;
    for (const { waiting } of this.#held.values()) count += waiting.length;
    return count;
  }

  /** Whether the lease is held. */
  holds(leaseToken: string): boolean {
    return this.#held.has(leaseToken);
  }

  /** A lease arrived. */
  add(leaseToken: string, taskId: string): void {
    this.#held.set(leaseToken, { taskId, nextSeq: 1, waiting: [], pause: undefined });
  }

  /**
   * Sends a report, now or when there is a connection. Resolves with its verdict: RECORDED, ALREADY_RECORDED or INVALID. Rejects with
   * LEASE_LOST when the lease is gone, FAILED_PRECONDITION after an outcome of the same lease.
   */
  report(leaseToken: string, body: ReportBody): Promise<Verdict> {
    const held = this.#held.get(leaseToken);
    if (held === undefined) return Promise.reject(leaseLost("this lease is no longer the worker's"));
    if (held.waiting.at(-1)?.final === true) {
      return Promise.reject(
        new LeaseholdError({ code: "FAILED_PRECONDITION", message: "the outcome of this lease is already reported", taskId: held.taskId }),
      );
    }
    const report = Report.create({ leaseToken, reportSeq: held.nextSeq, ...body });
    held.nextSeq += 1;
    return new Promise((resolve, reject) => {
      held.waiting.push({ report, final: body.checkpoint === undefined, resolve, reject });
      if (held.pause === undefined) this.#send?.([report]);
    });
  }

  /** A connection is welcome: everything unanswered goes out again, then each new report at once. */
  attach(send: (reports: readonly Report[]) => void): void {
    this.#send = send;
    for (const held of this.#held.values()) this.#resend(held);
  }

  /** The connection is over. */
  detach(): void {
    this.#send = undefined;
  }

  /** The server answered a report. */
  settle(verdict: Verdict): void {
    const held = this.#held.get(verdict.leaseToken);
    if (held === undefined) return;
    switch (verdict.code) {
      case VerdictCode.LEASE_LOST:
        this.lost(verdict.leaseToken);
        this.lose(verdict.leaseToken);
        break;
      case VerdictCode.RECORDED:
      case VerdictCode.ALREADY_RECORDED:
      case VerdictCode.INVALID:
        this.#settleOne(held, verdict);
        break;
      case VerdictCode.RETRY_LATER:
      case VerdictCode.UNSPECIFIED:
      case VerdictCode.UNRECOGNIZED:
        this.#pause(held, verdict.retryAfter === undefined ? UNKNOWN_RETRY_MS : msFromDuration(verdict.retryAfter));
        break;
    }
  }

  /**
   * The server did not keep a lease that was listed. Its handler is to stop; an outcome that is already on its way is sent all the same,
   * because its verdict is the truth.
   */
  drop(leaseToken: string): void {
    const held = this.#held.get(leaseToken);
    if (held === undefined) return;
    this.lost(leaseToken);
    if (held.waiting.at(-1)?.final !== true) this.lose(leaseToken);
  }

  /** The lease is gone: forget it and everything unanswered of it. */
  lose(leaseToken: string): void {
    const held = this.#held.get(leaseToken);
    if (held === undefined) return;
    this.#forget(leaseToken, held);
    for (const { reject } of held.waiting)
      reject(leaseLost("the lease is no longer the worker's; this report was not recorded", held.taskId));
  }

  /** Resolves when nothing is held. */
  whenEmpty(): Promise<void> {
    if (this.#held.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#empty.push(resolve));
  }

  /** Takes timers back. */
  close(): void {
    for (const { pause } of this.#held.values()) pause?.cancel();
  }

  #settleOne(held: Held, verdict: Verdict): void {
    const index = held.waiting.findIndex(({ report }) => report.reportSeq === verdict.reportSeq);
    const one = held.waiting[index];
    if (one === undefined) return;
    held.waiting.splice(index, 1);
    if (one.final) this.#forget(verdict.leaseToken, held);
    one.resolve(verdict);
  }

  /** After RETRY_LATER all later reports of the lease get it too, so the first one's delay counts for all. */
  #pause(held: Held, delayMs: number): void {
    held.pause ??= this.clock.timer(delayMs, () => this.#resend(held));
  }

  #resend(held: Held): void {
    held.pause?.cancel();
    held.pause = undefined;
    if (held.waiting.length > 0) this.#send?.(held.waiting.map(({ report }) => report));
  }

  #forget(leaseToken: string, held: Held): void {
    held.pause?.cancel();
    this.#held.delete(leaseToken);
    if (this.#held.size > 0) return;
    const waiting = this.#empty;
    this.#empty = [];
    for (const resolve of waiting) resolve();
  }
}

function leaseLost(message: string, taskId?: string): LeaseholdError {
  return new LeaseholdError({ code: "LEASE_LOST", message, taskId });
}
