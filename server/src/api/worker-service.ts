// How does a worker's stream reach the dispatcher? Hello first, within 5 s; then message by message. That the worker's side ends its
// sending means nothing: a killed process does that too.

import type {
  ServerMessage as ServerMessageProto,
  WorkerMessage as WorkerMessageProto,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { ConnectedWorker, UnaryWorkers, WorkerSessions } from "../dispatch/dispatch.js";
import type { Violation } from "../domain/event.js";
import type { Durability } from "../storage/conditions.js";
import type { Log } from "../telemetry/log.js";
import type { BidiHandler, CallObserver, WrappedService } from "./call.js";
import { endWithError, MALFORMED, wrapService } from "./call.js";
import type { Draining } from "./draining.js";
import { createDraining } from "./draining.js";
import { keepProtoLabelKeys } from "./label-keys.js";
import { refuse, RefusedCall, refuseViolations } from "./status.js";
import { unansweredReports } from "./unanswered-reports.js";
import { leaseTasks, renewLeases, reportTasks } from "./unary-workers.js";
import { parseHello } from "./validate-hello.js";
import { parseWorkerMessage } from "./validate-report.js";
import type { ExecuteCall } from "./worker-stream.js";
import { workerStream } from "./worker-stream.js";

/** What the handlers of WorkerService work with. */
export interface WorkerServiceParts {
  readonly sessions: WorkerSessions;
  readonly unary: UnaryWorkers;
  readonly clock: Clock;
  readonly config: Config;
  readonly log: Log;
  /** Told in each welcome. */
  readonly serverVersion?: string;
  /** How well Postgres keeps what it acknowledges, told in each welcome. */
  readonly durability?: () => Durability;
  /** Hears of each unary call. */
  readonly observer?: CallObserver;
}

const HELLO_WAIT_MS = 5_000;
const METHOD = "ExecuteTasks";

/** WorkerService, ready to be added to a server. */
export function workerService(parts: WorkerServiceParts): WrappedService {
  keepProtoLabelKeys();
  // The dispatcher ends the streams of its workers itself, after their last verdicts; only those without hello are nobody's.
  const draining = createDraining();
  return wrapService(
    WorkerServiceService,
    {
      executeTasks: executeTasks(parts, draining),
      leaseTasks: leaseTasks(parts),
      renewLeases: renewLeases(parts),
      reportTasks: reportTasks(parts),
    },
    parts.log,
    draining.begin,
    parts.observer,
  );
}

function executeTasks(parts: WorkerServiceParts, draining: Draining): BidiHandler<WorkerMessageProto, ServerMessageProto> {
  const { sessions, clock, config, log, serverVersion = "", durability } = parts;
  const told = { version: serverVersion, durability: () => durability?.() };
  return async (call, { namespace }) => {
    let worker: ConnectedWorker | null = null;
    const unanswered = unansweredReports(call);
    const stream = workerStream(call, config, told, unanswered.answered);
    const gone = (): void => {
      if (stream.closed() && worker === null) return;
      stream.lost();
      worker?.streamClosed();
      worker = null;
    };
    call.on("cancelled", gone).on("close", gone);

    const receive = (message: WorkerMessageProto): void => {
      if (worker === null || stream.closed()) return;
      try {
        refuseAfterHello(message);
        const parsed = parseWorkerMessage(message, config.limits);
        unanswered.received(message.reports);
        worker.receive(parsed);
      } catch (error) {
        // Thrown inside an event, it would end the process.
        endWithError(call, error, log, METHOD);
        gone();
      }
    };

    const first = await firstMessage(call, clock, draining);
    // Gone before it said anything.
    if (first === null) return;
    const hello = parseFirst(first);
    const connected = await sessions.connect(namespace, hello, stream).catch((error: unknown) => {
      stream.lost();
      throw error;
    });
    if ("refused" in connected) {
      stream.end(connected.refused);
      return;
    }
    worker = connected;
    if (stream.closed() || call.cancelled) {
      // It went, or was taken over, while the session was opened.
      gone();
      return;
    }
    call.on("data", receive);
    // What the first message carries beside the hello comes first: data events begin in a later turn, and not while `receive` pauses them.
    call.resume();
    receive({ ...first, hello: undefined });
  };
}

function refuseAfterHello(message: WorkerMessageProto): void {
  if ((message as unknown) === MALFORMED) refuse("MALFORMED_MESSAGE");
  if (message.hello !== undefined) refuse("HELLO_REPEATED");
}

function parseFirst(message: WorkerMessageProto): ReturnType<typeof parseHello> {
  if ((message as unknown) === MALFORMED) refuse("MALFORMED_MESSAGE");
  if (message.hello === undefined) refuse("HELLO_EXPECTED");
  const violations: Violation[] = [];
  const hello = parseHello(message.hello, violations);
  refuseViolations(violations);
  return hello;
}

/** The first message; null if the worker goes before. The call is left paused, so that what follows waits for the session. */
function firstMessage(call: ExecuteCall, clock: Clock, draining: Draining): Promise<WorkerMessageProto | null> {
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void): void => {
      timer.cancel();
      forget();
      call.off("data", arrived).off("cancelled", went).off("end", ended);
      finish();
    };
    const arrived = (message: WorkerMessageProto): void => {
      call.pause();
      settle(() => resolve(message));
    };
    const went = (): void => settle(() => resolve(null));
    const ended = (): void => settle(() => reject(new RefusedCall({ reason: "HELLO_EXPECTED" })));
    const drains = (): void => settle(() => reject(new RefusedCall({ reason: "SERVER_DRAINING", retryAfterMs: 0 })));
    const timer = clock.after(HELLO_WAIT_MS, ended);
    const forget = draining.onBegin(() => clock.soon(drains));
    call.on("data", arrived).on("cancelled", went).on("end", ended);
  });
}
