// How far are running tasks? Kept in memory, the newest of each, and stored at most once a second: progress is lossy and must
// never cost a durable write.

import type { Clock } from "../clock.js";
import type { Storage, StoredProgress } from "../storage/storage.js";

const FLUSH_MS = 1000;

/** Gathers progress. */
export class ProgressBoard {
  private readonly newest = new Map<string, StoredProgress>();
  private waiting = false;
  private lastFlushMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "storeProgress">,
    private readonly stored: (taskIds: readonly string[]) => void,
  ) {}

  /** A worker said how far it is. */
  note(taskId: string, progress: { readonly done: number; readonly total: number | null; readonly message: string }): void {
    this.newest.set(taskId, { ...progress, updateUs: this.clock.nowUs() });
    this.flushLater();
  }

  // One statement at a time: a slow database gets the newest of each task, not every one that ever came.
  private flushLater(): void {
    if (this.waiting || this.newest.size === 0) return;
    this.waiting = true;
    // The first after a quiet second is stored soon, so that a short task shows some.
    const delayMs = Math.max(this.lastFlushMs + FLUSH_MS - this.clock.monotonicMs(), 50);
    this.clock.after(delayMs, () => void this.flush());
  }

  private async flush(): Promise<void> {
    this.lastFlushMs = this.clock.monotonicMs();
    const progress = [...this.newest].map(([taskId, one]) => ({ taskId, progress: one }));
    this.newest.clear();
    try {
      await this.storage.storeProgress(progress);
      this.stored(progress.map((one) => one.taskId));
    } catch {
      // Lossy: the next one says more anyway.
    } finally {
      this.waiting = false;
      this.flushLater();
    }
  }
}
