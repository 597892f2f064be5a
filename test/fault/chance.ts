// Where does chance come from in a run that should be told again? From a seed, through a small generator of random numbers (mulberry32).

/** Random numbers that depend on nothing but the seed and how many were drawn. */
export interface Chance {
  /** From 0 up to 1. */
  next(): number;
  /** A whole number from 0 up to `limit`. */
  below(limit: number): number;
  oneIn(count: number): boolean;
  /** One of several; throws where there is none. */
  of<T>(items: readonly T[]): T;
  /** Another source, of its own. */
  fork(): Chance;
}

/** Starts from a seed, any whole number. */
export function chanceFrom(seed: number): Chance {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number): number => Math.floor(next() * limit);
  return {
    next,
    below,
    oneIn: (count) => below(count) === 0,
    of: (items) => {
      const item = items[below(items.length)];
      if (item === undefined) throw new Error("there is nothing to choose from");
      return item;
    },
    fork: () => chanceFrom(below(2 ** 32)),
  };
}
