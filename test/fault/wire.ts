// What goes over a worker's stream, as entries of the history? Leases, reports, verdicts and heartbeats, whoever sends and reads them.
import { PendingReason, TaskState, type Payload } from "@leasehold/proto/leasehold/v1/task";
import {
  type Report,
  RevocationReason,
  type ServerMessage,
  VerdictCode,
  type WorkerMessage,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { type Journal, nowUs } from "./history.js";

/** Notes what one stream carries. */
export interface StreamNotes {
  /** Before the message is handed to the socket. */
  sending(message: WorkerMessage): void;
  /** Before anybody acts on the message. */
  received(message: ServerMessage): void;
  closed(why: string): void;
}

/** Notes the next stream of a worker. */
export function noteStream(journal: Journal, who: string): StreamNotes {
  let session = "";
  const own = (): { atUs: number; who: string } => ({ atUs: nowUs(), who });
  return {
    sending: ({ hello, heartbeat, reports }) => {
      if (hello !== undefined) {
        const { sessionId, connection, heldLeaseTokens } = hello;
        journal.write({ what: "greeted", ...own(), session: sessionId, connection, held: heldLeaseTokens });
      }
      if (heartbeat !== undefined) journal.write({ what: "beat", ...own(), session, number: heartbeat.number });
      for (const report of reports) {
        const { leaseToken: token, reportSeq: seq } = report;
        journal.write({ what: "reported", ...own(), token, seq, ...bodyOf(report) });
      }
    },
    received: ({ welcome, leases, verdicts, cancels, revoked, heartbeatAnswer }) => {
      if (welcome !== undefined) {
        session = welcome.sessionId;
        const ttlMs = durationMs(welcome.sessionTtl);
        journal.write({ what: "welcomed", ...own(), session, ttlMs, dropped: welcome.droppedLeaseTokens });
      }
      for (const lease of leases) {
        const { leaseToken: token, taskId: task, name, attempt } = lease;
        const version = Number(lease.executionMetadataVersion);
        const reason = PendingReason[lease.resumption?.reason ?? 0] ?? "";
        const fencing = Number(lease.fencingToken);
        journal.write({
          ...{ what: "leased", ...own(), session, token, task, name, fencing, attempt, version },
          ...{ saved: textOf(lease.executionMetadata), reason },
        });
      }
      for (const { leaseToken: token, reportSeq: seq, code, executionMetadataVersion, state } of verdicts) {
        const version = Number(executionMetadataVersion);
        journal.write({ what: "judged", ...own(), token, seq, code: VerdictCode[code], version, state: TaskState[state] });
      }
      for (const { leaseToken: token } of cancels) journal.write({ what: "told", ...own(), token, why: "cancel" });
      for (const { leaseToken: token, reason } of revoked) journal.write({ what: "told", ...own(), token, why: RevocationReason[reason] });
      if (heartbeatAnswer !== undefined) journal.write({ what: "beat-stored", ...own(), session, number: heartbeatAnswer.number });
    },
    closed: (why) => journal.write({ what: "closed", ...own(), why }),
  };
}

const KINDS = ["checkpoint", "complete", "fail", "suspend", "cancel", "release"] as const;

function bodyOf(report: Report): { kind: string; saved: string; afterMs?: number } {
  const kind = KINDS.find((one) => report[one] !== undefined) ?? "none";
  const { executionMetadata } = { executionMetadata: undefined, ...(kind === "none" ? undefined : report[kind]) };
  const after = report.suspend?.untilAfter;
  return { kind, saved: textOf(executionMetadata), ...(after === undefined ? {} : { afterMs: durationMs(after) }) };
}

function textOf(payload: Payload | undefined): string {
  return payload === undefined ? "" : Buffer.from(payload.data).toString("utf8");
}

/** A protobuf duration in milliseconds. */
export function durationMs(duration: { seconds: bigint; nanos: number } | undefined): number {
  return duration === undefined ? 0 : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
