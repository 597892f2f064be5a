// Does the server's memory stay flat? A long run at an even rate, and a line through its last four fifths.
import { nowMs, pause } from "./clock.mjs";
import { residentMb } from "./measure.mjs";
import { writeResults } from "./report.mjs";
import { startScene } from "./stage.mjs";
import { Results, slope } from "./statistics.mjs";
import leasehold from "./systems/leasehold.mjs";

const RATE = 2_000;
const SAMPLE_MS = 1_000;
/** The first fifth is warming up: eight of ten minutes are judged. */
const JUDGED_FROM = 0.2;
const MOST_MB_A_MINUTE = 0.5;

/** Runs it and prints how fast memory rises. */
export async function measureMemory(environment, options) {
  const scene = await startScene(environment, leasehold);
  const [producer, worker] = [await scene.producer(), await scene.worker()];
  await worker.ask("start", { slots: 1000 });
  await producer.ask("load", { kind: "steady", perSecond: RATE });
  const [pid] = scene.pids();
  const beganMs = nowMs();
  const minutes = () => (nowMs() - beganMs) / 60_000;
  const points = [];
  for (let told = 0; minutes() < options.minutes; await pause(SAMPLE_MS)) {
    points.push([minutes(), residentMb(pid)]);
    if (Math.floor(minutes()) > told) {
      told = Math.floor(minutes());
      console.log(`${told} min: ${points.at(-1)[1].toFixed(0)} MB`);
    }
  }
  const { submitted } = await producer.ask("read");
  const { done } = await worker.ask("read");
  const judged = points.filter(([minute]) => minute >= options.minutes * JUDGED_FROM);
  const rise = slope(judged);
  const results = new Results();
  results.add("leasehold", "memory", "MB/min", rise);
  results.add("leasehold", "memory", "server memory MB", Math.max(...points.map(([, mb]) => mb)));
  results.add("leasehold", "memory", "tasks/s", done / (minutes() * 60));
  writeResults(options.out, "memory.json", results);
  console.log(`${submitted} tasks submitted, ${done} done in ${minutes().toFixed(1)} min`);
  console.log(`memory rises by ${rise.toFixed(2)} MB a minute (≤ ${MOST_MB_A_MINUTE}: ${rise < MOST_MB_A_MINUTE ? "pass" : "miss"})`);
  await producer.ask("halt");
  await worker.ask("stop");
}
