// How do owners change tasks? Submissions are gathered into few statements; everything else locks its task, decides and writes.
// Whatever was committed is announced.

import type { Clock } from "../clock.js";
import type { Event } from "../domain/event.js";
import type { NewTask } from "../domain/new-task.js";
import type { DecideResult, Inserted, Storage, TaskReference } from "../storage/storage.js";
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
    private readonly storage: Pick<Storage, "insertTasks" | "decide">,
    private readonly announcements: Announcements,
    limits: SubmitLimits,
  ) {
    this.inserts = new Batcher(clock, { ...limits, lanes: LANES }, (tasks) => storage.insertTasks(tasks, false));
  }

  async submit(task: NewTask): Promise<Inserted> {
    const inserted = await this.inserts.add(task, sizeOf(task));
    if (inserted.kind === "created") this.announcements.stored([task]);
    return inserted;
  }

  async submitAtomic(tasks: readonly NewTask[]): Promise<Inserted[]> {
    const inserted = await this.storage.insertTasks(tasks, true);
    if (inserted.every((one) => one.kind === "created" || one.sameContent)) {
      this.announcements.stored(tasks.filter((_, index) => inserted[index]?.kind === "created"));
    }
    return inserted;
  }

  async decide(reference: TaskReference, event: Event, etagRevision?: number): Promise<DecideResult> {
    const result = await this.storage.decide(reference, event, etagRevision);
    if (result.kind === "decided") {
      const { before, answer } = result.decided;
      if (answer.kind === "changed" || answer.kind === "finished") this.announcements.committed(before, answer);
    }
    return result;
  }
}

/** Bytes that a task brings into its batch, roughly. */
function sizeOf({ submission }: NewTask): number {
  return 500 + submission.metadata.data.byteLength + (submission.executionMetadata?.data.byteLength ?? 0);
}
