// Does a worker stop before anybody else can have its tasks? From the sending of the heartbeat that was answered, whatever was sent since.
import { describe, expect, it } from "vitest";
import { SessionDeadline } from "../../../client/src/session-deadline.js";
import { FakeClock } from "./fake-clock.js";

const TTL_MS = 1000;

function deadline(): { clock: FakeClock; session: SessionDeadline; stopped: () => number | null } {
  const clock = new FakeClock();
  const beganMs = clock.monotonic();
  let stoppedMs: number | null = null;
  const session = new SessionDeadline(clock, () => (stoppedMs = clock.monotonic() - beganMs));
  session.begin(beganMs, TTL_MS, true);
  return { clock, session, stopped: () => stoppedMs };
}

describe("the deadline of a session", () => {
  it("counts from the hello until a heartbeat is answered", async () => {
    const { clock, session, stopped } = deadline();
    await clock.advance(600);
    session.next();
    await clock.advance(600);
    expect(stopped()).toBe(TTL_MS);
  });

  it("counts from when the answered heartbeat was sent, not from the answer and not from a later heartbeat", async () => {
    const { clock, session, stopped } = deadline();
    await clock.advance(300);
    const first = session.next();
    await clock.advance(400);
    session.next();
    await clock.advance(200);
    session.answered(first);
    await clock.advance(2000);
    expect(stopped()).toBe(300 + TTL_MS);
  });

  it("is never brought forward by an older answer, nor moved by one to a number that nobody sent", async () => {
    const { clock, session, stopped } = deadline();
    const first = session.next();
    await clock.advance(400);
    const second = session.next();
    session.answered(second);
    session.answered(first);
    session.answered(99);
    await clock.advance(2000);
    expect(stopped()).toBe(400 + TTL_MS);
  });
});
