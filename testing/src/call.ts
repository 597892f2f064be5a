// How does a call within the process look to the server's handlers? As one of grpc-js: an emitter that data, cancels and ends come from and
// answers are written to. It is none of Node's streams, whose pace depends on globals that a test may have replaced.

import { EventEmitter } from "node:events";
import { Metadata } from "@grpc/grpc-js";

/** What a handler answers to a call. */
export interface CallAnswers {
  /** A message, still as bytes. */
  message(bytes: Buffer): void;
  /** The end, once: null where all went well. */
  ended(error: CallFailure | null): void;
}

/** A status as the server's handlers give it. */
export interface CallFailure {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** How messages of one method travel. */
export interface CallCodec {
  readonly requestDeserialize: (bytes: Buffer) => unknown;
  readonly responseSerialize: (message: unknown) => Buffer;
}

/** A call as the server sees it. */
export class ServerCall extends EventEmitter {
  cancelled = false;
  writableEnded = false;
  /** The one request of calls that have one. */
  request: unknown;
  readonly metadata = new Metadata();
  readonly #incoming: unknown[] = [];
  #flowing: boolean | null = null;
  #halfClosed = false;
  #over = false;

  constructor(
    private readonly codec: CallCodec,
    headers: Readonly<Record<string, string>>,
    private readonly answers: CallAnswers,
  ) {
    super();
    for (const [name, value] of Object.entries(headers)) this.metadata.set(name, value);
    // What a handler emits to end the call with a status.
    super.on("error", (error: CallFailure) => this.#end(error));
  }

  /** No call here has a deadline: whoever gives up cancels it. */
  getDeadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  override on(event: string, listener: (...parameters: never[]) => void): this {
    super.on(event, listener as (...parameters: unknown[]) => void);
    if (event === "data" && this.#flowing !== false) this.resume();
    return this;
  }

  pause(): this {
    this.#flowing = false;
    return this;
  }

  resume(): this {
    this.#flowing = true;
    this.#flowSoon();
    return this;
  }

  /** A message of the server's. There is always room: it is read as it comes. */
  write(message: unknown): boolean {
    if (!this.#over && !this.writableEnded) this.answers.message(this.codec.responseSerialize(message));
    return true;
  }

  /** The server ends the call with OK. */
  end(): void {
    this.#end(null);
  }

  /** A message of the client's arrives. */
  receive(bytes: Buffer): void {
    if (this.cancelled) return;
    this.#incoming.push(this.codec.requestDeserialize(bytes));
    this.#flowSoon();
  }

  /** The client sends no more. */
  halfClose(): void {
    this.#halfClosed = true;
    this.#flowSoon();
  }

  /** The client is gone. */
  cancel(): void {
    if (this.cancelled) return;
    this.#over = true;
    this.cancelled = true;
    this.emit("cancelled");
    this.emit("close");
  }

  // As in a stream of Node, data comes after the code that asked for it.
  #flowSoon(): void {
    void Promise.resolve().then(() => this.#flow());
  }

  #flow(): void {
    while (this.#flowing === true && this.#incoming.length > 0 && this.listenerCount("data") > 0) this.emit("data", this.#incoming.shift());
    if (this.#halfClosed && this.#incoming.length === 0 && this.#flowing === true) {
      this.#halfClosed = false;
      this.emit("end");
    }
  }

  #end(error: CallFailure | null): void {
    if (this.#over || this.writableEnded) return;
    this.writableEnded = true;
    this.answers.ended(error);
  }
}
