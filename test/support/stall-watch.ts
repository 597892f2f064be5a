// How long does a server's event loop do nothing else? In processor time of its main thread for one turn, so that a busy machine does not count.

// Runs within the server before anything else. Where the system does not tell the time of a thread, nothing is said.
const WATCH = `
import { readFileSync } from "node:fs";
let last = -1;
let worst = 0;
setInterval(() => {
  let now = -1;
  try { now = Number(readFileSync("/proc/self/schedstat", "utf8").split(" ")[0]) / 1e6; } catch {}
  if (last >= 0 && now - last > worst && process.uptime() > 3) process.stderr.write("\\nturn of " + Math.ceil(worst = now - last) + " ms\\n");
  last = now;
}, 2).unref();`;

/** Environment of a server that tells its longest turns. */
export const STALL_WATCH = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(WATCH)}` };

/** The longest turn that a log tells of, in milliseconds of processor time; 0 for none. */
export function longestTurnMs(log: string): number {
  return Math.max(0, ...[...log.matchAll(/^turn of (\d+) ms$/gm)].map(([, ms]) => Number(ms)));
}
