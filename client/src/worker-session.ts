// How does a worker stay one session while its connections come and go?
//
// One connection at a time. When it is over, the next one is opened after a delay with jitter, on the next address, with the session's
// id, a higher connection number and every lease that is still held. What cannot get better by waiting (credentials) ends it instead.
import { Hello, type Lease, type Revocation, type Cancel, type Slots, type Welcome } from "@leasehold/proto/leasehold/v1/worker_service";
import type { Progress } from "@leasehold/proto/leasehold/v1/task";
import type { Clock, Timer } from "./clock.js";
import { msFromDuration } from "./duration.js";
import type { LeaseholdError } from "./errors.js";
import { ExecuteStream } from "./execute-stream.js";
import type { LeaseKeeper } from "./lease-keeper.js";
import type { Logger } from "./log.js";
import type { ServerLimits } from "./server-limits.js";
import { SessionDeadline } from "./session-deadline.js";
import type { Transport } from "./transport.js";

/** What a session tells its worker. */
export interface SessionEvents {
  /** A connection is welcome. */
  ready(): void;
  readonly leases: (leases: readonly Lease[]) => void;
  readonly cancels: (cancels: readonly Cancel[]) => void;
  readonly revoked: (revoked: readonly Revocation[]) => void;
  /** Rule 8: the leases may be another's soon. Handlers are to stop. */
  disconnected(): void;
  /** Nothing will get better by itself. Nothing is called after it. */
  failed(error: LeaseholdError): void;
}

/** What a session needs. */
export interface SessionSurroundings {
  readonly transport: Transport;
  /** Learned from each welcome. */
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly random: () => number;
  readonly keeper: LeaseKeeper;
  readonly log: Logger;
  /** The parts of a hello that the worker decides, asked anew for each connection. */
  hello(): Partial<Hello>;
}

/** Errors that waiting does not heal. */
const FINAL_CODES: ReadonlySet<string> = new Set([
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "INVALID_ARGUMENT",
  "UNIMPLEMENTED",
  "CLIENT_CLOSED",
]);
/** How often in a row such an error is borne by a session that was welcome before: credentials are renewed, proxies restart. */
const MOST_FINAL_ERRORS = 5;
/** Longest delay before the first new connection. Five seconds spread two hundred workers enough; short sessions cannot wait for that. */
const FIRST_DELAY_MS = 5_000;
/** Later ones are up to this share of the absence, so that a worker is back soon after a short one: within its session, if that still lives. */
const SHARE_OF_ABSENCE = 0.5;
/** Longest delay of all. */
const LONGEST_DELAY_MS = 20_000;
/** What chance takes off a later delay: the first one has spread the workers, and shorter ones would crowd them again. */
const LATER_JITTER = 0.2;
/** One line about an outage at most this often. */
const LOG_EVERY_MS = 30_000;

/** The session of a worker. */
export class WorkerSession {
  /** Empty until the first welcome. */
  sessionId = "";
  /** Whether a connection is welcome now. */
  connected = false;
  /** Why the last connection ended, for people. */
  lastError = "no connection yet";
  readonly #deadline: SessionDeadline;
  #stream: ExecuteStream | undefined;
  #connection = 0;
  #ttlMs = 20_000;
  #failures = 0;
  #awayFromMs = 0;
  #finalErrors = 0;
  #timer: Timer | undefined;
  #draining = false;
  #closed = false;
  #loggedMs = -Infinity;
  #whenOver: () => void = () => undefined;

  constructor(
    private readonly around: SessionSurroundings,
    private readonly events: SessionEvents,
  ) {
    this.#deadline = new SessionDeadline(around.clock, () => {
      if (around.keeper.tokens.length > 0)
        around.log.warn("no heartbeat was answered for the session TTL: the running handlers are told to stop");
      events.disconnected();
    });
  }

  /** Opens a connection. */
  connect(): void {
    if (this.#closed) return;
    const { transport, clock, keeper, limits } = this.around;
    // From here on the old stream's leases are not taken: what the hello lists is complete.
    this.#stream?.close();
    this.connected = false;
    keeper.detach();
    this.#connection = this.sessionId === "" ? 1 : this.#connection + 1;
    const helloSentMs = clock.monotonic();
    const hello = Hello.create({
      ...this.around.hello(),
      connection: this.#connection,
      sessionId: this.sessionId,
      heldLeaseTokens: this.sessionId === "" ? [] : keeper.tokens,
    });
    const stream: ExecuteStream = new ExecuteStream(transport, clock, limits, () => this.#deadline.next(), hello, {
      welcome: (welcome) => this.#welcome(stream, welcome, helloSentMs),
      leases: this.events.leases,
      verdicts: (verdicts) => {
        for (const verdict of verdicts) keeper.settle(verdict);
      },
      cancels: this.events.cancels,
      revoked: this.events.revoked,
      heartbeatAnswered: (number) => this.#deadline.answered(number),
      drain: (afterMs) => this.#reconnect(afterMs, "the server is going away"),
      closed: (error) => this.#over(error),
    });
    this.#stream = stream;
  }

  /** Sends changed slots; lost while there is no connection, the next hello has them. */
  slots(slots: Slots): void {
    if (this.connected) this.#stream?.slots(slots);
  }

  /** Sends progress; lost while there is no connection. */
  progress(leaseToken: string, progress: Progress): void {
    if (this.connected) this.#stream?.progress(leaseToken, progress);
  }

  /** The machine stood still for so long, in milliseconds: it counts as passed, and the server is asked at once what is still ours. */
  slept(sleptMs: number): void {
    if (this.#closed || !this.connected) return;
    this.around.log.warn(`this machine slept for ${String(Math.round(sleptMs / 1_000))} s, or its clock was set: connecting again`);
    this.#deadline.slept(sleptMs);
    this.#timer?.cancel();
    this.#timer = undefined;
    this.connect();
  }

  /** Takes no more leases, on this connection and later ones. */
  drain(): void {
    this.#draining = true;
    if (this.connected) this.#stream?.drain();
  }

  /** Resolves when the server has ended the connection of a drained worker that holds nothing; at once if there is none. */
  over(): Promise<void> {
    return this.connected ? new Promise((resolve) => (this.#whenOver = resolve)) : Promise.resolve();
  }

  /** Ends the session's connection for good. */
  close(): void {
    this.#closed = true;
    this.connected = false;
    this.#timer?.cancel();
    this.#deadline.close();
    this.around.keeper.detach();
    this.#stream?.close();
  }

  #welcome(stream: ExecuteStream, welcome: Welcome, helloSentMs: number): void {
    const { keeper } = this.around;
    const isNew = welcome.sessionId !== this.sessionId;
    this.sessionId = welcome.sessionId;
    this.#ttlMs = welcome.sessionTtl === undefined ? this.#ttlMs : msFromDuration(welcome.sessionTtl);
    this.#deadline.begin(helloSentMs, this.#ttlMs, isNew);
    if (this.#failures > 0 && this.#loggedMs > -Infinity) this.around.log.info("connected again", { sessionId: this.sessionId });
    this.#failures = 0;
    this.#finalErrors = 0;
    this.#loggedMs = -Infinity;
    this.connected = true;
    for (const token of welcome.droppedLeaseTokens) keeper.drop(token);
    keeper.attach((reports) => stream.report(reports));
    if (this.#draining) stream.drain();
    this.events.ready();
  }

  #over(error: LeaseholdError | undefined): void {
    this.connected = false;
    this.around.keeper.detach();
    this.#whenOver();
    // A draining worker that holds nothing has nothing to come back for.
    if (this.#closed || (this.#draining && this.around.keeper.tokens.length === 0)) return;
    if (error !== undefined && FINAL_CODES.has(error.code)) {
      this.#finalErrors += 1;
      if (this.sessionId === "" || error.code === "CLIENT_CLOSED" || this.#finalErrors >= MOST_FINAL_ERRORS) {
        this.close();
        this.events.failed(error);
        return;
      }
    }
    this.#reconnect(error?.retryAfterMs ?? 0, error?.message ?? "the server ended the stream");
  }

  #reconnect(atLeastMs: number, why: string): void {
    this.lastError = why;
    // A drain that was announced has a delay already; the end of its stream must not shorten or lengthen it.
    if (this.#timer !== undefined) return;
    const nowMs = this.around.clock.monotonic();
    if (this.#failures === 0) this.#awayFromMs = nowMs;
    const mostMs = Math.min(FIRST_DELAY_MS, this.#ttlMs / 4);
    const chance = this.around.random();
    const jitteredMs =
      this.#failures === 0
        ? chance * mostMs
        : Math.min(LONGEST_DELAY_MS, Math.max(mostMs, (nowMs - this.#awayFromMs) * SHARE_OF_ABSENCE)) * (1 - LATER_JITTER * chance);
    const delayMs = atLeastMs + jitteredMs;
    this.#failures += 1;
    if (nowMs - this.#loggedMs >= LOG_EVERY_MS) {
      this.#loggedMs = nowMs;
      this.around.log.warn(`not connected (${why}); the next try is in ${String(Math.round(delayMs))} ms`, { tries: this.#failures });
    }
    this.#timer = this.around.clock.timer(delayMs, () => {
      this.#timer = undefined;
      this.connect();
    });
  }
}
