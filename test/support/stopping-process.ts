// A process that does nothing but stop when it is asked to: the first argument says how many milliseconds stopping takes, the second how
// many milliseconds its start takes, the third names a file that gets a line when it has stopped in order.
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { onStopRequested } from "../../cli/src/stop-signals.js";

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const [stopMs = "0", startMs = "0", trace] = process.argv.slice(2);
const signal = onStopRequested(
  async () => {
    if (Number(stopMs) < 0) throw new Error("cannot stop");
    await sleep(Number(stopMs));
    if (trace !== undefined) appendFileSync(trace, "stopped\n");
    say("stopped");
  },
  { log: say },
);
const keepAlive = setInterval(say, 50, "tick");
say(`starting ${String(process.pid)}`);
await sleep(Number(startMs), undefined, { signal }).catch(() => clearInterval(keepAlive));
say("ready");
