// What does one connection cost just now? Bytes of requests that are not answered, of answers that are not read, and bytes that are neither: frames
// that carry no call and no message, and that nothing which was sent provoked.

import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Config } from "../config.js";
import { PartialMessage } from "./partial-message.js";
import { answer } from "./request-gate.js";

type Limits = Pick<Config["limits"], "handshakeMs" | "requestMs" | "controlBytes">;

interface Call {
  readonly stream: ServerHttp2Stream;
  readonly arrivedMs: number;
  /** Null: one request, of which every byte is held until it is answered. */
  readonly partial: PartialMessage | null;
  /** When it was first seen to be answered while its other side still sends. */
  answeredMs: number | null;
}

const FRAME_BYTES = 9;
const PING_BYTES = 17;
/** Bytes of a call that may go unseen at its begin or end, headers or what came after the answer: one window. */
const WINDOW_BYTES = 64 * 1024;
/** Window updates and pings that measure the line answer what was sent, small messages one for one. */
const PROVOKED_PER_BYTE = 4;
/** How long whoever still sends may go on after the answer. */
const AFTER_ANSWER_MS = 2_000;

/** One connection under guard. */
export class GuardedConnection {
  private readonly calls = new Set<Call>();
  private greeted = false;
  private requestBytes = 0;
  private unreadBytes = 0;
  // Since the last look.
  private acknowledgedBytes = 0;
  private turnover = 0;
  private messageBytes = 0;
  private bufferedBytes = 0;
  private lastRead = 0;
  private lastWritten = 0;
  private lookedMs: number;

  constructor(
    private readonly session: ServerHttp2Session,
    private readonly limits: Limits,
    private readonly openedMs: number,
  ) {
    this.lookedMs = openedMs;
    session.on("remoteSettings", () => {
      this.greeted = true;
      this.acknowledgedBytes += FRAME_BYTES;
    });
    session.on("ping", () => {
      this.acknowledgedBytes += PING_BYTES;
    });
  }

  /** Bytes of unanswered requests, as they are, and of unread answers, as they were at the last look. */
  get heldBytes(): number {
    return this.requestBytes + this.unreadBytes;
  }

  /** Follows a call from its headers on. */
  follow(stream: ServerHttp2Stream, takesStream: boolean, nowMs: number): void {
    const call: Call = { stream, arrivedMs: nowMs, partial: takesStream ? new PartialMessage() : null, answeredMs: null };
    let held = 0;
    this.calls.add(call);
    this.turnover++;
    stream.on("data", (chunk: Buffer) => {
      this.messageBytes += chunk.length + FRAME_BYTES;
      call.partial?.take(chunk);
      const before = held;
      held = call.partial?.bytes ?? (stream.writableEnded ? 0 : held + chunk.length);
      this.requestBytes += held - before;
    });
    stream.once("close", () => {
      this.requestBytes -= held;
      this.turnover++;
      this.calls.delete(call);
    });
  }

  /** Looks at it again. Answers why it must be cut, or null. */
  look(nowMs: number): string | null {
    if (this.session.destroyed) return null;
    if (!this.greeted && nowMs - this.openedMs > this.limits.handshakeMs) return "it did not introduce itself in time";
    let buffered = 0;
    this.unreadBytes = 0;
    for (const call of this.calls) {
      this.unreadBytes += call.stream.writableLength;
      buffered += call.stream.readableLength;
      this.endLate(call, nowMs);
    }
    return this.floods(nowMs, buffered) ? "it sent too many frames without calls or messages" : null;
  }

  /** Ends it and every call of it. */
  cut(why: string): void {
    this.session.destroy(new Error(why), constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  // A request that takes too long is refused; one that was answered is not read for ever.
  private endLate(call: Call, nowMs: number): void {
    const { stream, arrivedMs, partial } = call;
    if (stream.readableEnded || stream.destroyed) return;
    if (stream.writableEnded) {
      call.answeredMs ??= nowMs;
      if (nowMs - call.answeredMs > AFTER_ANSWER_MS) stream.close();
    } else if (partial === null && nowMs - arrivedMs > this.limits.requestMs) {
      answer(stream, { refusal: { reason: "REQUEST_TOO_SLOW" } });
    }
  }

  private floods(nowMs: number, buffered: number): boolean {
    const { socket } = this.session;
    const [read, written] = [socket.bytesRead, socket.bytesWritten];
    const control = read - this.lastRead - this.messageBytes - (buffered - this.bufferedBytes);
    const provoked = Math.max(written - this.lastWritten - this.acknowledgedBytes, 0) * PROVOKED_PER_BYTE;
    const seconds = Math.max((nowMs - this.lookedMs) / 1000, 1);
    const allowed = this.limits.controlBytes * seconds + this.turnover * WINDOW_BYTES + provoked;
    [this.lastRead, this.lastWritten, this.lookedMs, this.bufferedBytes] = [read, written, nowMs, buffered];
    this.acknowledgedBytes = this.turnover = this.messageBytes = 0;
    return control > allowed;
  }
}
