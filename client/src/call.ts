// How long does a call go on, and what is tried again?
//
// Only UNAVAILABLE, and RESOURCE_EXHAUSTED with the server's RetryInfo, are tried again: with full jitter, not before the server's
// delay, within the call's timeout. Every request is safe to repeat (ids and request ids are made before the first try).
import { setMaxListeners } from "node:events";
import { type Clock, sleep } from "./clock.js";
import { type DurationInput, requireDurationMs } from "./duration.js";
import { LeaseholdError } from "./errors.js";
import { traceHeaders } from "./tracing.js";
import type { Transport, UnaryMethod } from "./transport.js";

/** Options of every call. */
export interface CallOptions {
  /** How long the whole call may take, retries included. Default 30 s for requests; no limit where something is waited for. */
  readonly timeout?: DurationInput;
  /** Ends the call at once with CANCELLED. */
  readonly signal?: AbortSignal;
}

/** Whether the same request may be sent again after this error. */
export function mayRetry(error: LeaseholdError): boolean {
  return error.code === "UNAVAILABLE" || (error.code === "RESOURCE_EXHAUSTED" && error.retryAfterMs !== undefined);
}

/** Default timeout of a request in milliseconds: 30 s. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** First window of the retry delay in milliseconds; it doubles with each try. */
const FIRST_WINDOW_MS = 100;
/** Longest window of the retry delay in milliseconds. */
const LONGEST_WINDOW_MS = 5_000;

/** Delay before try `attempt` + 1 (0 for the first): full jitter in a growing window, on top of what the server asked for. */
export function retryDelayMs(attempt: number, error: LeaseholdError, random: () => number): number {
  const windowMs = Math.min(LONGEST_WINDOW_MS, FIRST_WINDOW_MS * 2 ** Math.min(attempt, 16));
  return (error.retryAfterMs ?? 0) + random() * windowMs;
}

/** The time that a call has, and its end by signal. Made when the call begins; always close it. */
export interface CallScope {
  /** Aborts when the time is over or the caller's signal fires; its reason is the LeaseholdError to throw. */
  readonly signal: AbortSignal;
  /** Milliseconds left; `undefined` if there is no limit. */
  remainingMs(): number | undefined;
  /** Takes timers and listeners back. */
  close(): void;
}

/**
 * Begins a call's scope. `defaultMs` left out: no limit.
 *
 * @throws LeaseholdError INVALID_ARGUMENT at `timeout`.
 */
export function openScope(clock: Clock, options: CallOptions, defaultMs?: number): CallScope {
  const limitMs = options.timeout === undefined ? defaultMs : requireDurationMs(options.timeout, "timeout");
  const controller = new AbortController();
  // A batch of submissions listens to it once for each.
  setMaxListeners(0, controller.signal);
  const startedMs = clock.monotonic();
  const onAbort = (): void => {
    controller.abort(new LeaseholdError({ code: "CANCELLED", message: "the caller's signal fired", cause: options.signal?.reason }));
  };
  // One signal may end any number of calls; Node would warn at the eleventh.
  if (options.signal !== undefined) setMaxListeners(0, options.signal);
  if (options.signal?.aborted === true) onAbort();
  else options.signal?.addEventListener("abort", onAbort, { once: true });
  const timer =
    limitMs === undefined
      ? undefined
      : clock.timer(limitMs, () => {
          controller.abort(
            new LeaseholdError({ code: "DEADLINE_EXCEEDED", message: `not done within ${String(limitMs)} ms`, retryable: true }),
          );
        });
  return {
    signal: controller.signal,
    remainingMs: () => (limitMs === undefined ? undefined : Math.max(0, limitMs - (clock.monotonic() - startedMs))),
    close() {
      timer?.cancel();
      options.signal?.removeEventListener("abort", onAbort);
    },
  };
}

/** Rejects with the scope's reason as soon as it ends; else what the promise does. */
export function within<T>(scope: CallScope, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(LeaseholdError.from(scope.signal.reason));
    if (scope.signal.aborted) stop();
    scope.signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => scope.signal.removeEventListener("abort", stop));
  });
}

/** What a retried call needs. */
export interface Caller {
  readonly transport: Transport;
  readonly clock: Clock;
  /** 0 to 1; Math.random unless a test says otherwise. */
  readonly random: () => number;
}

/** Sends one request until it is answered, its error is final, or the scope ends. `remainingMs` travels as the deadline. */
export async function callWithin<Request, Response>(
  { transport, clock, random }: Caller,
  scope: CallScope,
  method: UnaryMethod<Request, Response>,
  request: Request,
): Promise<Response> {
  const headers = traceHeaders();
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await within(
        scope,
        transport.unary(method, request, { headers, deadlineMs: scope.remainingMs(), signal: scope.signal, attempt: attempt + 1 }),
      );
    } catch (thrown) {
      const error = LeaseholdError.from(thrown);
      if (!mayRetry(error)) throw error;
      const delayMs = retryDelayMs(attempt, error, random);
      // Waiting into the timeout would only replace an error that says something by one that does not.
      if (delayMs >= (scope.remainingMs() ?? Infinity)) throw error;
      await sleep(clock, delayMs, scope.signal);
    }
  }
}

/** `callWithin` with a scope of its own. */
export async function callOnce<Request, Response>(
  caller: Caller,
  options: CallOptions,
  method: UnaryMethod<Request, Response>,
  request: Request,
): Promise<Response> {
  const scope = openScope(caller.clock, options, REQUEST_TIMEOUT_MS);
  try {
    return await callWithin(caller, scope, method, request);
  } finally {
    scope.close();
  }
}
