// What does `get` show of one task to a person? Where it stands, how it came there, and its payloads as they came.
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import { TaskState, type Payload, type Progress, type Task, type TaskError } from "@leasehold/proto/leasehold/v1/task";
import { payloadText } from "./payload-text.js";
import { printable, printableLines } from "./printable.js";
import type { Screen } from "./screen.js";
import { pairLines } from "./table.js";
import { standing, stateColour } from "./task-words.js";
import { duration, isoTime, msOf } from "./time.js";

/** The lines of a task in FULL view. */
export function taskDetails(task: Task, screen: Screen): string[] {
  const labels = Object.entries(task.labels).map(([key, value]) => printable(`${key}=${value}`));
  const cancel = task.cancelRequest;
  return [
    ...pairLines([
      ["id", task.taskId],
      ["name", task.name],
      ["queue", task.queue],
      ["state", screen.paint(stateColour(task.state), standing(task))],
      ["priority", String(task.priority)],
      ["labels", labels.join(" ")],
      ["key", printable(task.key)],
      ["attempt", `${task.attempt} of ${task.maxAttempts}`],
      ["lost leases", task.lostLeases > 0 ? `${task.lostLeases} in a row, ${task.maxLostLeases} are forgiven` : undefined],
      ["worker", printable(task.workerName)],
      ["progress", task.progress && progressText(task.progress)],
      ["checkpoints", checkpointText(task)],
      ["proceeds", task.rememberedProceeds > 0 ? `${task.rememberedProceeds} remembered for the next suspension` : undefined],
      ["cancel", cancel && `asked for${cancel.reason === "" ? "" : `: ${printable(cancel.reason)}`}${until(cancel.deadlineTime)}`],
      ["created", at(task.createTime)],
      ["scheduled", at(task.scheduleTime)],
      [task.state === TaskState.SUSPENDED ? "wakes" : "due", at(task.runTime)],
      ["leased", at(task.leaseTime)],
      ["suspended", at(task.suspendTime)],
      ["deadline", at(task.deadlineTime)],
      ["finished", at(task.finishTime)],
      ["took", tookText(task)],
      ["removed", at(task.deleteTime)],
    ]),
    ...payloadLines("metadata", task.metadata, screen),
    ...payloadLines("execution metadata", task.executionMetadata, screen),
    ...payloadLines("result", task.result, screen),
    ...errorLines("error", task.error, screen),
    ...errorLines("last error", task.lastError, screen),
  ];
}

/** `40 of 100 (40%): rows`. */
export function progressText({ done, total, message }: Progress): string {
  const share = total === undefined || total <= 0 ? "" : ` of ${total} (${Math.floor((done / total) * 100)}%)`;
  return `${done}${share}${message === "" ? "" : `: ${printable(message)}`}`;
}

/** How long the task took from when it was stored; undefined until it is finished. */
export function tookText({ createTime, finishTime }: Task): string | undefined {
  return createTime && finishTime && duration(msOf(finishTime) - msOf(createTime));
}

function checkpointText(task: Task): string | undefined {
  if (task.checkpointCount === 0n) return undefined;
  return `${task.checkpointCount}${task.checkpointTime === undefined ? "" : `, last at ${isoTime(task.checkpointTime)}`}`;
}

function payloadLines(title: string, payload: Payload | undefined, screen: Screen): string[] {
  return payload === undefined ? [] : ["", screen.paint("strong", title), payloadText(payload)];
}

function errorLines(title: string, error: TaskError | undefined, screen: Screen): string[] {
  if (error === undefined) return [];
  return ["", screen.paint("strong", title), `${printable(error.code)}: ${printable(error.message)}`, ...detailLines(error)];
}

function detailLines(error: TaskError): string[] {
  return [
    ...(error.details === undefined ? [] : [payloadText(error.details)]),
    ...(error.stack === "" ? [] : printableLines(error.stack).map((line) => `  ${line}`)),
    ...(error.cause === undefined
      ? []
      : [`caused by ${printable(error.cause.code)}: ${printable(error.cause.message)}`, ...detailLines(error.cause)]),
  ];
}

function at(time: Timestamp | undefined): string | undefined {
  return time && isoTime(time);
}

function until(time: Timestamp | undefined): string {
  return time === undefined ? "" : `, at the latest ${isoTime(time)}`;
}
