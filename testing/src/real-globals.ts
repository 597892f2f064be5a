// What of the process does a database in WebAssembly see? The real clock and timers, whatever a test made of them, and no timer that would keep the
// process alive: its Postgres sets one of ten seconds after nearly every statement.

import { captured } from "@leasehold/client/kit";

type Globals = Readonly<Record<string, unknown>>;

/** For statements. */
const REAL: Globals = {
  Date: globalThis.Date,
  setTimeout: detachedTimeout,
  clearTimeout: captured.clearTimeout,
  performance: { now: captured.monotonic },
};
/** For the start, which others may see: the globals as they were. */
const UNTOUCHED: Globals = {
  Date: globalThis.Date,
  setTimeout: captured.setTimeout,
  clearTimeout: captured.clearTimeout,
  setImmediate: captured.setImmediate,
  queueMicrotask: globalThis.queueMicrotask,
};

/** Runs something that must end within this turn while the globals are the real ones. */
export function withRealGlobals<T>(work: () => T): T {
  const before = swap(REAL);
  try {
    return work();
  } finally {
    swap(before);
  }
}

/**
 * Runs something that takes its time while the globals are the real ones. Where a test has replaced them, all that runs meanwhile sees the real
 * ones too; what it replaces meanwhile stays.
 */
export async function startedWithRealGlobals<T>(work: () => Promise<T>): Promise<T> {
  const before = swap(UNTOUCHED);
  try {
    return await work();
  } finally {
    const replaced = Object.entries(UNTOUCHED).filter(([name, real]) => Reflect.get(globalThis, name) === real);
    swap(Object.fromEntries(replaced.map(([name]) => [name, before[name]])));
  }
}

function swap(globals: Globals): Globals {
  const before = Object.fromEntries(Object.keys(globals).map((name): [string, unknown] => [name, Reflect.get(globalThis, name)]));
  Object.assign(globalThis, globals);
  return before;
}

function detachedTimeout(callback: () => void, delayMs: number): NodeJS.Timeout {
  return captured
    .setTimeout(() => {
      withRealGlobals(callback);
    }, delayMs)
    .unref();
}
