// How do owners change tasks? Submissions are gathered into few statements; everything else locks its task, decides and writes.
// Whatever was committed is announced.

import type { Clock } from "../clock.js";
import type { Event } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import { conflictReason } from "../domain/new-task.js";
import type { Reopening } from "../domain/reopen.js";
import type { DecideResult, Deleted, Inserted, Retried, Storage, TaskReference } from "../storage/storage.js";
import type { Announcements } from "./announcements.js";
import { Batcher } from "./batch.js";
import type { TaskCommands } from "./dispatch.js";

/** Most tasks and bytes of one insert, and how many may wait. */
export interface SubmitLimits {
  readonly maxItems: number;
  readonly maxBytes: number;
  readonly maxWaiting: number;
}

/** Inserts under way at once; a third lane brought nothing. */
const LANES = 2;

/** The owners' commands. */
export class OwnerCommands implements TaskCommands {
  private readonly inserts: Batcher<NewTask, Inserted>;

  constructor(
    clock: Clock,
    private readonly storage: Pick<Storage, "insertTasks" | "decide" | "retryTask" | "deleteTask">,
    private readonly announcements: Announcements,
    limits: SubmitLimits,
  ) {
    this.inserts = new Batcher(clock, { ...limits, lanes: LANES }, (tasks) => storage.insertTasks(tasks, false));
  }

  async submit(task: NewTask): Promise<Inserted> {
    const inserted = await this.inserts.add(task, sizeOf(task));
    this.announceStored([task], [inserted]);
    return inserted;
  }

  async submitAtomic(tasks: readonly NewTask[]): Promise<Inserted[]> {
    const inserted = await this.storage.insertTasks(tasks, true);
    const refused = tasks.some(({ submission }, index) => isRefused(submission, inserted[index]));
    if (!refused) this.announceStored(tasks, inserted);
    return inserted;
  }

  private announceStored(tasks: readonly NewTask[], inserted: readonly Inserted[]): void {
    this.announcements.stored(tasks.filter((_, index) => inserted[index]?.kind === "created"));
    for (const one of inserted) {
      const replaced = one.kind === "created" ? one.replaced : undefined;
      if (replaced?.answer.kind === "finished") this.announcements.committed(replaced.before, replaced.answer);
    }
  }

  async decide(reference: TaskReference, event: Event, etagRevision?: number): Promise<DecideResult> {
    const result = await this.storage.decide(reference, event, etagRevision);
    if (result.kind === "decided") {
      const { before, answer } = result.decided;
      if (answer.kind === "changed" || answer.kind === "finished") this.announcements.committed(before, answer);
    }
    return result;
  }

  async retry(reference: TaskReference, how: Reopening, etagRevision?: number): Promise<Retried> {
    const result = await this.storage.retryTask(reference, how, etagRevision);
    if (result.kind === "retried") this.announcements.committed(result.before, { kind: "changed", task: result.task, timeline: [] });
    return result;
  }

  async remove(reference: TaskReference, etagRevision?: number): Promise<Deleted> {
    const result = await this.storage.deleteTask(reference, etagRevision);
    if (result.kind === "deleted") this.announcements.removed(result.id);
    return result;
  }
}

function isRefused(submission: NewTask["submission"], inserted: Inserted | undefined): boolean {
  return inserted !== undefined && inserted.kind !== "created" && conflictReason(submission.keyConflictPolicy, inserted) !== null;
}

/** Bytes that a task brings into its batch, roughly. */
function sizeOf({ submission }: NewTask): number {
  return 500 + submission.metadata.data.byteLength + (submission.executionMetadata?.data.byteLength ?? 0);
}
