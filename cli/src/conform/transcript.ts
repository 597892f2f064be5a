// What was said on the wire, by whom and when? Lines for people, and what the worker said as events that the steps of a scenario wait for.
import type { Heartbeat, Hello, Report } from "@leasehold/proto/leasehold/v1/worker_service";
import type { ReportKind } from "./scenario.js";

/** Something that the worker did. `stream` counts from 1. */
export type Event =
  | { readonly kind: "hello"; readonly hello: Hello; readonly stream: number }
  | { readonly kind: "heartbeat"; readonly heartbeat: Heartbeat; readonly stream: number }
  | {
      readonly kind: "report";
      readonly report: Report;
      readonly label: string;
      readonly says: ReportKind | undefined;
      readonly resent: boolean;
      readonly stream: number;
    }
  | { readonly kind: "drain"; readonly stream: number }
  /** The outcome of a lease has its final verdict. */
  | { readonly kind: "settled"; readonly label: string }
  | { readonly kind: "exit"; readonly how: number | string };

/** One kind of event. */
export type EventOf<Kind extends Event["kind"]> = Extract<Event, { kind: Kind }>;

/** An event with its time, in milliseconds since the scenario began. */
export interface Timed<E> {
  readonly event: E;
  readonly atMs: number;
}

/** What waiting came to. */
export type Waited<E> = Timed<E> | { readonly gaveUp: "late" | "ended" };

/** What of a long scenario is kept. */
const MOST_LINES = 2_000;

/** The record of one scenario. */
export class Transcript {
  readonly #begunMs = performance.now();
  readonly #lines: string[] = [];
  readonly #events: Timed<Event>[] = [];
  readonly #consumed = new Set<Event>();
  readonly #listeners = new Set<() => void>();
  /** What no conforming worker does, in the order in which it was seen. */
  readonly faults: string[] = [];

  /** Milliseconds since the scenario began. */
  get nowMs(): number {
    return performance.now() - this.#begunMs;
  }

  /** Everything that was said, a line each. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** A line: `←` from the worker, `→` to it, `·` beside the wire. */
  say(direction: "←" | "→" | "·", text: string): void {
    if (this.#lines.length >= MOST_LINES) return;
    this.#lines.push(`${(this.nowMs / 1_000).toFixed(3).padStart(7)} ${direction} ${text}`);
  }

  /** Something that no conforming worker does. */
  fault(text: string): void {
    this.faults.push(text);
    this.say("·", `BROKEN RULE: ${text}`);
    this.#tell();
  }

  /** Something that the worker did. */
  add(event: Event): void {
    this.#events.push({ event, atMs: this.nowMs });
    this.#tell();
  }

  /** All events so far that fit, whether a step has used them or not. */
  all<E extends Event>(fits: (event: Event) => event is E): Timed<E>[] {
    return this.#events.flatMap(({ event, atMs }) => (fits(event) ? [{ event, atMs }] : []));
  }

  /**
   * The oldest event that fits and that no step has used; waits for it. Gives up after `withinMs`, when the program has ended or when a fault was
   * seen.
   */
  async next<E extends Event>(fits: (event: Event) => event is E, withinMs: number): Promise<Waited<E>> {
    const untilMs = this.nowMs + withinMs;
    for (;;) {
      const found = this.all(fits).find(({ event }) => !this.#consumed.has(event));
      if (found !== undefined) {
        this.#consumed.add(found.event);
        return found;
      }
      if (this.faults.length > 0 || this.#events.some(({ event }) => event.kind === "exit")) return { gaveUp: "ended" };
      if (this.nowMs >= untilMs) return { gaveUp: "late" };
      await this.#change(untilMs - this.nowMs);
    }
  }

  /** Marks events as used. */
  use(fits: (event: Event) => boolean): void {
    for (const { event } of this.#events) if (fits(event)) this.#consumed.add(event);
  }

  #change(atMostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(done);
        resolve();
      };
      const timer = setTimeout(done, atMostMs);
      this.#listeners.add(done);
    });
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
