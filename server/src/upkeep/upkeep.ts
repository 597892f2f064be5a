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
  private sweepTimer: Timer | null = null;
  private sweeping: Promise<void> = Promise.resolve();

  constructor(private readonly parts: UpkeepParts) {}

  /** Begins to tick, and beside it to sweep. */
  start(): void {
    this.tickOn();
    this.sweepOn();
  }

  private tickOn(): void {
    this.ticking = this.tick().finally(() => {
      if (!this.stopped)
        this.timer = this.parts.clock.after(
          TICK_MS,
          () => {
            this.tickOn();
          },
          "look",
        );
    });
  }

  // Apart from the ticks: millions of tasks may have to go, and leases must expire in time meanwhile.
  private sweepOn(): void {
    this.sweeping = this.sweep().finally(() => {
      if (!this.stopped)
        this.sweepTimer = this.parts.clock.after(
          RETENTION_MS,
          () => {
            this.sweepOn();
          },
          "look",
        );
    });
  }

  /** Ends after the tick that runs. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.timer?.cancel();
    this.sweepTimer?.cancel();
    await Promise.all([this.ticking, this.sweeping]);
  }

  private async tick(): Promise<void> {
    const { storage, serverId, alone, failed } = this.parts;
    try {
      const tick = await storage.tickUpkeep(serverId);
      alone(tick.alone);
      await expireLeases(this.parts);
      await wakeOverdue(this.parts, tick.lenient);
    } catch (error) {
      failed(error);
    }
  }

  private async sweep(): Promise<void> {
    const stopped = (): boolean => this.stopped;
    try {
      const removed = await removeExpiredTasks(this.parts, stopped);
      if (removed > 0) this.parts.removed(removed);
      await sweepProgress(this.parts, stopped);
    } catch (error) {
      this.parts.failed(error);
    }
  }
}
