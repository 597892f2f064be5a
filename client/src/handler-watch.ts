// Which handlers misbehave: run on after they were told to stop, block the event loop, or end the process?
//
// Each is named with its task, because from outside all of them look like a worker that is merely slow.
import { type Clock, type Timer } from "./clock.js";
import { LeaseholdError } from "./errors.js";
import type { Logger } from "./log.js";
import type { RunningTask } from "./worker-state.js";

/** A handler that was told to stop and runs on is named after this long, and then at most this often, in milliseconds. */
const STUCK_MS = 10_000;
/** So many tasks are named in one line. */
const MOST_NAMES = 10;

/** Warns about the handlers of one worker. */
export class HandlerWatch {
  /** Longest time that user code blocked the event loop, in milliseconds. */
  longestStallMs = 0;
  #timer: Timer | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly running: () => readonly RunningTask[],
  ) {}

  /** Some handler was told to stop: look again later. */
  stopping(): void {
    this.#timer ??= this.clock.timer(
      STUCK_MS,
      () => {
        this.#timer = undefined;
        if (this.#warnStuck() > 0) this.stopping();
      },
      { background: true },
    );
  }

  /** The event loop was blocked. */
  stalled(stallMs: number): void {
    this.longestStallMs = Math.max(this.longestStallMs, stallMs);
    this.log.warn(`the event loop was blocked for ${String(stallMs)} ms: heartbeats and signals were late`, {
      running: namesOf(this.running()).slice(0, MOST_NAMES),
    });
  }

  /** The process is about to end by an error of user code. */
  crashed(error: unknown): void {
    this.log.error("the process ends by an uncaught error; these tasks were running and will be lost leases", {
      running: namesOf(this.running()),
      error: LeaseholdError.from(error).message,
    });
  }

  /** Takes the timer back. */
  close(): void {
    this.#timer?.cancel();
  }

  #warnStuck(): number {
    const stuck = this.running().filter(({ stops }) => stops.length > 0);
    for (const { name, taskId, runningMs, stops } of stuck) {
      this.log.warn(`a handler was told to stop (${stops.join(", ")}) and runs on; it keeps its slot`, {
        task: name,
        taskId,
        runningSeconds: Math.round(runningMs / 1_000),
      });
    }
    return stuck.length;
  }
}

/** Tasks for a line: name and id. */
export function namesOf(running: readonly RunningTask[]): string[] {
  return running.map(({ name, taskId }) => `${name} ${taskId}`);
}
