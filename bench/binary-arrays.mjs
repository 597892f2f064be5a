// How do parameters reach Postgres without being text? One-dimensional arrays in the wire's binary form, as the server sends them.

const HEAD_BYTES = 20;

/** Type numbers of Postgres. */
const OID = { uuid: 2950, int2: 21, text: 25, bytea: 17 };

function array(oid, items) {
  const bytes = items.reduce((sum, item) => sum + 4 + item.length, HEAD_BYTES);
  const buffer = Buffer.allocUnsafe(bytes);
  buffer.writeInt32BE(1, 0);
  buffer.writeInt32BE(0, 4);
  buffer.writeInt32BE(oid, 8);
  buffer.writeInt32BE(items.length, 12);
  buffer.writeInt32BE(1, 16);
  let at = HEAD_BYTES;
  for (const item of items) {
    at = buffer.writeInt32BE(item.length, at);
    at += item.copy(buffer, at);
  }
  return buffer;
}

/** uuid[] from buffers of 16 bytes. */
export function uuidArray(ids) {
  return array(OID.uuid, ids);
}

/** bytea[] from buffers. */
export function byteaArray(values) {
  return array(OID.bytea, values);
}

/** text[] from strings. */
export function textArray(values) {
  return array(
    OID.text,
    values.map((value) => Buffer.from(value)),
  );
}

/** int2[] from numbers. */
export function int2Array(values) {
  return array(
    OID.int2,
    values.map((value) => {
      const bytes = Buffer.allocUnsafe(2);
      bytes.writeInt16BE(value);
      return bytes;
    }),
  );
}
