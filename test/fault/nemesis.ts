// What is a fault here? Something that begins, lasts and ends, on parts of the arena that it has for itself meanwhile.
import type { Arena } from "./arena.js";
import type { Chance } from "./chance.js";
import type { Owners } from "./owners.js";

/** A part of the arena that faults have for themselves while they last. */
export type Part = "postgres" | "servers" | "workers" | "network" | "clocks" | "intruders";

/** What a fault gets to work on. */
export interface Stage {
  readonly arena: Arena;
  readonly owners: Owners;
  readonly chance: Chance;
  /** Time to live of the sessions. */
  readonly ttlMs: number;
  /** How long the database stays away at the most. */
  readonly outageMs: number;
  /** Waits, or less when the run is over. */
  readonly pause: (ms: number) => Promise<void>;
}

/** One sort of fault. */
export interface Nemesis {
  readonly name: string;
  readonly touches: readonly Part[];
  /** Why it cannot be done here; undefined if it can. */
  permitted?(): string | undefined;
  /** Does it and undoes it; answers what it did, for the timeline. `note` says so as soon as it is known. */
  run(stage: Stage, note: (what: string) => void): Promise<void>;
}

/** Sends a signal to a process that may be gone. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    if (pid > 0) process.kill(pid, name);
  } catch {
    // It is gone.
  }
}
