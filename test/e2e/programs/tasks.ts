// Which tasks do the worker programs run? Definitions alone, so that a test submits exactly what they handle.
import { defineTask, type } from "@leasehold/client";

/** Counts to `to`, a checkpoint each `stepMs`; says `checkpointed <id> <offset>` after each acknowledged one. */
export const count = defineTask({
  name: "e2e.count",
  metadata: type<{ to: number; stepMs: number }>(),
  executionMetadata: type<{ offset?: number }>(),
  result: type<{ counted: number; worker: string }>(),
});

/** Runs until the file `gate` exists, or for `forMs` where there is none, then leaves a mark in `folder`: one line for each run that came so far. */
export const mark = defineTask({
  name: "e2e.mark",
  metadata: type<{ folder: string; forMs?: number; gate?: string }>(),
  result: type<{ worker: string; fencingToken: string }>(),
});

/** Blocks the event loop for `blockMs`, then waits for `forMs`, and never heeds its signal. */
export const deaf = defineTask({
  name: "e2e.deaf",
  metadata: type<{ forMs: number; blockMs?: number }>(),
  result: type<{ worker: string }>(),
});

/** Waits for its signal and then ends in the way `how` says. */
export const ending = defineTask({
  name: "e2e.ending",
  metadata: type<{ how: "abort" | "own_error" | "result" | "suspend" | "fail_for_good" | "fail" | "cancel" | "never" }>(),
  result: type<{ finished: boolean }>(),
  errors: { given_up: type<{ why: string }>() },
});

/** Twelve phases, a checkpoint after each, a suspension after each third; says `phase <id> <n>` and runs each for `phaseMs`. */
export const phases = defineTask({
  name: "e2e.phases",
  metadata: type<{ phaseMs: number }>(),
  executionMetadata: type<{ done?: number; sum?: number }>(),
  result: type<{ sum: number }>(),
});

/** Ends at once. */
export const quick = defineTask({ name: "e2e.quick", metadata: type<{ n: number }>(), result: type<{ n: number; worker: string }>() });
