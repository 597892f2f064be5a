// Does a claim begin late enough to skip what is done, and early enough to miss nothing?
import { describe, expect, it } from "vitest";
import { Watermarks } from "@leasehold/server/dispatch/watermarks";

const SECOND = 1_000_000;
const GROUP = { namespace: "default", queue: "q", name: "n", priority: 0, suspect: false };

describe("a claim's beginning", () => {
  it("is the beginning of the group until something was found there", () => {
    expect(new Watermarks().from(GROUP, 0)).toBeNull();
  });

  it("lies five seconds before the last task that was found", () => {
    const marks = new Watermarks();
    marks.found(GROUP, null, 100 * SECOND, 0);
    expect(marks.from(GROUP, 1)).toBe(95 * SECOND);
    marks.found(GROUP, 95 * SECOND, 103 * SECOND, 2);
    expect(marks.from(GROUP, 3)).toBe(98 * SECOND);
    expect(marks.from({ ...GROUP, priority: 1 }, 3)).toBeNull();
  });

  it("never goes on by what a claim found that came from further back", () => {
    const marks = new Watermarks();
    marks.found(GROUP, null, 100 * SECOND, 0);
    marks.found(GROUP, 95 * SECOND, 96 * SECOND, 1);
    expect(marks.from(GROUP, 1)).toBe(95 * SECOND);
  });

  it("is lowered by a task that is due earlier, not by one that is due later", () => {
    const marks = new Watermarks();
    marks.found(GROUP, null, 100 * SECOND, 0);
    marks.lower(GROUP, 200 * SECOND);
    expect(marks.from(GROUP, 1)).toBe(95 * SECOND);
    marks.lower(GROUP, 7);
    expect(marks.from(GROUP, 1)).toBe(7);
  });

  it("is that of the group again after five seconds, however much was found meanwhile", () => {
    const marks = new Watermarks();
    marks.found(GROUP, null, 100 * SECOND, 0);
    marks.found(GROUP, 95 * SECOND, 104 * SECOND, 4_999);
    expect(marks.from(GROUP, 4_999)).not.toBeNull();
    expect(marks.from(GROUP, 5_000)).toBeNull();
    marks.found(GROUP, null, 110 * SECOND, 5_000);
    expect(marks.from(GROUP, 5_001)).toBe(105 * SECOND);
  });
});
