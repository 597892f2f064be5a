// How do workers without a stream call? LeaseTasks waits for leases, RenewLeases is their heartbeat, ReportTasks gives verdicts.

import type {
  Hello,
  LeaseTasksRequest,
  LeaseTasksResponse,
  Renewal,
  RenewLeasesRequest,
  RenewLeasesResponse,
  ReportTasksRequest,
  ReportTasksResponse,
} from "@leasehold/proto/leasehold/v1/worker_service";
import type { Config } from "../config.js";
import type { UnaryWorkers } from "../dispatch/dispatch.js";
import type { OutgoingCancel, WorkerHello } from "../dispatch/messages.js";
import type { Violation } from "../domain/event.js";
import type { UnaryHandler } from "./call.js";
import { toDuration } from "./convert-time.js";
import { toLease, toServerMessages, toVerdict } from "./convert-worker.js";
import { refuse, refuseViolations, toStatusMessage } from "./status.js";
import { parseHello } from "./validate-hello.js";
import { parseReport } from "./validate-report.js";
import { parseUuid } from "./validate-text.js";
import { parseDuration } from "./validate-time.js";

/** What these calls work with. */
export interface UnaryWorkerParts {
  readonly unary: UnaryWorkers;
  readonly config: Config;
}

const MOST_TASKS = 100;
const MOST_SESSIONS = 100;
const MOST_REPORTS = 100;
const MOST_WAIT_US = 30_000_000;

/** LeaseTasks. */
export function leaseTasks({ unary }: UnaryWorkerParts): UnaryHandler<LeaseTasksRequest, LeaseTasksResponse> {
  return async (request, context) => {
    const violations: Violation[] = [];
    const hello = parseWorker(request, violations);
    const waitUs = parseDuration(request.wait, "wait", 0, MOST_WAIT_US, violations) ?? 0;
    refuseViolations(violations);
    const hungUp = new AbortController();
    context.onGone(() => {
      hungUp.abort();
    });
    const answer = await unary.lease(context.namespace, hello, waitUs, hungUp.signal);
    if (answer === null) return { sessionId: "", leases: [], heartbeatInterval: undefined, expiresIn: undefined };
    return {
      sessionId: answer.sessionId,
      leases: answer.leases.map(toLease),
      heartbeatInterval: toDuration(answer.heartbeatIntervalUs),
      expiresIn: toDuration(answer.expiresInUs),
    };
  };
}

/** RenewLeases. */
export function renewLeases({ unary, config }: UnaryWorkerParts): UnaryHandler<RenewLeasesRequest, RenewLeasesResponse> {
  return async ({ sessionIds }) => {
    const violations: Violation[] = [];
    if (sessionIds.length === 0 || sessionIds.length > MOST_SESSIONS)
      violations.push({ field: "session_ids", description: `must be 1 to ${MOST_SESSIONS}` });
    const ids = sessionIds.slice(0, MOST_SESSIONS).map((id, index) => parseUuid(id, `session_ids[${index}]`, violations));
    refuseViolations(violations);
    const renewed = await unary.renew([...new Set(ids)]);
    const cancels = inOneAnswer(renewed.cancels, config.limits.messageBytes);
    const told = toServerMessages({ cancels, revoked: renewed.revoked }, config, "");
    return {
      renewals: ids.map((id) => toRenewal(id, renewed.expiresInUs.get(id))),
      cancels: told.flatMap((message) => message.cancels),
      revoked: told.flatMap((message) => message.revoked),
    };
  };
}

/** ReportTasks. */
export function reportTasks({ unary, config }: UnaryWorkerParts): UnaryHandler<ReportTasksRequest, ReportTasksResponse> {
  return async ({ reports }, { namespace, traceContext }) => {
    if (reports.length === 0 || reports.length > MOST_REPORTS)
      refuse("INVALID_FIELD", { violations: [{ field: "reports", description: `must be 1 to ${MOST_REPORTS}` }] });
    const verdicts = await unary.report(
      namespace,
      // A worker that says nothing of its attempt leaves the trace of its call: nothing else is known of the lease here.
      reports.map((report) => ({ ...(traceContext === null ? {} : { traceContext }), ...parseReport(report, config.limits) })),
    );
    return { verdicts: verdicts.map(toVerdict) };
  };
}

// To hear of every cancel is worth more than its reason: where all of them would not fit, none comes with one.
function inOneAnswer(cancels: readonly OutgoingCancel[], messageBytes: number): readonly OutgoingCancel[] {
  const bytes = cancels.reduce((sum, { reason }) => sum + Buffer.byteLength(reason), 0);
  return bytes <= messageBytes / 2 ? cancels : cancels.map((cancel) => ({ ...cancel, reason: "" }));
}

// The fields of a hello, under the names that they have in this request.
function parseWorker(request: LeaseTasksRequest, violations: Violation[]): WorkerHello {
  const { workerName, sdk, language, queues, handlers, sessionTtl, maxTasks } = request;
  if (maxTasks < 1 || maxTasks > MOST_TASKS) violations.push({ field: "max_tasks", description: `must be 1 to ${MOST_TASKS}` });
  const slots = Math.min(Math.max(maxTasks, 0), MOST_TASKS);
  const identity: Hello = {
    ...{ workerName, sdk, language, queues, handlers, sessionTtl, slots },
    ...{ labels: {}, features: [], connection: 1, sessionId: "", heldLeaseTokens: [] },
  };
  const found: Violation[] = [];
  const hello = parseHello(identity, found);
  violations.push(...found.map(({ field, description }) => ({ field: field.replace(/^hello\./, ""), description })));
  return hello;
}

function toRenewal(sessionId: string, expiresInUs: number | undefined): Renewal {
  if (expiresInUs !== undefined) return { sessionId, expiresIn: toDuration(expiresInUs), error: undefined };
  return { sessionId, expiresIn: undefined, error: toStatusMessage({ reason: "SESSION_EXPIRED", resource: sessionId }) };
}
