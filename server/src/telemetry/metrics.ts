// What does the server count? Every instrument, on one page. They cost nothing until an OpenTelemetry SDK is set up in the process.

import { metrics } from "@opentelemetry/api";

const meter = metrics.getMeter("leasehold");

/** Finished tasks that retention removed. */
export const removedTasks = meter.createCounter("leasehold.retention.removed_tasks", {
  unit: "{task}",
  description: "Finished tasks that retention removed.",
});
