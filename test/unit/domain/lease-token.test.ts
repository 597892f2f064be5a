// Is a lease token one string for one lease, and nothing else a lease token?
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeLeaseToken, encodeLeaseToken, formatUuid } from "@leasehold/server/domain/lease-token";

const TASK_ID = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e";
const NONCE = "00112233445566778899aabbccddeeff";
const token = encodeLeaseToken(TASK_ID, NONCE);

describe("a lease token", () => {
  it("names its task and its lease, in 43 harmless characters", () => {
    expect(token).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(decodeLeaseToken(token)).toEqual({ taskId: TASK_ID, nonce: NONCE });
  });

  it.each([
    ["nothing", ""],
    ["a shorter one", token.slice(1)],
    ["a longer one", `${token}A`],
    ["one with padding", `${token}=`],
    ["one with white space", `${token}\n`],
    ["one with a letter of the other base64", `+${token.slice(1)}`],
    ["a task id", TASK_ID],
    ["something else of its length", "é".repeat(43)],
  ])("is not %s", (_, text) => {
    expect(decodeLeaseToken(text)).toBeNull();
  });

  it("has one spelling: the unused bits of its last character are zero", () => {
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const others = Array.from(letters, (letter) => token.slice(0, 42) + letter).filter((text) => decodeLeaseToken(text) !== null);
    expect(others).toHaveLength(16);
    expect(new Set(others.map((text) => decodeLeaseToken(text)?.nonce)).size).toBe(16);
  });

  it("comes back from any task id and nonce, and no two are alike", () => {
    const hex = fc.stringMatching(/^[0-9a-f]{32}$/);
    fc.assert(
      fc.property(hex, hex, (id, nonce) => {
        const made = encodeLeaseToken(formatUuid(id), nonce);
        expect(decodeLeaseToken(made)).toEqual({ taskId: formatUuid(id), nonce });
      }),
    );
  });

  it("is read from any text without an exception", () => {
    fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => void decodeLeaseToken(text)));
  });
});
