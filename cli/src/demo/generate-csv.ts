// Where do the demo's rows come from? A made-up season of weather readings, the same every time, so that the output can be checked to the byte.

/** Rows in the demo's file, without its header. */
export const demoRows = 25_000;

const HEADER = "row,time,station,celsius,humidity";
const STATIONS = ["Aalen", "Borkum", "Cuxhaven", "Dresden", "Emden", "Feldberg", "Greifswald", "Helgoland"];
const SEED = 20_260_131;
const FIRST_READING_MS = Date.UTC(2026, 0, 1);
const STEP_MS = 300_000;

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The text of the file: a header and `rows` lines, each ending with a line feed. */
export function generateCsv(rows: number = demoRows): string {
  const next = chance(SEED);
  const lines = [HEADER];
  for (let row = 1; row <= rows; row += 1) {
    const time = new Date(FIRST_READING_MS + row * STEP_MS).toISOString();
    const station = STATIONS[Math.floor(next() * STATIONS.length)] ?? "";
    lines.push(`${row},${time},${station},${(next() * 40 - 10).toFixed(1)},${Math.floor(next() * 101)}`);
  }
  return `${lines.join("\n")}\n`;
}
