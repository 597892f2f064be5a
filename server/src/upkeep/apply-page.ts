// How does upkeep change tasks? It reads a page, lets the domain decide each, and writes the page guarded by what it read.

import type { Clock } from "../clock.js";
import type { Answer, Event } from "../domain/event.js";
import type { LiveTask } from "../domain/task.js";
import { transition } from "../domain/transition.js";
import type { Decision, Storage } from "../storage/storage.js";

/** What upkeep works with. */
export interface UpkeepParts {
  readonly clock: Clock;
  readonly storage: Storage;
  readonly serverId: string;
  readonly retentionUs: Parameters<Storage["removeExpiredTasks"]>[0];
  /** Told of every change that was written. */
  readonly committed: (before: LiveTask, answer: Extract<Answer, { kind: "changed" | "finished" }>) => void;
  /** Told after each tick whether other servers need hints. */
  readonly alone: (alone: boolean) => void;
  /** Told how many finished tasks a sweep removed. */
  readonly removed: (count: number) => void;
  readonly failed: (error: unknown) => void;
}

/** Lets an event happen to tasks that were read, and writes what comes of it; answers how many were written. */
export async function applyToPage(parts: UpkeepParts, tasks: readonly LiveTask[], event: Event): Promise<number> {
  const { clock, storage, committed } = parts;
  const decisions: Decision[] = [];
  for (const before of tasks) {
    const nowUs = clock.nowUs();
    const answer = transition(before, event, { nowUs, chance: clock.chance(), executionMetadata: null, maxPayloadBytes: 0 });
    // Time decided against somebody: the statement compares it again with the database's clock.
    if (answer.kind === "changed" || answer.kind === "finished")
      decisions.push({ before, answer, notBeforeUs: event.kind === "time-passed" ? nowUs : null });
  }
  if (decisions.length === 0) return 0;
  const written = await storage.applyDecisions(decisions);
  decisions.forEach(({ before, answer }, index) => {
    if (written[index] === true) committed(before, answer);
  });
  return written.filter(Boolean).length;
}
