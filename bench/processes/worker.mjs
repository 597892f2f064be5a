// Who works? One process that runs the worker of any system, and counts what its handlers began and what was recorded as done.
import { nowMs, pause } from "../clock.mjs";
import { ageMs } from "../payload.mjs";
import { answerWith } from "./answering.mjs";

const LOOK_MS = 5;

let connectWorker;
let target;
let worker;
let started = 0;
let done = 0;
let readyMs;
let firstMs;
let latencies = [];

/** What a worker tells: a handler began; outcomes, or checkpoints, were recorded. */
const events = {
  /** `payload` is left out where nobody wants to know how old it is. */
  started(payload) {
    started++;
    firstMs ??= nowMs();
    if (payload !== undefined) latencies.push(ageMs(payload));
  },
  done(count) {
    done += count;
  },
};

/** What is done for certain: some SDKs do not tell when a finished handler was recorded, but how many are not. */
function recorded() {
  return done - (worker?.unrecorded?.() ?? 0);
}

answerWith({
  async connect({ system, target: where }) {
    ({ connectWorker } = await import(`../clients/${system}.mjs`));
    target = where;
  },
  /** Begins to take tasks; resolves when it is ready for them. */
  async start(options) {
    worker = await connectWorker(target, options, events);
    readyMs = nowMs();
  },
  /** Takes no more, finishes what it has. The process stays warm. */
  async stop() {
    await worker?.stop();
    worker = undefined;
  },
  mark() {
    started = done = 0;
    firstMs = undefined;
    latencies = [];
  },
  read: () => ({ atMs: nowMs(), started, done: recorded() }),
  /** Waits until so many are recorded; answers how many were, and since when it worked on them. */
  async until({ count, patienceMs }) {
    const limitMs = nowMs() + patienceMs;
    while (recorded() < count) {
      if (nowMs() > limitMs) throw new Error(`only ${recorded()} of ${count} tasks were done after ${patienceMs} ms`);
      await pause(LOOK_MS);
    }
    await worker.settled?.();
    return { done: recorded(), beganMs: Math.min(readyMs, firstMs), endMs: nowMs() };
  },
  latencies() {
    const told = latencies;
    latencies = [];
    return told;
  },
});
