// Which of many readings of the database's clock is believed? The one that was least late; and a clock that was set back is followed.
import { describe, expect, it } from "vitest";
import { highestReading, systemClock } from "@leasehold/server/clock";

describe("readings of the database's clock", () => {
  it("count by the one whose answer took the least time", () => {
    const read = highestReading();
    expect([read(1_000_000, 0), read(980_000, 10), read(1_003_000, 20), read(600_000, 30)]).toEqual([
      1_000_000, 1_000_000, 1_003_000, 1_003_000,
    ]);
  });

  it("are forgotten after a while, so that a clock that runs slower is followed", () => {
    const read = highestReading();
    read(1_000_000, 0);
    for (let ms = 500; ms < 30_000; ms += 500) read(1_000_000 - ms * 10, ms);
    expect(read(700_000, 30_000)).toBeLessThan(900_000);
  });

  it("are followed at once when the clock was set back", () => {
    const read = highestReading();
    read(100_000_000, 0);
    expect(read(90_000_000, 10)).toBe(90_000_000);
    expect(read(90_000_100, 20)).toBe(90_000_100);
  });

  it("are all that counts after the first, however wrong the machine's own clock is", () => {
    const clock = systemClock();
    clock.observe(42_000_000);
    expect(clock.nowUs()).toBeGreaterThanOrEqual(42_000_000);
    expect(clock.nowUs()).toBeLessThan(52_000_000);
  });
});
