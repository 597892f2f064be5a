// What is the life of one lease in a worker?
//
// Read the payloads, call the handler, make one report of what it did, keep it until its verdict. Each step turns what can go wrong into a
// report of its own, so that a lease never stays without an outcome while its worker lives. Nothing here ever rejects.
import { setMaxListeners } from "node:events";
import { PendingReason, type TaskError } from "@leasehold/proto/leasehold/v1/task";
import { type Lease, type Verdict, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import type { Clock, Timer } from "./clock.js";
import { dateFromTimestamp, durationFromMs, msFromDuration } from "./duration.js";
import { invalid, LeaseholdError, type StopReason, type Violation } from "./errors.js";
import { readExecutionMetadata } from "./execution-metadata.js";
import type { HandlerContext, ProgressInput, Resumed, TaskHandler } from "./handler-context.js";
import type { LeaseKeeper, ReportBody } from "./lease-keeper.js";
import { type Logger, withFields } from "./log.js";
import { type Middleware, runWithMiddleware } from "./middleware.js";
import { cancelOutcome, failOutcome, type HandlerOutcome, isHandlerOutcome, suspendOutcome } from "./outcome.js";
import type { Payloads, Written } from "./payload.js";
import { parseWithSchema, type Schema } from "./schema.js";
import { errorFromStatus } from "./status.js";
import { type AttemptSpan, traceAttempt } from "./tracing.js";
import { cutText, taskError, taskErrorFrom } from "./task-error.js";
import { readFailure } from "./task-failure.js";
import { pendingReasonName } from "./task-snapshot.js";

/** What a run needs of its worker. */
export interface RunSurroundings {
  readonly clock: Clock;
  readonly payloads: Payloads;
  readonly keeper: LeaseKeeper;
  readonly log: Logger;
  /** The worker's name, for traces. */
  readonly workerName: string;
  /** Around the handler. */
  readonly middleware: readonly Middleware[];
  /** Whether the worker is shutting down. */
  draining(): boolean;
  /** Sends progress, if there is a connection. */
  progress(leaseToken: string, progress: ProgressInput): void;
}

/** Delay of a retry after metadata that this worker cannot read: a newer worker may take it meanwhile. */
const UNREADABLE_RETRY_MS = 15_000;

/** So many violations go with METADATA_INVALID; the first ones say enough. */
const SHOWN_VIOLATIONS = 20;

/** Stops after which a throw says nothing: the server decides, or has decided. */
const DECIDED: ReadonlySet<StopReason["kind"]> = new Set([
  "lease_lost",
  "attempt_deadline",
  "silence_deadline",
  "total_deadline",
  "cancel_grace_ended",
]);

/** One lease that is run. */
export class LeaseRun {
  /** When it began, in monotonic milliseconds. */
  readonly startedMs: number;
  /** Resolves when the handler has ended and its report is queued; not when the report is answered. */
  readonly ended: Promise<void>;
  readonly stops: StopReason[] = [];
  readonly #controller = new AbortController();
  readonly #log: Logger;
  readonly #deadline: Timer | undefined;
  readonly #span: AttemptSpan;
  #reported = false;
  #executing = true;
  #current: unknown;
  #version: bigint;
  /** Checkpoints are queued one after the other, however long each takes to encode. */
  #queue: Promise<void> = Promise.resolve();

  constructor(
    readonly lease: Lease,
    readonly handler: TaskHandler,
    private readonly around: RunSurroundings,
  ) {
    this.startedMs = around.clock.monotonic();
    this.#span = traceAttempt(lease, around.workerName);
    this.#version = lease.executionMetadataVersion;
    // A handler may have any number of requests under way that end with it.
    setMaxListeners(0, this.#controller.signal);
    this.#log = withFields(around.log, { task: lease.name, taskId: lease.taskId, attempt: lease.attempt, ...this.#span.fields });
    const remaining = lease.attemptDeadlineRemaining;
    // The server's word comes first while there is a connection; without one the handler must stop all the same.
    this.#deadline = remaining && around.clock.timer(msFromDuration(remaining), () => this.stop({ kind: "attempt_deadline" }));
    this.ended = this.#run();
  }

  /** Whether user code is running, also after its lease is gone. */
  get executing(): boolean {
    return this.#executing;
  }

  /** Tells the handler to stop. The first reason fires its signal; a reason is listed once. */
  stop(reason: StopReason): void {
    if (this.stops.some(({ kind }) => kind === reason.kind)) return;
    this.stops.push(reason);
    this.#span.stopped(reason.kind);
    const { taskId, name } = this.lease;
    const message = `the handler is to stop: ${reason.kind.replaceAll("_", " ")}`;
    this.#controller.abort(new LeaseholdError({ code: "STOPPED", message, stop: reason, taskId, taskName: name }));
  }

  /** Gives the lease back although the handler has not ended; what it does later is not reported. */
  release(): void {
    if (!this.#reported) this.#report({ release: { retryAfter: undefined, executionMetadata: undefined } });
  }

  async #run(): Promise<void> {
    const body = await this.#execute().catch((error: unknown) => this.#thrown(error));
    this.#executing = false;
    this.#deadline?.cancel();
    await this.#queue;
    if (body !== undefined && !this.#reported) this.#report(body);
    this.#span.ended(...outcomeOf(body));
  }

  async #execute(): Promise<ReportBody | undefined> {
    const context = await this.#context();
    if ("body" in context) return context.body;
    // Told to stop before it began: it is not begun.
    if (this.#controller.signal.aborted) return this.#thrown(this.#controller.signal.reason);
    let returned: unknown;
    try {
      returned = await this.#span.run(() =>
        runWithMiddleware(this.around.middleware, this.handler.task, context.context, () =>
          // Parsed by this handler's own definition a moment ago; a list of handlers of many definitions cannot say so.
          this.handler.run(context.context as never),
        ),
      );
    } catch (error) {
      return this.#thrown(error);
    }
    return isHandlerOutcome(returned) ? this.#bodyOf(returned) : this.#complete(returned);
  }

  /** The context, or the report that this worker cannot read the task. */
  async #context(): Promise<{ context: HandlerContext } | { body: ReportBody }> {
    const { lease, around } = this;
    const { task } = this.handler;
    try {
      const wire = (await around.payloads.decode(lease.metadata, "metadata")) ?? null;
      const metadata = task.metadata === undefined ? { value: wire } : await parseWithSchema(task.metadata, wire, "metadata");
      const saved = await readExecutionMetadata(task, await around.payloads.decode(lease.executionMetadata, "executionMetadata"));
      const violations = [...(metadata.violations ?? []), ...(saved.violations ?? [])];
      if (metadata.violations !== undefined || saved.violations !== undefined) return { body: await this.#unreadable(invalid(violations)) };
      this.#current = saved.value;
      const previousFailure = lease.previousError && (await readFailure(task, lease.previousError, around.payloads));
      return { context: this.#contextOf(metadata.value, await this.#resumed(), previousFailure) };
    } catch (error) {
      return { body: await this.#unreadable(LeaseholdError.from(error)) };
    }
  }

  #contextOf(metadata: unknown, resumed: Resumed, previousFailure: HandlerContext["previousFailure"]): HandlerContext {
    const { lease, around } = this;
    const { task } = this.handler;
    const current = (): unknown => this.#current;
    const version = (): bigint => this.#version;
    return {
      id: lease.taskId,
      name: lease.name,
      queue: lease.queue,
      key: lease.key === "" ? undefined : lease.key,
      labels: lease.labels,
      createTime: lease.createTime && dateFromTimestamp(lease.createTime),
      attempt: lease.attempt,
      maxAttempts: lease.maxAttempts,
      metadata,
      executionMetadata: {
        get current() {
          return current();
        },
        get version() {
          return version();
        },
        checkpoint: (next) => this.#checkpoint(next),
      },
      resumed,
      previousFailure,
      signal: this.#controller.signal,
      stops: this.stops,
      get draining() {
        return around.draining();
      },
      log: this.#log,
      fencingToken: lease.fencingToken,
      progress: (progress) => this.#progress(progress),
      suspend: (options) => suspendOutcome(task, options, around.payloads),
      fail: (code, data, options = {}) => failOutcome(task, code, data, options, around.payloads),
      cancel: cancelOutcome,
    };
  }

  async #resumed(): Promise<Resumed> {
    const { resumption } = this.lease;
    const by = pendingReasonName(resumption?.reason ?? PendingReason.NEW) as Resumed["by"] | undefined;
    const unappliedPatches = (resumption?.unappliedPatches ?? []).map((patch, index) =>
      this.around.payloads.decode(patch, `resumed.unappliedPatches[${String(index)}]`),
    );
    return {
      by: by ?? "new",
      proceeds: (resumption?.proceeds ?? []).map(({ note, proceedTime }) => ({
        note,
        time: proceedTime && dateFromTimestamp(proceedTime),
      })),
      unappliedPatches: await Promise.all(unappliedPatches),
    };
  }

  #checkpoint(next: unknown): Promise<void> {
    const done = this.#queueCheckpoint(next).then(async ({ verdict, value }) => {
      this.#checkpointed(await verdict, value);
    });
    // A checkpoint that nobody awaits must not end the process; who awaits it still gets the error.
    done.catch(noop);
    return done;
  }

  /** Captures the value at once, and sends it after the checkpoints that were called before. */
  #queueCheckpoint(next: unknown): Promise<{ verdict: Promise<Verdict>; value: unknown }> {
    const { taskId, name, leaseToken } = this.lease;
    const { executionMetadata: schema } = this.handler.task;
    const { payloads, keeper } = this.around;
    if (!this.#executing)
      return Promise.reject(new LeaseholdError({ code: "FAILED_PRECONDITION", message: "the handler has ended", taskId }));
    let written: Written;
    try {
      written = payloads.write(next, "executionMetadata");
    } catch (error) {
      return Promise.reject(LeaseholdError.from(error));
    }
    const queued = this.#queue.then(async () => {
      const parsed = schema && (await parseWithSchema(schema, written.value, "executionMetadata"));
      if (parsed?.violations !== undefined) throw invalid(parsed.violations, { taskId, taskName: name });
      const executionMetadata = await payloads.encode(written);
      const verdict = keeper.report(leaseToken, { checkpoint: { executionMetadata } });
      return { verdict, value: parsed === undefined ? written.value : parsed.value };
    });
    this.#queue = queued.then(noop, noop);
    return queued;
  }

  #checkpointed(verdict: Verdict, value: unknown): void {
    const { taskId, name } = this.lease;
    if (verdict.code === VerdictCode.INVALID) throw verdictError(verdict, taskId, name);
    this.#current = value;
    if (verdict.executionMetadataVersion > this.#version) this.#version = verdict.executionMetadataVersion;
    this.#span.checkpointed(this.#version);
  }

  #progress({ done, total, message }: ProgressInput): void {
    const violations: Violation[] = [];
    if (!Number.isFinite(done)) violations.push({ path: "done", message: "must be a finite number" });
    if (total !== undefined && !Number.isFinite(total)) violations.push({ path: "total", message: "must be a finite number" });
    if (message !== undefined && typeof message !== "string") violations.push({ path: "message", message: "must be a string" });
    if (violations.length > 0) throw invalid(violations, { taskId: this.lease.taskId });
    if (!this.#executing || !this.around.keeper.holds(this.lease.leaseToken)) return;
    this.around.progress(this.lease.leaseToken, {
      done,
      ...(total === undefined ? {} : { total }),
      message: cutText(message ?? "", 1_024),
    });
  }

  /** What a throw means: a failure, unless the handler was told to stop. */
  #thrown(error: unknown): ReportBody | undefined {
    const kinds = this.stops.map(({ kind }) => kind);
    if (kinds.length === 0) {
      return {
        fail: { error: this.#errorFrom("HANDLER_ERROR", error), retryable: true, retryAfter: undefined, executionMetadata: undefined },
      };
    }
    if (kinds.some((kind) => DECIDED.has(kind))) return undefined;
    if (kinds.includes("cancelled")) return { cancel: { error: this.#errorFrom("CANCELLED", error), executionMetadata: undefined } };
    return { release: { retryAfter: undefined, executionMetadata: undefined } };
  }

  async #complete(returned: unknown): Promise<ReportBody | undefined> {
    const { result: schema } = this.handler.task;
    if (schema === undefined && (returned === undefined || returned === null))
      return { complete: { result: undefined, executionMetadata: undefined } };
    try {
      const written = this.around.payloads.write(returned, "result");
      await this.#require(schema, written, "result");
      return { complete: { result: await this.around.payloads.encode(written), executionMetadata: undefined } };
    } catch (error) {
      const known = LeaseholdError.from(error);
      // A codec that failed may do better next time; a handler whose result does not fit would return the same again.
      if (known.code !== "INVALID_ARGUMENT") return this.#thrown(error);
      return {
        fail: { error: this.#errorFrom("RESULT_INVALID", known), retryable: false, retryAfter: undefined, executionMetadata: undefined },
      };
    }
  }

  async #bodyOf({ ending }: HandlerOutcome): Promise<ReportBody> {
    const { payloads } = this.around;
    switch (ending.kind) {
      case "cancel":
        return { cancel: { error: taskError("CANCELLED", ending.reason, payloads.limits.errorBytes), executionMetadata: undefined } };
      case "fail": {
        const { data } = ending;
        if (data !== undefined) await this.#require(this.handler.task.errors[ending.code], data, "data");
        const error = taskError(ending.code, ending.message, payloads.limits.errorBytes, data && (await payloads.encode(data)));
        const retryAfter = ending.retryAfterMs === undefined ? undefined : durationFromMs(ending.retryAfterMs);
        return { fail: { error, retryable: ending.retry, retryAfter, executionMetadata: undefined } };
      }
      case "suspend": {
        const { untilTime, untilAfterMs, untilProceeded, executionMetadata: written } = ending;
        if (written !== undefined) await this.#require(this.handler.task.executionMetadata, written, "executionMetadata");
        const executionMetadata = written && (await payloads.encode(written));
        const untilAfter = untilAfterMs === undefined ? undefined : durationFromMs(untilAfterMs);
        return { suspend: { untilTime, untilAfter, untilProceeded, executionMetadata } };
      }
    }
  }

  /** Throws INVALID_ARGUMENT unless the schema, if there is one, accepts what will be read. */
  async #require(schema: Schema | undefined, { value }: Written, path: string): Promise<void> {
    const violations = schema && (await parseWithSchema(schema, value, path)).violations;
    if (violations !== undefined) throw invalid(violations);
  }

  async #unreadable(error: LeaseholdError): Promise<ReportBody> {
    this.#log.warn(`this worker cannot read the task; it is tried again in ${String(UNREADABLE_RETRY_MS / 1_000)} s: ${error.message}`);
    const { payloads } = this.around;
    const { errorBytes } = payloads.limits;
    const violations = error.violations.slice(0, SHOWN_VIOLATIONS).map(({ path, message }) => ({
      path: cutText(path, errorBytes / 256),
      message: cutText(message, errorBytes / 256),
    }));
    const details = await payloads.encode(payloads.write({ violations }, "violations"));
    const reported = taskError("METADATA_INVALID", error.message, errorBytes, details);
    return { fail: { error: reported, retryable: true, retryAfter: durationFromMs(UNREADABLE_RETRY_MS), executionMetadata: undefined } };
  }

  #errorFrom(code: string, thrown: unknown): TaskError {
    return taskErrorFrom(code, thrown, this.around.payloads.limits.errorBytes);
  }

  #report(body: ReportBody): void {
    this.#reported = true;
    const { leaseToken, taskId, name } = this.lease;
    if (!this.around.keeper.holds(leaseToken)) {
      this.#log.warn("what the handler did is not reported: its lease is gone");
      return;
    }
    this.around.keeper.report(leaseToken, { ...body, ...this.#span.carried }).then(
      (verdict) => {
        if (verdict.status === undefined) return;
        this.#log.warn(`the server did not take the outcome as it was: ${verdictError(verdict, taskId, name).message}`);
      },
      (error: unknown) => this.#log.warn(`the outcome was not recorded: ${LeaseholdError.from(error).message}`),
    );
  }
}

/** What the span of an attempt says of its report: the kind, and the code of a failure. */
function outcomeOf(body: ReportBody | undefined): [outcome: string | undefined, errorCode: string | undefined] {
  return [body && Object.keys(body)[0], body !== undefined && "fail" in body ? body.fail?.error?.code : undefined];
}

function verdictError(verdict: Verdict, taskId: string, taskName: string): LeaseholdError {
  if (verdict.status !== undefined) return errorFromStatus(verdict.status, { taskId, taskName });
  return invalid([{ path: "", message: "the server refused the report" }], { taskId, taskName });
}

function noop(): void {
  // Deliberately empty.
}
