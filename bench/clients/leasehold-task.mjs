// What does a task of the benchmark look like in the contract of Leasehold?
import { payloadBytes, QUEUE, TASK_NAME } from "../payload.mjs";

/** A task that a raw call submits. */
export function newTask() {
  return {
    taskId: "",
    name: TASK_NAME,
    queue: QUEUE,
    metadata: { data: payloadBytes(), contentType: "" },
    executionMetadata: undefined,
    labels: {},
    priority: 0,
    scheduleTime: undefined,
    deadlines: undefined,
    retryPolicy: undefined,
    key: "",
    keyConflictPolicy: 0,
    keyHold: undefined,
    metadataFingerprint: NO_BYTES,
    traceContext: undefined,
  };
}

const NO_BYTES = Buffer.alloc(0);
