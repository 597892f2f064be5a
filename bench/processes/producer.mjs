// Who submits? One process that drives the client of any system with one of four loads, and counts what was acknowledged.
import { nowMs, pause } from "../clock.mjs";
import { answerWith } from "./answering.mjs";

const BACKLOG_IN_FLIGHT = 4;

let producer;
let halted = true;
let running = [];
let submitted = 0;

/** The loads. Each returns promises that end after `halted`. */
const LOADS = {
  /** So many calls of one task each at any time. */
  single: ({ inFlight }) => lanes(inFlight, () => producer.submit(), 1),
  /** So many calls of `size` tasks each at any time. */
  batch: ({ inFlight, size }) => lanes(inFlight, () => producer.submitBatch(size), size),
  /** Messages on one stream. */
  stream: ({ inFlight }) => lanes(inFlight, () => producer.send(), 1),
  /** Calls of one task each, evenly spaced, whether or not the ones before were answered. */
  rate: ({ perSecond }) => [paced(1000 / perSecond, () => producer.submit(), 1)],
  /** The same in batches, fifty a second. */
  steady: ({ perSecond }) => [paced(20, () => producer.submitBatch(perSecond / 50), perSecond / 50)],
};

function lanes(count, submit, size) {
  return Array.from({ length: count }, async () => {
    while (!halted) {
      await submit();
      submitted += size;
    }
  });
}

async function paced(everyMs, submit, size) {
  const open = new Set();
  let failure;
  for (let next = nowMs(); !halted && failure === undefined; next += everyMs) {
    const waitMs = next - nowMs();
    if (waitMs > 0) await pause(waitMs);
    const call = submit().then(
      () => {
        submitted += size;
        open.delete(call);
      },
      (error) => {
        failure = error;
      },
    );
    open.add(call);
  }
  await Promise.all(open);
  if (failure !== undefined) throw failure;
}

answerWith({
  async connect({ system, target }) {
    const { connectProducer } = await import(`../clients/${system}.mjs`);
    producer = await connectProducer(target);
  },
  load({ kind, ...load }) {
    halted = false;
    running = LOADS[kind](load);
    // A failure is told by `halt`.
    for (const one of running) one.catch(() => undefined);
  },
  read: () => ({ atMs: nowMs(), submitted }),
  async halt() {
    halted = true;
    await Promise.all(running);
    running = [];
  },
  /** Stores a backlog and returns when all of it is acknowledged. */
  async backlog({ count, size }) {
    let left = count;
    const lane = async () => {
      while (left > 0) {
        const batch = Math.min(size, left);
        left -= batch;
        await producer.submitBatch(batch);
      }
    };
    await Promise.all(Array.from({ length: BACKLOG_IN_FLIGHT }, lane));
  },
});
