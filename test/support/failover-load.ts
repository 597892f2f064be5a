// What goes on while a database host is lost? Owners submit and proceed, workers checkpoint, suspend and complete, all through whichever server
// answers; whatever was acknowledged is written down, to be looked for afterwards.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import {
  type Report,
  type Lease,
  LeaseTasksRequest,
  ReportTasksRequest,
  VerdictCode,
  WorkerServiceService,
} from "@leasehold/proto/leasehold/v1/worker_service";
import {
  ProceedTaskRequest,
  SubmitTaskRequest,
  type SubmitTaskResponse,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import type { UnaryMethod } from "./owner-calls.js";
import { jsonOf, jsonPayload } from "./task-client.js";

/** The name of every task of the load. Every other one suspends once and is proceeded. */
export const LOAD_TASK = "failover.step";

/** What a lease of the load showed. */
export interface SeenLease {
  readonly taskId: string;
  readonly fencingToken: bigint;
  /** Step in its execution metadata; 0 for none. */
  readonly step: number;
}

/** Everything that was acknowledged, and what was seen. */
export interface LoadRecord {
  /** Number in its metadata by id. */
  readonly submitted: Map<string, number>;
  /** Steps that were checkpointed or suspended with, the last one by id. */
  readonly steps: Map<string, number>;
  readonly completed: Set<string>;
  readonly proceeded: Set<string>;
  /** Oldest first. */
  readonly leases: SeenLease[];
  /** What contradicts an acknowledgement that came before it. */
  readonly broken: string[];
  /** Names of the status codes that calls failed with, and of verdicts that nobody should get. */
  readonly codes: Map<string, number>;
}

/** A running load. */
export interface Load {
  readonly record: LoadRecord;
  /** Submits the same content once more; answers whether that stored it. */
  submit(taskId: string, n: number): Promise<boolean>;
  /** Nothing more is submitted; resolves when every submission is answered. */
  quiet(): Promise<void>;
  /** Ends the workers as well. */
  stop(): Promise<void>;
}

const OWNERS = 3;
const WORKERS = 4;
const RETRY_MS = 50;
const CALL_LIMIT_MS = 5_000;
const BETWEEN_SUBMISSIONS_MS = 20;
// What a call is answered that comes too late: the task went on, or was forgotten.
const SETTLED: readonly status[] = [status.FAILED_PRECONDITION, status.NOT_FOUND];
// While the database is away.
const PASSING: readonly status[] = [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.RESOURCE_EXHAUSTED, status.ABORTED];

/** An answer, or the status code that came instead. */
interface Outcome<Response> {
  readonly answer: Response | null;
  readonly code: status;
}

interface Parts {
  readonly record: LoadRecord;
  readonly over: () => boolean;
  once<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Outcome<Response>>;
  /** Until it is answered; null when that comes too late or the load is over. */
  persist<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response | null>;
}

/** Starts owners and workers on these servers. */
export function startLoad(addresses: readonly string[]): Load {
  const record: LoadRecord = {
    submitted: new Map(),
    steps: new Map(),
    completed: new Set(),
    proceeded: new Set(),
    leases: [],
    broken: [],
    codes: new Map(),
  };
  const clients = addresses.map((address) => new Client(address, credentials.createInsecure(), { "grpc.max_reconnect_backoff_ms": 500 }));
  let over = false;
  let quiet = false;
  let made = 0;
  const once: Parts["once"] = callAny(clients, record);
  const persist: Parts["persist"] = async (method, request) => {
    for (;;) {
      const outcome = await once(method, request);
      if (outcome.answer !== null) return outcome.answer;
      if (over || SETTLED.includes(outcome.code)) return null;
      await pause(RETRY_MS);
    }
  };
  const parts: Parts = { record, once, persist, over: () => over };
  const owners = Array.from({ length: OWNERS }, async () => {
    while (!quiet) {
      const n = ++made;
      const taskId = randomUUID();
      if ((await submit(parts, taskId, n)) !== null) record.submitted.set(taskId, n);
      await pause(BETWEEN_SUBMISSIONS_MS);
    }
  });
  const workers = Array.from({ length: WORKERS }, (_, index) => work(parts, `load-${index}`));
  return {
    record,
    submit: async (taskId, n) => (await submit(parts, taskId, n))?.created ?? false,
    quiet: async () => {
      quiet = true;
      await Promise.all(owners);
    },
    stop: async () => {
      quiet = over = true;
      await Promise.all([...owners, ...workers]);
      for (const client of clients) client.close();
    },
  };
}

function callAny(clients: readonly Client[], record: LoadRecord): Parts["once"] {
  let turn = 0;
  return ({ path, requestSerialize, responseDeserialize }, request) =>
    new Promise((resolve) => {
      const client = clients[turn++ % clients.length]!;
      const options = { deadline: Date.now() + CALL_LIMIT_MS };
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, (error: ServiceError | null, answer) => {
        if (error === null && answer !== undefined) {
          resolve({ answer, code: status.OK });
          return;
        }
        const code = error?.code ?? status.UNKNOWN;
        note(record, [...PASSING, ...SETTLED].includes(code) ? status[code] : `${path}: ${error?.message ?? "no answer"}`);
        resolve({ answer: null, code });
      });
    });
}

function note(record: LoadRecord, code: string): void {
  record.codes.set(code, (record.codes.get(code) ?? 0) + 1);
}

function submit(parts: Parts, taskId: string, n: number): Promise<SubmitTaskResponse | null> {
  const key = n % 5 === 0 ? { key: `k${n}`, keyHold: { seconds: 3600n } } : {};
  const retryPolicy = { lostLeaseDelays: [{ seconds: 0n }], maxLostLeases: 10 };
  const task = { taskId, name: LOAD_TASK, metadata: jsonPayload({ n, suspends: n % 2 === 0 }), retryPolicy, ...key };
  return parts.persist(TaskServiceService.submitTask, SubmitTaskRequest.create({ task }));
}

async function work(parts: Parts, workerName: string): Promise<void> {
  const request = LeaseTasksRequest.create({
    workerName,
    maxTasks: 3,
    handlers: [{ taskName: LOAD_TASK }],
    wait: { seconds: 1n },
    sessionTtl: { seconds: 4n },
  });
  while (!parts.over()) {
    const { answer } = await parts.once(WorkerServiceService.leaseTasks, request);
    const leases = answer?.leases ?? [];
    await Promise.all(leases.map((lease) => run(parts, lease)));
    if (leases.length === 0) await pause(RETRY_MS);
  }
}

async function run(parts: Parts, lease: Lease): Promise<void> {
  const { record } = parts;
  const { taskId, fencingToken } = lease;
  const { n, suspends } = jsonOf(lease.metadata) as { n: number; suspends: boolean };
  const { step = 0, go } = (jsonOf(lease.executionMetadata) ?? {}) as { step?: number; go?: boolean };
  record.leases.push({ taskId, fencingToken, step });
  if (record.completed.has(taskId)) record.broken.push(`${taskId} was leased although its completion was recorded`);
  const saved = record.steps.get(taskId) ?? 0;
  if (step < saved) record.broken.push(`${taskId} was leased with step ${step} after step ${saved} was recorded`);
  if (record.proceeded.has(taskId) && go !== true) record.broken.push(`${taskId} lost the patch of a proceed that was recorded`);
  const checkpoint = { checkpoint: { executionMetadata: jsonPayload({ step: step + 1, ...(go === undefined ? {} : { go }) }) } };
  if (!(await report(parts, lease, 1, checkpoint))) return;
  record.steps.set(taskId, step + 1);
  if (suspends && go !== true) {
    const suspended = { suspend: { untilProceeded: true, executionMetadata: jsonPayload({ step: step + 2 }) } };
    if (!(await report(parts, lease, 2, suspended))) return;
    record.steps.set(taskId, step + 2);
    const update = { mergePatch: jsonPayload({ go: true }) };
    const proceed = ProceedTaskRequest.create({ task: { taskId }, requestId: `go-${step}`, update });
    if ((await parts.persist(TaskServiceService.proceedTask, proceed)) !== null) record.proceeded.add(taskId);
  } else if (await report(parts, lease, 2, { complete: { result: jsonPayload({ n }) } })) record.completed.add(taskId);
}

type ReportFields = NonNullable<NonNullable<Parameters<typeof ReportTasksRequest.create>[0]>["reports"]>[number];

/** Until it has a verdict; whether it is recorded. */
async function report(parts: Parts, { leaseToken }: Lease, reportSeq: Report["reportSeq"], body: ReportFields): Promise<boolean> {
  const request = ReportTasksRequest.create({ reports: [{ leaseToken, reportSeq, ...body }] });
  for (;;) {
    const verdict = (await parts.persist(WorkerServiceService.reportTasks, request))?.verdicts[0]?.code;
    if (verdict === VerdictCode.RECORDED || verdict === VerdictCode.ALREADY_RECORDED) return true;
    if (verdict === VerdictCode.LEASE_LOST || verdict === undefined) return false;
    note(parts.record, verdict === VerdictCode.RETRY_LATER ? "RETRY_LATER" : `verdict ${verdict}`);
    if (parts.over()) return false;
    await pause(RETRY_MS);
  }
}
