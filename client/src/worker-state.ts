// What does a worker say about itself?
import type { StopReason } from "./errors.js";

/** Where a worker stands. */
export type WorkerStatus = "idle" | "connecting" | "ready" | "disconnected" | "draining" | "stopped";

/** A handler that runs. */
export interface RunningTask {
  /** Which task. */
  readonly taskId: string;
  /** Its task name. */
  readonly name: string;
  /** Which attempt, counted from 1. */
  readonly attempt: number;
  /** For how long it runs, in milliseconds. */
  readonly runningMs: number;
  /** Why it was told to stop, if it was. */
  readonly stops: readonly StopReason["kind"][];
  /** Whether the worker still holds its lease. A handler that runs on without one keeps its slot. */
  readonly held: boolean;
}

/** A worker at one moment. */
export interface WorkerState {
  /** What it does now. */
  readonly status: WorkerStatus;
  /** Why it takes no tasks now, for people; undefined while it does. What `/readyz` answers. */
  readonly notReady: string | undefined;
  /** As in the options, or made up. */
  readonly name: string;
  /** Empty before the first welcome. */
  readonly sessionId: string;
  /** Handlers that have not ended, those whose lease is gone among them. */
  readonly running: readonly RunningTask[];
  /** Leases whose final verdict is missing, the running ones included. */
  readonly heldLeases: number;
  /** Reports without verdict. */
  readonly unacknowledgedReports: number;
  /** Longest time that user code blocked the event loop, in milliseconds; 0 if never for a second. */
  readonly longestStallMs: number;
}
