// In which order does what is sent arrive? In that in which it was sent, each in a later turn of the event loop.

import type { Activity } from "./activity.js";

/** One direction of one connection. */
export class Wire {
  readonly #queue: (() => void)[] = [];

  constructor(private readonly activity: Activity) {}

  /** Delivers by a call of `arrive`. */
  send(arrive: () => void): void {
    this.#queue.push(arrive);
    // As many turns as messages: each takes the one whose turn it is.
    this.activity.later(() => this.#queue.shift()?.());
  }

  /** What is on its way never arrives. */
  cut(): void {
    this.#queue.length = 0;
  }
}
