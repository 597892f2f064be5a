// How does one connection of a worker work, from hello to its end?
//
// It says hello, waits for the welcome, heartbeats, reads, and writes what it is given: one outgoing queue for each stream, so that a dead
// stream never swallows what belongs on the next. It honours backpressure, cuts messages below the published limit, and ends the call when
// nothing was heard for three intervals. It never reconnects: whoever opened it does.
import {
  type Cancel,
  type Drain,
  type Hello,
  type Lease,
  type Report,
  type Revocation,
  type ServerMessage,
  type Slots,
  type Verdict,
  type Welcome,
  WorkerMessage,
  WorkerServiceService,
} from "@leasehold/proto/leasehold/v1/worker_service";
import type { Progress } from "@leasehold/proto/leasehold/v1/task";
import { atEndOfTurn, type Clock, type Timer } from "./clock.js";
import { msFromDuration } from "./duration.js";
import { LeaseholdError } from "./errors.js";
import type { ServerLimits } from "./server-limits.js";
import type { OutgoingStream, Transport } from "./transport.js";

/** What a connection tells its owner. Nothing is called after `closed`. */
export interface ExecuteStreamEvents {
  welcome(welcome: Welcome): void;
  leases(leases: readonly Lease[]): void;
  verdicts(verdicts: readonly Verdict[]): void;
  cancels(cancels: readonly Cancel[]): void;
  revoked(revoked: readonly Revocation[]): void;
  heartbeatAnswered(number: number): void;
  /** The server is going away: connect again after this delay in milliseconds. */
  drain(reconnectAfterMs: number): void;
  /** Exactly once; `undefined` if the server ended the stream with OK. */
  closed(error: LeaseholdError | undefined): void;
}

/** How long a server may take for the welcome, in milliseconds. */
const HANDSHAKE_MS = 10_000;
/** Progress of a task goes out at most this often, in milliseconds. */
const PROGRESS_MS = 250;
/** Most reports of one message, until the welcome says otherwise. */
const DEFAULT_REPORTS = 100;
/** What a report may weigh beside its payloads and error. */
const REPORT_FRAME_BYTES = 1_024;

/** One connection. */
export class ExecuteStream {
  readonly #stream: OutgoingStream<WorkerMessage>;
  readonly #timers = new Map<"watchdog" | "heartbeat" | "progress", Timer>();
  #mostReports = DEFAULT_REPORTS;
  #intervalMs = 0;
  #heardMs: number;
  #leasesReceived = 0;
  #closed = false;
  #writable = true;
  #flushing = false;
  #heartbeatDue = false;
  #reports: Report[] = [];
  #slots: Slots | undefined;
  #drain: Drain | undefined;
  readonly #progress = new Map<string, Progress>();
  #progressDue = false;
  #progressSentMs = -Infinity;

  constructor(
    transport: Transport,
    private readonly clock: Clock,
    private readonly limits: ServerLimits,
    private readonly nextHeartbeat: () => number,
    hello: Hello,
    private readonly events: ExecuteStreamEvents,
  ) {
    this.#heardMs = clock.monotonic();
    this.#stream = transport.stream(WorkerServiceService.executeTasks, {
      message: (message) => this.#read(message),
      writable: () => {
        this.#writable = true;
        this.#flushSoon();
      },
      closed: (error) => this.#over(error),
    });
    this.#writable = this.#stream.write(WorkerMessage.create({ hello }));
    this.#set("watchdog", HANDSHAKE_MS, () => this.#fail(`no welcome within ${String(HANDSHAKE_MS)} ms`));
  }

  /** Sends reports, in the order given. */
  report(reports: readonly Report[]): void {
    this.#reports.push(...reports);
    this.#flushSoon();
  }

  /** Sends how far a task is; the newest replaces what was not sent yet. */
  progress(leaseToken: string, progress: Progress): void {
    this.#progress.set(leaseToken, progress);
    if (this.#timers.has("progress") || this.#progressDue) return;
    this.#set("progress", this.#progressSentMs + PROGRESS_MS - this.clock.monotonic(), () => {
      this.#progressDue = true;
      this.#flushSoon();
    });
  }

  /** Sends changed slots; only the newest counts. */
  slots(slots: Slots): void {
    this.#slots = slots;
    this.#flushSoon();
  }

  /** Asks for no more leases. The server ends the stream when the worker holds nothing. */
  drain(): void {
    this.#drain = {};
    this.#flushSoon();
  }

  /** Ends the connection without a word; `closed` is not called. */
  close(): void {
    if (this.#closed) return;
    this.#end();
    this.#stream.cancel();
  }

  #read(message: ServerMessage): void {
    if (this.#closed) return;
    this.#heardMs = this.clock.monotonic();
    const { welcome, heartbeatAnswer, drain } = message;
    if (welcome !== undefined) this.#begin(welcome);
    if (message.verdicts.length > 0) this.events.verdicts(message.verdicts);
    if (message.leases.length > 0) {
      this.#leasesReceived += message.leases.length;
      this.events.leases(message.leases);
    }
    // After the leases: a cancel may travel with the lease that it stops.
    if (message.cancels.length > 0) this.events.cancels(message.cancels);
    if (message.revoked.length > 0) this.events.revoked(message.revoked);
    if (heartbeatAnswer !== undefined) this.events.heartbeatAnswered(heartbeatAnswer.number);
    if (drain !== undefined) this.events.drain(drain.reconnectAfter === undefined ? 0 : msFromDuration(drain.reconnectAfter));
  }

  #begin(welcome: Welcome): void {
    const { limits, heartbeatInterval } = welcome;
    this.#intervalMs = Math.max(1, heartbeatInterval === undefined ? 5_000 : msFromDuration(heartbeatInterval));
    if (limits !== undefined) {
      this.limits.learn(limits);
      if (limits.maxReports > 0) this.#mostReports = limits.maxReports;
    }
    this.events.welcome(welcome);
    this.#beat();
    this.#watch(3 * this.#intervalMs);
  }

  #beat(): void {
    if (this.#closed) return;
    this.#heartbeatDue = true;
    this.#flushSoon();
    this.#set("heartbeat", this.#intervalMs, () => this.#beat());
  }

  #watch(delayMs: number): void {
    if (this.#closed) return;
    const dueMs = this.clock.monotonic() + delayMs;
    this.#set("watchdog", delayMs, () => {
      const nowMs = this.clock.monotonic();
      const silentMs = nowMs - this.#heardMs;
      const limitMs = 3 * this.#intervalMs;
      if (silentMs < limitMs) this.#watch(limitMs - silentMs);
      // A blocked event loop makes everybody look silent: read first what is waiting in the socket.
      else if (nowMs - dueMs > this.#intervalMs) this.#watch(Math.min(100, this.#intervalMs));
      else this.#fail(`nothing heard for ${String(Math.round(silentMs))} ms`);
    });
  }

  #flushSoon(): void {
    if (this.#flushing || this.#closed || this.#intervalMs === 0) return;
    this.#flushing = true;
    atEndOfTurn(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (this.#writable && !this.#closed) {
      const message = this.#compose();
      if (message === undefined) return;
      this.#writable = this.#stream.write(message);
    }
  }

  #compose(): WorkerMessage | undefined {
    const nothing = !this.#heartbeatDue && this.#slots === undefined && this.#drain === undefined && !this.#progressDue;
    if (nothing && this.#reports.length === 0) return undefined;
    // Numbered when it is written, not when it was due: its age must not be guessed.
    const heartbeat = this.#heartbeatDue ? { number: this.nextHeartbeat(), leasesReceived: this.#leasesReceived } : undefined;
    const message = WorkerMessage.create({
      heartbeat,
      slots: this.#slots,
      reports: this.#takeReports(),
      progress: this.#progressDue ? this.#takeProgress() : [],
      drain: this.#drain,
    });
    this.#heartbeatDue = false;
    this.#slots = undefined;
    this.#drain = undefined;
    return message;
  }

  #takeReports(): Report[] {
    // A fifth is left for everything else in the message.
    const mostBytes = this.limits.messageBytes * 0.8;
    let bytes = 0;
    let count = 0;
    for (const report of this.#reports) {
      bytes += weigh(report, this.limits.errorBytes);
      if (count > 0 && (bytes > mostBytes || count >= this.#mostReports)) break;
      count += 1;
    }
    return this.#reports.splice(0, count);
  }

  #takeProgress(): { leaseToken: string; progress: Progress }[] {
    const taken = [...this.#progress].slice(0, 100).map(([leaseToken, progress]) => ({ leaseToken, progress }));
    for (const { leaseToken } of taken) this.#progress.delete(leaseToken);
    this.#progressDue = this.#progress.size > 0;
    this.#progressSentMs = this.clock.monotonic();
    return taken;
  }

  #set(name: "watchdog" | "heartbeat" | "progress", delayMs: number, callback: () => void): void {
    this.#timers.get(name)?.cancel();
    this.#timers.set(
      name,
      this.clock.timer(
        delayMs,
        () => {
          this.#timers.delete(name);
          callback();
        },
        { pulse: name !== "progress" },
      ),
    );
  }

  #fail(message: string): void {
    this.#stream.cancel();
    this.#over(new LeaseholdError({ code: "UNAVAILABLE", message, retryable: true }));
  }

  #over(error: LeaseholdError | undefined): void {
    if (this.#closed) return;
    this.#end();
    this.events.closed(error);
  }

  #end(): void {
    this.#closed = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }
}

/** About how many bytes a report takes, never too few. */
function weigh(report: Report, errorBytes: number): number {
  const body = report.checkpoint ?? report.complete ?? report.fail ?? report.suspend ?? report.cancel ?? report.release;
  const payloads = (body?.executionMetadata?.data.length ?? 0) + (report.complete?.result?.data.length ?? 0);
  return REPORT_FRAME_BYTES + payloads + ((report.fail?.error ?? report.cancel?.error) ? errorBytes : 0);
}
