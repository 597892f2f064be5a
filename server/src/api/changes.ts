// Which of these tasks changed since the last look? A subscription turned into something to wait on: changes that come while nobody waits
// are kept as one mark per task, so a slow reader costs no more than a fast one.

import type { Clock, TimerPurpose } from "../clock.js";
import type { Config } from "../config.js";
import type { TaskWatch } from "../dispatch/dispatch.js";
import { refuse } from "./status.js";

/** Changes of some tasks. */
export interface Changes {
  /** Ids that changed since the last call; waits for one, at most `waitMs`. Empty after the wait, and after the end. `purpose`: of the wait. */
  readonly next: (waitMs: number, purpose?: TimerPurpose) => Promise<string[]>;
  /** Says what is known of a task, so that a missed change is noticed. */
  readonly known: (id: string, revision: number, progressUs?: number) => void;
  /** Ends the subscription and whoever waits. May be called again. */
  readonly end: () => void;
}

const RETRY_MS = 1000;

/** Refuses where more tasks would be waited for than the server allows. */
export function refuseTooManyWaiters(watch: TaskWatch, more: number, { limits }: Config): void {
  if (watch.size + more > limits.waiters)
    refuse("OVERLOADED", { message: "Too many tasks are waited for at once.", retryAfterMs: RETRY_MS });
}

/** Subscribes to the changes of some tasks, of their progress as well where that is wanted. */
export function changes(watch: TaskWatch, ids: readonly string[], clock: Clock, withProgress = false): Changes {
  const changed = new Set<string>();
  let wake: (() => void) | null = null;
  let ended = false;
  const subscription = watch.subscribe(
    ids,
    (id) => {
      changed.add(id);
      wake?.();
    },
    withProgress,
  );
  return {
    next: async (waitMs, purpose) => {
      if (changed.size === 0 && !ended && waitMs > 0) {
        await new Promise<void>((resolve) => {
          const timer = clock.after(waitMs, resolve, purpose);
          wake = () => {
            timer.cancel();
            resolve();
          };
        });
        wake = null;
      }
      const found = [...changed];
      changed.clear();
      return found;
    },
    known: (id, revision, progressUs) => subscription.known(id, revision, progressUs),
    end: () => {
      if (ended) return;
      ended = true;
      subscription.end();
      wake?.();
    },
  };
}
