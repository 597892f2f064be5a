// What happens because time passed? One ticker drives it on every server; whichever comes first does the work, and each write is
// guarded by the revision that was read, so two servers never do it twice.

import type { Timer } from "../clock.js";
import type { UpkeepParts } from "./apply-page.js";
import { expireLeases } from "./lease-expiry.js";
import { removeExpiredTasks, sweepProgress } from "./retention.js";
import { wakeOverdue } from "./due-tasks.js";

/** How often upkeep runs: half of what may pass beyond a session's TTL before its tasks return, with room for the work itself. */
const TICK_MS = 500;
/** How often finished tasks are looked through. */
const RETENTION_MS = 60_000;

/** The ticker. */
export class Upkeep {
  private timer: Timer | null = null;
  private stopped = false;
  private ticking: Promise<void> = Promise.resolve();
  private lastRetentionMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly parts: UpkeepParts) {}

  /** Begins to tick. */
  start(): void {
    this.ticking = this.tick().finally(() => {
      if (!this.stopped)
        this.timer = this.parts.clock.after(TICK_MS, () => {
          this.start();
        });
    });
  }

  /** Ends after the tick that runs. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.timer?.cancel();
    await this.ticking;
  }

  private async tick(): Promise<void> {
    const { storage, serverId, alone, failed, clock } = this.parts;
    try {
      const tick = await storage.tickUpkeep(serverId);
      alone(tick.alone);
      await expireLeases(this.parts);
      await wakeOverdue(this.parts, tick.lenient);
      const nowMs = clock.monotonicMs();
      if (nowMs - this.lastRetentionMs < RETENTION_MS) return;
      this.lastRetentionMs = nowMs;
      await removeExpiredTasks(this.parts);
      await sweepProgress(this.parts);
    } catch (error) {
      failed(error);
    }
  }
}
