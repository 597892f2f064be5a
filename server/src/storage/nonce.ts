// What makes a lease token impossible to guess? 128 random bits, fresh for each session and claim.

import { randomBytes } from "node:crypto";

/** 128 fresh random bits as 32 hex digits. */
export function freshNonce(): string {
  return randomBytes(16).toString("hex");
}
