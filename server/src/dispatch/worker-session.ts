// What does this server know of one connected worker? Its slots, what it holds, and the stream to it. Slots are counted here and
// only here: a lease takes one, a final verdict or a revocation gives it back.

import type { Clock } from "../clock.js";
import { encodeLeaseToken } from "../domain/lease-token.js";
import { SUSPECT_LOSSES } from "../domain/retry.js";
import type { LiveTask, TraceContext } from "../domain/task.js";
import type { RevocationReason } from "../domain/event.js";
import type { LeasedTask, LeasePayloads, OpenSession, SessionSlots } from "../storage/storage.js";
import { freeSlots, freeSlotsFor, type SlotState } from "./backpressure.js";
import type { HeldLease } from "./held-leases.js";
import { HeldLeases } from "./held-leases.js";
import type {
  HandlerSlots,
  OutgoingLease,
  ServerMessage,
  StreamEnd,
  Verdict,
  WorkerHello,
  WorkerMessage,
  WorkerReport,
  WorkerStream,
} from "./messages.js";
import { UnreadLeases } from "./unread-leases.js";

/** What the session needs from the room around it. */
export interface SessionSurroundings {
  readonly clock: Clock;
  /** A heartbeat came: store it with those of the other sessions. */
  beat(session: WorkerSession, number: number): void;
  /** A report's turn has come. */
  report(session: WorkerSession, lease: HeldLease | null, report: WorkerReport): void;
  progress(session: WorkerSession, taskId: string, progress: { done: number; total: number | null; message: string }): void;
  /** Room was made: the dispatcher may look again. */
  roomMade(): void;
  /** Leases that the worker does not read go back. */
  giveBack(tasks: readonly LiveTask[]): void;
  /** The stream is over, from either side. */
  over(session: WorkerSession): void;
}

/** Silence for this many heartbeat intervals ends a stream. */
const SILENT_INTERVALS = 3;

/** One connected worker. */
export class WorkerSession {
  readonly id: string;
  readonly epoch: number;
  readonly workerName: string;
  /** Sessions of one class can take the same tasks and share a claim. */
  readonly claimClass: string;
  private readonly held = new HeldLeases();
  private readonly queues: ReadonlySet<string>;
  private readonly handlers: ReadonlySet<string>;
  private readonly ownSlots = new Map<string, number>();
  private slots: number;
  private draining = false;
  /** The server itself goes away: then the stream ends by its order, not when nothing is held. */
  private serverIsDraining = false;
  private blocked = false;
  private ended = false;
  private delivered = 0;
  private readonly unread: UnreadLeases;
  private verdicts: Verdict[] = [];
  private lastHeardMs: number;
  private lastSentMs: number;

  constructor(
    readonly namespace: string,
    hello: WorkerHello,
    session: OpenSession,
    private readonly intervalMs: number,
    private readonly stream: WorkerStream,
    private readonly around: SessionSurroundings,
  ) {
    this.id = session.id;
    this.epoch = session.epoch;
    this.workerName = hello.workerName;
    this.slots = hello.slots;
    this.queues = new Set(hello.queues);
    this.handlers = new Set(hello.handlers.map((handler) => handler.taskName));
    this.setOwnSlots(hello.handlers);
    this.claimClass = classOf(namespace, hello, session.id);
    this.lastHeardMs = this.lastSentMs = around.clock.monotonicMs();
    this.unread = new UnreadLeases(intervalMs);
    stream.onDrained(() => {
      this.blocked = false;
      around.roomMade();
    });
  }

  // ---- room

  takesFrom(queue: string): boolean {
    return this.queues.size === 0 || this.queues.has(queue);
  }

  /** Free slots in all. */
  free(): number {
    return freeSlots(this.slotState());
  }

  /** Free slots for a task name; 0 for one that it does not handle. */
  freeFor(taskName: string): number {
    return this.handlers.has(taskName) ? freeSlotsFor(this.slotState(), taskName) : 0;
  }

  /** Whether it handles a task name, whatever room it has. */
  handles(taskName: string): boolean {
    return this.handlers.has(taskName);
  }

  /** Keeps a slot for a task that is being stored. */
  reserve(taskName: string): void {
    this.held.reserve(taskName);
  }

  /** The task was delivered, or was not leased after all. */
  unreserve(taskName: string): void {
    this.held.unreserve(taskName);
    if (this.accepts) this.around.roomMade();
  }

  /** Slots as they are to be told to others: none while it drains. */
  get slotsNow(): SessionSlots {
    return { total: this.draining ? 0 : this.slots, byName: new Map(this.ownSlots) };
  }

  /** Whether a task name has slots of its own. */
  limits(taskName: string): boolean {
    return this.ownSlots.has(taskName);
  }

  /** Whether it holds a task that may be what kills its workers. */
  get holdsSuspect(): boolean {
    return [...this.held.all()].some((lease) => lease.suspect);
  }

  /** Leases without a final verdict. */
  get heldCount(): number {
    return this.held.size;
  }

  get isOver(): boolean {
    return this.ended;
  }

  /** Bytes of payloads after which nothing more of a delivery is read. */
  get roomBytes(): number {
    return this.stream.roomBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Whether it would still be given tasks. */
  get accepts(): boolean {
    return !this.ended && !this.draining;
  }

  private slotState(): SlotState {
    const paused = this.draining || this.blocked || this.ended;
    return { total: this.slots, byName: this.ownSlots, held: this.held.taken, heldByName: this.held.takenByName, paused };
  }

  private setOwnSlots(handlers: readonly HandlerSlots[]): void {
    for (const { taskName, slots } of handlers) {
      if (slots === null) this.ownSlots.delete(taskName);
      else this.ownSlots.set(taskName, slots);
    }
  }

  // ---- what the worker says

  /** Takes the worker's next message. */
  receive(message: WorkerMessage): void {
    if (this.ended) return;
    this.lastHeardMs = this.around.clock.monotonicMs();
    if (message.slots !== null) {
      this.slots = message.slots.total;
      this.setOwnSlots(message.slots.handlers);
      this.around.roomMade();
    }
    for (const report of message.reports) this.reportCame(report);
    for (const { leaseToken, ...progress } of message.progress) {
      const lease = this.held.get(leaseToken);
      if (lease !== undefined) this.around.progress(this, lease.taskId, progress);
    }
    if (message.heartbeat !== null) this.heartbeatCame(message.heartbeat);
    if (message.drain) this.draining = true;
    this.endWhenDrained();
  }

  private reportCame(report: WorkerReport): void {
    const lease = this.held.get(report.leaseToken);
    // Not held: from before a loss, or never given. The stored task decides.
    if (lease === undefined) {
      this.around.report(this, null, report);
      return;
    }
    lease.waiting.push(report);
    this.nextReport(lease);
  }

  private nextReport(lease: HeldLease): void {
    if (lease.busy) return;
    const report = lease.waiting.shift();
    if (report === undefined) return;
    lease.busy = true;
    this.around.report(this, lease, report);
  }

  /** The report of a held lease was decided: the next one's turn, or the end of the lease. */
  settled(lease: HeldLease, verdict: Verdict, task: LiveTask | null, outdated: boolean): void {
    lease.busy = false;
    lease.copy = outdated ? null : task;
    this.answer(verdict);
    if (task === null && !outdated) this.drop(lease);
    // What still waits gets its own answer from the stored task.
    if (lease.waiting.length > 0) this.nextReport(lease);
  }

  private heartbeatCame({ number, leasesReceived }: { number: number; leasesReceived: number }): void {
    this.around.beat(this, number);
    const unread = this.unread.heartbeat(leasesReceived, this.lastHeardMs);
    if (unread === null) return;
    const leases = [...this.held.all()].filter((lease) => lease.delivered > unread);
    const tasks = leases.flatMap((lease) => (lease.copy === null ? [] : [lease.copy]));
    for (const lease of leases) this.held.remove(lease);
    this.around.giveBack(tasks);
    this.end("WORKER_NOT_READING");
  }

  /** The stream is gone: nothing is released by that. */
  streamClosed(): void {
    if (this.ended) return;
    this.ended = true;
    this.around.over(this);
  }

  // ---- what the worker is told

  /** Takes up leases of an earlier stream, as this session's from the start. */
  keep(tasks: readonly LiveTask[]): void {
    for (const task of tasks) this.hold(task, 0, null);
  }

  /** Sends leases, in order; the caller has checked that there is room. */
  deliver(leases: readonly { readonly leased: LeasedTask; readonly payloads: LeasePayloads }[]): void {
    const nowUs = this.around.clock.nowUs();
    const outgoing: OutgoingLease[] = leases.map(({ leased, payloads }) => {
      this.delivered++;
      const { attemptDeadlineUs } = leased.live;
      const attemptRemainingUs = attemptDeadlineUs === null ? null : Math.max(attemptDeadlineUs - nowUs, 0);
      return { token: this.hold(leased.live, this.delivered, leased.traceContext), leased, payloads, attemptRemainingUs };
    });
    this.unread.delivered(this.delivered, this.around.clock.monotonicMs());
    if (!this.send({ leases: outgoing })) this.blocked = true;
  }

  private hold(task: LiveTask, delivered: number, traceContext: TraceContext | null): string {
    const token = encodeLeaseToken(task.identity.id, task.lease?.nonce ?? "");
    const deliveredAtMs = this.around.clock.monotonicMs();
    this.held.add({
      token,
      taskId: task.identity.id,
      taskName: task.identity.name,
      copy: task,
      suspect: task.lostLeases >= SUSPECT_LOSSES,
      waiting: [],
      busy: false,
      delivered,
      deliveredAtMs,
      traceContext,
    });
    return token;
  }

  /** Answers a report; verdicts of one turn of the event loop go together. */
  answer(verdict: Verdict): void {
    this.verdicts.push(verdict);
    if (this.verdicts.length === 1)
      this.around.clock.soon(() => {
        this.flushVerdicts();
      });
  }

  private flushVerdicts(): void {
    const verdicts = this.verdicts;
    this.verdicts = [];
    if (verdicts.length > 0) this.send({ verdicts });
    this.endWhenDrained();
  }

  /** Tells the worker that a task was cancelled. */
  cancel(task: LiveTask): void {
    const lease = this.held.ofTask(task.identity.id);
    if (lease === undefined || task.cancel === null) return;
    // The copy knows nothing of the cancel yet; a report decided on it would be refused by its revision and decided anew.
    const remainingGraceUs = Math.max(task.cancel.deadlineUs - this.around.clock.nowUs(), 0);
    this.send({ cancels: [{ token: lease.token, reason: task.cancel.reason, remainingGraceUs }] });
  }

  /** Tells the worker that a lease is no longer its own. */
  revoke(taskId: string, reason: RevocationReason): void {
    const lease = this.held.ofTask(taskId);
    if (lease === undefined) return;
    this.send({ revoked: [{ token: lease.token, reason }] });
    this.drop(lease);
  }

  /** Compares what it holds with what the database says it runs; what is missing there was taken away. */
  reconcile(running: readonly LiveTask[]): void {
    const nonces = new Map(running.map((task) => [task.identity.id, task.lease?.nonce]));
    const graceMs = this.around.clock.monotonicMs() - this.intervalMs;
    for (const lease of [...this.held.all()]) {
      // A lease that was delivered, or is being reported, while the database was read proves nothing.
      if (lease.busy || lease.deliveredAtMs > graceMs) continue;
      const nonce = nonces.get(lease.taskId);
      if (nonce === undefined || encodeLeaseToken(lease.taskId, nonce) !== lease.token) this.revoke(lease.taskId, "LEASE_LOST");
    }
    for (const task of running) this.cancel(task);
  }

  /** A heartbeat is stored. */
  beatStored(number: number, expiresInUs: number): void {
    this.send({ heartbeatAnswer: { number, expiresInUs } });
  }

  /** Called every now and then: an interval without a message is filled, a silent worker's stream ends. */
  tick(): void {
    if (this.ended) return;
    const nowMs = this.around.clock.monotonicMs();
    if (nowMs - this.lastHeardMs > SILENT_INTERVALS * this.intervalMs) this.end("WORKER_SILENT");
    else if (nowMs - this.lastSentMs >= this.intervalMs) this.send({});
  }

  /** Tells the worker to go elsewhere. */
  serverDrains(reconnectAfterUs: number): void {
    this.draining = true;
    this.serverIsDraining = true;
    this.send({ drain: { reconnectAfterUs } });
  }

  /** Sends the first message of the stream, or any other. */
  send(message: ServerMessage): boolean {
    if (this.ended) return false;
    this.lastSentMs = this.around.clock.monotonicMs();
    return this.stream.send(message);
  }

  /** Ends the stream. Leases live on for the session TTL. */
  end(why: StreamEnd): void {
    if (this.ended) return;
    const verdicts = this.verdicts;
    this.verdicts = [];
    if (verdicts.length > 0) this.send({ verdicts });
    this.ended = true;
    this.stream.end(why);
    this.around.over(this);
  }

  private endWhenDrained(): void {
    if (this.draining && !this.serverIsDraining && this.held.size === 0 && this.verdicts.length === 0) this.end("WORKER_DRAINED");
  }

  private drop(lease: HeldLease): void {
    if (!this.held.remove(lease)) return;
    this.around.roomMade();
    this.endWhenDrained();
  }
}

// Sessions with slots of their own for a name are counted name by name and claim alone.
function classOf(namespace: string, hello: WorkerHello, sessionId: string): string {
  if (hello.handlers.some((handler) => handler.slots !== null)) return sessionId;
  const names = hello.handlers.map((handler) => handler.taskName).sort();
  return JSON.stringify([namespace, [...hello.queues].sort(), names]);
}
