// How are rows read and written so that a worker may die between any two steps? Read from a byte offset, written under that offset: a chunk that
// comes twice is recognized by its place, and is the same or refused.
import { randomUUID } from "node:crypto";
import { link, mkdir, open, readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Whole lines of a file. */
export interface Chunk {
  readonly text: string;
  readonly rows: number;
  /** Where the next chunk begins, in bytes. */
  readonly nextOffset: number;
}

const CHUNK_BYTES = 16_384;

/** Reads the lines that begin at a byte offset, some 16 KiB of them; no rows at the end of the file. The header is skipped. */
export async function readChunk(csv: string, offset: number): Promise<Chunk> {
  const file = await open(csv, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, offset);
    const end = buffer.subarray(0, bytesRead).lastIndexOf("\n") + 1;
    const begin = offset === 0 ? buffer.indexOf("\n") + 1 : 0;
    const text = buffer.toString("utf8", Math.min(begin, end), end);
    return { text, rows: text.split("\n").length - 1, nextOffset: offset + end };
  } finally {
    await file.close();
  }
}

/**
 * Writes a chunk under its offset, whole or not at all.
 * @returns false if the same chunk was there already.
 * @throws Error if another chunk is there: two workers disagree, and the first one stands.
 */
export async function writeChunk(folder: string, offset: number, text: string): Promise<boolean> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${String(offset).padStart(10, "0")}.csv`);
  const draft = join(folder, `.${randomUUID()}`);
  await writeFile(draft, text);
  try {
    // Unlike a rename a link never replaces what is there.
    await link(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if ((await readFile(path, "utf8")) !== text) throw new Error(`another chunk was written at offset ${offset} already`, { cause: error });
    return false;
  } finally {
    await unlink(draft);
  }
}

/** All rows that were written, in the order of their offsets. */
export async function writtenRows(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".csv")).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  return texts.flatMap(rowsOf);
}

/** The rows of a text without its last line feed. */
export function rowsOf(text: string): string[] {
  return text === "" ? [] : text.replace(/\n$/, "").split("\n");
}
