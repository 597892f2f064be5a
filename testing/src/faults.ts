// What can go wrong in an environment? What a network, a slow server or a silent worker would do to it, done on purpose.

import type { DurationInput } from "@leasehold/client";
import { requireDurationMs } from "@leasehold/client/kit";
import type { SteppingClock } from "./clock.js";
import { type CallFaults, type InProcessNetwork, unavailable } from "./transport.js";

/** Faults that a test injects. */
export interface Faults {
  /**
   * Breaks the streams of all workers and resolves when they are connected again: the clock moves on by the delay of that, up to some seconds.
   * Reports without a verdict are sent again, leases are kept.
   */
  dropStream(): Promise<void>;
  /**
   * Lets a worker's session run out, as if it had been silent for its TTL: the session that holds the task, or without a task all. Every lease of
   * it is lost, its handlers are told so (`lease_lost`), and the tasks are pending again. Resolves when the workers are connected again.
   */
  expireLease(task?: { readonly id: string }): Promise<void>;
  /**
   * Holds verdicts back: for a duration each, or until the function that is answered is called. A report whose verdict is late when its stream is
   * dropped is sent again.
   */
  delayVerdict(duration?: DurationInput): () => Promise<void>;
  /** Has the next reports of workers arrive twice, those of one message unless told otherwise. Each counts once, and handlers hear nothing of it. */
  duplicateReport(options?: { readonly count?: number }): void;
  /**
   * Cuts workers off from the server: neither hears the other, and no side is told. Time that passes is lived through heartbeat by heartbeat
   * meanwhile. The function that is answered ends it, and resolves when all are connected again.
   */
  cutOff(): () => Promise<void>;
  /** Fails the next calls of clients, one unless told otherwise, with UNAVAILABLE: before they arrive, or with `lostAnswer` after the server did them. */
  failCalls(options?: { readonly count?: number; readonly lostAnswer?: boolean }): void;
}

/** What faults reach in an environment. */
export interface FaultSurroundings {
  readonly clock: SteppingClock;
  readonly network: InProcessNetwork;
  /** Whether every worker that runs is connected. */
  connected(): boolean;
  /** Ends the time of these sessions in the database and lets the server find out. */
  expire(sessionIds: readonly string[]): Promise<void>;
  /** The session that holds a task's lease, or null. */
  holderOf(taskId: string): Promise<string | null>;
}

/** Longest that workers take to come back, in virtual milliseconds. */
const RECONNECT_MS = 120_000;

/** Calls that are still to fail, for the network. */
export class FailingCalls implements CallFaults {
  readonly #next: ("arrival" | "answer")[] = [];

  /** Adds some. */
  add(count: number, kind: "arrival" | "answer"): void {
    for (let left = count; left > 0; left -= 1) this.#next.push(kind);
  }

  next(): "arrival" | "answer" | null {
    return this.#next.shift() ?? null;
  }
}

/** Makes the faults of an environment. */
export function faultsOf(around: FaultSurroundings, calls: FailingCalls): Faults {
  const { clock, network } = around;
  const reconnected = (): Promise<void> => clock.until(() => around.connected(), RECONNECT_MS, "a worker did not connect again");
  const drop = (sessionIds?: readonly string[]): void => {
    for (const stream of network.workerStreams)
      if (sessionIds?.includes(stream.sessionId) ?? true) stream.drop(unavailable("the connection broke"));
  };
  return {
    dropStream: () =>
      clock.inTurn(async () => {
        await clock.settle();
        drop();
        await reconnected();
      }),
    expireLease: (task) =>
      clock.inTurn(async () => {
        await clock.settle();
        const sessionIds = task === undefined ? network.workerStreams.map(({ sessionId }) => sessionId) : [await holder(around, task.id)];
        await around.expire(sessionIds);
        await clock.settle();
        drop(sessionIds);
        await reconnected();
      }),
    delayVerdict: (duration) => {
      network.verdictDelayMs = duration === undefined ? null : requireDurationMs(duration, "duration");
      return async () => {
        network.verdictDelayMs = 0;
        for (const stream of network.workerStreams) stream.letGo();
        await clock.inTurn(() => clock.settle());
      };
    },
    duplicateReport: ({ count = 1 } = {}) => {
      network.reportsToDouble += count;
    },
    cutOff: () => {
      network.cutOff = true;
      return () =>
        clock.inTurn(async () => {
          network.cutOff = false;
          drop();
          await reconnected();
        });
    },
    failCalls: ({ count = 1, lostAnswer = false } = {}) => {
      calls.add(count, lostAnswer ? "answer" : "arrival");
    },
  };
}

async function holder(around: FaultSurroundings, id: string | undefined): Promise<string> {
  const sessionId = id === undefined ? null : await around.holderOf(id);
  if (sessionId === null) throw new Error(`nobody holds a lease of task ${String(id)}`);
  return sessionId;
}
