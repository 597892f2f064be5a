// Who waits for which task? One map of awaited ids: this server's own commits answer at once, others' by a hint, and one statement
// a second looks for whatever was missed. 5,000 waiters cost one map and no statement each.

import type { Clock } from "../clock.js";
import type { Storage } from "../storage/storage.js";
import type { Subscription, TaskWatch } from "./dispatch.js";

const LOOK_MS = 1000;
/** Most ids of one look. */
const MOST_IDS = 5000;

interface Awaited {
  readonly subscribers: Set<(id: string) => void>;
  /** Newest revision that any subscriber knows. */
  revision: number;
}

/** The waiters of this server. */
export class AwaitedTasks implements TaskWatch {
  private readonly awaited = new Map<string, Awaited>();
  private looking = false;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "readChanged">,
  ) {}

  get size(): number {
    return this.awaited.size;
  }

  subscribe(ids: readonly string[], changed: (id: string) => void): Subscription {
    for (const id of ids) {
      const entry = this.awaited.get(id) ?? { subscribers: new Set(), revision: 0 };
      entry.subscribers.add(changed);
      this.awaited.set(id, entry);
    }
    this.lookLater();
    return {
      known: (id, revision) => {
        const entry = this.awaited.get(id);
        if (entry !== undefined) entry.revision = Math.max(entry.revision, revision);
      },
      end: () => {
        for (const id of ids) {
          const entry = this.awaited.get(id);
          entry?.subscribers.delete(changed);
          if (entry?.subscribers.size === 0) this.awaited.delete(id);
        }
      },
    };
  }

  /** A task changed, or its progress did. */
  changed(id: string): void {
    const entry = this.awaited.get(id);
    if (entry !== undefined) for (const subscriber of [...entry.subscribers]) subscriber(id);
  }

  /** Hints may have been lost: look at once. */
  lookNow(): void {
    void this.look();
  }

  private lookLater(): void {
    if (this.looking || this.awaited.size === 0) return;
    this.looking = true;
    this.clock.after(LOOK_MS, () => {
      void this.look().finally(() => {
        this.looking = false;
        this.lookLater();
      });
    });
  }

  private async look(): Promise<void> {
    const known = [...this.awaited].filter(([, entry]) => entry.revision > 0).map(([id, entry]) => ({ id, revision: entry.revision }));
    for (let start = 0; start < known.length; start += MOST_IDS) {
      try {
        for (const { id } of await this.storage.readChanged(known.slice(start, start + MOST_IDS))) this.changed(id);
      } catch {
        // The database is away; the next look says the same thing a second later.
        return;
      }
    }
  }
}
