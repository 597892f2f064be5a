// Is Postgres still as it was when the server started? Somebody may have turned a setting off, or another host may have taken its place.

import type { Clock, Timer } from "../clock.js";
import type { Standing } from "../storage/conditions.js";
import { DatabaseFault } from "../storage/faults.js";

/** How often to look: a new connection costs a few milliseconds, and whoever turns durability off learns of it while he still looks. */
export const CONDITIONS_INTERVAL_MS = 60_000;
/** How soon to look again where Postgres must not be used or could not be asked: service resumes that much later. */
const RECHECK_MS = 1_000;

/** What the watch works with. */
export interface ConditionsWatchParts {
  readonly clock: Clock;
  readonly intervalMs: number;
  /** How Postgres stands, through a new connection; throws a `DatabaseFault` where it does not answer. */
  readonly read: () => Promise<Standing>;
  /** Hears of each change, once. */
  readonly changed: (before: Standing, after: Standing) => void;
  /** Hears of what is no fault of the database. */
  readonly failed: (error: unknown) => void;
}

/** Looks at the conditions for as long as the server runs. */
export class ConditionsWatch {
  private timer: Timer | null = null;
  private stopped = false;

  /** `standing`: as it was found at the start. */
  constructor(
    private readonly parts: ConditionsWatchParts,
    private standing: Standing,
  ) {}

  /** How Postgres stood when it was looked at last. */
  get now(): Standing {
    return this.standing;
  }

  /** Begins to look. */
  start(): void {
    this.lookIn(this.parts.intervalMs);
  }

  /** Looks no more; a look that is under way changes nothing. */
  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private lookIn(delayMs: number): void {
    this.timer = this.parts.clock.after(delayMs, () => void this.look());
  }

  private async look(): Promise<void> {
    const { intervalMs, read, changed, failed } = this.parts;
    const again = Math.min(RECHECK_MS, intervalMs);
    let delayMs = again;
    try {
      const before = this.standing;
      const after = await read();
      if (this.stopped) return;
      this.standing = after;
      if (told(before) !== told(after)) changed(before, after);
      if (after.problems.length === 0) delayMs = intervalMs;
    } catch (error) {
      // That Postgres does not answer is seen and told by others. What it stands for is not known to have changed.
      if (!(error instanceof DatabaseFault)) failed(error);
    }
    if (!this.stopped) this.lookIn(delayMs);
  }
}

function told({ durability, problems }: Standing): string {
  return [durability, ...problems].join("\n");
}
