// How do calls that come at the same time become one statement? They are gathered until the end of the event loop's turn and
// sent when a lane is free; while all lanes are busy they wait and the next batch grows. A lone call waits for nothing. What would wait too
// long is refused as it comes, and what its caller gave up is not sent.

import type { Clock } from "../clock.js";
import { DatabaseFault, overloaded } from "../storage/faults.js";
import type { Caller } from "../storage/turnstile.js";
import { BatchTimes } from "./batch-times.js";

/** How a batcher gathers. */
export interface BatchLimits {
  /** Most items of one batch. */
  readonly maxItems: number;
  /** Most bytes of one batch; a single larger item goes alone. */
  readonly maxBytes: number;
  /** Batches under way at once. */
  readonly lanes: number;
  /** Most items that may wait; more are refused as overload. */
  readonly maxWaiting: number;
  /** Most bytes that may wait; default: no bound of their own. */
  readonly maxWaitingBytes?: number;
  /** Longest that a caller may be expected to wait, in milliseconds; default: no bound. */
  readonly maxWaitMs?: number;
}

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly bytes: number;
  readonly caller: Caller | undefined;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

interface UnderWay {
  readonly count: number;
  readonly sinceMs: number;
}

/** Gathers items and hands them to `run` in batches, which answers each item in order. */
export class Batcher<Item, Answer> {
  private waiting: Waiting<Item, Answer>[] = [];
  private waitingBytes = 0;
  private readonly underWay = new Set<UnderWay>();
  private scheduled = false;
  private readonly times = new BatchTimes();

  constructor(
    private readonly clock: Clock,
    private readonly limits: BatchLimits,
    private readonly run: (items: readonly Item[]) => Promise<readonly Answer[]>,
  ) {}

  /** Items that wait for a lane. */
  get queued(): number {
    return this.waiting.length;
  }

  /**
   * Adds an item. Rejects with a fault of kind `overloaded` when too much waits, or when its caller would wait too long, and with whatever its
   * batch fails with. Without a caller an item is only counted: it was accepted before, or is the server's own.
   */
  add(item: Item, bytes = 0, caller?: Caller): Promise<Answer> {
    const { maxWaiting, maxWaitingBytes = Number.POSITIVE_INFINITY } = this.limits;
    const full = this.waiting.length >= maxWaiting || (this.waiting.length > 0 && this.waitingBytes + bytes > maxWaitingBytes);
    if (full || (caller !== undefined && this.wouldWaitTooLong(caller)))
      return Promise.reject(overloaded("too many calls wait for the database", this.expectedMs(), this.clock.chance()));
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, bytes, caller, resolve, reject });
      this.waitingBytes += bytes;
      this.schedule();
    });
  }

  private wouldWaitTooLong(caller: Caller): boolean {
    const { maxItems, lanes, maxWaitMs = Number.POSITIVE_INFINITY } = this.limits;
    // Goes with the next turn of the event loop.
    if (this.waiting.length < (lanes - this.underWay.size) * maxItems) return false;
    return this.expectedMs() > Math.min(maxWaitMs, caller.leftMs());
  }

  // Until the answer of one more item, beyond what it would take if it went alone and at once: a lane must become free, full batches go
  // before, and its own is the longer the more share it.
  private expectedMs(): number {
    const { maxItems, lanes } = this.limits;
    const nowMs = this.clock.monotonicMs();
    const expected = (count: number): number => this.times.expectedMs(count, nowMs);
    const ahead = Math.max(this.waiting.length - (lanes - this.underWay.size) * maxItems, 0);
    const before = Math.floor(ahead / maxItems) * expected(maxItems);
    const own = Math.max(expected((ahead % maxItems) + 1) - this.times.aloneMs(nowMs), 0);
    return this.laneFreeMs(nowMs) + before / lanes + own;
  }

  // One that takes longer than it should will take as long again, for all that anybody knows.
  private laneFreeMs(nowMs: number): number {
    if (this.underWay.size < this.limits.lanes) return 0;
    let soonest = Number.POSITIVE_INFINITY;
    for (const { count, sinceMs } of this.underWay)
      soonest = Math.min(soonest, Math.abs(this.times.expectedMs(count, sinceMs) - (nowMs - sinceMs)));
    return soonest;
  }

  private schedule(): void {
    if (this.scheduled || this.underWay.size >= this.limits.lanes || this.waiting.length === 0) return;
    this.scheduled = true;
    this.clock.soon(() => {
      this.scheduled = false;
      while (this.underWay.size < this.limits.lanes && this.waiting.length > 0) this.send(this.take());
    });
  }

  private take(): Waiting<Item, Answer>[] {
    const { maxItems, maxBytes } = this.limits;
    const batch: Waiting<Item, Answer>[] = [];
    let bytes = 0;
    let looked = 0;
    for (const one of this.waiting) {
      if (batch.length >= maxItems || (batch.length > 0 && bytes + one.bytes > maxBytes)) break;
      looked++;
      this.waitingBytes -= one.bytes;
      if (one.caller?.gone() === true) {
        one.reject(overloaded("the caller did not wait", 0, 0));
        continue;
      }
      bytes += one.bytes;
      batch.push(one);
    }
    this.waiting.splice(0, looked);
    return batch;
  }

  private send(batch: Waiting<Item, Answer>[]): void {
    if (batch.length === 0) return;
    const sent: UnderWay = { count: batch.length, sinceMs: this.clock.monotonicMs() };
    this.underWay.add(sent);
    void this.settle(batch).finally(() => {
      this.underWay.delete(sent);
      const nowMs = this.clock.monotonicMs();
      this.times.took(sent.count, nowMs - sent.sinceMs, nowMs);
      this.schedule();
    });
  }

  // An item that Postgres refuses must not fail its neighbours: the batch is halved until the culprit fails alone.
  private async settle(batch: readonly Waiting<Item, Answer>[]): Promise<void> {
    try {
      const answers = await this.run(batch.map((one) => one.item));
      batch.forEach((one, index) => {
        one.resolve(answers[index] as Answer);
      });
    } catch (error) {
      if (batch.length > 1 && isCausedByOneItem(error)) {
        const half = Math.ceil(batch.length / 2);
        await this.settle(batch.slice(0, half));
        await this.settle(batch.slice(half));
        return;
      }
      for (const one of batch) one.reject(error);
    }
  }
}

function isCausedByOneItem(error: unknown): boolean {
  if (!(error instanceof DatabaseFault)) return true;
  return error.kind === "invalid-value" || error.kind === "unexpected" || error.kind === "conflict";
}
