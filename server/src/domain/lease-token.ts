// How is a lease named on the wire? Task id and nonce in one opaque string, so that a report finds its row without a look-up.

/** A lease token, taken apart. */
export interface LeaseName {
  /** Task id as a dashed UUID. */
  readonly taskId: string;
  /** The lease's nonce as 32 hex digits. */
  readonly nonce: string;
}

const TOKEN_BYTES = 32;
const TOKEN_FORM = /^[A-Za-z0-9_-]{43}$/;

/** Makes the token: 43 characters of base64url. */
export function encodeLeaseToken(taskId: string, nonce: string): string {
  return Buffer.from(taskId.replaceAll("-", "") + nonce, "hex").toString("base64url");
}

/** Takes a token apart; null if it cannot be one. */
export function decodeLeaseToken(token: string): LeaseName | null {
  if (!TOKEN_FORM.test(token)) return null;
  const bytes = Buffer.from(token, "base64url");
  // The last character carries two unused bits: another spelling of the same bytes is not the token that was given.
  if (bytes.length !== TOKEN_BYTES || bytes.toString("base64url") !== token) return null;
  const hex = bytes.toString("hex");
  return { taskId: formatUuid(hex.slice(0, 32)), nonce: hex.slice(32) };
}

/** Puts the dashes into 32 hex digits. */
export function formatUuid(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
