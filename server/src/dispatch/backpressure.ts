// How many more tasks may a worker be given now? Pure: the only place where slots are counted.

/** What decides it. */
export interface SlotState {
  /** Slots of the worker in all. */
  readonly total: number;
  /** Slots of single task names; a name without an entry is bounded by the total alone. */
  readonly byName: ReadonlyMap<string, number>;
  /** Leases without a final verdict, in all. */
  readonly held: number;
  /** The same by task name. */
  readonly heldByName: ReadonlyMap<string, number>;
  /** The worker drains, or its stream is gone or reads too slowly. */
  readonly paused: boolean;
}

/** Free slots of a worker; never negative: slots may be lowered below what is held. */
export function freeSlots(state: SlotState): number {
  return state.paused ? 0 : Math.max(state.total - state.held, 0);
}

/** Free slots of a worker for one task name. */
export function freeSlotsFor(state: SlotState, taskName: string): number {
  const own = state.byName.get(taskName);
  const free = freeSlots(state);
  return own === undefined ? free : Math.min(free, Math.max(own - (state.heldByName.get(taskName) ?? 0), 0));
}
