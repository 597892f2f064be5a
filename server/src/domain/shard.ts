// Which shard does a task live in? The last byte of its id says so; on plain Postgres there is one shard.

/** Shard of a task: the last byte of its id modulo the number of shards. */
export function shardOf(taskId: string, shards: number): number {
  return shards === 1 ? 0 : Number.parseInt(taskId.slice(-2), 16) % shards;
}

/**
 * Makes a UUID version 7 from an instant and 10 random bytes. `lastByte` replaces the last one, so that tasks with a key
 * land in the key's shard.
 */
export function uuidV7(nowUs: number, random: Uint8Array, lastByte?: number): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
  const byte = (index: number): number => random[index] ?? 0;
  const ms = Math.floor(nowUs / 1000);
  // The 12 bits after the version carry the fraction of the millisecond, so that ids made in order sort in order.
  const fraction = Math.floor(((nowUs % 1000) * 4096) / 1000);
  const variant = 0x80 | (byte(0) & 0x3f);
  const tail = hex(byte(2), 2) + hex(byte(3), 2) + hex(byte(4), 2) + hex(byte(5), 2) + hex(byte(6), 2) + hex(lastByte ?? byte(7), 2);
  const time = hex(ms, 12);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(fraction, 3)}-${hex(variant, 2)}${hex(byte(1), 2)}-${tail}`;
}
