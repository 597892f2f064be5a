// How does the log say that nobody takes the telemetry? OpenTelemetry reports each failed export by itself, many a minute while a collector is away:
// the first at once, then one line each 10 s with their number. Whether a collector is there is of no matter to any task.

import type { DiagLogger } from "@opentelemetry/api";
import type { Clock } from "../clock.js";
import { type Log, withoutSecrets } from "./log.js";

const LINE_INTERVAL_MS = 10_000;
const LONGEST_SAID = 500;

/** What OpenTelemetry is to report to. What it tells below a warning is dropped. */
export function collectorFailures(clock: Clock, log: Log): DiagLogger {
  let lastLineMs = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  const report = (said: string): void => {
    const nowMs = clock.monotonicMs();
    if (nowMs - lastLineMs < LINE_INTERVAL_MS) {
      unsaid++;
      return;
    }
    lastLineMs = nowMs;
    log.warn(
      { said: withoutSecrets(messageOf(said)).slice(0, LONGEST_SAID), unsaid },
      "telemetry is not delivered; tasks are not affected",
    );
    unsaid = 0;
  };
  const nothing = (): void => undefined;
  return { error: report, warn: report, info: nothing, debug: nothing, verbose: nothing };
}

// Errors are told as JSON, with their stacks.
function messageOf(said: string): string {
  const message = /"message":"((?:[^"\\]|\\.)*)"/.exec(said)?.[1];
  return message ?? said;
}
