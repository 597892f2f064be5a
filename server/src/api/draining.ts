// Is this server going away? Calls that may last for long ask, and hear of it at once: a wait of a minute must not hold up a deploy.

/** Whether calls should come to an end. */
export interface Draining {
  readonly begun: () => boolean;
  /** Calls back when it begins, at once if it has. Answers how to stop listening. */
  readonly onBegin: (callback: () => void) => () => void;
  readonly begin: () => void;
}

/** Makes it; nothing drains yet. */
export function createDraining(): Draining {
  const callbacks = new Set<() => void>();
  let begun = false;
  return {
    begun: () => begun,
    onBegin: (callback) => {
      if (begun) callback();
      else callbacks.add(callback);
      return () => void callbacks.delete(callback);
    },
    begin: () => {
      begun = true;
      for (const callback of callbacks) callback();
      callbacks.clear();
    },
  };
}
