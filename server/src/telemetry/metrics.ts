// What does the server count? Every instrument, on one page. They cost nothing until an OpenTelemetry SDK is set up in the process.

import { metrics } from "@opentelemetry/api";

const meter = metrics.getMeter("leasehold");

/** Finished tasks that retention removed. */
export const removedTasks = meter.createCounter("leasehold.retention.removed_tasks", {
  unit: "{task}",
  description: "Finished tasks that retention removed.",
});

/** How well Postgres keeps what it acknowledges: 1 for the class that was observed last, 0 for the others. */
export const durabilityClass = meter.createObservableGauge<{ class: string }>("leasehold.durability", {
  description: "1 for the durability class that was observed last, 0 for the others.",
});
