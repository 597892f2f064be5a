// What does the server count? Every instrument, on one page. docs/telemetry.md says the same in words; a test compares the two.
// Labels are few by construction: words of the contract, and names that clients make only as far as labels.ts lets them.

import { type Meter, metrics } from "@opentelemetry/api";

/** Buckets of durations, in seconds: from what a statement takes to what a handler may. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200];
/** Buckets of batches. */
const ITEMS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/** Makes every instrument. They belong to the meter provider that is set then; without one they do nothing. */
export function createMetrics(version: string) {
  const meter = metrics.getMeter("leasehold", version);
  return { ...counters(meter), ...histograms(meter), ...gauges(meter) };
}

/** Every instrument. */
export type Metrics = ReturnType<typeof createMetrics>;

function counters(meter: Meter) {
  return {
    submitted: meter.createCounter("leasehold.tasks.submitted", { unit: "{task}", description: "Tasks stored." }),
    finished: meter.createCounter("leasehold.tasks.finished", { unit: "{task}", description: "Tasks that ended." }),
    retried: meter.createCounter("leasehold.tasks.retried", { unit: "{task}", description: "Tasks put back to run again." }),
    lost: meter.createCounter("leasehold.leases.lost", { unit: "{lease}", description: "Leases that ended without an outcome." }),
    verdicts: meter.createCounter("leasehold.reports.verdicts", { unit: "{report}", description: "Verdicts given." }),
    hints: meter.createCounter("leasehold.wakeups.received", { unit: "{hint}", description: "Hints heard from other servers." }),
    removed: meter.createCounter("leasehold.retention.removed_tasks", {
      unit: "{task}",
      description: "Finished tasks that retention removed.",
    }),
  };
}

function histograms(meter: Meter) {
  const seconds = { unit: "s", advice: { explicitBucketBoundaries: SECONDS } };
  return {
    queueWait: meter.createHistogram("leasehold.queue.wait", { ...seconds, description: "From due to leased." }),
    attempt: meter.createHistogram("leasehold.attempt.duration", { ...seconds, description: "From leased to the outcome." }),
    batch: meter.createHistogram("leasehold.batch.size", {
      unit: "{item}",
      description: "Items of one statement.",
      advice: { explicitBucketBoundaries: ITEMS },
    }),
    operation: meter.createHistogram("db.client.operation.duration", { ...seconds, description: "An operation on Postgres." }),
    call: meter.createHistogram("rpc.server.call.duration", { ...seconds, description: "A unary call." }),
  };
}

function gauges(meter: Meter) {
  return {
    tasks: meter.createObservableGauge("leasehold.tasks", { unit: "{task}", description: "Unfinished tasks." }),
    oldest: meter.createObservableGauge("leasehold.tasks.oldest_pending_age", { unit: "s", description: "Age of the oldest due task." }),
    sessions: meter.createObservableGauge("leasehold.sessions", { unit: "{session}", description: "Living sessions of workers." }),
    slots: meter.createObservableGauge("leasehold.slots", { unit: "{slot}", description: "Slots of living sessions." }),
    tableRows: meter.createObservableGauge("leasehold.table.rows", { unit: "{row}", description: "Rows of busy tables, dead ones too." }),
    schema: meter.createObservableGauge("leasehold.schema.version", { description: "Newest migration, of the schema and of the server." }),
    fit: meter.createObservableGauge("leasehold.database.fit", { description: "1 while Postgres and its schema may be used." }),
    streams: meter.createObservableGauge("leasehold.streams", { unit: "{stream}", description: "Streams of workers on this server." }),
    listening: meter.createObservableGauge("leasehold.wakeups.listening", { description: "1 while hints of other servers are heard." }),
    upkeepAge: meter.createObservableGauge("leasehold.upkeep.age", { unit: "s", description: "Since the last finished round of upkeep." }),
    durability: meter.createObservableGauge("leasehold.durability", { description: "1 for the durability class observed last." }),
    delayP50: meter.createObservableGauge("nodejs.eventloop.delay.p50", { unit: "s", description: "Event-loop delay, median." }),
    delayP99: meter.createObservableGauge("nodejs.eventloop.delay.p99", { unit: "s", description: "Event-loop delay, 99th percentile." }),
    delayMax: meter.createObservableGauge("nodejs.eventloop.delay.max", { unit: "s", description: "Event-loop delay, longest." }),
    censusAge: meter.createObservableGauge("leasehold.census.age", { unit: "s", description: "Age of what was counted in the database." }),
  };
}
