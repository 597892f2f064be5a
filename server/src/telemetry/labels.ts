// Which names that clients make become labels of metrics? The first ones, up to a number; the rest is `other`. A name that nobody uses any more
// makes room after a while, so that yesterday's names do not keep today's out.

/** Stands for every name beyond the number. */
export const OTHER = "other";

const FORGOTTEN_AFTER_MS = 3_600_000;

/** Names of one kind. */
export class Labels {
  /** By name, when it was used last. */
  private readonly known = new Map<string, number>();

  constructor(
    private readonly most: number,
    private readonly nowMs: () => number,
  ) {}

  /** The name, or `other`. */
  of(name: string): string {
    const nowMs = this.nowMs();
    if (!this.known.has(name) && this.known.size >= this.most && !this.forgetOne(nowMs)) return OTHER;
    this.known.set(name, nowMs);
    return name;
  }

  /** The names that were used within the last milliseconds. */
  usedWithin(ms: number): string[] {
    const sinceMs = this.nowMs() - ms;
    return [...this.known].flatMap(([name, usedMs]) => (usedMs < sinceMs ? [] : [name]));
  }

  private forgetOne(nowMs: number): boolean {
    for (const [name, usedMs] of this.known) {
      if (nowMs - usedMs < FORGOTTEN_AFTER_MS) continue;
      this.known.delete(name);
      return true;
    }
    return false;
  }
}
