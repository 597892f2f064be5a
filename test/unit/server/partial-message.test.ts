// Is it known at each byte of a stream how much of a message is not complete? However the bytes are cut into chunks.
import { PartialMessage } from "@leasehold/server/api/partial-message";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

function framed(length: number): Buffer {
  const message = Buffer.alloc(5 + length, 1);
  message.writeUInt32BE(length, 1);
  return message;
}

describe("a partial message", () => {
  it("counts what came of it, its prefix included, in whatever chunks it comes", () => {
    const lengths = fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 8 });
    const cuts = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 });
    fc.assert(
      fc.property(lengths, cuts, (messages, steps) => {
        const bytes = Buffer.concat(messages.map(framed));
        const ends = messages.reduce<number[]>((found, length) => [...found, (found.at(-1) ?? 0) + 5 + length], [0]);
        const partial = new PartialMessage();
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const step = steps[turn % steps.length] ?? 1;
          partial.take(bytes.subarray(at, at + step));
          at = Math.min(at + step, bytes.length);
          expect(partial.bytes).toBe(at - Math.max(...ends.filter((end) => end <= at)));
        }
      }),
    );
  });

  it("that claims 2^32 - 1 bytes is never complete", () => {
    const partial = new PartialMessage();
    partial.take(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]));
    partial.take(Buffer.alloc(1_000));
    expect(partial.bytes).toBe(1_005);
  });
});
