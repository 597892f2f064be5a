// What do workers without a stream ask? Leases, renewals and verdicts; with the same sessions, fence and reports as everybody.

import type { Clock, Timer } from "../clock.js";
import { encodeLeaseToken } from "../domain/lease-token.js";
import type { OpenSession, Storage } from "../storage/storage.js";
import type { LeasedAnswer, Renewed, UnaryWorkers } from "./dispatch.js";
import type { Dispatcher } from "./dispatcher.js";
import { LeaseCall } from "./lease-call.js";
import type { OutgoingLease, Verdict, WorkerHello, WorkerReport } from "./messages.js";
import type { SessionSurroundings } from "./worker-session.js";
import { WorkerSession } from "./worker-session.js";
import type { ConnectedWorkers } from "./worker-sessions.js";
import { intervalOf, sessionHello } from "./session-terms.js";

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

  constructor(
    private readonly clock: Clock,
    private readonly storage: Storage,
    private readonly terms: LeaseTerms,
    private readonly workers: ConnectedWorkers,
    private readonly dispatcher: Dispatcher,
    private readonly failed: (error: unknown) => void,
  ) {}

  async lease(namespace: string, hello: WorkerHello, waitUs: number, hungUp: AbortSignal): Promise<LeasedAnswer | null> {
    if (this.draining) return null;
    const ttlUs = hello.ttlUs ?? this.terms.defaultTtlUs;
    const open = await this.storage.openSession({ ...sessionHello(namespace, hello, ttlUs), unary: true });
    const call = new LeaseCall(this.clock, waitUs / 1000, hungUp);
    // It is silent by nature, so no interval counts for it; while it waits it is kept alive from here.
    const session = new WorkerSession(namespace, hello, open, Number.POSITIVE_INFINITY, call, this.surroundings());
    const keepAlive = this.keepAlive(open, intervalOf(ttlUs));
    this.waiting.add(call);
    this.dispatcher.add(session);
    const given = await call.leases;
    this.dispatcher.remove(session);
    this.waiting.delete(call);
    keepAlive.cancel();
    session.streamClosed();
    const leases = this.fitting(given);
    await this.workers.giveBack(given.slice(leases.length).map(({ leased }) => leased.live));
    const [beat] = leases.length === 0 || hungUp.aborted ? [] : await this.beat(open);
    if (beat === undefined) {
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
    const over = leases.findIndex(({ payloads }) => {
      bytes += payloads.metadata.data.byteLength + (payloads.executionMetadata?.data.byteLength ?? 0) + LEASE_ROOM_BYTES;
      return bytes > this.terms.leaseBytes;
    });
    return over < 0 ? leases : leases.slice(0, Math.max(over, 1));
  }

  async renew(sessionIds: readonly string[]): Promise<Renewed> {
    const beats = await this.storage.storeBeats(sessionIds.map((sessionId) => ({ sessionId, epoch: FIRST_EPOCH, number: 0 })));
    const cancelled = await this.storage.cancelledLeases(sessionIds);
    const revoked = await this.storage.revokedLeases(sessionIds);
    const nowUs = this.clock.nowUs();
    return {
      expiresInUs: new Map(beats.map((beat) => [beat.sessionId, beat.expiresInUs])),
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

  private beat(open: OpenSession): ReturnType<Storage["storeBeats"]> {
    return this.storage.storeBeats([{ sessionId: open.id, epoch: open.epoch, number: 0 }]);
  }

  private keepAlive(open: OpenSession, intervalUs: number): Timer {
    let timer: Timer;
    const later = (): void => {
      timer = this.clock.after(intervalUs / 1000, () => {
        this.beat(open).catch(this.failed);
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

/** A session of LeaseTasks is never taken over, so its epoch stays what it was. */
const FIRST_EPOCH = 1;
/** What a lease needs beside its payloads: names, labels, token, previous error. */
const LEASE_ROOM_BYTES = 8192;
