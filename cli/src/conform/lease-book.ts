// What has been given to the worker, what did it report, and what would a server answer?
//
// Also judges each report as it comes: a report that no conforming worker sends is a fault, whatever the scenario expects.
import { randomBytes } from "node:crypto";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { Report, Verdict, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { durationFromMs } from "./messages.js";
import { REPORT_KINDS, type ReportKind } from "./scenario.js";

interface Given {
  readonly label: string;
  readonly token: string;
  /** Reports by number, as they came first. */
  readonly reports: Map<number, { readonly bytes: Buffer; readonly kind: ReportKind | undefined }>;
  /** Numbers whose verdict is final. */
  readonly answered: Set<number>;
  /** Numbers that came on the newest stream of the lease. */
  onStream: { stream: number; readonly seqs: Set<number> };
  /** Reports up to here are settled. */
  settled: number;
  version: bigint;
  /** Said to be somebody else's. */
  lost: boolean;
}

/** What a report is, and what is wrong with it. */
export interface ReadReport {
  /** Label of its lease; undefined for a token that was never given. */
  readonly label: string | undefined;
  readonly kind: ReportKind | undefined;
  readonly resent: boolean;
  readonly fault: string | undefined;
}

/** How long RETRY_LATER asks for when a report came before its predecessor was settled, in milliseconds. */
const RETRY_MS = 200;

/** The leases of one scenario. */
export class LeaseBook {
  readonly #byToken = new Map<string, Given>();
  readonly #byLabel = new Map<string, Given>();

  /** A token for a lease with this label. */
  give(label: string): string {
    if (this.#byLabel.has(label)) throw new Error(`the scenario gives lease "${label}" twice`);
    const token = `${label}:${randomBytes(16).toString("base64url")}`;
    const given: Given = {
      label,
      token,
      reports: new Map(),
      answered: new Set(),
      onStream: { stream: 0, seqs: new Set() },
      settled: 0,
      version: 0n,
      lost: false,
    };
    this.#byToken.set(token, given);
    this.#byLabel.set(label, given);
    return token;
  }

  /** The labels that a pattern of a step means: one, or with `*` all that begin so. */
  labels(pattern: string): string[] {
    const found = pattern.endsWith("*") ? [...this.#byLabel.keys()].filter((label) => label.startsWith(pattern.slice(0, -1))) : [pattern];
    return found.sort();
  }

  /** The token of a label; a label that was never given is a token that no lease has. */
  token(label: string): string {
    return this.#byLabel.get(label)?.token ?? `${label}:never-given`;
  }

  /** The label of a token, for people. */
  labelOf(token: string): string | undefined {
    return this.#byToken.get(token)?.label;
  }

  /** Takes note of a report that came on this stream. */
  read(report: Report, stream: number): ReadReport {
    const kinds = REPORT_KINDS.filter((kind) => report[kind] !== undefined);
    const [kind] = kinds;
    const given = this.#byToken.get(report.leaseToken);
    if (given === undefined) return { label: undefined, kind, resent: false, fault: "a report about a lease that was never given" };
    const { label, reports } = given;
    const bytes = Buffer.from(Report.encode(report).finish());
    const before = reports.get(report.reportSeq);
    const fault = this.#faultOf(given, report, kinds, bytes) ?? this.#disorder(given, report.reportSeq, stream);
    if (before === undefined) reports.set(report.reportSeq, { bytes, kind });
    return { label, kind, resent: before !== undefined, fault };
  }

  #faultOf({ label, reports }: Given, report: Report, kinds: readonly ReportKind[], bytes: Buffer): string | undefined {
    const { reportSeq } = report;
    if (kinds.length !== 1) return `report ${reportSeq} of ${label} has ${kinds.length} kinds instead of one`;
    const before = reports.get(reportSeq);
    if (before !== undefined) {
      return before.bytes.equals(bytes) ? undefined : `report ${reportSeq} of ${label} was sent again with another content`;
    }
    if (reportSeq !== reports.size + 1) return `report ${reportSeq} of ${label} came where number ${reports.size + 1} was due`;
    const outcome = [...reports.values()].find(({ kind }) => kind !== undefined && kind !== "checkpoint");
    if (outcome === undefined) return undefined;
    return `report ${reportSeq} of ${label} came after its outcome`;
  }

  /** After a reconnect what has no verdict comes first, in its order. */
  #disorder(given: Given, reportSeq: number, stream: number): string | undefined {
    if (given.onStream.stream !== stream) given.onStream = { stream, seqs: new Set() };
    const { seqs } = given.onStream;
    seqs.add(reportSeq);
    const left = [...given.reports.keys()].find((seq) => seq < reportSeq && !given.answered.has(seq) && !seqs.has(seq));
    return left === undefined
      ? undefined
      : `report ${reportSeq} of ${given.label} came on a new stream before report ${left}, which has no verdict`;
  }

  /** The verdict that a server would give. */
  answer({ leaseToken, reportSeq }: Pick<Report, "leaseToken" | "reportSeq">): Verdict {
    const given = this.#byToken.get(leaseToken);
    if (given === undefined) return this.verdict(leaseToken, reportSeq, VerdictCode.LEASE_LOST);
    if (reportSeq <= given.settled) return this.verdict(leaseToken, reportSeq, VerdictCode.ALREADY_RECORDED);
    if (reportSeq > given.settled + 1) return this.verdict(leaseToken, reportSeq, VerdictCode.RETRY_LATER, RETRY_MS);
    return this.verdict(leaseToken, reportSeq, VerdictCode.RECORDED);
  }

  /** A verdict with this code; takes note of it. */
  verdict(leaseToken: string, reportSeq: number, code: VerdictCode, retryAfterMs = RETRY_MS): Verdict {
    const given = this.#byToken.get(leaseToken);
    if (given !== undefined && code !== VerdictCode.RETRY_LATER) {
      given.answered.add(reportSeq);
      given.settled = Math.max(given.settled, reportSeq);
      given.version += 1n;
      given.lost ||= code === VerdictCode.LEASE_LOST;
    }
    const kind = given?.reports.get(reportSeq)?.kind;
    return Verdict.create({
      leaseToken,
      reportSeq,
      code,
      retryAfter: code === VerdictCode.RETRY_LATER ? durationFromMs(retryAfterMs) : undefined,
      status: code === VerdictCode.INVALID ? { code: 3, message: "the scripted server refuses it", details: [] } : undefined,
      executionMetadataVersion: given?.version ?? 0n,
      state: kind === "checkpoint" || kind === undefined ? TaskState.RUNNING : TaskState.COMPLETED,
    });
  }

  /** Whether the lease is over once this report is settled: an outcome, or a lease that is lost. */
  endsLease(leaseToken: string, reportSeq: number): boolean {
    const given = this.#byToken.get(leaseToken);
    if (given === undefined) return false;
    return given.lost || (given.answered.has(reportSeq) && given.reports.get(reportSeq)?.kind !== "checkpoint");
  }

  /** Numbers of the reports of a lease without a final verdict, in order. */
  unanswered(label: string): number[] {
    const given = this.#byLabel.get(label);
    if (given === undefined) return [];
    return [...given.reports.keys()].filter((seq) => !given.answered.has(seq)).sort((one, other) => one - other);
  }
}
