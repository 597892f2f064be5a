// How long will a batch take? As long as batches of about its size took lately. For a larger one than was seen the growth between those that were
// is carried on, but not far: on a database that is well a burst costs little more than a single call, and one that is not soon tells.

/** A time is forgotten after this, so that one bad minute does not refuse anybody in the next. */
const FRESH_MS = 5000;
/** What the smallest batches take is remembered for longer: while many wait there are none. */
const ALONE_MS = 60_000;
/** Sizes that count as small, in powers of two. */
const SMALL = 3;
/** Weight of the newest batch in the mean of its size. */
const NEWEST = 0.4;
/** Sizes closer than four times each other say nothing about growth: chance differs more. */
const LEAST_STEPS = 2;
/** Growth is carried on to so many times the largest batch that was seen. */
const REACH = 8;

interface Seen {
  readonly count: number;
  readonly meanMs: number;
  readonly atMs: number;
}

/** Remembers how long batches take, by powers of two of their size. */
export class BatchTimes {
  private readonly bySize: (Seen | undefined)[] = [];

  /** A batch of `count` items took this long. */
  took(count: number, durationMs: number, nowMs: number): void {
    const size = sizeOf(count);
    const known = this.fresh(size, nowMs) ?? { count, meanMs: durationMs };
    const mean = (before: number, newest: number): number => before + (newest - before) * NEWEST;
    this.bySize[size] = { count: mean(known.count, count), meanMs: mean(known.meanMs, durationMs), atMs: nowMs };
  }

  /** Milliseconds that a batch of `count` items will take; 0 where nothing is known. */
  expectedMs(count: number, nowMs: number): number {
    const size = sizeOf(count);
    for (let near = size; near >= 0; near--) {
      const known = this.fresh(near, nowMs);
      if (known !== undefined) return near === size ? known.meanMs : known.meanMs + this.growthMs(near, known, count, nowMs);
    }
    return 0;
  }

  /** Milliseconds that an item takes by itself, however many more would take; 0 where nothing is known. */
  aloneMs(nowMs: number): number {
    const small = this.bySize.slice(0, SMALL).find((seen) => seen !== undefined && nowMs - seen.atMs <= ALONE_MS);
    return small?.meanMs ?? 0;
  }

  private growthMs(largest: number, known: Seen, count: number, nowMs: number): number {
    for (let size = 0; size <= largest - LEAST_STEPS; size++) {
      const small = this.fresh(size, nowMs);
      if (small === undefined) continue;
      const eachMs = Math.max((known.meanMs - small.meanMs) / (known.count - small.count), 0);
      return eachMs * Math.max(Math.min(count, known.count * REACH) - known.count, 0);
    }
    return 0;
  }

  private fresh(size: number, nowMs: number): Seen | undefined {
    const seen = this.bySize[size];
    return seen === undefined || nowMs - seen.atMs > FRESH_MS ? undefined : seen;
  }
}

function sizeOf(count: number): number {
  return 31 - Math.clz32(count);
}
