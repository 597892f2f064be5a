// How do arrays travel to Postgres? In its binary form: no quoting, no parsing of text, a tenth of a task's whole cost less.

const OID = { bool: 16, bytea: 17, int8: 20, int2: 21, int4: 23, text: 25, float8: 701, timestamptz: 1184, uuid: 2950 } as const;

/** Microseconds between 1970 and 2000, where Postgres begins to count. */
const POSTGRES_EPOCH_US = 946_684_800_000_000;

/** Encodes `text[]`. */
export function textArray(values: readonly (string | null)[]): Buffer {
  return variable(
    OID.text,
    values.map((value) => (value === null ? null : Buffer.from(value, "utf8"))),
  );
}

/** Encodes `bytea[]`. */
export function byteaArray(values: readonly (Uint8Array | null)[]): Buffer {
  return variable(OID.bytea, values);
}

/** Encodes `uuid[]` from dashed UUIDs. */
export function uuidArray(values: readonly (string | null)[]): Buffer {
  return fixed(OID.uuid, 16, values, (buffer, value, at) => buffer.write(value.replaceAll("-", ""), at, "hex"));
}

/** Encodes `bytea[]` from hex digits. */
export function hexArray(values: readonly (string | null)[]): Buffer {
  return variable(
    OID.bytea,
    values.map((value) => (value === null ? null : Buffer.from(value, "hex"))),
  );
}

/** Encodes `int2[]`. */
export function int2Array(values: readonly (number | null)[]): Buffer {
  return fixed(OID.int2, 2, values, (buffer, value, at) => buffer.writeInt16BE(value, at));
}

/** Encodes `int4[]`. */
export function int4Array(values: readonly (number | null)[]): Buffer {
  return fixed(OID.int4, 4, values, (buffer, value, at) => buffer.writeInt32BE(value, at));
}

/** Encodes `int8[]` from safe integers. */
export function int8Array(values: readonly (number | null)[]): Buffer {
  return fixed(OID.int8, 8, values, writeInt8);
}

/** Encodes `float8[]`. */
export function float8Array(values: readonly (number | null)[]): Buffer {
  return fixed(OID.float8, 8, values, (buffer, value, at) => buffer.writeDoubleBE(value, at));
}

/** Encodes `bool[]`. */
export function boolArray(values: readonly (boolean | null)[]): Buffer {
  return fixed(OID.bool, 1, values, (buffer, value, at) => buffer.writeUInt8(value ? 1 : 0, at));
}

/** Encodes `timestamptz[]` from microseconds since 1970. */
export function instantArray(values: readonly (number | null)[]): Buffer {
  return fixed(OID.timestamptz, 8, values, (buffer, value, at) => {
    writeInt8(buffer, value - POSTGRES_EPOCH_US, at);
  });
}

function writeInt8(buffer: Buffer, value: number, at: number): void {
  const high = Math.floor(value / 4_294_967_296);
  buffer.writeInt32BE(high, at);
  buffer.writeUInt32BE(value - high * 4_294_967_296, at + 4);
}

function header(buffer: Buffer, oid: number, length: number, hasNull: boolean): void {
  buffer.writeInt32BE(length === 0 ? 0 : 1, 0);
  buffer.writeInt32BE(hasNull ? 1 : 0, 4);
  buffer.writeInt32BE(oid, 8);
  if (length === 0) return;
  buffer.writeInt32BE(length, 12);
  buffer.writeInt32BE(1, 16);
}

function fixed<T>(
  oid: number,
  width: number,
  values: readonly (T | null)[],
  write: (buffer: Buffer, value: T, at: number) => unknown,
): Buffer {
  const nulls = values.reduce((count: number, value) => (value === null ? count + 1 : count), 0);
  const buffer = Buffer.allocUnsafe(values.length === 0 ? 12 : 20 + values.length * 4 + (values.length - nulls) * width);
  header(buffer, oid, values.length, nulls > 0);
  let at = 20;
  for (const value of values) {
    buffer.writeInt32BE(value === null ? -1 : width, at);
    at += 4;
    if (value === null) continue;
    write(buffer, value, at);
    at += width;
  }
  return buffer;
}

function variable(oid: number, values: readonly (Uint8Array | null)[]): Buffer {
  let size = values.length === 0 ? 12 : 20;
  let hasNull = false;
  for (const value of values) {
    size += 4 + (value?.byteLength ?? 0);
    hasNull ||= value === null;
  }
  const buffer = Buffer.allocUnsafe(size);
  header(buffer, oid, values.length, hasNull);
  let at = 20;
  for (const value of values) {
    buffer.writeInt32BE(value === null ? -1 : value.byteLength, at);
    at += 4;
    if (value === null) continue;
    buffer.set(value, at);
    at += value.byteLength;
  }
  return buffer;
}
