// How do owners change tasks? Submissions are gathered into few statements; everything else locks its task, decides and writes.
// Whatever was committed is announced.

import type { Clock } from "../clock.js";
import type { Event } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import { conflictReason } from "../domain/new-task.js";
import type { Reopening } from "../domain/reopen.js";
import { DatabaseFault } from "../storage/faults.js";
import type { DecideResult, Deleted, Inserted, Retried, Storage, TaskReference } from "../storage/storage.js";
import type { Caller } from "../storage/turnstile.js";
import type { Announcements } from "./announcements.js";
import { Batcher } from "./batch.js";
import type { TaskCommands } from "./dispatch.js";
import type { SlotReservations } from "./reserved-slots.js";

/** Most tasks and bytes of one insert, and how many may wait for how long. */
export interface SubmitLimits {
  readonly maxItems: number;
  readonly maxBytes: number;
  readonly maxWaiting: number;
  readonly maxWaitMs: number;
}

/** Inserts under way at once; a third lane brought nothing. */
const LANES = 2;
/** Bytes of tasks that may wait: what the lanes store in a second or two. */
const MOST_WAITING_BYTES = 64 * 1024 * 1024;

/** The owners' commands. */
export class OwnerCommands implements TaskCommands {
  private readonly inserts: Batcher<NewTask, Inserted>;

  constructor(
    clock: Clock,
    private readonly storage: Pick<Storage, "insertTasks" | "decide" | "retryTask" | "deleteTask">,
    private readonly announcements: Announcements,
    private readonly reservations: SlotReservations,
    limits: SubmitLimits,
  ) {
    this.inserts = new Batcher(clock, { ...limits, lanes: LANES, maxWaitingBytes: MOST_WAITING_BYTES }, (tasks) =>
      this.insert(tasks, false),
    );
  }

  async submit(task: NewTask, caller?: Caller): Promise<Inserted> {
    const inserted = await this.inserts.add(task, sizeOf(task), caller);
    this.announceStored([task], [inserted]);
    return inserted;
  }

  async submitAtomic(tasks: readonly NewTask[], caller?: Caller): Promise<Inserted[]> {
    const inserted = await this.insert(tasks, true, caller);
    const refused = tasks.some(({ submission }, index) => isRefused(submission, inserted[index]));
    if (!refused) this.announceStored(tasks, inserted);
    return inserted;
  }

  // A batch that is refused as a whole answers `created` for what it did not store: such a task is not leased either.
  private async insert(tasks: readonly NewTask[], atomic: boolean, caller?: Caller): Promise<Inserted[]> {
    const reservation = this.reservations.reserve(tasks);
    if (reservation === null) return this.storage.insertTasks(tasks, atomic, caller);
    try {
      const inserted = await this.storage.insertTasks(tasks, atomic, caller, reservation.slots);
      const refused = atomic && tasks.some(({ submission }, index) => isRefused(submission, inserted[index]));
      if (refused) reservation.cancel(false);
      else reservation.settle(tasks, inserted);
      return inserted;
    } catch (error) {
      reservation.cancel(!(error instanceof DatabaseFault) || error.outcomeUnknown);
      throw error;
    }
  }

  private announceStored(tasks: readonly NewTask[], inserted: readonly Inserted[]): void {
    this.announcements.stored(tasks.filter((_, index) => isWaiting(inserted[index])));
    for (const one of inserted) {
      const replaced = one.kind === "created" ? one.replaced : undefined;
      if (replaced?.answer.kind === "finished") this.announcements.committed(replaced.before, replaced.answer);
    }
  }

  async decide(reference: TaskReference, event: Event, etagRevision?: number, caller?: Caller): Promise<DecideResult> {
    const result = await this.storage.decide(reference, event, etagRevision, caller);
    if (result.kind === "decided") {
      const { before, answer } = result.decided;
      if (answer.kind === "changed" || answer.kind === "finished") this.announcements.committed(before, answer);
    }
    return result;
  }

  async retry(reference: TaskReference, how: Reopening, etagRevision?: number, caller?: Caller): Promise<Retried> {
    const result = await this.storage.retryTask(reference, how, etagRevision, caller);
    if (result.kind === "retried") this.announcements.committed(result.before, { kind: "changed", task: result.task, timeline: [] });
    return result;
  }

  async remove(reference: TaskReference, etagRevision?: number, caller?: Caller): Promise<Deleted> {
    const result = await this.storage.deleteTask(reference, etagRevision, caller);
    if (result.kind === "deleted") this.announcements.removed(result.id);
    return result;
  }
}

function isRefused(submission: NewTask["submission"], inserted: Inserted | undefined): boolean {
  return inserted !== undefined && inserted.kind !== "created" && conflictReason(submission.keyConflictPolicy, inserted) !== null;
}

function isWaiting(inserted: Inserted | undefined): boolean {
  return inserted?.kind === "created" && inserted.leased === undefined;
}

/** Bytes that a task brings into its batch, roughly. */
function sizeOf({ submission }: NewTask): number {
  return 500 + submission.metadata.data.byteLength + (submission.executionMetadata?.data.byteLength ?? 0);
}
