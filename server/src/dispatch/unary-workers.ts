// What do workers without a stream ask? Leases, renewals and verdicts; with the same sessions, fence and reports as everybody.

import type { Clock, Timer } from "../clock.js";
import { encodeLeaseToken } from "../domain/lease-token.js";
import type { OpenSession, Storage } from "../storage/storage.js";
import type { LeasedAnswer, Renewed, UnaryWorkers } from "./dispatch.js";
import type { Dispatcher } from "./dispatcher.js";
import { LeaseCall } from "./lease-call.js";
import { bytesOf, LeaseSizes } from "./lease-sizes.js";
import type { OutgoingLease, Verdict, WorkerHello, WorkerReport } from "./messages.js";
import type { SessionSurroundings } from "./worker-session.js";
import { WorkerSession } from "./worker-session.js";
import type { ConnectedWorkers } from "./worker-sessions.js";
import { intervalOf, sessionHello } from "./session-terms.js";
import { UnaryBeats } from "./unary-beats.js";

/** On what terms leases are given. */
export interface LeaseTerms {
  readonly defaultTtlUs: number;
  /** Most bytes of payloads in one answer; a single larger lease is an answer of its own. */
  readonly leaseBytes: number;
}

/** Serves workers without a stream. */
export class LeaseCalls implements UnaryWorkers {
  private readonly waiting = new Set<LeaseCall>();
  private draining = false;
  private readonly sizes: LeaseSizes;
  private readonly beats: UnaryBeats;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Storage,
    private readonly terms: LeaseTerms,
    private readonly workers: ConnectedWorkers,
    private readonly dispatcher: Dispatcher,
    private readonly failed: (error: unknown) => void,
  ) {
    this.sizes = new LeaseSizes(terms.leaseBytes);
    this.beats = new UnaryBeats(clock, storage);
  }

  async lease(namespace: string, hello: WorkerHello, waitUs: number, hungUp: AbortSignal): Promise<LeasedAnswer | null> {
    if (this.draining) return null;
    const ttlUs = hello.ttlUs ?? this.terms.defaultTtlUs;
    const open = await this.storage.openSession({ ...sessionHello(namespace, hello, ttlUs), unary: true });
    const call = new LeaseCall(this.clock, waitUs / 1000, this.terms.leaseBytes, hungUp);
    // It is silent by nature, so no interval counts for it; while it waits it is kept alive from here.
    const worker = { ...hello, slots: this.sizes.most(hello) };
    const session = new WorkerSession(namespace, worker, open, Number.POSITIVE_INFINITY, call, this.surroundings());
    const keepAlive = this.keepAlive(open, intervalOf(ttlUs));
    this.waiting.add(call);
    this.dispatcher.add(session);
    const given = await call.leases;
    this.dispatcher.remove(session);
    this.waiting.delete(call);
    keepAlive.cancel();
    session.streamClosed();
    const leases = this.fitting(given);
    this.sizes.learn(hello, given.map(bytesOf));
    await this.workers.giveBack(given.slice(leases.length).map(({ leased }) => leased.live));
    const beat = leases.length === 0 || hungUp.aborted ? null : await this.beats.beat(open.id);
    if (beat === null) {
      await this.giveUp(
        open,
        leases.map(({ leased }) => leased.live),
      );
      return null;
    }
    return { sessionId: open.id, leases, heartbeatIntervalUs: intervalOf(ttlUs), expiresInUs: beat.expiresInUs };
  }

  private fitting(leases: readonly OutgoingLease[]): readonly OutgoingLease[] {
    let bytes = 0;
    const over = leases.findIndex((lease) => {
      bytes += bytesOf(lease);
      return bytes > this.terms.leaseBytes;
    });
    return over < 0 ? leases : leases.slice(0, Math.max(over, 1));
  }

  async renew(sessionIds: readonly string[]): Promise<Renewed> {
    const beats = await Promise.all(sessionIds.map((sessionId) => this.beats.beat(sessionId)));
    const told = await Promise.all(sessionIds.map((sessionId) => this.beats.look(sessionId)));
    const cancelled = told.flatMap((one) => one.cancelled);
    const revoked = told.flatMap((one) => one.revoked);
    const nowUs = this.clock.nowUs();
    return {
      expiresInUs: new Map(beats.flatMap((beat) => (beat === null ? [] : [[beat.sessionId, beat.expiresInUs]]))),
      cancels: cancelled.flatMap(({ task }) => {
        const { cancel, lease, identity } = task;
        if (cancel === null || lease === null) return [];
        const remainingGraceUs = Math.max(cancel.deadlineUs - nowUs, 0);
        return [{ token: encodeLeaseToken(identity.id, lease.nonce), reason: cancel.reason, remainingGraceUs }];
      }),
      revoked: revoked.map(({ taskId, nonce, reason }) => ({ token: encodeLeaseToken(taskId, nonce), reason })),
    };
  }

  report(namespace: string, reports: readonly WorkerReport[]): Promise<Verdict[]> {
    return this.workers.report(namespace, reports);
  }

  /** Waiting calls are answered with nothing. */
  drain(): void {
    this.draining = true;
    for (const call of this.waiting) call.end("SERVER_DRAINING");
  }

  private keepAlive(open: OpenSession, intervalUs: number): Timer {
    let timer: Timer;
    const later = (): void => {
      timer = this.clock.after(intervalUs / 1000, () => {
        this.beats.beat(open.id).catch(this.failed);
        later();
      });
    };
    later();
    return {
      cancel: () => {
        timer.cancel();
      },
    };
  }

  private async giveUp(open: OpenSession, tasks: Parameters<ConnectedWorkers["giveBack"]>[0]): Promise<void> {
    await this.workers.giveBack(tasks);
    await this.storage.endSession(open.id);
  }

  private surroundings(): SessionSurroundings {
    const nothing = (): void => undefined;
    return {
      clock: this.clock,
      beat: nothing,
      report: nothing,
      progress: nothing,
      roomMade: nothing,
      giveBack: (tasks) => void this.workers.giveBack(tasks),
      over: nothing,
    };
  }
}
