// What becomes of a claim whose answer was lost? It may have been committed, or still be: its tasks would then run, as far as the database
// knows, for a session that lives and never hears of them. Its nonces are known, so whatever was leased under them goes back. The look is
// repeated until no statement of that time can still be under way.

import type { Clock, Timer } from "../clock.js";
import type { LiveTask } from "../domain/task.js";
import type { ClaimingSession, Storage } from "../storage/storage.js";

/** Times between looks. */
const LOOKS_MS = [200, 1_000, 3_000, 10_000, 30_000, 60_000];

/** Claims that nobody knows the outcome of. One list, and one look at a time, however many were lost: an outage loses them by the hundred. */
export class LostClaims {
  /** By session, for each nonce the monotonic time after which no statement of its claim is under way. */
  private readonly bySession = new Map<string, Map<string, number>>();
  private turn = 0;
  private timer: Timer | undefined;
  private looking = false;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "runningLeases">,
    private readonly giveBack: (tasks: readonly LiveTask[]) => Promise<void>,
    private readonly longestStatementMs: number,
  ) {}

  /** The answer of a claim for these sessions was lost. */
  add(sessions: readonly ClaimingSession[]): void {
    const untilMs = this.clock.monotonicMs() + this.longestStatementMs;
    for (const { id, nonce } of sessions) {
      const nonces = this.bySession.get(id) ?? new Map<string, number>();
      this.bySession.set(id, nonces.set(nonce, untilMs));
    }
    this.turn = 0;
    this.lookLater();
  }

  private lookLater(): void {
    if (this.looking || this.bySession.size === 0) return;
    this.timer?.cancel();
    this.timer = this.clock.after(LOOKS_MS[Math.min(this.turn, LOOKS_MS.length - 1)] ?? 0, () => {
      this.turn += 1;
      this.looking = true;
      void this.look().finally(() => {
        this.looking = false;
        this.lookLater();
      });
    });
  }

  private async look(): Promise<void> {
    for (const [id, nonces] of this.bySession) {
      const beganMs = this.clock.monotonicMs();
      try {
        const running = await this.storage.runningLeases(id);
        const undelivered = running.filter(({ lease }) => lease !== null && nonces.has(lease.nonce));
        if (undelivered.length > 0) await this.giveBack(undelivered);
      } catch {
        // Away still; whoever watches the database says so.
        return;
      }
      // The last look is one that Postgres answered and that began after the claim's time was over.
      for (const [nonce, untilMs] of nonces) if (beganMs >= untilMs) nonces.delete(nonce);
      if (nonces.size === 0) this.bySession.delete(id);
    }
  }
}
