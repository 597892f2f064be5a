// Which tasks are leased at the moment they are stored? Those for which a worker of this server has a free slot and nothing else to
// take: such a task never waits, is written once instead of twice, and needs no claim. The slots are reserved before the insert,
// and taken or given back after it.

import type { NewTask } from "../domain/new-task.js";
import { freshNonce } from "../storage/nonce.js";
import type { ClaimingSession, Inserted, LeasedTask, ReservedSlots } from "../storage/storage.js";
import type { WorkerSession } from "./worker-session.js";

/** What the dispatcher knows of sessions with room. */
export interface IdleSessions {
  /** Sessions with a free slot that know of no due task which they could take. */
  idle(namespace: string): readonly WorkerSession[];
}

/** What becomes of tasks that were leased. */
export interface Delivery {
  deliver(session: WorkerSession, tasks: readonly LeasedTask[]): Promise<void>;
  giveBack(tasks: readonly LeasedTask[]): Promise<void>;
  /** Nobody knows what was leased for these sessions. */
  lost(sessions: readonly ClaimingSession[]): void;
  failed(error: unknown): void;
}

/** Slots that were reserved for the tasks of one insert. */
export interface Reservation {
  readonly slots: ReservedSlots;
  /** The insert is committed: delivers what was leased and frees what was not needed. */
  settle(tasks: readonly NewTask[], inserted: readonly Inserted[]): void;
  /** Nothing was stored, or nobody knows: frees all. */
  cancel(outcomeUnknown: boolean): void;
}

interface Seat {
  readonly session: WorkerSession;
  readonly taskName: string;
}

/** Reserves slots for tasks about to be stored. */
export class SlotReservations {
  private turn = 0;

  constructor(
    private readonly sessions: IdleSessions,
    private readonly delivery: Delivery,
  ) {}

  /** Reserves a slot for each task that can be leased at once; null where none can. */
  reserve(tasks: readonly NewTask[]): Reservation | null {
    const idle = new Map<string, WorkerSession[]>();
    const seats = new Map<string, Seat>();
    const places = new Map<WorkerSession, number>();
    const claiming: ClaimingSession[] = [];
    const sessionOf = new Map<string, number>();
    for (const { submission, live } of tasks) {
      const { id, namespace, name } = submission;
      if (live.pendingReason !== "NEW" || seats.has(id)) continue;
      let candidates = idle.get(namespace);
      if (candidates === undefined) idle.set(namespace, (candidates = [...this.sessions.idle(namespace)]));
      const session = this.pick(candidates, live.queue, name);
      if (session === undefined) continue;
      session.reserve(name);
      seats.set(id, { session, taskName: name });
      let place = places.get(session);
      if (place === undefined) {
        place = claiming.push({ id: session.id, epoch: session.epoch, nonce: freshNonce(), workerName: session.workerName }) - 1;
        places.set(session, place);
      }
      sessionOf.set(id, place);
    }
    if (seats.size === 0) return null;
    return {
      slots: { sessions: claiming, sessionOf },
      settle: (stored, inserted) => {
        void this.settle(seats, stored, inserted, claiming);
      },
      cancel: (outcomeUnknown) => {
        if (outcomeUnknown) this.delivery.lost(claiming);
        for (const seat of seats.values()) seat.session.unreserve(seat.taskName);
      },
    };
  }

  // By turns, so that a few tasks are shared out evenly. A session without room left is passed over from then on.
  private pick(candidates: WorkerSession[], queue: string, name: string): WorkerSession | undefined {
    for (let looked = 0; looked < candidates.length;) {
      this.turn = (this.turn + 1) % candidates.length;
      const session = candidates[this.turn];
      if (session === undefined) return undefined;
      if (session.free() === 0) candidates.splice(this.turn, 1);
      else if (session.takesFrom(queue) && session.freeFor(name) > 0) return session;
      else looked++;
    }
    return undefined;
  }

  private async settle(
    seats: ReadonlyMap<string, Seat>,
    tasks: readonly NewTask[],
    inserted: readonly Inserted[],
    claiming: readonly ClaimingSession[],
  ): Promise<void> {
    const leased = new Map<WorkerSession, LeasedTask[]>();
    const outdated: LeasedTask[] = [];
    const unknown = inserted.some((answer) => answer.kind === "created" && answer.leased?.isCurrent === null);
    tasks.forEach((task, index) => {
      const answer = inserted[index];
      const seat = seats.get(task.submission.id);
      if (seat === undefined || answer?.kind !== "created" || answer.leased === undefined) return;
      const { labels, traceContext, metadata, executionMetadata } = task.submission;
      const one: LeasedTask = { live: answer.leased.task, labels, traceContext, metadata, executionMetadata };
      const { isCurrent } = answer.leased;
      // Like a claim: nothing is delivered for a stream that was taken over meanwhile.
      if (isCurrent === false) outdated.push(one);
      if (isCurrent !== true) return;
      const list = leased.get(seat.session);
      if (list === undefined) leased.set(seat.session, [one]);
      else list.push(one);
    });
    if (unknown) this.delivery.lost(claiming);
    try {
      await Promise.all([
        ...[...leased].map(([session, list]) => this.delivery.deliver(session, list)),
        ...(outdated.length === 0 ? [] : [this.delivery.giveBack(outdated)]),
      ]);
    } catch (error) {
      this.delivery.lost(claiming);
      this.delivery.failed(error);
    } finally {
      // Only now: what was delivered is held by then, and what was not needed is free again.
      for (const seat of seats.values()) seat.session.unreserve(seat.taskName);
    }
  }
}
