// How does a worker take leases, run them, and shut down?
//
// Wires a session (connections), a keeper (leases and unanswered reports) and one run for each lease. It counts what really runs: a handler
// that does not end keeps its slot, also after its lease is gone, and a lease that cannot start at once goes back at once.
import {
  type Cancel,
  type Hello,
  type Lease,
  type Revocation,
  RevocationReason,
  type Slots,
} from "@leasehold/proto/leasehold/v1/worker_service";
import type { Clock } from "./clock.js";
import { type DurationInput, durationFromMs, msFromDuration, requireDurationMs } from "./duration.js";
import { LeaseholdError, type StopReason } from "./errors.js";
import { watchEventLoop } from "./event-loop.js";
import type { TaskHandler } from "./handler-context.js";
import { HandlerWatch, namesOf } from "./handler-watch.js";
import { LeaseKeeper } from "./lease-keeper.js";
import { type Logger, withFields } from "./log.js";
import { LeaseRuns } from "./lease-runs.js";
import { LeaseRun } from "./run-lease.js";
import { SDK_NAME } from "./sdk-name.js";
import type { RunningTask, WorkerState, WorkerStatus } from "./worker-state.js";
import { type CheckedWorkerOptions, checkWorkerOptions, type WorkerOptions } from "./worker-options.js";
import { onStopSignals, onUncaught, serveHealth } from "./worker-process.js";
import { WorkerSession } from "./worker-session.js";

/** Runs handlers. */
export interface Worker {
  /**
   * Runs until SIGTERM, SIGINT or the signal, then drains and resolves. A second of them ends the grace. Rejects when the server refuses
   * the worker (UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT, UNIMPLEMENTED), or its health port is taken (FAILED_PRECONDITION). Can
   * be called once.
   */
  run(options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** Resolves when the worker is connected; rejects when `run` does or the worker stops. */
  ready(): Promise<void>;
  /** Takes no more, lets handlers finish for the grace (0 = now; default: the worker's), releases the rest, and resolves when all is over. */
  drain(options?: { readonly grace?: DurationInput }): Promise<void>;
  /** The worker as it is now. */
  readonly state: WorkerState;
}

/** What a handler has between its signal for shutdown and the release of its lease, in milliseconds. */
const SETTLE_MS = 1_000;
/** How long verdicts are waited for when all handlers have ended, in milliseconds. */
const VERDICTS_MS = 5_000;
/** How long the server may take to end the stream of a worker that has nothing left, in milliseconds. */
const GOODBYE_MS = 1_000;
/** Delay of a lease that this worker cannot start, in milliseconds. */
const REFUSED_RETRY_MS = 1_000;

/**
 * Makes a worker. Connects when it runs.
 *
 * @throws LeaseholdError INVALID_ARGUMENT with the paths of what is refused, a second handler for one task name among them.
 */
export function createWorker(options: WorkerOptions): Worker {
  return new LeaseWorker(options, checkWorkerOptions(options));
}

class LeaseWorker implements Worker {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #keeper: LeaseKeeper;
  readonly #session: WorkerSession;
  readonly #runs = new LeaseRuns();
  readonly #graceOver = signal<undefined>();
  readonly #finished = signal<undefined>();
  readonly #isReady = signal<undefined>();
  #status: WorkerStatus = "idle";
  #draining: Promise<void> | undefined;
  #slots = "";
  readonly #watch: HandlerWatch;

  constructor(
    private readonly options: WorkerOptions,
    private readonly checked: CheckedWorkerOptions,
  ) {
    const { clock, transport, random, log, limits } = options.client["~connection"];
    this.#clock = clock;
    this.#log = withFields(options.logger ?? log, { worker: checked.name });
    this.#watch = new HandlerWatch(clock, this.#log, () => this.#running());
    this.#keeper = new LeaseKeeper(clock, (leaseToken) => this.#gone(leaseToken, { kind: "lease_lost" }));
    this.#session = new WorkerSession(
      { transport, limits, clock, random, keeper: this.#keeper, log: this.#log, hello: () => this.#hello() },
      {
        ready: () => this.#ready(),
        leases: (leases) => this.#take(leases),
        cancels: (cancels) => this.#cancel(cancels),
        revoked: (revoked) => this.#revoke(revoked),
        disconnected: () => this.#stopAll({ kind: "disconnected" }),
        failed: (error) => void this.#fail(error),
      },
    );
  }

  async run({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.#status !== "idle") throw new LeaseholdError({ code: "FAILED_PRECONDITION", message: "the worker runs or has run" });
    this.#status = "connecting";
    const health = await this.#serveHealth();
    const stop = (): void => {
      if (this.#draining === undefined) void this.drain();
      else this.#graceOver.resolve(undefined);
    };
    const undo = [onStopSignals(stop), onUncaught((error) => this.#watch.crashed(error))];
    const eventLoop = watchEventLoop(this.#clock, {
      stalled: (stallMs) => this.#watch.stalled(stallMs),
      slept: (sleptMs) => this.#session.slept(sleptMs),
    });
    signal?.addEventListener("abort", stop, { once: true });
    try {
      if (signal?.aborted === true) stop();
      else this.#session.connect();
      await this.#finished.promise;
    } finally {
      signal?.removeEventListener("abort", stop);
      eventLoop.cancel();
      health?.();
      for (const off of undo) off();
    }
  }

  async #serveHealth(): Promise<(() => void) | undefined> {
    const { health } = this.options;
    try {
      return health && (await serveHealth(health.port, health.host ?? "0.0.0.0", () => this.state.notReady));
    } catch (error) {
      await this.#fail(LeaseholdError.from(error));
      throw error;
    }
  }

  ready(): Promise<void> {
    return this.#isReady.promise;
  }

  drain({ grace }: { readonly grace?: DurationInput } = {}): Promise<void> {
    const graceMs = grace === undefined ? this.checked.graceMs : requireDurationMs(grace, "grace");
    this.#draining ??= this.#drainNow(graceMs);
    return this.#draining;
  }

  get state(): WorkerState {
    const disconnected = this.#status === "ready" && !this.#session.connected;
    const status = disconnected ? "disconnected" : this.#status;
    return {
      status,
      notReady: this.#notReady(status),
      name: this.checked.name,
      sessionId: this.#session.sessionId,
      running: this.#running(),
      heldLeases: this.#keeper.tokens.length,
      unacknowledgedReports: this.#keeper.unacknowledged,
      longestStallMs: this.#watch.longestStallMs,
    };
  }

  /** Why it takes no tasks. A stream that is open is not enough: a worker may have no slot left that will ever be free. */
  #notReady(status: WorkerStatus): string | undefined {
    if (status === "disconnected" || status === "connecting") return `${status}: ${this.#session.lastError}`;
    if (status !== "ready") return status;
    if (this.#runs.orphans.size < this.checked.concurrency) return undefined;
    const names = namesOf(this.#running().filter(({ held }) => !held));
    return `every slot is kept by a handler that was told to stop and runs on: ${names.slice(0, 10).join(", ")}`;
  }

  #running(): RunningTask[] {
    const nowMs = this.#clock.monotonic();
    return this.#runs.all().map(({ lease, startedMs, stops }) => ({
      taskId: lease.taskId,
      name: lease.name,
      attempt: lease.attempt,
      runningMs: Math.round(nowMs - startedMs),
      stops: stops.map(({ kind }) => kind),
      held: this.#keeper.holds(lease.leaseToken),
    }));
  }

  #ready(): void {
    if (this.#status === "connecting") this.#status = "ready";
    this.#isReady.resolve(undefined);
    // What changed while there was no connection is in the hello; what changed since is not.
    this.#tellSlots();
  }

  #hello(): Partial<Hello> {
    const { checked } = this;
    const slots = this.#freeSlots();
    this.#slots = JSON.stringify(slots);
    return {
      workerName: checked.name,
      sdk: SDK_NAME,
      language: "typescript",
      queues: [...checked.queues],
      slots: slots.total,
      handlers: slots.handlers.length === 0 ? [] : slots.handlers,
      labels: { ...checked.labels },
      features: [],
      sessionTtl: checked.sessionTtlMs === undefined ? undefined : durationFromMs(checked.sessionTtlMs),
    };
  }

  /** What the server may count on: everything but what handlers without a lease still occupy. */
  #freeSlots(): Slots {
    const orphans = [...this.#runs.orphans];
    const handlers = [...this.checked.handlers].map(([taskName, { concurrency }]) => {
      if (concurrency === undefined) return { taskName, slots: undefined };
      return { taskName, slots: Math.max(0, concurrency - orphans.filter(({ lease }) => lease.name === taskName).length) };
    });
    const total = this.#draining === undefined ? Math.max(0, this.checked.concurrency - orphans.length) : 0;
    return { total, handlers };
  }

  #tellSlots(): void {
    const slots = this.#freeSlots();
    const text = JSON.stringify(slots);
    if (text === this.#slots || !this.#session.connected) return;
    this.#slots = text;
    this.#session.slots({ total: slots.total, handlers: slots.handlers.filter((handler) => handler.slots !== undefined) });
  }

  #take(leases: readonly Lease[]): void {
    for (const lease of leases) {
      this.#keeper.add(lease.leaseToken, lease.taskId);
      const handler = this.checked.handlers.get(lease.name);
      if (handler !== undefined && this.#hasRoom(lease, handler)) this.#begin(lease, handler);
      else this.#refuse(lease);
    }
  }

  #hasRoom(lease: Lease, { concurrency }: TaskHandler): boolean {
    if (this.#draining !== undefined) return false;
    if (this.#runs.size >= this.checked.concurrency) return false;
    if (concurrency !== undefined && this.#runs.countOf(lease.name) >= concurrency) return false;
    // A run of the same task that did not end after its lease was lost: never two of them in one process.
    return !this.#runs.hasTask(lease.taskId);
  }

  #refuse({ leaseToken, name }: Lease): void {
    const retryAfter = this.checked.handlers.has(name) && this.#draining !== undefined ? undefined : durationFromMs(REFUSED_RETRY_MS);
    this.#keeper.report(leaseToken, { release: { retryAfter, executionMetadata: undefined } }).catch(() => undefined);
  }

  #begin(lease: Lease, handler: TaskHandler): void {
    const run = new LeaseRun(lease, handler, {
      clock: this.#clock,
      payloads: this.options.client["~connection"].payloads,
      keeper: this.#keeper,
      log: this.#log,
      workerName: this.checked.name,
      middleware: this.options.middleware ?? [],
      draining: () => this.#draining !== undefined,
      progress: (leaseToken, { done, total, message }) =>
        this.#session.progress(leaseToken, { done, total, message: message ?? "", updateTime: undefined }),
    });
    this.#runs.add(run);
    void run.ended.then(() => {
      const occupied = this.#runs.orphans.has(run);
      this.#runs.remove(run);
      if (occupied) this.#tellSlots();
    });
  }

  #cancel(cancels: readonly Cancel[]): void {
    for (const { leaseToken, reason, remainingGrace } of cancels) {
      this.#stop(leaseToken, { kind: "cancelled", reason, graceMs: remainingGrace === undefined ? 0 : msFromDuration(remainingGrace) });
    }
  }

  #revoke(revoked: readonly Revocation[]): void {
    for (const { leaseToken, reason } of revoked) {
      this.#gone(leaseToken, { kind: REVOCATIONS[reason] });
      this.#keeper.lose(leaseToken);
    }
  }

  /** A lease is no longer ours; its handler may run on. */
  #gone(leaseToken: string, reason: StopReason): void {
    const run = this.#runs.get(leaseToken);
    if (run === undefined) return;
    this.#runs.orphan(run);
    this.#stop(leaseToken, reason);
    this.#tellSlots();
  }

  #stop(leaseToken: string, reason: StopReason): void {
    this.#runs.get(leaseToken)?.stop(reason);
    this.#watch.stopping();
  }

  #stopAll(reason: StopReason): void {
    for (const run of this.#runs.all()) run.stop(reason);
    this.#watch.stopping();
  }

  async #drainNow(graceMs: number): Promise<void> {
    const endMs = this.#clock.monotonic() + graceMs;
    this.#status = "draining";
    this.#session.drain();
    await this.#orGraceOver(this.#allEnded(), graceMs);
    await this.#stopRest();
    // Outcomes that were just sent are worth a moment, also with no grace at all.
    await this.#atMost(this.#keeper.whenEmpty(), Math.max(VERDICTS_MS, endMs - this.#clock.monotonic()));
    if (this.#keeper.tokens.length === 0) await this.#atMost(this.#session.over(), GOODBYE_MS);
    this.#end();
    this.#finished.resolve(undefined);
  }

  /** Tells what still runs to stop, waits a moment, and releases what is left. */
  async #stopRest(): Promise<void> {
    this.#stopAll({ kind: "shutdown" });
    await this.#atMost(this.#allEnded(), SETTLE_MS);
    for (const run of this.#runs.all()) {
      run.release();
      this.#log.warn("a handler did not end within the grace; its task was released", { task: run.lease.name, taskId: run.lease.taskId });
    }
  }

  async #fail(error: LeaseholdError): Promise<void> {
    this.#draining ??= this.#stopRest();
    await this.#draining;
    this.#isReady.reject(error);
    this.#end();
    this.#finished.reject(error);
  }

  #end(): void {
    this.#status = "stopped";
    this.#session.close();
    this.#keeper.close();
    this.#watch.close();
    this.#isReady.reject(new LeaseholdError({ code: "STOPPED", message: "the worker has stopped" }));
  }

  async #allEnded(): Promise<void> {
    await Promise.all(this.#runs.all().map(({ ended }) => ended));
  }

  #orGraceOver(work: Promise<void>, limitMs: number): Promise<void> {
    return this.#atMost(Promise.race([work, this.#graceOver.promise]), limitMs);
  }

  /** Waits for the work, but no longer than this. */
  #atMost(work: Promise<void>, limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.timer(limitMs, resolve);
      void work.then(() => {
        timer.cancel();
        resolve();
      });
    });
  }
}

const REVOCATIONS: Readonly<Record<RevocationReason, Exclude<StopReason["kind"], "cancelled">>> = {
  [RevocationReason.UNSPECIFIED]: "lease_lost",
  [RevocationReason.ATTEMPT_DEADLINE]: "attempt_deadline",
  [RevocationReason.SILENCE_DEADLINE]: "silence_deadline",
  [RevocationReason.TOTAL_DEADLINE]: "total_deadline",
  [RevocationReason.CANCEL_GRACE_ENDED]: "cancel_grace_ended",
  [RevocationReason.LEASE_LOST]: "lease_lost",
  [RevocationReason.UNRECOGNIZED]: "lease_lost",
};

/** A promise with its ends in hand. Nobody needs to listen to it. */
function signal<T>(): { readonly promise: Promise<T>; resolve(value: T): void; reject(error: LeaseholdError): void } {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: LeaseholdError) => void = () => undefined;
  const promise = new Promise<T>((accept, refuse) => {
    resolve = accept;
    reject = refuse;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
