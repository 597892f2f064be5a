// Who waits for which task? One map of awaited ids: this server's own commits answer at once, others' by a hint, and one statement
// a second looks for whatever was missed. 5,000 waiters cost one map and no statement each.

import type { Clock } from "../clock.js";
import type { Storage } from "../storage/storage.js";
import type { Subscription, TaskWatch } from "./dispatch.js";

const LOOK_MS = 1000;
/** Most ids of one look. */
const MOST_IDS = 5000;

interface Awaited {
  /** Who waits; true: for progress as well. */
  readonly subscribers: Map<(id: string) => void, boolean>;
  /** Newest revision and progress that any subscriber knows; 0 before somebody has read the task. */
  revision: number;
  progressUs: number;
}

/** The waiters of this server. */
export class AwaitedTasks implements TaskWatch {
  private readonly awaited = new Map<string, Awaited>();
  private looking = false;
  private subscriptions = 0;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "readChanged">,
  ) {}

  get size(): number {
    return this.subscriptions;
  }

  subscribe(ids: readonly string[], changed: (id: string) => void, withProgress = false): Subscription {
    for (const id of ids) {
      const entry = this.awaited.get(id) ?? { subscribers: new Map<(id: string) => void, boolean>(), revision: 0, progressUs: 0 };
      entry.subscribers.set(changed, withProgress);
      this.awaited.set(id, entry);
    }
    this.subscriptions += ids.length;
    let ended = false;
    this.lookLater();
    return {
      known: (id, revision, progressUs = 0) => {
        const entry = this.awaited.get(id);
        if (entry === undefined) return;
        entry.progressUs = Math.max(entry.progressUs, progressUs);
        if (revision <= entry.revision) return;
        const others = entry.revision > 0;
        entry.revision = revision;
        // The look compares with the newest that anybody knows: whoever knows less would never hear of it.
        if (others) for (const subscriber of [...entry.subscribers.keys()]) if (subscriber !== changed) subscriber(id);
      },
      end: () => {
        if (ended) return;
        ended = true;
        this.subscriptions -= ids.length;
        for (const id of ids) {
          const entry = this.awaited.get(id);
          entry?.subscribers.delete(changed);
          if (entry?.subscribers.size === 0) this.awaited.delete(id);
        }
      },
    };
  }

  /** A task changed or is gone. */
  changed(id: string): void {
    for (const subscriber of [...(this.awaited.get(id)?.subscribers.keys() ?? [])]) subscriber(id);
  }

  /** A task's progress changed: waiters, who wait for other things, are left alone. */
  progressed(id: string): void {
    for (const [subscriber, withProgress] of [...(this.awaited.get(id)?.subscribers ?? [])]) if (withProgress) subscriber(id);
  }

  /** Hints may have been lost: look at once. */
  lookNow(): void {
    void this.look();
  }

  private lookLater(): void {
    if (this.looking || this.awaited.size === 0) return;
    this.looking = true;
    const look = (): void => {
      void this.look().finally(() => {
        this.looking = false;
        this.lookLater();
      });
    };
    this.clock.after(LOOK_MS, look, "look");
  }

  private async look(): Promise<void> {
    const known = [...this.awaited]
      .filter(([, entry]) => entry.revision > 0)
      .map(([id, { revision, progressUs, subscribers }]) => {
        const withProgress = [...subscribers.values()].includes(true);
        return { id, revision, progressUs: withProgress ? progressUs : null };
      });
    for (let start = 0; start < known.length; start += MOST_IDS) {
      try {
        for (const { id, revision } of await this.storage.readChanged(known.slice(start, start + MOST_IDS))) {
          if (revision === this.awaited.get(id)?.revision) this.progressed(id);
          else this.changed(id);
        }
      } catch {
        // The database is away; the next look says the same thing a second later.
        return;
      }
    }
  }
}
