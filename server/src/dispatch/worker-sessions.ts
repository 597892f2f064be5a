// Who is connected to this server? Opens, takes over and ends sessions, stores their heartbeats together, and carries what the
// dispatcher, reports and announcements have for each of them to its stream.

import type { Clock, Timer } from "../clock.js";
import type { Event, RevocationReason } from "../domain/event.js";
import { decodeLeaseToken, encodeLeaseToken } from "../domain/lease-token.js";
import type { AboutTask, LiveTask } from "../domain/task.js";
import { transition } from "../domain/transition.js";
import type { Decision, LeasedTask, LeasePayloads, OpenSession, Storage } from "../storage/storage.js";
import type { Announcements } from "./announcements.js";
import type { ConnectedWorker, WorkerSessions } from "./dispatch.js";
import type { Dispatcher } from "./dispatcher.js";
import type { StreamEnd, Verdict, Welcome, WorkerHello, WorkerReport, WorkerStream } from "./messages.js";
import type { ProgressBoard } from "./progress-board.js";
import type { ReportDesk } from "./reports.js";
import { intervalOf, sessionHello } from "./session-terms.js";
import type { SessionSurroundings } from "./worker-session.js";
import { WorkerSession } from "./worker-session.js";

/** Settings of sessions. */
export interface SessionSettings {
  readonly defaultTtlUs: number;
  /** When a worker that is told to go elsewhere should connect there. */
  readonly reconnectAfterUs: number;
}

/** Heartbeats of this long are stored in one statement. */
const BEAT_GATHER_MS = 100;
/** How often silence is looked for. */
const TICK_MS = 250;
/** How often what a session holds is compared with the database, beside every gap in hints. */
const RECONCILE_MS = 10_000;

/** The workers of this server. */
export class ConnectedWorkers implements WorkerSessions {
  private readonly sessions = new Map<string, WorkerSession>();
  private readonly beats = new Map<string, { session: WorkerSession; number: number }>();
  private beatTimer: Timer | null = null;
  private storingBeats = false;
  private draining = false;
  private allEnded: (() => void) | null = null;
  private dispatcher: Dispatcher | null = null;
  private readonly surroundings: SessionSurroundings;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Storage,
    private readonly settings: SessionSettings,
    private readonly reports: ReportDesk,
    private readonly announcements: Announcements,
    private readonly progress: ProgressBoard,
    private readonly failed: (error: unknown, about?: AboutTask) => void,
  ) {
    this.surroundings = {
      clock,
      beat: (session, number) => {
        this.beat(session, number);
      },
      report: (session, lease, report) => void this.applyReport(session, lease, report),
      progress: (session, taskId, progress) => {
        this.progress.note(taskId, progress);
      },
      roomMade: () => this.dispatcher?.wake(),
      giveBack: (tasks) => void this.giveBack(tasks),
      over: (session) => {
        if (this.sessions.get(session.id) === session) this.sessions.delete(session.id);
        this.dispatcher?.remove(session);
        if (this.sessions.size === 0) this.allEnded?.();
      },
    };
  }

  /** The dispatcher and this know each other; it is made later. */
  start(dispatcher: Dispatcher): void {
    this.dispatcher = dispatcher;
    this.tickLater();
    this.reconcileLater();
  }

  get connected(): number {
    return this.sessions.size;
  }

  // ---- workers come and go

  async connect(namespace: string, hello: WorkerHello, stream: WorkerStream): Promise<ConnectedWorker | { readonly refused: StreamEnd }> {
    if (this.draining) return { refused: "SERVER_DRAINING" };
    const ttlUs = hello.ttlUs ?? this.settings.defaultTtlUs;
    const stored = sessionHello(namespace, hello, ttlUs);
    if (hello.sessionId === null) {
      const session = await this.storage.openSession(stored);
      return this.welcome(namespace, hello, session, ttlUs, stream, []);
    }
    const held = hello.heldLeaseTokens.map(decodeLeaseToken).filter((name) => name !== null);
    const taken = await this.storage.takeOverSession(hello.sessionId, stored, held);
    if (taken.kind === "stale") return { refused: "STALE_HELLO" };
    this.sessions.get(hello.sessionId)?.end("SESSION_TAKEN");
    if (taken.kind === "taken") for (const { before, answer } of taken.returned) this.announcements.committed(before, answer, true);
    return this.welcome(namespace, hello, taken.session, ttlUs, stream, taken.kept);
  }

  private welcome(
    namespace: string,
    hello: WorkerHello,
    open: OpenSession,
    ttlUs: number,
    stream: WorkerStream,
    kept: readonly LiveTask[],
  ): ConnectedWorker | { readonly refused: StreamEnd } {
    // The drain began while the database answered: it would miss this stream, which nobody would end.
    if (this.draining) return { refused: "SERVER_DRAINING" };
    const intervalUs = intervalOf(ttlUs);
    const session = new WorkerSession(namespace, hello, open, intervalUs / 1000, stream, this.surroundings);
    session.keep(kept);
    this.sessions.set(session.id, session);
    session.send({ welcome: welcomeOf(hello, open.id, intervalUs, ttlUs, kept) });
    // A cancel that came while the worker was away is told at once.
    for (const task of kept) session.cancel(task);
    this.dispatcher?.add(session);
    return session;
  }

  // ---- reports

  private async applyReport(
    session: WorkerSession,
    lease: Parameters<SessionSurroundings["report"]>[1],
    report: WorkerReport,
  ): Promise<void> {
    const { verdict, task, outdated } = await this.reports.apply(
      session.namespace,
      lease?.copy ?? null,
      report,
      lease?.traceContext ?? null,
    );
    if (lease === null) session.answer(verdict);
    else session.settled(lease, verdict, task, outdated);
  }

  async report(namespace: string, reports: readonly WorkerReport[]): Promise<Verdict[]> {
    const verdicts: Verdict[] = [];
    // One after the other: several may be of one lease, and their order counts.
    for (const report of reports) verdicts.push((await this.reports.apply(namespace, null, report, null)).verdict);
    return verdicts;
  }

  // ---- leases

  /** Hands claimed tasks to a session; what it cannot be given any more goes back. */
  async deliver(session: WorkerSession, tasks: readonly LeasedTask[]): Promise<void> {
    const ready: { leased: LeasedTask; payloads: LeasePayloads }[] = [];
    const late: LiveTask[] = [];
    let bytes = 0;
    for (const leased of tasks) {
      // What an answer has no room for is not even read.
      const payloads = bytes > session.roomBytes ? null : await this.payloadsOf(leased);
      if (bytes > session.roomBytes) late.push(leased.live);
      bytes += payloads === null ? 0 : payloads.metadata.data.byteLength + (payloads.executionMetadata?.data.byteLength ?? 0);
      if (payloads !== null) ready.push({ leased, payloads });
    }
    await this.giveBack(late);
    if (!session.accepts) {
      await this.giveBack(ready.map(({ leased }) => leased.live));
      return;
    }
    session.deliver(ready);
  }

  // A payload that cannot be read fails alone: its lease is not delivered and expires, its neighbours go on.
  private async payloadsOf(leased: LeasedTask): Promise<LeasePayloads | null> {
    const { live, metadata, executionMetadata } = leased;
    if (metadata !== null && (executionMetadata !== null || live.executionMetadataVersion === 0)) return { metadata, executionMetadata };
    try {
      return await this.storage.readPayloads(live.identity.namespace, live.identity.id);
    } catch (error) {
      this.failed(error, { taskId: live.identity.id, traceContext: leased.traceContext });
      await this.giveBack([live]);
      return null;
    }
  }

  /** Gives leases back that never reached a worker: no attempt is used. */
  async giveBack(tasks: readonly LiveTask[]): Promise<void> {
    const event: Event = { kind: "lease-returned" };
    const context = { nowUs: this.clock.nowUs(), chance: this.clock.chance(), executionMetadata: null, maxPayloadBytes: 0 };
    const decisions: Decision[] = [];
    for (const before of tasks) {
      const answer = transition(before, event, context);
      if (answer.kind === "changed" || answer.kind === "finished") decisions.push({ before, answer, notBeforeUs: null });
    }
    if (decisions.length === 0) return;
    try {
      const written = await this.storage.applyDecisions(decisions);
      decisions.forEach(({ before, answer }, index) => {
        if (written[index] === true) this.announcements.committed(before, answer, true);
      });
    } catch (error) {
      // They go back when the session ends, at the latest.
      this.failed(error);
    }
  }

  /** A lease of a session was cancelled (null) or taken away; answers whether its worker is connected here. */
  tell(sessionId: string, task: LiveTask, revoked: RevocationReason | null): boolean {
    const session = this.sessions.get(sessionId);
    if (session === undefined) return false;
    if (revoked === null) session.cancel(task);
    else session.revoke(task.identity.id, revoked);
    return true;
  }

  /** Another server changed a lease of a session that may be here. */
  async hinted(sessionId: string, taskId: string, revoked: RevocationReason | null): Promise<void> {
    const session = this.sessions.get(sessionId);
    if (session === undefined) return;
    if (revoked !== null) session.revoke(taskId, revoked);
    else for (const { task } of await this.storage.cancelledLeases([sessionId])) session.cancel(task);
  }

  /** Compares what every session holds with the database. */
  async reconcile(): Promise<void> {
    for (const session of [...this.sessions.values()]) {
      if (session.heldCount > 0) session.reconcile(await this.storage.runningLeases(session.id));
    }
  }

  private reconcileLater(): void {
    const look = (): void => {
      if (this.draining) return;
      this.reconcile().catch(this.failed);
      this.reconcileLater();
    };
    this.clock.after(RECONCILE_MS * (0.75 + this.clock.chance() / 2), look, "look");
  }

  // ---- heartbeats

  private beat(session: WorkerSession, number: number): void {
    const waiting = this.beats.get(session.id);
    if (waiting?.session !== session || waiting.number < number) this.beats.set(session.id, { session, number });
    this.storeBeatsSoon();
  }

  // One statement at a time: on a slow database the newest of each session wait, not every one that ever came.
  private storeBeatsSoon(): void {
    if (this.storingBeats || this.beats.size === 0) return;
    const store = (): void => {
      this.beatTimer = null;
      this.storingBeats = true;
      void this.storeBeats().finally(() => {
        this.storingBeats = false;
        this.storeBeatsSoon();
      });
    };
    this.beatTimer ??= this.clock.after(BEAT_GATHER_MS, store, "pulse");
  }

  private async storeBeats(): Promise<void> {
    const beats = [...this.beats.values()].filter(({ session }) => !session.isOver);
    this.beats.clear();
    if (beats.length === 0) return;
    try {
      const told = beats.map(({ session, number }) => ({ sessionId: session.id, epoch: session.epoch, number, slots: session.slotsNow }));
      const stored = new Map((await this.storage.storeBeats(told)).map((beat) => [beat.sessionId, beat]));
      const cancelled = await this.storage.cancelledLeases(beats.map(({ session }) => session.id));
      for (const { session, number } of beats) {
        const beat = stored.get(session.id);
        // Only a heartbeat that is stored is answered, by its own number.
        if (beat === undefined) await this.endStale(session);
        else session.beatStored(number, beat.expiresInUs);
      }
      for (const { sessionId, task } of cancelled) this.sessions.get(sessionId)?.cancel(task);
    } catch (error) {
      this.failed(error);
    }
  }

  private async endStale(session: WorkerSession): Promise<void> {
    session.end((await this.storage.isSessionAlive(session.namespace, session.id)) ? "SESSION_TAKEN" : "SESSION_EXPIRED");
  }

  private tickLater(): void {
    const tick = (): void => {
      for (const session of [...this.sessions.values()]) session.tick();
      if (!this.draining || this.sessions.size > 0) this.tickLater();
    };
    this.clock.after(TICK_MS, tick, "look");
  }

  // ---- going away

  async drain(): Promise<void> {
    this.draining = true;
    for (const session of this.sessions.values()) session.serverDrains(this.settings.reconnectAfterUs);
    if (this.sessions.size === 0) return;
    const ended = new Promise<void>((resolve) => (this.allEnded = resolve));
    // Reports that are under way get their verdicts; a worker that reconnects elsewhere ends its stream by itself.
    this.clock.after(FLUSH_MS, () => {
      for (const session of [...this.sessions.values()]) session.end("SERVER_DRAINING");
    });
    await ended;
  }
}

/** How long verdicts may take before streams end. */
const FLUSH_MS = 500;

function welcomeOf(hello: WorkerHello, sessionId: string, intervalUs: number, ttlUs: number, kept: readonly LiveTask[]): Welcome {
  const keptTokens = new Set(kept.map((task) => encodeLeaseToken(task.identity.id, task.lease?.nonce ?? "")));
  return {
    sessionId,
    heartbeatIntervalUs: intervalUs,
    ttlUs,
    keptTokens: [...keptTokens],
    droppedTokens: hello.heldLeaseTokens.filter((token) => !keptTokens.has(token)),
  };
}
