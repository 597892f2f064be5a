// What becomes of a claim whose answer was lost? It may have been committed, or still be: its tasks would then run, as far as the database
// knows, for a session that lives and never hears of them. Its nonces are known, so whatever was leased under them goes back. The look is
// repeated until no statement of that time can still be under way.

import type { Clock } from "../clock.js";
import type { LiveTask } from "../domain/task.js";
import type { ClaimingSession, Storage } from "../storage/storage.js";

/** Times between looks. */
const LOOKS_MS = [200, 1_000, 3_000, 10_000, 30_000, 60_000];

/** Claims that nobody knows the outcome of. */
export class LostClaims {
  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "runningLeases">,
    private readonly giveBack: (tasks: readonly LiveTask[]) => Promise<void>,
    private readonly longestStatementMs: number,
  ) {}

  /** The answer of a claim for these sessions was lost. */
  add(sessions: readonly ClaimingSession[]): void {
    this.lookLater(sessions, 0, this.clock.monotonicMs() + this.longestStatementMs);
  }

  private lookLater(sessions: readonly ClaimingSession[], turn: number, untilMs: number): void {
    const delayMs = LOOKS_MS[Math.min(turn, LOOKS_MS.length - 1)] ?? 0;
    this.clock.after(delayMs, () => {
      const beganMs = this.clock.monotonicMs();
      void this.look(sessions).then((seen) => {
        // The last look is one that Postgres answered and that began after the claim's time was over.
        if (!seen || beganMs < untilMs) this.lookLater(sessions, turn + 1, untilMs);
      });
    });
  }

  // Answers whether the database could be asked.
  private async look(sessions: readonly ClaimingSession[]): Promise<boolean> {
    try {
      for (const { id, nonce } of sessions) {
        const running = await this.storage.runningLeases(id);
        const undelivered = running.filter(({ lease }) => lease?.nonce === nonce);
        if (undelivered.length > 0) await this.giveBack(undelivered);
      }
      return true;
    } catch {
      // Away still; whoever watches the database says so.
      return false;
    }
  }
}
