// How does the server keep payloads that it cannot read?
//
// AES-256-GCM with named keys: the name of the key is in the content type, so old payloads stay readable while a new key encrypts. The
// content type of what is inside is encrypted with it. Whoever changes a byte, or the name of the key, is found out.
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { invalid, type Violation } from "./errors.js";
import type { EncodedPayload, PayloadCodec } from "./payload-codec.js";

/** A key: 32 bytes, or their base64. */
export type AesKey = Uint8Array | string;

/** Options of `aesGcmCodec`. */
export interface AesGcmOptions {
  /** Keys by name (1 to 48 letters, digits, `_ . -`). All of them decrypt; keep an old one for as long as payloads of it are stored. */
  readonly keys: Readonly<Record<string, AesKey>>;
  /** Name of the key that encrypts. */
  readonly current: string;
  /**
   * Keys the fingerprint (HMAC-SHA-256) by which the server compares encrypted metadata when an idempotency key is taken. It stays the same
   * when `keys` rotate: another one makes equal metadata look different, and the submission is refused.
   */
  readonly fingerprintKey: AesKey;
}

const MARK = "application/vnd.leasehold.aes-256-gcm; key=";
const IV_BYTES = 12;
const TAG_BYTES = 16;

interface NamedKey {
  readonly encryption: Buffer;
  /** Derives initialization vectors where encoding must be repeatable; never used to encrypt. */
  readonly derivation: Buffer;
}

/**
 * A codec that encrypts every payload. Put it last. Encrypted are metadata, execution metadata, results and the data of declared errors;
 * names, keys, labels, notes, reasons, progress, and messages and stacks of errors are not.
 *
 * @throws LeaseholdError INVALID_ARGUMENT for a key that is not 32 bytes, a name, or a `current` that is none of `keys`.
 */
export function aesGcmCodec(options: AesGcmOptions): PayloadCodec {
  const violations: Violation[] = [];
  const keys = new Map<string, NamedKey>();
  for (const [name, key] of Object.entries(options.keys)) {
    if (!/^[\w.-]{1,48}$/.test(name))
      violations.push({ path: `keys.${name}`, message: "must have a name of 1 to 48 letters, digits, _ . -" });
    const encryption = bytesOf(key, `keys.${name}`, violations);
    keys.set(name, { encryption, derivation: derived(encryption, "leasehold iv") });
  }
  const current = keys.get(options.current);
  if (current === undefined) violations.push({ path: "current", message: "must be the name of one of keys" });
  const fingerprintKey = derived(bytesOf(options.fingerprintKey, "fingerprintKey", violations), "leasehold fingerprint");
  if (current === undefined || violations.length > 0) throw invalid(violations);
  return {
    name: "aes-256-gcm",
    encode: (payload, { seed }) => encrypt(payload, options.current, current, seed),
    decode(payload) {
      if (!payload.contentType.startsWith(MARK)) return payload;
      const name = payload.contentType.slice(MARK.length);
      const key = keys.get(name);
      if (key === undefined) throw new Error(`is encrypted with key ${JSON.stringify(name)}, which is none of its keys`);
      return decrypt(payload, key);
    },
    fingerprint: (bytes) => createHmac("sha256", fingerprintKey).update(bytes).digest(),
  };
}

function encrypt({ data, contentType }: EncodedPayload, name: string, key: NamedKey, seed: string | undefined): EncodedPayload {
  const marked = MARK + name;
  const inner = Buffer.from(contentType, "utf8");
  const plain = Buffer.concat([Buffer.from([inner.length]), inner, data]);
  // Depends on every byte of the plain text: two texts never share one.
  const iv =
    seed === undefined
      ? randomBytes(IV_BYTES)
      : createHmac("sha256", key.derivation)
          .update(`${String(seed.length)}:${seed}`)
          .update(plain)
          .digest()
          .subarray(0, IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key.encryption, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(marked, "utf8"));
  const encrypted = [iv, cipher.update(plain), cipher.final()];
  return { data: Buffer.concat([...encrypted, cipher.getAuthTag()]), contentType: marked };
}

function decrypt({ data, contentType }: EncodedPayload, key: NamedKey): EncodedPayload {
  if (data.length < IV_BYTES + TAG_BYTES + 1) throw new Error("is cut off");
  const decipher = createDecipheriv("aes-256-gcm", key.encryption, data.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(contentType, "utf8"));
  decipher.setAuthTag(data.subarray(data.length - TAG_BYTES));
  let plain: Buffer;
  try {
    plain = Buffer.concat([decipher.update(data.subarray(IV_BYTES, data.length - TAG_BYTES)), decipher.final()]);
  } catch (error) {
    throw new Error("does not decrypt: it was damaged, or its key has another value here", { cause: error });
  }
  const end = 1 + plain.readUInt8(0);
  return { data: plain.subarray(end), contentType: plain.toString("utf8", 1, end) };
}

function bytesOf(key: unknown, path: string, violations: Violation[]): Buffer {
  const bytes =
    typeof key === "string"
      ? Buffer.from(key, "base64")
      : ArrayBuffer.isView(key)
        ? // A copy: whoever gave it may overwrite it.
          Buffer.from(new Uint8Array(key.buffer, key.byteOffset, key.byteLength))
        : Buffer.alloc(0);
  if (bytes.length !== 32) violations.push({ path, message: "must be 32 bytes, or their base64" });
  return bytes;
}

function derived(key: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", key, "", purpose, 32));
}
