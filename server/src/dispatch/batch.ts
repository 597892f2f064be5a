// How do calls that come at the same time become one statement? They are gathered until the end of the event loop's turn and
// sent when a lane is free; while all lanes are busy they wait and the next batch grows. A lone call waits for nothing.

import type { Clock } from "../clock.js";
import { DatabaseFault } from "../storage/faults.js";

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
}

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly bytes: number;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** Gathers items and hands them to `run` in batches, which answers each item in order. */
export class Batcher<Item, Answer> {
  private waiting: Waiting<Item, Answer>[] = [];
  private underWay = 0;
  private scheduled = false;

  constructor(
    private readonly clock: Clock,
    private readonly limits: BatchLimits,
    private readonly run: (items: readonly Item[]) => Promise<readonly Answer[]>,
  ) {}

  /** Items that wait for a lane. */
  get queued(): number {
    return this.waiting.length;
  }

  /** Adds an item; rejects with a fault of kind `overloaded` when too many wait, and with whatever its batch fails with. */
  add(item: Item, bytes = 0): Promise<Answer> {
    if (this.waiting.length >= this.limits.maxWaiting) {
      return Promise.reject(new DatabaseFault("overloaded", "too many calls wait for the database", false, 100));
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, bytes, resolve, reject });
      this.schedule();
    });
  }

  private schedule(): void {
    if (this.scheduled || this.underWay >= this.limits.lanes || this.waiting.length === 0) return;
    this.scheduled = true;
    this.clock.soon(() => {
      this.scheduled = false;
      while (this.underWay < this.limits.lanes && this.waiting.length > 0) this.send(this.take());
    });
  }

  private take(): Waiting<Item, Answer>[] {
    let count = 0;
    let bytes = 0;
    for (const one of this.waiting) {
      if (count >= this.limits.maxItems || (count > 0 && bytes + one.bytes > this.limits.maxBytes)) break;
      bytes += one.bytes;
      count++;
    }
    return this.waiting.splice(0, count);
  }

  private send(batch: Waiting<Item, Answer>[]): void {
    this.underWay++;
    void this.settle(batch).finally(() => {
      this.underWay--;
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
