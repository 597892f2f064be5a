// What does a client submit? A NewTask becomes a Submission of the domain, with every default filled in and every fault named by its path.

import type { NewTask } from "@leasehold/proto/leasehold/v1/task_service";
import { KeyConflictPolicy as KeyConflictPolicyMessage } from "@leasehold/proto/leasehold/v1/task_service";
import type { Config } from "../config.js";
import type { Violation } from "../domain/event.js";
import type { KeyConflictPolicy, Submission } from "../domain/new-task.js";
import type { CallContext } from "./call.js";
import { contentHash } from "./content-hash.js";
import { newTaskId } from "./task-id.js";
import { NULL_PAYLOAD, parsePayload } from "./validate-payload.js";
import { parseDeadlines, parseRetryPolicy } from "./validate-retry.js";
import { checkName, checkText, DEFAULT_QUEUE, MAX_KEY_BYTES, parseLabels, parseUuid } from "./validate-text.js";
import { parseDuration, parseTimestamp } from "./validate-time.js";
import { parseTraceContext } from "./validate-trace.js";

const MAX_PRIORITY = 9;
const MAX_FINGERPRINT_BYTES = 64;
const MAX_KEY_HOLD_US = 30 * 86_400_000_000;

/**
 * The submission. Where violations were added the answer must not be used.
 * @param nowUs the database's time, for the id where the submitter chose none
 */
export function parseSubmission(
  task: NewTask,
  field: string,
  context: CallContext,
  config: Config,
  nowUs: number,
  violations: Violation[],
): Submission {
  const { payloadBytes } = config.limits;
  const chosen = task.taskId !== "";
  const id = chosen ? parseUuid(task.taskId, `${field}.task_id`, violations) : newTaskId(nowUs);
  checkName(task.name, `${field}.name`, violations);
  if (task.queue !== "") checkName(task.queue, `${field}.queue`, violations);
  checkPriority(task.priority, `${field}.priority`, violations);
  return {
    id,
    namespace: context.namespace,
    name: task.name,
    queue: task.queue === "" ? DEFAULT_QUEUE : task.queue,
    metadata: parsePayload(task.metadata, `${field}.metadata`, payloadBytes, violations) ?? NULL_PAYLOAD,
    executionMetadata: parsePayload(task.executionMetadata, `${field}.execution_metadata`, payloadBytes, violations),
    labels: parseLabels(task.labels, `${field}.labels`, violations),
    priority: task.priority,
    scheduleUs: parseTimestamp(task.scheduleTime, `${field}.schedule_time`, violations),
    deadlines: parseDeadlines(task.deadlines, `${field}.deadlines`, violations),
    retryPolicy: parseRetryPolicy(task.retryPolicy, config.retryPolicy, `${field}.retry_policy`, violations),
    ...parseKey(task, field, violations),
    traceContext: task.traceContext === undefined ? context.traceContext : parseTraceContext(task.traceContext),
    contentHash: chosen ? contentHash(task, id) : null,
  };
}

/** Checks a priority. */
export function checkPriority(priority: number, field: string, violations: Violation[]): void {
  if (priority < 0 || priority > MAX_PRIORITY) violations.push({ field, description: `must be 0 to ${MAX_PRIORITY}` });
}

function parseKey(
  task: NewTask,
  field: string,
  violations: Violation[],
): Pick<Submission, "key" | "keyConflictPolicy" | "keyHoldUs" | "metadataFingerprint"> {
  const { key, metadataFingerprint: fingerprint } = task;
  if (key !== "") checkText(key, `${field}.key`, 1, MAX_KEY_BYTES, violations);
  const keyHoldUs = parseDuration(task.keyHold, `${field}.key_hold`, 0, MAX_KEY_HOLD_US, violations) ?? 0;
  if (keyHoldUs > 0 && key === "") violations.push({ field: `${field}.key_hold`, description: "needs a key" });
  if (fingerprint.length > MAX_FINGERPRINT_BYTES)
    violations.push({ field: `${field}.metadata_fingerprint`, description: `must be at most ${MAX_FINGERPRINT_BYTES} bytes` });
  return {
    key: key === "" ? null : key,
    keyConflictPolicy: parsePolicy(task.keyConflictPolicy, `${field}.key_conflict_policy`, violations),
    keyHoldUs,
    metadataFingerprint: fingerprint.length === 0 ? null : fingerprint,
  };
}

function parsePolicy(policy: KeyConflictPolicyMessage, field: string, violations: Violation[]): KeyConflictPolicy {
  switch (policy) {
    case KeyConflictPolicyMessage.REJECT:
      return "REJECT";
    case KeyConflictPolicyMessage.REPLACE_PENDING:
      return "REPLACE_PENDING";
    case KeyConflictPolicyMessage.UNSPECIFIED:
    case KeyConflictPolicyMessage.RETURN_EXISTING:
      return "RETURN_EXISTING";
    default:
      violations.push({ field, description: "must be a known policy" });
      return "RETURN_EXISTING";
  }
}
