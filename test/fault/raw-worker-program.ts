// A worker without the SDK in a process of its own, on nothing but generated stubs: sends some reports twice on purpose, and can be one that takes
// leases and never says a word about them, or one that never reads. Its argument is JSON: see `FaultWorkerProgram`.
import { credentials } from "@grpc/grpc-js";
import {
  Hello,
  type Lease,
  Report,
  type ServerMessage,
  type Verdict,
  VerdictCode,
  WorkerMessage,
  WorkerServiceClient,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { setTimeout as pause } from "node:timers/promises";
import { endingOf } from "../support/raw-worker.js";
import { openJournal } from "./history.js";
import { type Ending, KINDS, kindOf, nameOf, play, type Saved, type Work } from "./kinds.js";
import type { FaultWorkerProgram } from "./sdk-worker-program.js";
import { durationMs, noteStream } from "./wire.js";

/** A lease without a final verdict. */
interface Held {
  readonly lease: Lease;
  seq: number;
  stopped: "" | "cancel" | "lost";
  /** Whoever waits for the verdict on a checkpoint, by number. */
  readonly waiting: Map<number, (verdict: Verdict) => void>;
}

/** One report in about this many is sent once more although it was answered. */
const TWICE_IN = 8;
const RECONNECT_MS = 300;

const { addresses, who, ttlMs, slots, manner = "good", journal: path } = JSON.parse(process.argv[2] ?? "{}") as FaultWorkerProgram;
const journal = openJournal(path);
const held = new Map<string, Held>();
/** Reports that have no verdict, in the order in which they were made. */
const unanswered = new Map<string, Report>();
let sessionId = "";
let connection = 0;
let beats = 0;
let sends = 0;
let aliveUntilMs = Number.POSITIVE_INFINITY;
/** Sends on the stream that is open; nothing where there is none. */
let send: (message: WorkerMessage) => void = () => undefined;

const keyOf = ({ leaseToken, reportSeq }: { leaseToken: string; reportSeq: number }): string => `${leaseToken} ${reportSeq}`;
const jsonPayload = (value: unknown): { data: Buffer; contentType: string } => ({
  data: Buffer.from(JSON.stringify(value)),
  contentType: "",
});

function report(one: Held, body: Partial<Report>): number {
  const message = Report.create({ leaseToken: one.lease.leaseToken, reportSeq: ++one.seq, ...body });
  unanswered.set(keyOf(message), message);
  send(WorkerMessage.create({ reports: [message] }));
  return message.reportSeq;
}

function checkpoint(one: Held, saved: Saved): Promise<void> {
  return new Promise((resolve) => {
    const seq = report(one, { checkpoint: { executionMetadata: jsonPayload(saved) } });
    one.waiting.set(seq, () => resolve());
  });
}

/** Why a handler should stop; empty to go on. */
function stopOf(one: Held): Held["stopped"] {
  return performance.now() > aliveUntilMs ? "lost" : one.stopped;
}

async function execute(one: Held): Promise<void> {
  const { lease } = one;
  const work = JSON.parse(Buffer.from(lease.metadata?.data ?? []).toString()) as Work;
  let saved = lease.executionMetadata === undefined ? {} : (JSON.parse(Buffer.from(lease.executionMetadata.data).toString()) as Saved);
  const steps = play(work, saved, lease.attempt);
  for (;;) {
    const { done, value } = steps.next();
    const stop = stopOf(one);
    if (!held.has(lease.leaseToken)) return;
    // Given back: it may turn out to be this worker's all the same, and then nobody else ends it.
    if (stop === "lost") return void report(one, { release: { retryAfter: undefined, executionMetadata: undefined } });
    if (stop === "cancel" && work.deaf !== true) return void report(one, { cancel: { error: undefined, executionMetadata: undefined } });
    if (done === true) return void report(one, outcomeOf(value, lease, work, saved));
    if (value.step === "die") process.kill(process.pid, "SIGKILL");
    else if (value.step === "wait") await pause(value.ms);
    else {
      saved = value.saved;
      await checkpoint(one, saved);
    }
  }
}

function outcomeOf(how: Ending, lease: Lease, { n }: Work, saved: Saved): Partial<Report> {
  switch (how.end) {
    case "complete": {
      const result = jsonPayload({ n, worker: who, fencing: Number(lease.fencingToken), saved });
      return { complete: { result, executionMetadata: undefined } };
    }
    case "fail": {
      const error = {
        code: how.retryable ? "flaky" : "hopeless",
        message: "as it was asked to",
        details: undefined,
        stack: "",
        cause: undefined,
      };
      const executionMetadata = how.saved === undefined ? undefined : jsonPayload(how.saved);
      return { fail: { error, retryable: how.retryable, retryAfter: undefined, executionMetadata } };
    }
    case "suspend": {
      const { afterMs, saved: last } = how;
      const untilAfter = afterMs === undefined ? undefined : { seconds: BigInt(Math.floor(afterMs / 1000)), nanos: (afterMs % 1000) * 1e6 };
      return { suspend: { untilTime: undefined, untilAfter, untilProceeded: afterMs === undefined, executionMetadata: jsonPayload(last) } };
    }
  }
}

function judged(verdict: Verdict): void {
  const key = keyOf(verdict);
  const own = unanswered.get(key);
  const one = held.get(verdict.leaseToken);
  if (verdict.code === VerdictCode.RETRY_LATER) {
    if (own !== undefined) setTimeout(() => send(WorkerMessage.create({ reports: [own] })), durationMs(verdict.retryAfter));
    return;
  }
  unanswered.delete(key);
  if (own !== undefined && ++sends % TWICE_IN === 0) setTimeout(() => send(WorkerMessage.create({ reports: [own] })), 200);
  const lost = verdict.code === VerdictCode.LEASE_LOST;
  if (own?.checkpoint !== undefined && !lost) one?.waiting.get(verdict.reportSeq)?.(verdict);
  else if (own !== undefined || lost) held.delete(verdict.leaseToken);
}

function take(lease: Lease): void {
  const one: Held = { lease, seq: 0, stopped: "", waiting: new Map() };
  held.set(lease.leaseToken, one);
  if (manner === "good" && kindOf(lease.name) !== undefined) void execute(one);
}

/** One stream from its hello to its end. */
function stream(address: string): Promise<void> {
  const client = new WorkerServiceClient(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const call = client.executeTasks();
  const notes = noteStream(journal, who);
  const sentMs = new Map<number, number>();
  let [seen, heardMs, intervalMs, ttl] = [0, performance.now(), ttlMs / 3, ttlMs];
  let timer: NodeJS.Timeout | undefined;
  const write = (message: WorkerMessage): void => {
    notes.sending(message);
    call.write(message);
  };
  const beat = (): void => {
    if (performance.now() - heardMs > 3 * intervalMs && manner !== "unread") {
      call.cancel();
      return;
    }
    sentMs.set(++beats, performance.now());
    write(WorkerMessage.create({ heartbeat: { number: beats, leasesReceived: seen } }));
  };
  const received = (message: ServerMessage): void => {
    heardMs = performance.now();
    notes.received(message);
    const { welcome, leases, verdicts, cancels, revoked, heartbeatAnswer } = message;
    if (welcome !== undefined) {
      sessionId = welcome.sessionId;
      [intervalMs, ttl] = [durationMs(welcome.heartbeatInterval), durationMs(welcome.sessionTtl)];
      aliveUntilMs = performance.now() + ttl;
      for (const token of welcome.droppedLeaseTokens) held.delete(token);
      send = write;
      if (unanswered.size > 0) write(WorkerMessage.create({ reports: [...unanswered.values()] }));
      beat();
      timer = setInterval(beat, intervalMs);
      if (connection === 1) process.stdout.write("ready\n");
    }
    seen += leases.length;
    for (const lease of leases) take(lease);
    for (const verdict of verdicts) judged(verdict);
    for (const { leaseToken } of cancels) Object.assign(held.get(leaseToken) ?? {}, { stopped: "cancel" });
    for (const { leaseToken } of revoked) held.delete(leaseToken);
    const answered = heartbeatAnswer === undefined ? undefined : sentMs.get(heartbeatAnswer.number);
    if (answered !== undefined) aliveUntilMs = Math.max(aliveUntilMs === Infinity ? 0 : aliveUntilMs, answered + ttl);
  };
  if (manner === "unread") setInterval(beat, intervalMs);
  else call.on("data", received);
  call.on("error", () => undefined);
  const hello = {
    ...{ workerName: who, language: "none", slots, connection: ++connection, sessionId, heldLeaseTokens: [...held.keys()] },
    handlers: KINDS.map((kind) => ({ taskName: nameOf(kind), slots: undefined })),
    sessionTtl: { seconds: BigInt(Math.round(ttlMs / 1000)), nanos: 0 },
  };
  write(WorkerMessage.create({ hello: Hello.create(hello) }));
  return new Promise((resolve) => {
    call.once("status", (end) => {
      clearInterval(timer);
      send = () => undefined;
      const { code, reason } = endingOf({ name: "", message: "", ...end });
      notes.closed(`${code} ${reason}`);
      client.close();
      resolve();
    });
  });
}

for (let turn = 0; ; turn++) {
  await stream(addresses[turn % addresses.length] ?? "");
  await pause(RECONNECT_MS * (0.5 + Math.random()));
}
