// Is what the worker did what a step expects? Each answer is undefined, or what was expected and what was seen instead.
import { isDeepStrictEqual } from "node:util";
import type { Payload } from "@leasehold/proto/leasehold/v1/task";
import type { Hello } from "@leasehold/proto/leasehold/v1/worker_service";
import { msFromDuration } from "./messages.js";
import type { Step } from "./scenario.js";
import type { EventOf } from "./transcript.js";
import { reportText } from "./wording.js";

/** What went another way. */
export interface Mismatch {
  readonly expected: string;
  readonly saw: string;
}

/** Task names that a worker under test handles, by docs/worker-protocol.md. */
export const TASK_NAMES = ["echo", "steps", "sleep", "suspend", "fail", "throw"].map((name) => `conform.${name}`);

/** The least slots that scenarios need. */
const FEWEST_SLOTS = 4;

/** Whether a hello is one that a server accepts and that the scenarios can work with. A worker that comes `again` may have no slots, as one that drains. */
export function judgeHello(hello: Hello, again: boolean): Mismatch | undefined {
  const names = hello.handlers.map(({ taskName }) => taskName);
  const missing = TASK_NAMES.filter((name) => !names.includes(name));
  const nameBytes = Buffer.byteLength(hello.workerName);
  if (nameBytes < 1 || nameBytes > 128) return { expected: "a worker name of 1 to 128 bytes", saw: `${nameBytes} bytes` };
  if (!again && hello.slots < FEWEST_SLOTS) return { expected: `a hello with at least ${FEWEST_SLOTS} slots`, saw: `${hello.slots} slots` };
  if (missing.length > 0) return { expected: `handlers for ${TASK_NAMES.join(", ")}`, saw: `none for ${missing.join(", ")}` };
  if (hello.queues.length > 0) return { expected: "a worker of all queues", saw: `queues ${hello.queues.join(", ")}` };
  return undefined;
}

/** Whether a report is the one that the step expects. */
export function judgeReport(step: Extract<Step, { do: "report" }>, label: string, event: EventOf<"report">): Mismatch | undefined {
  const { report, says } = event;
  const saw = `report ${report.reportSeq} of ${label}: ${reportText(report)}`;
  const expected = (what: string): Mismatch => ({ expected: `${expectedReport(step, label)}: ${what}`, saw });
  const kinds = step.kinds ?? (step.kind === undefined ? undefined : [step.kind]);
  if (kinds !== undefined && (says === undefined || !kinds.includes(says))) return expected(`the kind ${kinds.join(" or ")}`);
  if (step.seq !== undefined && report.reportSeq !== step.seq) return expected(`the number ${step.seq}`);
  const { complete, fail, suspend } = report;
  if (step.result !== undefined && !sameJson(complete?.result, step.result)) return expected(`the result ${JSON.stringify(step.result)}`);
  if (step.resultBytes !== undefined && complete?.result?.data.length !== step.resultBytes)
    return expected(`a result of ${step.resultBytes} bytes`);
  const saved = says === undefined ? undefined : report[says]?.executionMetadata;
  if (step.executionMetadata !== undefined && !sameJson(saved, step.executionMetadata))
    return expected(`the execution metadata ${JSON.stringify(step.executionMetadata)}`);
  if (step.errorCode === "*" && (fail?.error?.code ?? "") === "" && (fail?.error?.message ?? "") === "")
    return expected("an error with a code or a message");
  if (step.errorCode !== undefined && step.errorCode !== "*" && fail?.error?.code !== step.errorCode)
    return expected(`the error code ${step.errorCode}`);
  if (step.retryable !== undefined && (fail?.retryable ?? true) !== step.retryable)
    return expected(step.retryable ? "retryable" : "not retryable");
  if (step.untilProceeded !== undefined && suspend?.untilProceeded !== step.untilProceeded) return expected("until it is proceeded");
  if (step.untilAfterMs !== undefined && (suspend?.untilAfter === undefined || msFromDuration(suspend.untilAfter) !== step.untilAfterMs))
    return expected(`until ${step.untilAfterMs} ms have passed`);
  return undefined;
}

/** A report that a step expects, in words. */
export function expectedReport(step: Extract<Step, { do: "report" }>, label: string): string {
  const kinds = step.kinds ?? (step.kind === undefined ? ["any kind"] : [step.kind]);
  const number = step.seq === undefined ? "a report" : `report ${step.seq}`;
  return `${number} of ${label} (${kinds.join(" or ")}${step.resent === true ? ", sent again" : ""})`;
}

/** Whether a payload is JSON with this value. Numbers and the order of keys are compared as values. */
function sameJson(payload: Payload | undefined, value: unknown): boolean {
  if (payload === undefined) return value === null;
  try {
    const parsed: unknown = JSON.parse(payload.data.toString());
    return isDeepStrictEqual(parsed, value);
  } catch {
    return false;
  }
}
